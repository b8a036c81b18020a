package infer

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/reference"
)

// TestProjectedResidualsAreOneProduct checks that the first blocks of stages compute both of their branches in one op where a kernel can,
// with a stride and without, in chains and alone, and right everywhere.
func TestProjectedResidualsAreOneProduct(t *testing.T) {
	shape := graph.Shape{C: 3, H: 73, W: 64}
	g, err := bottlenecks(shape)
	if err != nil {
		t.Fatal(err)
	}
	params := randomParams(rand.New(rand.NewPCG(1, 2)), g)
	in := images(5, 2, shape.H, shape.W)
	want, err := reference.Run(g, params, in.Data, in.N, g.Output)
	if err != nil {
		t.Fatal(err)
	}
	pool := work.New(2)
	defer pool.Close()
	for _, tier := range tiers() {
		for precision, tolerance := range map[engine.Precision]float64{engine.Highest: 2e-5, engine.High: 2e-4, engine.Medium: 0.15} {
			for _, chained := range []int{1, defaultChains.ops} {
				m, err := New(bottlenecks, params, Options{Precision: precision, Tier: &tier, Pool: pool})
				if err != nil {
					t.Fatal(err)
				}
				m.chains.ops = chained
				out, err := m.Run(context.Background(), in)
				if err != nil {
					t.Fatal(err)
				}
				if e := distance(out[0].Data, want[0].Data); !(e <= tolerance) {
					t.Errorf("%v, %v, %d ops a chain: relative error %.3g", tier, precision, chained, e)
				}
				p, err := m.Plan(shape, 2)
				if err != nil {
					t.Fatal(err)
				}
				one, convolutions := 0, 0
				for _, s := range p.steps {
					if s.kernel == "output" {
						continue
					}
					for _, o := range flatten([]*op{s.op}) {
						if o.kind == kConv {
							convolutions++
						}
						if o.project != nil {
							one++
						}
					}
				}
				expected := 0
				if tier >= cpu.AMX && precision != engine.Highest {
					expected = 2
				}
				const all = 1 + 4*3 + 2 + 1 // stem, blocks, projections, classifier
				if one != expected || convolutions != all-expected {
					t.Errorf("%v, %v, %d ops a chain: %d projections in other convolutions, of which there are %d", tier, precision, chained, one, convolutions)
				}
			}
		}
	}
}

