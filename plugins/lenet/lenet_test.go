package lenet_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/lenet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, lenet.Family()) }
