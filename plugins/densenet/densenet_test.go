package densenet_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/densenet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, densenet.Family()) }
