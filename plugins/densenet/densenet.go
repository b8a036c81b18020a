// Package densenet is the family of DenseNets.
package densenet

import (
	_ "embed"
	"fmt"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "Huang, Liu, van der Maaten and Weinberger: Densely Connected Convolutional Networks, 2016, arXiv:1608.06993"

// config is a column of table 1: first filters, growth rate, and layers of each dense block.
type config struct {
	name          string
	first, growth int
	layers        [4]int
}

var configs = []config{
	{"densenet121", 64, 32, [4]int{6, 12, 24, 16}},
	{"densenet161", 96, 48, [4]int{6, 12, 36, 24}},
	{"densenet169", 64, 32, [4]int{6, 12, 32, 32}},
	{"densenet201", 64, 32, [4]int{6, 12, 48, 32}},
}

// bottleneck is the width of a layer's 1×1 convolution in growth rates (§3, "DenseNet-B").
const bottleneck = 4

func conv(out, kernel, stride int) graph.Conv {
	return graph.Conv{Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Pad: graph.Square(kernel / 2), Init: graph.KaimingNormalFanIn}
}

// layer makes growth new channels of all that came before it in the block.
func layer(b *graph.Builder, x *graph.Node, growth int, p float64) *graph.Node {
	y := b.Conv2d("conv1", b.ReLU(b.BatchNorm("norm1", x)), conv(bottleneck*growth, 1, 1))
	y = b.Conv2d("conv2", b.ReLU(b.BatchNorm("norm2", y)), conv(growth, 3, 1))
	return b.Concat(x, b.Dropout(y, p))
}

// transition halves channels, height and width.
func transition(b *graph.Builder, x *graph.Node) *graph.Node {
	x = b.Conv2d("conv", b.ReLU(b.BatchNorm("norm", x)), conv(x.Shape.C/2, 1, 1))
	return b.AvgPool(x, graph.Pool{Kernel: graph.Square(2)})
}

func (c config) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")

	f := b.Scope("features")
	x = f.ReLU(f.BatchNorm("norm0", f.Conv2d("conv0", x, conv(c.first, 7, 2))))
	x = f.MaxPool(b.Tap("stage1", x), graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)})
	b.Group("stem", "features.conv0", "features.norm0")
	for i, layers := range c.layers {
		block, trans := fmt.Sprintf("denseblock%d", i+1), fmt.Sprintf("transition%d", i+1)
		for j := range layers {
			x = layer(f.Scopef("%s.denselayer%d", block, j+1), x, c.growth, p)
		}
		if i == len(c.layers)-1 {
			x = f.ReLU(f.BatchNorm("norm5", x))
			b.Group(block, "features."+block, "features.norm5")
		}
		b.Tap(fmt.Sprintf("stage%d", i+2), x)
		if i < len(c.layers)-1 {
			x = transition(f.Scope(trans), x)
			b.Group(block, "features."+block, "features."+trans)
		}
	}

	x = b.Flatten(b.GlobalAvgPool(b.Features(x)))
	b.Group("classifier", "classifier")
	b.Classifier("classifier")
	return b.Linear("classifier", x, graph.Fc{Out: b.Classes(), BiasInit: graph.Constant(0)})
}

// Family returns the DenseNets.
func Family() sdk.Family {
	dropout := blocks.Dropout(0)
	dropout.Help = "probability of zeroing an output of a dense layer in training; 0 switches it off"
	var models []sdk.Model
	for _, c := range configs {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paper, Input: blocks.ImageNet, MinSize: 29,
			Options: []sdk.Option{dropout}, Build: c.build,
		})
	}
	return sdk.MustFamily(manifest, models...)
}
