package alexnet_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/alexnet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, alexnet.Family()) }
