package train_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// opCase is an operator whose gradients are compared with finite differences.
type opCase struct {
	name     string
	channels int // of the map it is given
	side     int // least height and width
	kinks    bool
	build    func(b *graph.Builder, x *graph.Node) *graph.Node
}

func conv(out, kernel, stride, pad, dilation, groups int, bias bool) func(*graph.Builder, *graph.Node) *graph.Node {
	return func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Conv2d("op", x, graph.Conv{
			Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Pad: graph.Square(pad), Dilation: graph.Square(dilation), Groups: groups, Bias: bias,
		})
	}
}

func act(f graph.Function) func(*graph.Builder, *graph.Node) *graph.Node {
	return func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Activation(x, f) }
}

// normAct is a batch norm and what may be fused with it.
func normAct(f graph.Function, sum bool) func(*graph.Builder, *graph.Node) *graph.Node {
	return func(b *graph.Builder, x *graph.Node) *graph.Node {
		y := b.BatchNorm("op", x)
		if sum {
			y = b.Add(y, x)
		}
		return b.Activation(y, f)
	}
}

func pool(op func(*graph.Builder, *graph.Node, graph.Pool) *graph.Node, p graph.Pool) func(*graph.Builder, *graph.Node) *graph.Node {
	return func(b *graph.Builder, x *graph.Node) *graph.Node { return op(b, x, p) }
}

