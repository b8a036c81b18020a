package inception_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/plugins/inception"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, inception.Family()) }
