package infer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// bottlenecks is the beginning of a ResNet: a stem, a pool, and blocks with residuals, one with a stride.
func bottlenecks(s graph.Shape) (*graph.Graph, error) {
	b := graph.NewBuilder(s, 10)
	var names []string
	conv := func(name string, x *graph.Node, out, kernel, stride int) *graph.Node {
		names = append(names, name, name+"bn")
		return b.BatchNorm(name+"bn", b.Conv2d(name, x, graph.Conv{Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Pad: graph.Square(kernel / 2)}))
	}
	x := b.ReLU(conv("stem", b.Input(), 16, 7, 2))
	x = b.MaxPool(x, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)})
	for i, stride := range []int{1, 1, 2, 1} {
		name := fmt.Sprintf("block%d", i)
		y := b.ReLU(conv(name+"a", x, 16, 1, 1))
		y = b.ReLU(conv(name+"b", y, 16, 3, stride))
		y = conv(name+"c", y, 64, 1, 1)
		if x.Shape != y.Shape {
			x = conv(name+"d", x, 64, 1, stride)
		}
		x = b.ReLU(b.Add(y, x))
	}
	b.Features(x)
	x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: 10})
	b.Classifier("fc")
	b.Group("all", append(names, "fc")...)
	return b.Finish(x)
}

// chained counts the ops of a plan's chains.
func chained(p *Plan) (chains, ops int) {
	for _, s := range p.steps {
		if s.op.kind == kChain {
			chains++
			ops += len(s.op.chain)
		}
	}
	return chains, ops
}

func TestChainsChangeNoBit(t *testing.T) {
	shape := graph.Shape{C: 3, H: 73, W: 64}
	g, err := bottlenecks(shape)
	if err != nil {
		t.Fatal(err)
	}
	params := randomParams(rand.New(rand.NewPCG(1, 2)), g)
	none, narrow, tiny := defaultChains, defaultChains, defaultChains
	none.ops = 1
	narrow.dense.band, narrow.strips, narrow.pixels = 100<<10, 100<<10, 1
	tiny.dense.band, tiny.strips, tiny.pixels, tiny.seam = 1, 1, 1, 1000
	for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
		for _, batch := range []int{1, 2, 3, 8} {
			in := images(3, batch, shape.H, shape.W)
			var want []float32
			for _, limits := range []chainLimits{none, defaultChains, narrow, tiny} {
				for _, threads := range []int{1, 2, 3} {
					pool := work.New(threads)
					m, err := New(bottlenecks, params, Options{Precision: precision, Pool: pool})
					if err != nil {
						t.Fatal(err)
					}
					m.chains, m.guard = limits, 128
					var out []Output
					for range 2 { // the second run finds the windows full
						if out, err = m.RunInto(context.Background(), in, out); err != nil {
							t.Fatal(err)
						}
					}
					if want == nil {
						want = out[0].Data
					}
					for i, v := range out[0].Data {
						if v != want[i] {
							t.Errorf("%v, %d images, %d threads, bands of %d bytes: logit %d is %g, without chains %g", precision, batch, threads, limits.dense.band, i, v, want[i])
							break
						}
					}
					pool.Close()
				}
			}
		}
	}
}

