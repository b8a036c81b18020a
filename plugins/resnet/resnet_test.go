package resnet_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/resnet"
	"github.com/go-modelzoo/zoo/sdk"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, resnet.Family()) }

func model(t *testing.T, name string) sdk.Model {
	t.Helper()
	m, ok := resnet.Family().Model(name)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	return m
}

// TestFLOPsDifferFromPaper compares with He et al., 2015, table 1, which counts multiply-adds of networks whose stride is on the 1×1
// convolutions and whose shortcuts are projections only where the shape changes. The table cuts its figures after one decimal.
func TestFLOPsDifferFromPaper(t *testing.T) {
	for name, want := range map[string]float64{"resnet18": 1.8, "resnet34": 3.6, "resnet50": 3.8, "resnet101": 7.6, "resnet152": 11.3} {
		m := model(t, name)
		options := map[string]string{}
		if len(m.Options) > 0 {
			options["stride"] = "1x1"
		}
		g, err := m.Graph(graph.Shape{}, 1000, options)
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(g.MACs()) / 1e9; math.Abs(got-want) > 0.1 {
			t.Errorf("%s takes %.3f billion, want %.1f", name, got, want)
		}
	}
}

// TestFLOPsDifferFromTorchvision compares with the GFLOPS of torchvision's table of weights
// (https://pytorch.org/vision/stable/models.html#table-of-all-available-classification-weights), multiply-adds too, whose bottlenecks have
// the stride on the 3×3 convolution ("V1.5").
func TestFLOPsDifferFromTorchvision(t *testing.T) {
	for name, want := range map[string]float64{"resnet18": 1.81, "resnet34": 3.66, "resnet50": 4.09, "resnet101": 7.80, "resnet152": 11.51} {
		g, err := model(t, name).Graph(graph.Shape{}, 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(g.MACs()) / 1e9; math.Abs(got-want) > 0.0151 { // torchvision cuts 1.814, 3.664, 4.089, 7.801 and 11.514
			t.Errorf("%s takes %.3f billion, want %.2f", name, got, want)
		}
	}
}

// TestStrideMovesCost checks where the two figures for the bottlenecks part: the first 1×1 convolutions of stages 2 to 4 run on maps of four
// times the pixels in V1.5, and the 3×3 ones on as many as before.
func TestStrideMovesCost(t *testing.T) {
	v1, err := model(t, "resnet50").Graph(graph.Shape{}, 1000, map[string]string{"stride": "1x1"})
	if err != nil {
		t.Fatal(err)
	}
	v15, err := model(t, "resnet50").Graph(graph.Shape{}, 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v1.NumParams() != v15.NumParams() {
		t.Errorf("%d and %d parameters", v1.NumParams(), v15.NumParams())
	}
	rows := v15.Summary()
	for i, r := range v1.Summary() {
		factor := int64(1)
		switch r.Node.Name {
		case "layer2.0.conv1", "layer3.0.conv1", "layer4.0.conv1":
			factor = 4
		}
		if _, ok := r.Node.Op.(graph.Conv2d); ok && rows[i].MACs != factor*r.MACs {
			t.Errorf("%s takes %d and %d", r.Node.Name, r.MACs, rows[i].MACs)
		}
	}
}

// TestCIFARDepthsDiffer compares with He et al., 2015, table 6, in millions of parameters.
func TestCIFARDepthsDiffer(t *testing.T) {
	for depth, want := range map[int]float64{20: 0.27, 32: 0.46, 44: 0.66, 56: 0.85, 110: 1.7} {
		m := model(t, fmt.Sprintf("resnet%d", depth))
		g, err := m.Graph(graph.Shape{}, 10, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := float64(g.NumParams()) / 1e6; math.Abs(got-want) > 0.05 {
			t.Errorf("%s has %.3f million parameters, want %.2f", m.Name, got, want)
		}
		layers := 1 // the linear one
		for _, n := range g.Nodes {
			if _, ok := n.Op.(graph.Conv2d); ok {
				layers++
			}
		}
		if layers != depth {
			t.Errorf("%s has %d layers", m.Name, layers)
		}
	}
}

func TestCustomDefaultsDifferFromResNet18(t *testing.T) {
	a, err := model(t, "resnet_custom").Graph(graph.Shape{}, 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	b, err := model(t, "resnet18").Graph(graph.Shape{}, 1000, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Params) != len(b.Params) {
		t.Fatalf("%d and %d parameters", len(a.Params), len(b.Params))
	}
	for i, p := range a.Params {
		if q := b.Params[i]; p.Name != q.Name || fmt.Sprint(p.Shape) != fmt.Sprint(q.Shape) {
			t.Errorf("%s %v and %s %v", p.Name, p.Shape, q.Name, q.Shape)
		}
	}
}

func TestTwoStagesOfOnesOwn(t *testing.T) {
	g, err := model(t, "resnet_custom").Graph(graph.Shape{}, 2, map[string]string{"layers": "1,1", "widths": "32,48", "block": "bottleneck"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := g.Features.Shape, (graph.Shape{C: 4 * 48, H: 28, W: 28}); got != want {
		t.Errorf("features are %v, want %v", got, want)
	}
	if len(g.Groups) != 4 || len(g.Taps) != 3 {
		t.Errorf("%d groups and %d taps", len(g.Groups), len(g.Taps))
	}
}

func TestSenselessOptionBuilds(t *testing.T) {
	for _, o := range []map[string]string{
		{"layers": ""}, {"layers": "0"}, {"layers": "-1,2"}, {"layers": "2;2"}, {"layers": "1,1,1,1,1,1,1,1,1"}, {"layers": "100000"},
		{"layers": "1,1", "widths": "64"}, {"widths": "64,x,1,1"}, {"widths": "70000,1,1,1"}, {"layers": strings.Repeat("1,", 100000) + "1"},
	} {
		if g, err := model(t, "resnet_custom").Graph(graph.Shape{}, 2, o); err == nil {
			t.Errorf("%.60v builds a network of %d parameters", o, g.NumParams())
		} else if !strings.Contains(err.Error(), "option") || len(err.Error()) > 300 {
			t.Errorf("%.60v: %.200v", o, err)
		}
	}
}
