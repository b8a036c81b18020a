package infer_test

import (
	"context"
	"os"
	"runtime"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/internal/reference"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

func model(tb testing.TB, name string) sdk.Model {
	tb.Helper()
	for _, f := range plugins.All() {
		if m, ok := f.Model(name); ok {
			return m
		}
	}
	tb.Skipf("no family has %s", name)
	return sdk.Model{}
}

// quick are the cases of the default run; ZOO_ALL_GOLDENS=1 runs all.
var quick = map[string]bool{"mobilenet_v2": true, "shufflenet_v2_x1_0": true, "squeezenet1_1": true, "resnet18": true, "mobilenet_v3_large": true}

func TestGoldens(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds of work")
	}
	cases, err := golden.ForwardCases()
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Skip("no goldens in testdata or ZOO_GOLDENS")
	}
	pool := work.New(0)
	defer pool.Close()
	every := os.Getenv("ZOO_ALL_GOLDENS") != ""
	if cpu.Best() < cpu.AVX512 && !every {
		t.Skip("slow without AVX-512: set ZOO_ALL_GOLDENS=1")
	}
	for _, c := range cases {
		if !every && !quick[c.Model] {
			continue
		}
		t.Run(c.Model+"_"+c.Input.String(), func(t *testing.T) {
			m := model(t, c.Model)
			g, err := m.Graph(c.Input.Shape(), c.LogitsShape[1], nil)
			if err != nil {
				t.Fatal(err)
			}
			if g.NumParams() != c.Params {
				t.Fatalf("%d parameters, want %d", g.NumParams(), c.Params)
			}
			params := golden.Fill(g, c.Gain)
			s := c.Input.Shape()
			in := infer.Input{Data: reference.NHWC(golden.Input("input", c.Input.N(), s), c.Input.N(), s), N: c.Input.N(), H: s.H, W: s.W, C: s.C}
			for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
				tolerance, meaningful := c.Tolerance(precision)
				if !meaningful {
					continue
				}
				net, err := infer.New(func(graph.Shape) (*graph.Graph, error) { return g, nil }, params, infer.Options{Precision: precision, Pool: pool})
				if err != nil {
					t.Fatal(err)
				}
				out, err := net.Run(context.Background(), in)
				if err != nil {
					t.Fatal(err)
				}
				e := golden.RelL2(out[0].Data, c.Logits)
				t.Logf("%-8v error %.2e, tolerance %.2e, packed %d MB", precision, e, tolerance, net.PackedBytes()>>20)
				if e > tolerance {
					t.Errorf("%v: relative error %.3g is above %.3g", precision, e, tolerance)
				}
			}
			runtime.GC()
		})
	}
}
