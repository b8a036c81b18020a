package shufflenet_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/shufflenet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, shufflenet.Family()) }
