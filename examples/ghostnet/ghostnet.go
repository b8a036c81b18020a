// Package ghostnet is an architecture family outside of zoo: GhostNet, with timm's layer names, and a variant whose attention is
// an operator of the family's own. It is an example to start from: a module of its own that imports nothing of zoo but its public packages.
package ghostnet

import (
	_ "embed"
	"fmt"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "Han, Wang, Tian, Guo, Xu and Xu: GhostNet: More Features from Cheap Operations, 2019, arXiv:1911.11907"

// config is a width multiplier and the attention of the blocks that have one.
type config struct {
	name      string
	width     float64
	attention func(b *graph.Builder, x *graph.Node) *graph.Node
}

var configs = []config{
	{"ghostnet_050", 0.5, squeezeExcite},
	{"ghostnet_100", 1.0, squeezeExcite},
	{"ghostnet_130", 1.3, squeezeExcite},
	{"ghostnet_eca_100", 1.0, efficientChannelAttention},
}

// Filters of the first and the last convolution; the last is not scaled.
const (
	stem = 16
	last = 1280
)

// bottleneck is a row of table 7: kernel, hidden channels, output channels, attention, stride.
type bottleneck struct {
	kernel, hidden, out int
	attention           bool
	stride              int
}

// stages are blocks.0, 1, …; tap names the outputs that timm's features_only returns.
var stages = []struct {
	blocks []bottleneck
	tap    string
}{
	{[]bottleneck{{3, 16, 16, false, 1}}, ""},
	{[]bottleneck{{3, 48, 24, false, 2}}, "stage2"},
	{[]bottleneck{{3, 72, 24, false, 1}}, ""},
	{[]bottleneck{{5, 72, 40, true, 2}}, "stage3"},
	{[]bottleneck{{5, 120, 40, true, 1}}, ""},
	{[]bottleneck{{3, 240, 80, false, 2}}, "stage4"},
	{[]bottleneck{{3, 200, 80, false, 1}, {3, 184, 80, false, 1}, {3, 184, 80, false, 1}, {3, 480, 112, true, 1}, {3, 672, 112, true, 1}}, ""},
	{[]bottleneck{{5, 672, 160, true, 2}}, "stage5"},
	{[]bottleneck{{5, 960, 160, false, 1}, {5, 960, 160, true, 1}, {5, 960, 160, false, 1}, {5, 960, 160, true, 1}}, ""},
}

// divisible rounds to a multiple of 4 that is not more than 10 % below.
func divisible(channels float64) int {
	rounded := max(4, int(channels+2)/4*4)
	if float64(rounded) < 0.9*channels {
		rounded += 4
	}
	return rounded
}

func conv(out, kernel, stride, groups int) graph.Conv {
	return graph.Conv{Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Pad: graph.Square(kernel / 2), Groups: groups}
}

// ghost is figure 1 (b): half of the channels come from a 1×1 convolution, the others from a cheap 3×3 filter of each of these.
func ghost(b *graph.Builder, x *graph.Node, out int, relu bool) *graph.Node {
	act := func(x *graph.Node) *graph.Node {
		if relu {
			return b.ReLU(x)
		}
		return x
	}
	half := (out + 1) / 2
	p, c := b.Scope("primary_conv"), b.Scope("cheap_operation")
	intrinsic := act(p.BatchNorm("1", p.Conv2d("0", x, conv(half, 1, 1, 1))))
	cheap := act(c.BatchNorm("1", c.Conv2d("0", intrinsic, conv(half, 3, 1, half))))
	both := b.Concat(intrinsic, cheap)
	if 2*half > out {
		return b.Slice(both, 0, out)
	}
	return both
}

// squeezeExcite is the paper's attention (§3.2).
func squeezeExcite(b *graph.Builder, x *graph.Node) *graph.Node {
	s := b.Scope("se")
	reduce, expand := conv(divisible(float64(x.Shape.C)/4), 1, 1, 1), conv(x.Shape.C, 1, 1, 1)
	reduce.Bias, expand.Bias = true, true
	y := s.ReLU(s.Conv2d("conv_reduce", s.GlobalAvgPool(x), reduce))
	y = s.Activation(s.Conv2d("conv_expand", y, expand), graph.HardSigmoid)
	return s.Mul(x, y)
}

// add is figure 3: a ghost module that expands, a filter with the stride, attention, a ghost module that projects, and a shortcut.
func (c config) add(b *graph.Builder, x *graph.Node, k bottleneck) *graph.Node {
	hidden, out, in := divisible(float64(k.hidden)*c.width), divisible(float64(k.out)*c.width), x.Shape.C
	y := ghost(b.Scope("ghost1"), x, hidden, true)
	if k.stride > 1 {
		y = b.BatchNorm("bn_dw", b.Conv2d("conv_dw", y, conv(hidden, k.kernel, k.stride, hidden)))
	}
	if k.attention {
		y = c.attention(b, y)
	}
	y = ghost(b.Scope("ghost2"), y, out, false)
	if in != out || k.stride != 1 {
		s := b.Scope("shortcut")
		x = s.BatchNorm("1", s.Conv2d("0", x, conv(in, k.kernel, k.stride, in)))
		x = s.BatchNorm("3", s.Conv2d("2", x, conv(out, 1, 1, 1)))
	}
	return b.Add(y, x)
}

func (c config) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")

	x = b.ReLU(b.BatchNorm("bn1", b.Conv2d("conv_stem", x, conv(divisible(stem*c.width), 3, 2, 1))))
	b.Tap("stage1", x)
	b.Group("stem", "conv_stem", "bn1")
	for i, s := range stages {
		name := fmt.Sprintf("blocks.%d", i)
		for j, k := range s.blocks {
			x = c.add(b.Scopef("%s.%d", name, j), x, k)
		}
		if s.tap != "" {
			b.Tap(s.tap, x)
		}
		b.Group(name, name)
	}
	name := fmt.Sprintf("blocks.%d", len(stages))
	head := b.Scope(name + ".0")
	x = head.ReLU(head.BatchNorm("bn1", head.Conv2d("conv", x, conv(divisible(960*c.width), 1, 1, 1))))
	b.Group(name, name)

	wide := conv(last, 1, 1, 1)
	wide.Bias = true
	x = b.ReLU(b.Conv2d("conv_head", b.GlobalAvgPool(b.Features(x)), wide))
	b.Group("conv_head", "conv_head")
	b.Group("classifier", "classifier")
	b.Classifier("classifier")
	return b.Linear("classifier", b.Dropout(b.Flatten(x), p), graph.Fc{Out: b.Classes()})
}

// Family returns the GhostNets.
func Family() sdk.Family {
	var models []sdk.Model
	for _, c := range configs {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paper, Input: graph.Shape{C: 3, H: 224, W: 224}, MinSize: 1,
			Options: []sdk.Option{{Name: "dropout", Default: "0.2", Help: "probability of zeroing an input of the classifier in training; 0 switches it off"}},
			Build:   c.build,
		})
	}
	return sdk.MustFamily(manifest, models...)
}
