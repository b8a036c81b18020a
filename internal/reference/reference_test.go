package reference_test

import (
	"os"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/internal/reference"
	"github.com/go-modelzoo/zoo/plugins"
)

// quick are the goldens of large images that take at most a few seconds; ZOO_REFERENCE=all runs the others too (minutes).
var quick = map[string]bool{
	"alexnet": true, "squeezenet1_1": true, "shufflenet_v2_x1_0": true, "mobilenet_v2": true, "mobilenet_v3_large": true,
	"mobilenetv1_100": true, "mnasnet1_0": true, "efficientnet_b0": true,
}

func TestReferenceDiffersFromPyTorch(t *testing.T) {
	cases, err := golden.ForwardCases()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Model+"_"+c.Input.String(), func(t *testing.T) {
			small := c.Input[0]*c.Input[2]*c.Input[3] <= 65*97
			if testing.Short() && (!small || c.Params > 6e6) {
				t.Skip("large: run without -short")
			}
			if !small && !quick[c.Model] && os.Getenv("ZOO_REFERENCE") != "all" {
				t.Skip("slow: set ZOO_REFERENCE=all")
			}
			g := build(t, c.Model, c.Input.Shape(), c.LogitsShape[1])
			if n := g.NumParams(); n != c.Params {
				t.Errorf("%d parameters, want %d", n, c.Params)
			}
			x := reference.NHWC(golden.Input("input", c.Input.N(), c.Input.Shape()), c.Input.N(), c.Input.Shape())
			out, err := reference.Run(g, golden.Fill(g, c.Gain), x, c.Input.N())
			if err != nil {
				t.Fatal(err)
			}
			tolerance, _ := c.Tolerance(engine.Highest)
			e := golden.RelL2(out[0].Float32(), c.Logits)
			t.Logf("relative L2 error %.2g, tolerance %.2g", e, tolerance)
			if e > tolerance {
				t.Errorf("relative L2 error %.2g is above %.2g", e, tolerance)
			}
		})
	}
}

func build(t *testing.T, model string, input graph.Shape, classes int) *graph.Graph {
	t.Helper()
	for _, f := range plugins.All() {
		if m, ok := f.Model(model); ok {
			g, err := m.Graph(input, classes, nil)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
	}
	t.Fatalf("no family has %s", model)
	return nil
}