// TestAveragePoolingHasFewestValues checks on which side of a 1x1 convolution an average pooling runs.
func TestAveragePoolingHasFewestValues(t *testing.T) {
	inception := graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(1), Pad: graph.Square(1)}
	transition := graph.Pool{Kernel: graph.Square(2), Stride: graph.Square(2)}
	shape := graph.Shape{C: 64, H: 8, W: 8}
	for _, c := range []struct {
		name      string
		pool      graph.Pool
		poolFirst bool // in the graph
		conv      graph.Conv
		want      string
	}{
		{"Inception's branch", inception, true, graph.Conv{Out: 16}, "conv average affine"},
		{"as many outputs as inputs", inception, true, graph.Conv{Out: 64}, "average conv"},
		{"a bias, of which the edges of the map would get a part", inception, true, graph.Conv{Out: 16, Bias: true}, "average conv"},
		{"a window of pixels", inception, true, graph.Conv{Out: 16, Kernel: graph.Square(3), Pad: graph.Square(1)}, "average conv"},
		{"fewer pixels", transition, true, graph.Conv{Out: 16}, "average conv"},
		{"DenseNet's transition", transition, false, graph.Conv{Out: 32}, "average conv"},
		{"an edge that a bias would not reach", inception, false, graph.Conv{Out: 64}, "conv average"},
	} {
		t.Run(c.name, func(t *testing.T) {
			build := func(graph.Shape) (*graph.Graph, error) {
				b := graph.NewBuilder(shape, 10)
				conv := func(x *graph.Node) *graph.Node { return b.BatchNorm("bn", b.Conv2d("conv", x, c.conv)) }
				x := b.Input()
				if c.poolFirst {
					x = conv(b.AvgPool(x, c.pool))
				} else {
					x = b.AvgPool(conv(x), c.pool)
				}
				b.Features(x)
				x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: 10})
				b.Classifier("fc")
				b.Group("all", "conv", "bn", "fc")
				return b.Finish(x)
			}
			g, err := build(shape)
			if err != nil {
				t.Fatal(err)
			}
			pool := work.New(1)
			defer pool.Close()
			m, err := New(build, randomParams(rand.New(rand.NewPCG(1, 2)), g), Options{Precision: engine.Highest, Pool: pool})
			if err != nil {
				t.Fatal(err)
			}
			m.chains.ops = 1
			p, err := m.Plan(shape, 1)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range p.steps {
				if kind, _, _ := strings.Cut(s.kernel, " "); kind == "conv" || kind == "average" || kind == "affine" {
					got = append(got, kind)
				}
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

// TestWhatLooksLikeAFusionIsNone has pairs of layers beside those that may be merged or change places: each differs in the one thing that makes
// the result another, and those that may be merged are there, too.
func TestWhatLooksLikeAFusionIsNone(t *testing.T) {
	narrow, halves := graph.Conv{Out: 4}, graph.Pool{Kernel: graph.Square(2), Stride: graph.Square(2)}
	same := graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(1), Pad: graph.Square(1)}
	type node = *graph.Node
	for name, add := range map[string]func(*graph.Builder, node) node{
		"pooled map that two read": func(b *graph.Builder, x node) node {
			x = b.AvgPool(x, same)
			return b.Concat(b.Conv2d("a", x, narrow), x)
		},
		"batch norm between pooling and 1x1": func(b *graph.Builder, x node) node {
			return b.Conv2d("a", b.BatchNorm("bn", b.AvgPool(x, same)), narrow)
		},
		"batch norm behind pooling and 1x1": func(b *graph.Builder, x node) node {
			return b.BatchNorm("bn", b.Conv2d("a", b.AvgPool(x, same), narrow))
		},
		"transition": func(b *graph.Builder, x node) node {
			return b.AvgPool(b.Conv2d("a", x, graph.Conv{Out: 8, Bias: true}), halves)
		},
		"transition with a stride": func(b *graph.Builder, x node) node {
			return b.AvgPool(b.Conv2d("a", x, graph.Conv{Out: 8, Stride: graph.Square(2)}), halves)
		},
		"transition with padding": func(b *graph.Builder, x node) node {
			return b.AvgPool(b.Conv2d("a", x, graph.Conv{Out: 8, Pad: graph.Square(1)}), halves)
		},
		"transition with a window": func(b *graph.Builder, x node) node {
			return b.AvgPool(b.Conv2d("a", x, graph.Conv{Out: 8, Kernel: graph.Square(3), Pad: graph.Square(1)}), halves)
		},
		"transition with groups": func(b *graph.Builder, x node) node {
			return b.AvgPool(b.Conv2d("a", x, graph.Conv{Out: 8, Groups: 2}), halves)
		},
		"transition with a bias, padded pooling": func(b *graph.Builder, x node) node {
			return b.AvgPool(b.Conv2d("a", x, graph.Conv{Out: 16, Bias: true}), graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(3), Pad: graph.Square(1)})
		},
		"rising activation behind max pooling": func(b *graph.Builder, x node) node { return b.ReLU(b.MaxPool(b.Conv2d("a", x, narrow), halves)) },
		"other activation behind max pooling": func(b *graph.Builder, x node) node {
			return b.Activation(b.MaxPool(b.Conv2d("a", x, narrow), halves), graph.SiLU)
		},
		"convolution with an activation behind max pooling": func(b *graph.Builder, x node) node {
			return b.ReLU(b.Conv2d("c", b.MaxPool(b.Conv2d("a", x, narrow), halves), narrow))
		},
		"max pooling that two read": func(b *graph.Builder, x node) node {
			x = b.MaxPool(b.Conv2d("a", x, narrow), halves)
			return b.Concat(x, b.ReLU(x))
		},
		"shuffle of unequal parts": func(b *graph.Builder, x node) node { return b.ChannelShuffle(b.Concat(x, b.Conv2d("a", x, narrow)), 2) },
		"shuffle of four parts": func(b *graph.Builder, x node) node {
			y := b.Conv2d("a", x, graph.Conv{Out: 8})
			return b.ChannelShuffle(b.Concat(x, y, y, x), 2)
		},
		"shuffle in four groups": func(b *graph.Builder, x node) node {
			return b.ChannelShuffle(b.Concat(x, b.Conv2d("a", x, graph.Conv{Out: 8})), 4)
		},
		"flattened map added to the layer's result": func(b *graph.Builder, x node) node {
			x = b.Flatten(b.AdaptiveAvgPool(x, graph.Square(2)))
			return b.Add(x, b.Linear("a", x, graph.Fc{Out: 32}))
		},
		"batch norm of a flattened map": func(b *graph.Builder, x node) node {
			return b.Linear("a", b.BatchNorm("bn", b.Flatten(b.AdaptiveAvgPool(x, graph.Square(2)))), graph.Fc{Out: 5})
		},
		"window on a flattened map": func(b *graph.Builder, x node) node {
			return b.Conv2d("a", b.Flatten(b.AdaptiveAvgPool(x, graph.Square(2))), graph.Conv{Out: 5, Kernel: graph.Square(3), Pad: graph.Square(1)})
		},
		"padding of a flattened map": func(b *graph.Builder, x node) node {
			return b.Conv2d("a", b.Flatten(b.AdaptiveAvgPool(x, graph.Square(2))), graph.Conv{Out: 5, Pad: graph.Square(1)})
		},
		"sum of a map with itself": func(b *graph.Builder, x node) node { x = b.Conv2d("a", x, narrow); return b.Add(x, x) },
		"sum of a 1x1 and an activated one": func(b *graph.Builder, x node) node {
			return b.Add(b.ReLU(b.Conv2d("c", x, narrow)), b.Conv2d("a", x, narrow))
		},
		"sum of a 1x1 and one that another reads": func(b *graph.Builder, x node) node {
			y := b.Conv2d("c", x, narrow)
			return b.Concat(b.Add(y, b.Conv2d("a", x, narrow)), y)
		},
		"sum of a 1x1 and a sum": func(b *graph.Builder, x node) node {
			return b.Add(b.Add(b.Conv2d("c", x, graph.Conv{Out: 8}), x), b.Conv2d("a", x, graph.Conv{Out: 8}))
		},
		"sum of a 1x1 and a window": func(b *graph.Builder, x node) node {
			return b.Add(b.Conv2d("c", x, graph.Conv{Out: 8, Kernel: graph.Square(3), Pad: graph.Square(1)}), b.Conv2d("a", x, graph.Conv{Out: 8}))
		},
		"sum of a 1x1 and a window with a stride": func(b *graph.Builder, x node) node {
			y := b.Conv2d("c", b.MaxPool(x, halves), narrow)
			return b.Add(y, b.Conv2d("a", x, graph.Conv{Out: 4, Kernel: graph.Square(2), Stride: graph.Square(2)}))
		},
	} {
		b := graph.NewBuilder(graph.Shape{C: 3, H: 20, W: 18}, 7)
		x := add(b, b.ReLU(b.Conv2d("stem", b.Input(), graph.Conv{Out: 8})))
		b.Features(x)
		if !x.Shape.IsVector() {
			x = b.Flatten(b.GlobalAvgPool(b.MaxPool(x, graph.Pool{Kernel: graph.Square(2), Stride: graph.Square(1)})))
		}
		b.Classifier("fc")
		b.Group("all", "stem", "a", "c", "bn", "fc")
		g, err := b.Finish(b.Linear("fc", x, graph.Fc{Out: 7}))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, n := range []int{1, 2, 5} {
			agrees(t, name, g, n)
		}
	}
}

