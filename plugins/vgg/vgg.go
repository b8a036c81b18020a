// Package vgg is the family of VGG networks.
package vgg

import (
	_ "embed"
	"fmt"
	"strconv"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "Simonyan and Zisserman: Very Deep Convolutional Networks for Large-Scale Image Recognition, 2014, arXiv:1409.1556"

// The columns of table 1: channels of the 3×3 convolutions of each stage; pixel marks a 1×1 convolution and lrn a local response
// normalisation in front of the pooling.
const (
	pixel = -1 // of the channels before it
	lrn   = -2
)

var (
	columnA    = [5][]int{{64}, {128}, {256, 256}, {512, 512}, {512, 512}}
	columnALRN = [5][]int{{64, lrn}, {128}, {256, 256}, {512, 512}, {512, 512}}
	columnB    = [5][]int{{64, 64}, {128, 128}, {256, 256}, {512, 512}, {512, 512}}
	columnC    = [5][]int{{64, 64}, {128, 128}, {256, 256, pixel}, {512, 512, pixel}, {512, 512, pixel}}
	columnD    = [5][]int{{64, 64}, {128, 128}, {256, 256, 256}, {512, 512, 512}, {512, 512, 512}}
	columnE    = [5][]int{{64, 64}, {128, 128}, {256, 256, 256, 256}, {512, 512, 512, 512}, {512, 512, 512, 512}}
)

// responseNorm has AlexNet's parameters, as §2.1 says; the operator divides α by the size.
var responseNorm = graph.LocalResponseNorm{Size: 5, Alpha: 5e-4, Beta: 0.75, K: 2}

type config struct {
	name   string
	column [5][]int
	norm   bool // batch norm after each convolution (torchvision's addition)
}

var configs = []config{
	{"vgg11", columnA, false},
	{"vgg11_bn", columnA, true},
	{"vgg11_lrn", columnALRN, false},
	{"vgg13", columnB, false},
	{"vgg13_bn", columnB, true},
	{"vgg16", columnD, false},
	{"vgg16_bn", columnD, true},
	{"vgg16_c", columnC, false},
	{"vgg19", columnE, false},
	{"vgg19_bn", columnE, true},
}

// hidden is the width of the two hidden fully connected layers.
const hidden = 4096

func (c config) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")

	f := b.Scope("features")
	index := 0 // of the next module of torch.nn.Sequential
	name := func() string { index++; return strconv.Itoa(index - 1) }
	for i, stage := range c.column {
		var modules []string
		for _, out := range stage {
			if out == lrn {
				name()
				x = f.LocalResponseNorm(x, responseNorm)
				continue
			}
			conv := graph.Conv{
				Out: out, Kernel: graph.Square(3), Pad: graph.Square(1),
				Bias: true, Init: graph.KaimingNormalFanOut, BiasInit: graph.Constant(0),
			}
			if out == pixel {
				conv.Out, conv.Kernel, conv.Pad = x.Shape.C, graph.Square(1), graph.Pair{}
			}
			modules = append(modules, "features."+strconv.Itoa(index))
			x = f.Conv2d(name(), x, conv)
			if c.norm {
				modules = append(modules, "features."+strconv.Itoa(index))
				x = f.BatchNorm(name(), x)
			}
			name()
			x = f.ReLU(x)
		}
		b.Group(fmt.Sprintf("block%d", i+1), modules...)
		b.Tap(fmt.Sprintf("stage%d", i), x)
		name()
		x = f.MaxPool(x, graph.Pool{Kernel: graph.Square(2)})
	}
	x = b.Features(b.Tap("stage5", x))

	h := b.Scope("classifier")
	fc := graph.Fc{Out: hidden, Init: graph.Normal(0.01), BiasInit: graph.Constant(0)}
	x = b.Flatten(b.AdaptiveAvgPool(x, graph.Square(7)))
	x = h.Dropout(h.ReLU(h.Linear("0", x, fc)), p)
	x = h.Dropout(h.ReLU(h.Linear("3", x, fc)), p)
	fc.Out = b.Classes()
	x = h.Linear("6", x, fc)

	b.Group("fc6", "classifier.0")
	b.Group("fc7", "classifier.3")
	b.Group("fc8", "classifier.6")
	b.Classifier("classifier.6")
	return x
}

// Family returns the VGG networks.
func Family() sdk.Family {
	var models []sdk.Model
	for _, c := range configs {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paper, Input: blocks.ImageNet, MinSize: 32,
			Options: []sdk.Option{blocks.Dropout(0.5)}, Build: c.build,
		})
	}
	return sdk.MustFamily(manifest, models...)
}