var opCases = []opCase{
	{"conv 1x1", 5, 3, false, conv(7, 1, 1, 0, 1, 1, false)},
	{"conv 1x1 wide", 64, 3, false, conv(40, 1, 1, 0, 1, 1, true)},
	{"conv 1x1 stride 2", 6, 5, false, conv(9, 1, 2, 0, 1, 1, false)},
	{"conv 3x3", 5, 4, false, conv(6, 3, 1, 1, 1, 1, true)},
	{"conv 3x3 by taps", 160, 3, false, conv(128, 3, 1, 1, 1, 1, false)},
	{"conv 3x3 stride 2", 4, 7, false, conv(6, 3, 2, 1, 1, 1, false)},
	{"conv 3x3 dilation 2", 4, 7, false, conv(6, 3, 1, 2, 2, 1, false)},
	{"conv 5x5 stride 3 unpadded", 3, 9, false, conv(4, 5, 3, 0, 1, 1, true)},
	{"conv 7x7 stride 2", 3, 9, false, conv(5, 7, 2, 3, 1, 1, false)},
	{"conv 4x4 stride 4", 3, 8, false, conv(5, 4, 4, 0, 1, 1, true)},
	{"conv 3x3 in 2 groups", 8, 5, false, conv(6, 3, 1, 1, 1, 2, true)},
	{"conv 3x3 stride 2 in 4 groups", 8, 5, false, conv(8, 3, 2, 1, 1, 4, false)},
	{"conv 3x3 and ReLU", 5, 4, true, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.ReLU(conv(6, 3, 1, 1, 1, 1, true)(b, x)) }},
	{"conv 1x1 and ReLU6", 5, 4, true, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Activation(conv(6, 1, 1, 0, 1, 1, true)(b, x), graph.ReLU6)
	}},
	{"conv 1x7", 4, 8, false, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Conv2d("op", x, graph.Conv{Out: 5, Kernel: graph.HW(1, 7), Pad: graph.HW(0, 3)})
	}},
	{"conv SAME", 4, 6, false, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Conv2d("op", x, graph.Conv{Out: 5, Kernel: graph.Square(3), Stride: graph.Square(2), Same: true})
	}},
	{"depthwise 3x3", 9, 4, false, conv(9, 3, 1, 1, 1, 9, true)},
	{"depthwise 5x5 stride 2", 9, 6, false, conv(9, 5, 2, 2, 1, 9, false)},
	{"depthwise dilated", 9, 7, false, conv(9, 3, 1, 2, 2, 9, false)},
	{"linear on pixels", 5, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Linear("op", b.GlobalAvgPool(x), graph.Fc{Out: 6})
	}},
	{"linear and ReLU", 5, 3, true, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.ReLU(b.Linear("op", b.Flatten(x), graph.Fc{Out: 6}))
	}},
	{"batch norm", 6, 4, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.BatchNorm("op", x) }},
	{"batch norm and ReLU", 6, 4, true, normAct(graph.ReLU, false)},
	{"batch norm and hard swish", 6, 4, true, normAct(graph.HardSwish, false)},
	{"batch norm, sum and ReLU", 6, 4, true, normAct(graph.ReLU, true)},
	{"batch norm, sum and SiLU", 6, 4, false, normAct(graph.SiLU, true)},
	{"batch norm and frozen sum", 6, 4, false, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Add(b.BatchNorm("op", x), b.AvgPool(x, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(1), Pad: graph.Square(1)}))
	}},
	{"layer norm", 17, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.LayerNorm("op", x) }},
	{"local response norm", 9, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.LocalResponseNorm(x, graph.LocalResponseNorm{Size: 5, Alpha: 0.5, Beta: 0.75, K: 1})
	}},
	{"max pool", 5, 5, true, pool((*graph.Builder).MaxPool, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)})},
	{"max pool rounded up", 5, 6, true, pool((*graph.Builder).MaxPool, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Ceil: true})},
	{"average pool", 5, 5, false, pool((*graph.Builder).AvgPool, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)})},
	{"adaptive average pool", 5, 5, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.AdaptiveAvgPool(x, graph.HW(3, 2)) }},
	{"global average pool", 5, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.GlobalAvgPool(x) }},
	{"ReLU", 5, 3, true, act(graph.ReLU)},
	{"ReLU6", 5, 3, true, act(graph.ReLU6)},
	{"hard swish", 5, 3, true, act(graph.HardSwish)},
	{"hard sigmoid", 5, 3, true, act(graph.HardSigmoid)},
	{"SiLU", 5, 3, false, act(graph.SiLU)},
	{"GELU", 5, 3, false, act(graph.GELU)},
	{"sigmoid", 5, 3, false, act(graph.Sigmoid)},
	{"tanh", 5, 3, false, act(graph.Tanh)},
	{"sum of three", 5, 3, true, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.ReLU(b.Add(x, b.Activation(x, graph.Tanh), b.Activation(x, graph.Sigmoid)))
	}},
	{"sum and GELU", 5, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Activation(b.Add(x, b.Activation(x, graph.Tanh)), graph.GELU)
	}},
	{"product", 5, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Mul(x, b.Activation(x, graph.Tanh)) }},
	{"product with a vector", 5, 4, false, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Mul(x, b.Activation(b.GlobalAvgPool(x), graph.Sigmoid))
	}},
	{"concatenation", 5, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Concat(x, b.Activation(x, graph.Tanh), x)
	}},
	{"concatenated convolutions", 5, 4, false, func(b *graph.Builder, x *graph.Node) *graph.Node {
		b = b.Scope("op")
		return b.Concat(b.Conv2d("a", x, graph.Conv{Out: 7, Kernel: graph.Square(1), Bias: true}),
			b.Conv2d("b", x, graph.Conv{Out: 6, Kernel: graph.Square(3), Pad: graph.Square(1)}),
			b.Conv2d("c", b.Activation(x, graph.Tanh), graph.Conv{Out: 10, Kernel: graph.Square(3), Pad: graph.Square(1), Groups: 5, Bias: true}))
	}},
	{"slice", 7, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Concat(b.Slice(x, 2, 5), b.Slice(x, 0, 4)) }},
	{"shuffle", 12, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.ChannelShuffle(x, 3) }},
	{"subsample", 5, 5, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Subsample(x, 2, 2, 3) }},
	{"layer scale", 5, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.LayerScale("op", x, 0.5) }},
	{"affine constants", 3, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Affine(x, []float32{0.5, 2, -1}, []float32{1, 0, -2})
	}},
	{"dropout", 5, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Dropout(x, 0.4) }},
	{"stochastic depth", 5, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Add(x, b.StochasticDepth(x, 0.4)) }},
	{"flatten", 5, 3, false, func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Activation(b.Flatten(x), graph.Tanh) }},
}

