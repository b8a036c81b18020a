package efficientnet_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/efficientnet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, efficientnet.Family()) }
