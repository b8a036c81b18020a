package senet

import (
	"fmt"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

// config is a ResNet of bottlenecks with squeeze-and-excitation, as timm builds it.
type config struct {
	name          string
	layers        [4]int
	groups, width int // of the 3×3 convolution: width is that of a group for 64 planes
	stem          stem
	input         int // height and width that the public weights expect
}

// stem is the first convolution: 7×7, or three 3×3 ("ResNet-D" of He, T. et al., arXiv:1812.01187), of which the first two have the
// given channels. Networks with such a stem also average in front of their projections.
type stem [2]int

var (
	plain  = stem{}
	deep   = stem{32, 32}
	tiered = stem{24, 32}
)

var configs = []config{
	{"seresnet50", [4]int{3, 4, 6, 3}, 1, 64, plain, 224},
	{"seresnet152d", [4]int{3, 8, 36, 3}, 1, 64, deep, 256},
	{"seresnext26d_32x4d", [4]int{2, 2, 2, 2}, 32, 4, deep, 224},
	{"seresnext26t_32x4d", [4]int{2, 2, 2, 2}, 32, 4, tiered, 224},
	{"seresnext50_32x4d", [4]int{3, 4, 6, 3}, 32, 4, plain, 224},
	{"seresnext101_32x4d", [4]int{3, 4, 23, 3}, 32, 4, plain, 224},
	{"seresnext101_32x8d", [4]int{3, 4, 23, 3}, 32, 8, plain, 224},
	{"seresnext101_64x4d", [4]int{3, 4, 23, 3}, 64, 4, plain, 224},
}

// bottleneck is 1×1, 3×3 with the stride, 1×1, squeeze-and-excitation.
func (c config) bottleneck(b *graph.Builder, x *graph.Node, planes, stride int) *graph.Node {
	width, out := planes*c.width/64*c.groups, 4*planes
	y := b.ReLU(convNorm(b, 1, x, width, 1, 1, 1))
	y = b.ReLU(convNorm(b, 2, y, width, 3, stride, c.groups))
	y = convNorm(b, 3, y, out, 1, 1, 1)
	y = excite(b.Scope("se"), y, blocks.RoundChannels(float64(out)/reduction, 0))
	if stride != 1 || x.Shape.C != out {
		x = c.project(b.Scope("downsample"), x, out, stride)
	}
	return b.ReLU(b.Add(y, x))
}

func (c config) project(b *graph.Builder, x *graph.Node, out, stride int) *graph.Node {
	if c.stem == plain {
		return b.BatchNorm("1", b.Conv2d("0", x, conv(out, 1, stride, 1)))
	}
	if stride != 1 {
		x = b.AvgPool(x, graph.Pool{Kernel: graph.Square(stride), Ceil: true, ExcludePad: true})
	}
	return b.BatchNorm("2", b.Conv2d("1", x, conv(out, 1, 1, 1)))
}

func (c config) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")

	if c.stem == plain {
		x = b.Conv2d("conv1", x, conv(64, 7, 2, 1))
	} else {
		s := b.Scope("conv1")
		x = s.ReLU(s.BatchNorm("1", s.Conv2d("0", x, conv(c.stem[0], 3, 2, 1))))
		x = s.ReLU(s.BatchNorm("4", s.Conv2d("3", x, conv(c.stem[1], 3, 1, 1))))
		x = s.Conv2d("6", x, conv(64, 3, 1, 1))
	}
	x = b.Tap("stage1", b.ReLU(b.BatchNorm("bn1", x)))
	b.Group("stem", "conv1", "bn1")
	x = b.MaxPool(x, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)})
	for i, layers := range c.layers {
		layer := fmt.Sprintf("layer%d", i+1)
		for j := range layers {
			stride := 1
			if i > 0 && j == 0 {
				stride = 2
			}
			x = c.bottleneck(b.Scopef("%s.%d", layer, j), x, stages[i], stride)
		}
		b.Tap(fmt.Sprintf("stage%d", i+2), x)
		b.Group(layer, layer)
	}

	x = b.Dropout(b.Flatten(b.GlobalAvgPool(b.Features(x))), p)
	b.Group("fc", "fc")
	b.Classifier("fc")
	return b.Linear("fc", x, graph.Fc{Out: b.Classes()})
}

func modern() []sdk.Model {
	var models []sdk.Model
	for _, c := range configs {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paper, Input: graph.Shape{C: 3, H: c.input, W: c.input}, MinSize: 1,
			Options: []sdk.Option{blocks.Dropout(0)}, Build: c.build,
		})
	}
	return models
}
