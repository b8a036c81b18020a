package mnasnet_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/mnasnet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, mnasnet.Family()) }
