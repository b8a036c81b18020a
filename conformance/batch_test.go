package conformance

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

// TestBatchOfEveryNetworkIsItsImages runs the last of four images with the others and alone, at the size that public weights expect: goldens of
// that size have one image, and those of several are small. On two threads a batch is divided between them, on one it is computed in groups.
// Very large networks are left out unless everything is asked for.
func TestBatchOfEveryNetworkIsItsImages(t *testing.T) {
	if testing.Short() {
		t.Skip("runs every network: not with -short")
	}
	for _, f := range plugins.All() {
		for _, m := range f.Models {
			t.Run(m.Name, func(t *testing.T) {
				for _, threads := range []int{1, 2} {
					batchIsItsImages(t, threads, m)
				}
			})
		}
	}
}

// largeNetwork is how many parameters a network has that runs only if everything is asked for.
const largeNetwork = 30e6

func batchIsItsImages(t *testing.T, threads int, m sdk.Model) {
	const n, classes = 4, 10
	build := func(s graph.Shape) (*graph.Graph, error) { return m.Graph(s, classes, nil) }
	g, err := build(m.Input)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, p := range g.Params {
		size += p.Elements()
	}
	if size > largeNetwork && !all() {
		t.Skip("a very large network: make conformance runs it")
	}
	pool := work.New(threads)
	defer pool.Close()
	model, err := infer.New(build, engine.ParamMap(g.Initialise(1)), infer.Options{Pool: pool, Precision: engine.Highest})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	s, r := m.Input, rand.New(rand.NewPCG(1, 2))
	images := make([]float32, n*s.Elements())
	for i := range images {
		images[i] = float32(r.NormFloat64())
	}
	run := func(x []float32, n int) []float32 {
		out, err := model.Run(context.Background(), infer.Input{Data: x, N: n, H: s.H, W: s.W, C: s.C})
		if err != nil {
			t.Fatal(err)
		}
		return out[0].Data
	}
	alone := run(images[(n-1)*s.Elements():], 1)
	if e := golden.RelL2(run(images, n)[(n-1)*classes:], alone); e != 0 {
		t.Errorf("%d threads: the logits of an image in a batch are %.2g from those that it has alone", threads, e)
	}
}
