package train_test

import (
	"context"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/reference"
)

// TestGradCAMDiffersFromItsEquations takes αₖ from finite differences: a batch norm's bias moves all pixels of a channel, so that the logit's
// slope by it is the sum of the gradients of these.
func TestGradCAMDiffersFromItsEquations(t *testing.T) {
	pool := work.New(2)
	defer pool.Close()
	s := graph.Shape{C: 3, H: 9, W: 8}
	g := network(t, s, false)
	params := randomParams(rand.New(rand.NewPCG(1, 1)), g)
	const n, class, step = 2, 4, 1. / 1024
	images, _ := randomBatch(2, n, g.Classes, s)
	run := func(p engine.ParamMap, node *graph.Node) []float64 {
		m, err := reference.Run(g, p, images, n, node)
		if err != nil {
			t.Fatal(err)
		}
		return m[0].Data
	}
	logits := run(params, g.Output)
	for _, layer := range []string{"stembn", "depthwisebn", "groupedbn"} {
		at := g.Node(layer)
		a, pixels := run(params, at), at.Shape.H*at.Shape.W
		slopes := make([][]float64, at.Shape.C) // of all logits by channel
		for k := range slopes {
			moved := func(by float32) []float64 {
				p := maps.Clone(params)
				p[layer+".bias"] = slices.Clone(p[layer+".bias"])
				p[layer+".bias"][k] += by
				return run(p, g.Output)
			}
			up, down := moved(step), moved(-step)
			for i := range up {
				slopes[k] = append(slopes[k], (up[i]-down[i])/(2*step))
			}
		}
		cam, err := train.NewGradCAM(g, params, at, engine.Highest, pool)
		if err != nil {
			t.Fatal(err)
		}
		defer cam.Close()
		for _, chosen := range []int{class, -1, class} { // the later runs reuse memory of the first
			var want []float32
			for i := range n {
				c := chosen
				if c < 0 {
					row := logits[i*g.Classes:][:g.Classes]
					c = slices.Index(row, slices.Max(row))
				}
				for p := range pixels {
					sum := 0.0
					for k, slope := range slopes {
						sum += slope[i*g.Classes+c] / float64(pixels) * a[(i*pixels+p)*len(slopes)+k]
					}
					want = append(want, float32(max(sum, 0)))
				}
			}
			y, got, err := cam.Run(context.Background(), images, n, chosen)
			if err != nil {
				t.Fatal(err)
			}
			if d := distance(got, want); !(d < 5e-3) {
				t.Errorf("%s, class %d: the maps are %.2g from the equations", layer, chosen, d)
			}
			for i, v := range logits {
				if !(math.Abs(float64(y[i])-v) < 1e-3) {
					t.Fatalf("logit %d is %v, want %v", i, y[i], v)
				}
			}
		}
	}
}

// TestGradCAMMistakesAreNamed gives classes that are not there, and nodes that have no map or no say.
func TestGradCAMMistakesAreNamed(t *testing.T) {
	pool := work.New(1)
	defer pool.Close()
	s := graph.Shape{C: 3, H: 9, W: 8}
	b := graph.NewBuilder(s, 10)
	x := b.Features(b.ReLU(b.Conv2d("conv", b.Input(), graph.Conv{Out: 16, Kernel: graph.Square(3)})))
	aside := b.Tap("aside", b.ReLU(b.Input()))
	x = b.Linear("fc", b.GlobalAvgPool(x), graph.Fc{Out: 10})
	b.Classifier("fc")
	b.Group("all", "conv", "fc")
	g, err := b.Finish(x)
	if err != nil {
		t.Fatal(err)
	}
	params := randomParams(rand.New(rand.NewPCG(1, 1)), g)
	for _, c := range []struct {
		at   *graph.Node
		want string
	}{{g.Output, "needs a feature map"}, {aside, "do not depend"}} {
		if _, err := train.NewGradCAM(g, params, c.at, engine.Highest, pool); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.at.Name, err, c.want)
		}
	}
	cam, err := train.NewGradCAM(g, params, g.Features, engine.Highest, pool)
	if err != nil {
		t.Fatal(err)
	}
	defer cam.Close()
	images, _ := randomBatch(2, 1, g.Classes, s)
	if _, _, err := cam.Run(context.Background(), images, 1, g.Classes); err == nil || !strings.Contains(err.Error(), "outside 0..9") {
		t.Error(err)
	}
	if _, _, err := cam.Run(context.Background(), images, 2, 0); err == nil {
		t.Error("too few images accepted")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := cam.Run(ctx, images, 1, 0); err != context.Canceled {
		t.Error(err)
	}
}
