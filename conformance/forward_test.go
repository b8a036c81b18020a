// Package conformance checks networks against PyTorch's results: every golden in testdata/goldens and in the folders that ZOO_GOLDENS
// names, at every precision. `make conformance` runs it and prints a table.
package conformance

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/internal/reference"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

var precisions = []engine.Precision{engine.Highest, engine.High, engine.Medium}

// row is one line of the table.
type row struct {
	model, input, precision string
	err, tolerance          float64
	verdict                 string
}

func find(t *testing.T, name string) sdk.Model {
	t.Helper()
	for _, f := range plugins.All() {
		if m, ok := f.Model(name); ok {
			return m
		}
	}
	t.Fatalf("no family has %s", name)
	return sdk.Model{}
}

// short are the cases of a run with -short: a few seconds in all.
func short(c golden.Forward) bool {
	return c.Input.N()*c.Input[2]*c.Input[3] <= 2*65*97
}

func TestForwardDiffersFromPyTorch(t *testing.T) {
	cases, err := golden.ForwardCases()
	if err != nil {
		t.Fatal(err)
	}
	pool := work.New(0)
	defer pool.Close()
	var rows []row
	for _, c := range cases {
		if testing.Short() && !short(c) {
			continue
		}
		t.Run(c.Model+"_"+c.Input.String(), func(t *testing.T) {
			rows = append(rows, forward(t, c, pool)...)
		})
	}
	slices.SortStableFunc(rows, func(a, b row) int { return strings.Compare(a.model, b.model) })
	print(rows)
}

func forward(t *testing.T, c golden.Forward, pool *work.Pool) []row {
	m := find(t, c.Model)
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

	var rows []row
	for _, p := range precisions {
		tolerance, meaningful := c.Tolerance(p)
		r := row{model: c.Model, input: c.Input.String(), precision: p.String(), tolerance: tolerance, verdict: "ok"}
		if !meaningful {
			r.verdict = "not meaningful"
			rows = append(rows, r)
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
		if r.err = golden.RelL2(out[0].Data, c.Logits); r.err > tolerance {
			r.verdict = "FAILED"
			t.Errorf("%v: relative L2 error %.2g is above %.2g", p, r.err, tolerance)
		}
		rows = append(rows, r)
	}
	return rows
}

// print writes the table where a person asked for it with -v.
func print(rows []row) {
	if !testing.Verbose() {
		return
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "MODEL\tINPUT\tPRECISION\tERROR\tTOLERANCE\t")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%.2g\t%.2g\t%s\n", r.model, r.input, r.precision, r.err, r.tolerance, r.verdict)
	}
	w.Flush()
}
