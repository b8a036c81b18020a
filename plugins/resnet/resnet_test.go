package resnet_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/resnet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, resnet.Family()) }