// agrees compares the logits with the plain evaluation of the graph, in chains and without.
func agrees(t *testing.T, what string, g *graph.Graph, n int) {
	t.Helper()
	limits := defaultChains
	limits.pixels = 1
	agreesInChains(t, what, g, n, limits)
}

func agreesInChains(t *testing.T, what string, g *graph.Graph, n int, limits chainLimits) {
	t.Helper()
	params := randomParams(rand.New(rand.NewPCG(6, 6)), g)
	in := images(7, n, g.Input.H, g.Input.W)
	want, err := reference.Run(g, params, in.Data, n, g.Output)
	if err != nil {
		t.Fatal(err)
	}
	pool := work.New(2)
	defer pool.Close()
	for precision, tolerance := range map[engine.Precision]float64{engine.Highest: 2e-5, engine.High: 2e-4, engine.Medium: 0.15} {
		for _, chained := range []int{1, defaultChains.ops} {
			m, err := New(func(graph.Shape) (*graph.Graph, error) { return g, nil }, params, Options{Precision: precision, Pool: pool})
			if err != nil {
				t.Fatal(err)
			}
			m.chains, m.grain, m.guard = limits, 64, 128
			m.chains.ops = chained
			var out []Output
			for range 2 { // the second run finds the buffers full
				if out, err = m.RunInto(context.Background(), in, out); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if e := distance(out[0].Data, want[0].Data); !(e <= tolerance) {
					t.Errorf("%s: %d images, %v, %d ops a chain: relative error %.3g", what, n, precision, chained, e)
				}
			}
		}
	}
}
