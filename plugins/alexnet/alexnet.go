// Package alexnet is the family of AlexNet: torchvision's one-column network and the two-column original.
package alexnet

import (
	_ "embed"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "Krizhevsky: One weird trick for parallelizing convolutional neural networks, 2014, arXiv:1404.5997"

// hidden is the width of the two hidden fully connected layers.
const hidden = 4096

// pool overlaps: windows of 3 every 2 pixels.
var pool = graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2)}

func conv(out, kernel, stride, pad int) graph.Conv {
	return graph.Conv{Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Pad: graph.Square(pad), Bias: true}
}

func build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")

	f := b.Scope("features")
	x = f.ReLU(f.Conv2d("0", x, conv(64, 11, 4, 2)))
	x = f.MaxPool(b.Tap("stage2", x), pool)
	x = f.ReLU(f.Conv2d("3", x, conv(192, 5, 1, 2)))
	x = f.MaxPool(b.Tap("stage3", x), pool)
	x = f.ReLU(f.Conv2d("6", x, conv(384, 3, 1, 1)))
	x = f.ReLU(f.Conv2d("8", x, conv(256, 3, 1, 1)))
	x = f.ReLU(f.Conv2d("10", x, conv(256, 3, 1, 1)))
	x = f.MaxPool(b.Tap("stage4", x), pool)
	x = b.Features(b.Tap("stage5", x))

	c := b.Scope("classifier")
	x = b.Flatten(b.AdaptiveAvgPool(x, graph.Square(6)))
	x = c.ReLU(c.Linear("1", c.Dropout(x, p), graph.Fc{Out: hidden}))
	x = c.ReLU(c.Linear("4", c.Dropout(x, p), graph.Fc{Out: hidden}))
	x = c.Linear("6", x, graph.Fc{Out: b.Classes()})

	for _, g := range [][2]string{
		{"conv1", "features.0"}, {"conv2", "features.3"}, {"conv3", "features.6"}, {"conv4", "features.8"}, {"conv5", "features.10"},
		{"fc6", "classifier.1"}, {"fc7", "classifier.4"}, {"fc8", "classifier.6"},
	} {
		b.Group(g[0], g[1])
	}
	b.Classifier("classifier.6")
	return x
}

// Family returns both networks.
func Family() sdk.Family {
	return sdk.MustFamily(manifest,
		sdk.Model{
			Name: "alexnet", Paper: paper, Input: blocks.ImageNet, MinSize: 63,
			Options: []sdk.Option{blocks.Dropout(0.5)}, Build: build,
		},
		sdk.Model{
			Name: "alexnet_original", Paper: paperOriginal, Input: blocks.ImageNet, MinSize: 63,
			Options: []sdk.Option{blocks.Dropout(0.5)}, Build: buildOriginal,
		},
	)
}