func TestResidualBlocksBecomeChains(t *testing.T) {
	for _, c := range []struct{ batch, threads int }{{1, 1}, {2, 2}, {8, 2}, {8, 3}} {
		pool := work.New(c.threads)
		defer pool.Close()
		g, err := bottlenecks(graph.Shape{C: 3, H: 224, W: 224})
		if err != nil {
			t.Fatal(err)
		}
		m, err := New(bottlenecks, randomParams(rand.New(rand.NewPCG(1, 2)), g), Options{Precision: engine.Highest, Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		p, err := m.Plan(graph.Shape{C: 3, H: 224, W: 224}, c.batch)
		if err != nil {
			t.Fatal(err)
		}
		if chains, ops := chained(p); ops < 12 {
			t.Errorf("%d images, %d threads: %d chains of %d ops together", c.batch, c.threads, chains, ops)
		}
		for _, s := range p.steps {
			if s.op.kind == kChain && s.op.phase == late && s.tasks%c.threads != 0 && s.tasks < 8*c.threads {
				t.Errorf("%d images, %d threads: a chain of %d tasks", c.batch, c.threads, s.tasks)
			}
		}
	}
}

// twice has blocks whose input two branches read, one of them with rows above and below, after the sum with the other has been written.
func twice(s graph.Shape) (*graph.Graph, error) {
	b := graph.NewBuilder(s, 10)
	var names []string
	conv := func(name string, x *graph.Node, out, kernel int) *graph.Node {
		names = append(names, name)
		return b.Conv2d(name, x, graph.Conv{Out: out, Kernel: graph.Square(kernel), Pad: graph.Square(kernel / 2)})
	}
	x := b.ReLU(conv("stem", b.Input(), 32, 3))
	for i := range 2 {
		name := fmt.Sprintf("block%d", i)
		y := b.ReLU(b.Add(conv(name+"b", b.ReLU(conv(name+"a", x, 32, 1)), 32, 1), x))
		x = b.ReLU(b.Add(conv(name+"c", x, 32, 3), y))
	}
	b.Features(x)
	x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: 10})
	b.Classifier("fc")
	b.Group("all", append(names, "fc")...)
	return b.Finish(x)
}

func TestChainOverwritesWhatItStillReads(t *testing.T) {
	shape := graph.Shape{C: 3, H: 40, W: 32}
	g, err := twice(shape)
	if err != nil {
		t.Fatal(err)
	}
	params := randomParams(rand.New(rand.NewPCG(1, 2)), g)
	pool := work.New(1)
	defer pool.Close()
	for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
		in := images(3, 2, shape.H, shape.W)
		var want []float32
		for _, band := range []int{0, 1, 40 << 10, 100 << 10, 200 << 10} {
			m, err := New(twice, params, Options{Precision: precision, Pool: pool})
			if err != nil {
				t.Fatal(err)
			}
			if m.chains.dense.band, m.chains.strips, m.chains.pixels, m.chains.seam = band, band, 1, 1000; band == 0 {
				m.chains.ops = 1
			}
			m.guard = 128
			p, err := m.Plan(shape, in.N)
			if err != nil {
				t.Fatal(err)
			}
			if _, ops := chained(p); band > 0 && ops < 4 {
				t.Errorf("%v, bands of %d bytes: %d ops in chains", precision, band, ops)
			}
			out, err := m.Run(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			if want == nil {
				want = out[0].Data
			}
			for i, v := range out[0].Data {
				if v != want[i] {
					t.Errorf("%v, bands of %d bytes: logit %d is %g, without chains %g", precision, band, i, v, want[i])
					break
				}
			}
		}
	}
}

// TestChainOverwritesWhatAConvolutionReadsBesides has sums with the convolution's own operand, and with one of which a later layer reads a slice.
func TestChainOverwritesWhatAConvolutionReadsBesides(t *testing.T) {
	for name, add := range map[string]func(*graph.Builder, *graph.Node) *graph.Node{
		"its own operand": func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.ReLU(b.Add(b.Conv2d("a", x, graph.Conv{Out: 32, Kernel: graph.Square(3), Pad: graph.Square(1)}), x))
		},
		"a slice": func(b *graph.Builder, x *graph.Node) *graph.Node {
			part := b.Slice(x, 8, 24)
			x = b.Add(b.Conv2d("b", b.Conv2d("a", x, graph.Conv{Out: 16}), graph.Conv{Out: 32}), x)
			return b.Add(b.Conv2d("c", x, graph.Conv{Out: 16}), part)
		},
	} {
		b := graph.NewBuilder(graph.Shape{C: 3, H: 40, W: 32}, 7)
		x := add(b, b.MaxPool(b.Conv2d("stem", b.Input(), graph.Conv{Out: 32}), graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(1), Pad: graph.Square(1)}))
		b.Features(x)
		b.Classifier("fc")
		b.Group("all", "stem", "a", "b", "c", "fc")
		g, err := b.Finish(b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: 7}))
		if err != nil {
			t.Fatal(err)
		}
		for _, band := range []int{1, 20 << 10, 100 << 10} {
			limits := defaultChains
			limits.dense.band, limits.light.band, limits.pixels, limits.seam = band, band, 1, 1000
			agreesInChains(t, name, g, 2, limits)
		}
	}
}
