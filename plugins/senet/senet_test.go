package senet_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/senet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, senet.Family()) }