// TestGradientsDifferFromFiniteDifferences compares, for every operator, the gradient of each parameter before, in and behind
// it with how the loss changes. Batch norms are checked with the batch's statistics and frozen.
func TestGradientsDifferFromFiniteDifferences(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	for _, precision := range []engine.Precision{engine.Highest, engine.High} {
		for _, c := range opCases {
			t.Run(fmt.Sprintf("%v/%s", precision, c.name), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(len(c.name)), uint64(c.channels)))
				for range 2 {
					s := graph.Shape{C: 3, H: c.side + r.IntN(4), W: c.side + r.IntN(4)}
					checkGradients(t, p, r, c, s, 2+r.IntN(3), precision, nil)
				}
				if strings.HasPrefix(c.name, "linear") { // large batches are another computation
					checkGradients(t, p, r, c, graph.Shape{C: 3, H: c.side, W: c.side}, 20, precision, nil)
				}
				if strings.HasPrefix(c.name, "concatenated") {
					frozen := func(p *graph.Param) bool { return !strings.HasPrefix(p.Name, "op.b") }
					checkGradients(t, p, r, c, graph.Shape{C: 3, H: c.side, W: c.side + 1}, 3, precision, frozen)
				}
				if strings.HasPrefix(c.name, "batch norm") {
					frozen := func(p *graph.Param) bool { return !strings.HasPrefix(p.Name, "op.") }
					checkGradients(t, p, r, c, graph.Shape{C: 3, H: c.side, W: c.side + 1}, 3, precision, frozen)
				}
			})
		}
	}
}

// TestConcatenatedConvolutionsInPlace compares convolutions that write their channels of a concatenation with those whose maps are copied.
// Finite differences would cross too many kinks of ReLU.
func TestConcatenatedConvolutionsInPlace(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	build := func(copied bool) *graph.Graph {
		b := graph.NewBuilder(graph.Shape{C: 3, H: 9, W: 8}, 3)
		part := func(x *graph.Node) *graph.Node {
			if copied {
				return b.Slice(x, 0, x.Shape.C)
			}
			return x
		}
		x := b.ReLU(b.Conv2d("squeeze", b.Input(), graph.Conv{Out: 9, Kernel: graph.Square(1), Bias: true}))
		y := b.Concat(part(b.ReLU(b.Conv2d("a", x, graph.Conv{Out: 7, Kernel: graph.Square(1), Bias: true}))),
			part(b.ReLU(b.Conv2d("b", x, graph.Conv{Out: 6, Kernel: graph.Square(3), Pad: graph.Square(1), Bias: true}))))
		b.Features(y)
		y = b.Linear("after", b.Flatten(y), graph.Fc{Out: 3})
		b.Classifier("after")
		b.Group("all", "squeeze", "a", "b", "after")
		g, err := b.Finish(y)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	const n = 4
	r := rand.New(rand.NewPCG(4, 9))
	params := randomParams(r, build(false))
	images := randomImages(r, n, graph.Shape{C: 3, H: 9, W: 8})
	for name, trainable := range map[string]func(*graph.Param) bool{
		"all": nil, "without b": func(p *graph.Param) bool { return !strings.HasPrefix(p.Name, "b.") },
	} {
		gradients := func(g *graph.Graph) map[string][]float32 {
			tr, err := train.New(g, params, train.Options{Pool: p, Precision: engine.Highest, Trainable: trainable})
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second adds to the first
				if _, err := tr.Accumulate(t.Context(), images, n, train.Targets{Labels: []int{0, 1, 2, 1}}, 1); err != nil {
					t.Fatal(err)
				}
			}
			all := map[string][]float32{}
			for _, p := range tr.All() {
				all[p.Name()] = p.Gradient()
			}
			return all
		}
		want := gradients(build(true))
		for param, got := range gradients(build(false)) {
			for i, v := range got {
				if math.Abs(float64(v-want[param][i])) > 1e-5 {
					t.Fatalf("%s, %s: gradient %d is %g, with copies %g", name, param, i, v, want[param][i])
				}
			}
		}
	}
}

// opGraph is a convolution, the operator, and a linear layer that weighs every pixel differently.
func opGraph(c opCase, s graph.Shape) (*graph.Graph, error) {
	b := graph.NewBuilder(s, 3)
	x := b.Conv2d("before", b.Input(), graph.Conv{Out: c.channels, Kernel: graph.Square(1), Bias: true})
	y := c.build(b, x)
	b.Features(y)
	y = b.Linear("after", b.Flatten(y), graph.Fc{Out: 3})
	b.Classifier("after")
	b.Group("all", "before", "op", "after")
	return b.Finish(y)
}

