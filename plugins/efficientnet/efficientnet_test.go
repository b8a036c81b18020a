package efficientnet_test

import (
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/efficientnet"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, efficientnet.Family()) }

// TestCompoundScalingDiffers compares depth (squeeze-and-excitations, one a layer), width (the last feature map) and resolution with the
// published networks.
func TestCompoundScalingDiffers(t *testing.T) {
	for name, want := range map[string]struct{ layers, channels, resolution int }{
		"efficientnet_b0": {16, 1280, 224},
		"efficientnet_b1": {23, 1280, 240},
		"efficientnet_b2": {23, 1408, 288},
		"efficientnet_b3": {26, 1536, 300},
		"efficientnet_b4": {32, 1792, 380},
		"efficientnet_b5": {39, 2048, 456},
		"efficientnet_b6": {45, 2304, 528},
		"efficientnet_b7": {55, 2560, 600},
	} {
		m, ok := efficientnet.Family().Model(name)
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		g, err := m.Graph(graph.Shape{}, 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		layers := 0
		for _, p := range g.Params {
			if strings.HasSuffix(p.Name, ".fc1.weight") {
				layers++
			}
		}
		if layers != want.layers || g.Features.Shape.C != want.channels || m.Input.H != want.resolution {
			t.Errorf("%s has %d layers, %d channels and resolution %d, want %+v", name, layers, g.Features.Shape.C, m.Input.H, want)
		}
	}
}

// TestStochasticDepthDoesNotGrow wants the first branch never and the last most often skipped.
func TestStochasticDepthDoesNotGrow(t *testing.T) {
	m, _ := efficientnet.Family().Model("efficientnet_b0")
	g, err := m.Graph(graph.Shape{}, 1000, map[string]string{"stochastic_depth": "0.4"})
	if err != nil {
		t.Fatal(err)
	}
	last := 0.0
	for _, n := range g.Nodes {
		if op, ok := n.Op.(graph.StochasticDepth); ok {
			if op.P <= last || op.P >= 0.4 {
				t.Errorf("%s has probability %g after %g", n.Name, op.P, last)
			}
			last = op.P
		}
	}
	if last == 0 {
		t.Error("there is none")
	}
	g, err = m.Graph(graph.Shape{}, 1000, map[string]string{"stochastic_depth": "0"})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range g.Nodes {
		if _, ok := n.Op.(graph.StochasticDepth); ok {
			t.Errorf("%s is there although switched off", n.Name)
		}
	}
}
