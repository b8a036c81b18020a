package vgg_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/vgg"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, vgg.Family()) }
