package conformance

import (
	"context"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/internal/reference"
)

var precisions = []engine.Precision{engine.Highest, engine.High, engine.Medium}

func TestGoldenForward(t *testing.T) {
	cases, err := golden.ForwardCases()
	if err != nil {
		t.Fatal(err)
	}
	pool := work.New(0)
	defer pool.Close()
	var results table
	defer results.print()
	for _, c := range cases {
		if testing.Short() && !small(c) {
			continue
		}
		t.Run(c.Model+"_"+c.Input.String(), func(t *testing.T) { forward(t, c, pool, &results) })
	}
}

// small are the cases that run at every precision by default.
func small(c golden.Forward) bool {
	return c.Input.N()*c.Input[2]*c.Input[3] <= 65*97 && c.Params < 30e6
}

func forward(t *testing.T, c golden.Forward, pool *work.Pool, results *table) {
	_, m := find(t, c.Model)
	build := func(s graph.Shape) (*graph.Graph, error) { return m.Graph(s, c.LogitsShape[1], nil) }
	n, shape := c.Input.N(), c.Input.Shape()
	g, err := build(shape)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.NumParams(); got != c.Params {
		t.Errorf("%d parameters, want %d", got, c.Params)
	}
	params := golden.Fill(g, c.Gain)
	images := reference.NHWC(golden.Input("input", n, shape), n, shape)

	for _, p := range precisions {
		if p != engine.Highest && !all() && !small(c) {
			continue
		}
		r := row{model: c.Model, input: c.Input.String(), what: "logits", precision: p}
		tolerance, meaningful := c.Tolerance(p)
		if !meaningful {
			results.skip(r)
			continue
		}
		model, err := infer.New(build, params, infer.Options{Precision: p, Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		out, err := model.Run(context.Background(), infer.Input{Data: images, N: n, H: shape.H, W: shape.W, C: shape.C})
		model.Close()
		if err != nil {
			t.Fatalf("%v: %v", p, err)
		}
		r.error, r.tolerance = golden.RelL2(out[0].Data, c.Logits), tolerance
		results.add(t, r)
	}
}
