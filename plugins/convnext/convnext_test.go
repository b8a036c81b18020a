package convnext_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/convnext"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, convnext.Family()) }
