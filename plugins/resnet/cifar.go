package resnet

import (
	"fmt"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk"
)

// cifarDepths are the n-layer networks of He et al., §4.2: three stages of (n-2)/6 blocks.
var cifarDepths = []int{20, 32, 44, 56, 110}

var cifarWidths = []int{16, 32, 64}

// cifarBlock is basic with a parameter-free shortcut: every second pixel, and zeros for the new channels (option A).
func cifarBlock(b *graph.Builder, x *graph.Node, planes, stride int) *graph.Node {
	y := b.ReLU(b.BatchNorm("bn1", b.Conv2d("conv1", x, cifarConv(planes, stride))))
	y = b.BatchNorm("bn2", b.Conv2d("conv2", y, cifarConv(planes, 1)))
	if added := planes - x.Shape.C; stride != 1 || added != 0 {
		x = b.Subsample(x, stride, added/2, added-added/2)
	}
	return b.ReLU(b.Add(y, x))
}

func cifarConv(out, stride int) graph.Conv {
	c := conv3x3(out, stride, 1)
	c.Init = graph.KaimingNormalFanIn
	return c
}

func buildCIFAR(b *graph.Builder, x *graph.Node, blocks int) *graph.Node {
	x = b.ReLU(b.BatchNorm("bn1", b.Conv2d("conv1", x, cifarConv(16, 1))))
	b.Group("stem", "conv1", "bn1")
	for i, planes := range cifarWidths {
		layer := fmt.Sprintf("layer%d", i+1)
		for j := range blocks {
			stride := 1
			if i > 0 && j == 0 {
				stride = 2
			}
			x = cifarBlock(b.Scopef("%s.%d", layer, j), x, planes, stride)
		}
		b.Tap(fmt.Sprintf("stage%d", i), x)
		b.Group(layer, layer)
	}
	x = b.GlobalAvgPool(b.Features(x))
	b.Group("linear", "linear")
	b.Classifier("linear")
	return b.Linear("linear", b.Flatten(x), graph.Fc{Out: b.Classes(), Init: graph.KaimingNormalFanIn})
}

func cifar() []sdk.Model {
	var models []sdk.Model
	for _, depth := range cifarDepths {
		models = append(models, sdk.Model{
			Name: fmt.Sprintf("resnet%d", depth), Paper: paperResNet, Input: graph.Shape{C: 3, H: 32, W: 32}, MinSize: 1,
			Build: func(b *graph.Builder, x *graph.Node, _ sdk.Options) *graph.Node { return buildCIFAR(b, x, (depth-2)/6) },
		})
	}
	return models
}
