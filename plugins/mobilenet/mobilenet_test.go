package mobilenet_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/mobilenet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, mobilenet.Family()) }
