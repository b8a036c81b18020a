package senet

import (
	"fmt"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

// legacyConfig is a network of the authors' Caffe release, with the names that timm gives its layers.
type legacyConfig struct {
	name    string
	block   legacyBlock
	layers  [4]int
	groups  int
	deep    bool // three 3×3 convolutions and 128 channels at the beginning, 3×3 projections
	dropout float64
}

var legacyConfigs = []legacyConfig{
	{"legacy_senet154", senetBottleneck, [4]int{3, 8, 36, 3}, 64, true, 0.2},
	{"legacy_seresnet18", seresnetBasic, [4]int{2, 2, 2, 2}, 1, false, 0},
	{"legacy_seresnet34", seresnetBasic, [4]int{3, 4, 6, 3}, 1, false, 0},
	{"legacy_seresnet50", seresnetBottleneck, [4]int{3, 4, 6, 3}, 1, false, 0},
	{"legacy_seresnet101", seresnetBottleneck, [4]int{3, 4, 23, 3}, 1, false, 0},
	{"legacy_seresnet152", seresnetBottleneck, [4]int{3, 8, 36, 3}, 1, false, 0},
	{"legacy_seresnext26_32x4d", seresnextBottleneck, [4]int{2, 2, 2, 2}, 32, false, 0},
	{"legacy_seresnext50_32x4d", seresnextBottleneck, [4]int{3, 4, 6, 3}, 32, false, 0},
	{"legacy_seresnext101_32x4d", seresnextBottleneck, [4]int{3, 4, 23, 3}, 32, false, 0},
}

// legacyBlock adds the convolutions of a residual branch.
type legacyBlock func(b *graph.Builder, x *graph.Node, planes, stride, groups int) *graph.Node

// senetBottleneck doubles the planes of the first convolutions.
func senetBottleneck(b *graph.Builder, x *graph.Node, planes, stride, groups int) *graph.Node {
	x = convNorm(b, 1, x, 2*planes, 1, 1, 1)
	x = convNorm(b, 2, b.ReLU(x), 4*planes, 3, stride, groups)
	return convNorm(b, 3, b.ReLU(x), 4*planes, 1, 1, 1)
}

// seresnetBottleneck has the stride on its first convolution, unlike later ResNets.
func seresnetBottleneck(b *graph.Builder, x *graph.Node, planes, stride, groups int) *graph.Node {
	x = convNorm(b, 1, x, planes, 1, stride, 1)
	x = convNorm(b, 2, b.ReLU(x), planes, 3, 1, groups)
	return convNorm(b, 3, b.ReLU(x), 4*planes, 1, 1, 1)
}

// seresnextBottleneck has groups of 4 channels for 64 planes.
func seresnextBottleneck(b *graph.Builder, x *graph.Node, planes, stride, groups int) *graph.Node {
	width := planes * 4 / 64 * groups
	x = convNorm(b, 1, x, width, 1, 1, 1)
	x = convNorm(b, 2, b.ReLU(x), width, 3, stride, groups)
	return convNorm(b, 3, b.ReLU(x), 4*planes, 1, 1, 1)
}

// seresnetBasic has a ReLU in front of the squeeze-and-excitation too, unlike the others.
func seresnetBasic(b *graph.Builder, x *graph.Node, planes, stride, groups int) *graph.Node {
	x = convNorm(b, 1, x, planes, 3, stride, 1)
	return b.ReLU(convNorm(b, 2, b.ReLU(x), planes, 3, 1, groups))
}

func (c legacyConfig) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")

	stem, project := b.Scope("layer0"), 1
	if c.deep {
		x = stem.ReLU(convNorm(stem, 1, x, 64, 3, 2, 1))
		x = stem.ReLU(convNorm(stem, 2, x, 64, 3, 1, 1))
		x = stem.ReLU(convNorm(stem, 3, x, 128, 3, 1, 1))
		project = 3
	} else {
		x = stem.ReLU(convNorm(stem, 1, x, 64, 7, 2, 1))
	}
	b.Group("layer0", "layer0")
	x = b.MaxPool(b.Tap("stage1", x), graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Ceil: true})
	for i, layers := range c.layers {
		layer := fmt.Sprintf("layer%d", i+1)
		for j := range layers {
			stride, kernel := 1, 1
			if i > 0 && j == 0 {
				stride, kernel = 2, project
			}
			s, in := b.Scopef("%s.%d", layer, j), x
			x = c.block(s, in, stages[i], stride, c.groups)
			x = excite(s.Scope("se_module"), x, x.Shape.C/reduction)
			if stride != 1 || in.Shape.C != x.Shape.C {
				d := s.Scope("downsample")
				in = d.BatchNorm("1", d.Conv2d("0", in, conv(x.Shape.C, kernel, stride, 1)))
			}
			x = s.ReLU(s.Add(x, in))
		}
		b.Tap(fmt.Sprintf("stage%d", i+2), x)
		b.Group(layer, layer)
	}

	x = b.Dropout(b.Flatten(b.GlobalAvgPool(b.Features(x))), p)
	b.Group("last_linear", "last_linear")
	b.Classifier("last_linear")
	return b.Linear("last_linear", x, graph.Fc{Out: b.Classes()})
}

func legacy() []sdk.Model {
	var models []sdk.Model
	for _, c := range legacyConfigs {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paper, Input: blocks.ImageNet, MinSize: 3,
			Options: []sdk.Option{blocks.Dropout(c.dropout)}, Build: c.build,
		})
	}
	return models
}
