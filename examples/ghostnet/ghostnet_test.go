package ghostnet

import (
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, Family()) }

// TestParameterCountDiffers compares with the counts that timm 1.0 has for its ghostnet_050, _100 and _130.
func TestParameterCountDiffers(t *testing.T) {
	for name, want := range map[string]int64{"ghostnet_050": 2587292, "ghostnet_100": 5182508, "ghostnet_130": 7358820} {
		m, ok := Family().Model(name)
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		g, err := m.Graph(graph.Shape{}, 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.NumParams(); got != want {
			t.Errorf("%s has %d parameters, want %d", name, got, want)
		}
	}
}

// TestGradientDiffersFromDifference compares Backward with finite differences of Forward.
func TestGradientDiffersFromDifference(t *testing.T) {
	zootest.Gradients(t, channelConv{3}, []graph.CustomParam{{Name: "weight", Shape: []int{1, 1, 3}}}, graph.Shape{C: 5, H: 1, W: 2})
}