// randomParams fills all parameters so that maps keep a variance near 1.
func randomParams(r *rand.Rand, g *graph.Graph) engine.ParamMap {
	params := engine.ParamMap{}
	for _, p := range g.Params {
		fan := 1
		for _, d := range p.Shape[min(1, len(p.Shape)):] {
			fan *= d
		}
		v := make([]float32, p.Elements())
		for i := range v {
			x := r.NormFloat64()
			switch {
			case p.Role == graph.RunningVar:
				x = 0.5 + r.Float64()
			case p.Role == graph.NumBatchesTracked:
				x = 0
			case len(p.Shape) > 1:
				x /= math.Sqrt(float64(fan))
			case p.Role == graph.Weight:
				x = 1 + 0.2*x
			default:
				x *= 0.3
			}
			v[i] = float32(x)
		}
		params[p.Name] = v
	}
	return params
}

func randomImages(r *rand.Rand, n int, s graph.Shape) []float32 {
	x := make([]float32, n*s.Elements())
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

func checkGradients(t *testing.T, p *work.Pool, r *rand.Rand, c opCase, s graph.Shape, n int, precision engine.Precision, trainable func(*graph.Param) bool) {
	t.Helper()
	g, err := opGraph(c, s)
	if err != nil {
		t.Fatal(err)
	}
	tr, err := train.New(g, randomParams(r, g), train.Options{Pool: p, Precision: precision, Trainable: trainable, Seed: 7, Loss: train.Loss{LabelSmoothing: 0.1}})
	if err != nil {
		t.Fatal(err)
	}
	images, labels := randomImages(r, n, s), make([]int, n)
	for i := range labels {
		labels[i] = r.IntN(3)
	}
	loss := func() float64 {
		tr.SetSteps(3) // the same dropout every time
		res, err := tr.Accumulate(context.Background(), images, n, train.Targets{Labels: labels}, 1)
		if err != nil {
			t.Fatal(err)
		}
		return res.Loss
	}
	tr.ZeroGrad()
	loss()
	gradients := map[string][]float32{}
	for _, p := range tr.All() {
		gradients[p.Name()] = append([]float32(nil), p.Gradient()...)
	}
	// At high the maps themselves are off by 2⁻¹⁷.
	tolerance := 2e-3
	if precision == engine.High {
		tolerance = 2e-2
	}
	if c.kinks {
		tolerance = max(tolerance, 1e-2)
	}
	for _, p := range tr.All() {
		if !p.Trainable() {
			continue
		}
		grad := gradients[p.Name()]
		norm := 0.0
		for _, v := range grad {
			norm += float64(v) * float64(v)
		}
		norm = math.Sqrt(norm)
		for _, along := range []string{"its gradient", "random"} {
			d := make([]float64, len(grad))
			length := 0.0
			for i := range d {
				d[i] = float64(grad[i])
				if along == "random" || norm == 0 {
					d[i] = r.NormFloat64()
				}
				length += d[i] * d[i]
			}
			length = math.Sqrt(length)
			want := 0.0
			for i := range d {
				d[i] /= length
				want += d[i] * float64(grad[i])
			}
			saved := append([]float32(nil), p.Values()...)
			slope := func(h float64) float64 {
				var l [2]float64
				for k, sign := range []float64{1, -1} {
					for i, v := range saved {
						p.Values()[i] = float32(float64(v) + sign*h*d[i])
					}
					l[k] = loss()
				}
				copy(p.Values(), saved)
				return (l[0] - l[1]) / (2 * h)
			}
			h := 0.02
			if c.kinks {
				h = 0.004
			}
			got := (4*slope(h/2) - slope(h)) / 3 // Richardson
			if math.Abs(got-want) > tolerance*norm+2e-4 {
				t.Errorf("%s of %s, input %v, batch %d: along %s the loss changes by %.6g, the gradient says %.6g", p.Name(), c.name, s, n, along, got, want)
			}
		}
	}
}
