package squeezenet_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/squeezenet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, squeezenet.Family()) }
