package efficientnet

import (
	"strconv"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

// network is what both versions share.
type network struct {
	stem   int // filters of the first convolution
	stages []stage
	last   int // filters of the last convolution
	norm   graph.Norm
}

// stage is a row of the papers' tables: expansion, kernel, stride of the first layer, channels, layers; tap names an output that is the last
// of its stride.
type stage struct {
	block                       block
	expand, kernel, stride, out int
	layers                      int
	tap                         string
}

// block adds an inverted residual, without its shortcut.
type block func(b *graph.Builder, x *graph.Node, s stage, stride int, norm graph.Norm) *graph.Node

// sequence numbers the modules of a torch.nn.Sequential.
func sequence(b *graph.Builder) func() *graph.Builder {
	index := 0
	return func() *graph.Builder { index++; return b.Scope(strconv.Itoa(index - 1)) }
}

// mbconv expands by 1×1, filters each channel, squeezes and excites, and projects by 1×1.
func mbconv(b *graph.Builder, x *graph.Node, s stage, stride int, norm graph.Norm) *graph.Node {
	next, in := sequence(b), x.Shape.C
	hidden := blocks.MakeDivisible(float64(in * s.expand))
	if hidden != in {
		x = blocks.ConvNormAct(next(), x, blocks.Conv{Out: hidden, Norm: norm}, graph.SiLU)
	}
	x = blocks.ConvNormAct(next(), x, blocks.Conv{Out: hidden, Kernel: s.kernel, Stride: stride, Groups: hidden, Norm: norm}, graph.SiLU)
	x = blocks.SqueezeExcite(next(), x, max(1, in/4), graph.SiLU, graph.Sigmoid, graph.Constant(0))
	return blocks.ConvNorm(next(), "0", "1", x, blocks.Conv{Out: s.out, Norm: norm})
}

// fused has one dense convolution in place of the expansion and the depthwise one (V2, figure 2).
func fused(b *graph.Builder, x *graph.Node, s stage, stride int, norm graph.Norm) *graph.Node {
	next, in := sequence(b), x.Shape.C
	hidden := blocks.MakeDivisible(float64(in * s.expand))
	if hidden == in {
		return blocks.ConvNormAct(next(), x, blocks.Conv{Out: s.out, Kernel: s.kernel, Stride: stride, Norm: norm}, graph.SiLU)
	}
	x = blocks.ConvNormAct(next(), x, blocks.Conv{Out: hidden, Kernel: s.kernel, Stride: stride, Norm: norm}, graph.SiLU)
	return blocks.ConvNorm(next(), "0", "1", x, blocks.Conv{Out: s.out, Norm: norm})
}

func (n network) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p, depth := o.Probability(b, "dropout"), o.Probability(b, "stochastic_depth")
	total := 0
	for _, s := range n.stages {
		total += s.layers
	}

	f := b.Scope("features")
	x = blocks.ConvNormAct(f.Scope("0"), x, blocks.Conv{Out: n.stem, Kernel: 3, Stride: 2, Norm: n.norm}, graph.SiLU)
	b.Group("features.0", "features.0")
	done := 0 // layers so far
	for i, s := range n.stages {
		name := strconv.Itoa(i + 1)
		for j := range s.layers {
			stride := 1
			if j == 0 {
				stride = s.stride
			}
			l, in := f.Scopef("%s.%d", name, j), x
			x = s.block(l.Scope("block"), in, s, stride, n.norm)
			if stride == 1 && in.Shape.C == s.out {
				x = l.Add(l.StochasticDepth(x, depth*float64(done)/float64(total)), in)
			}
			done++
		}
		if s.tap != "" {
			b.Tap(s.tap, x)
		}
		b.Group("features."+name, "features."+name)
	}
	last := strconv.Itoa(len(n.stages) + 1)
	x = blocks.ConvNormAct(f.Scope(last), x, blocks.Conv{Out: n.last, Norm: n.norm}, graph.SiLU)
	b.Group("features."+last, "features."+last)

	x = b.Flatten(b.GlobalAvgPool(b.Features(x)))
	h := b.Scope("classifier")
	b.Group("classifier", "classifier")
	b.Classifier("classifier.1")
	return h.Linear("1", h.Dropout(x, p), graph.Fc{Out: b.Classes(), Init: graph.UniformFanOut, BiasInit: graph.Constant(0)})
}
