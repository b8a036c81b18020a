// Package resnet is the family of residual networks: ResNet, ResNeXt, Wide ResNet, the small ResNets for CIFAR and ResNets of one's own.
package resnet

import (
	_ "embed"
	"fmt"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

// Papers.
const (
	paperResNet     = "He, Zhang, Ren and Sun: Deep Residual Learning for Image Recognition, 2015, arXiv:1512.03385"
	paperResNeXt    = "Xie, Girshick, Dollár, Tu and He: Aggregated Residual Transformations for Deep Neural Networks, 2016, arXiv:1611.05431"
	paperWideResNet = "Zagoruyko and Komodakis: Wide Residual Networks, 2016, arXiv:1605.07146"
)

// config is a row of He et al., table 1: blocks a stage, and for bottlenecks the groups of the 3×3 convolution and the width of a group
// in the first stage.
type config struct {
	name   string
	paper  string
	block  block
	layers []int
	widths []int // planes of each stage
	groups int
	width  int
	// strided1x1 puts the stride of a bottleneck on its first convolution, as the paper does.
	strided1x1 bool
}

var stages = []int{64, 128, 256, 512}

var configs = []config{
	{"resnet18", paperResNet, basic, []int{2, 2, 2, 2}, stages, 1, 64, false},
	{"resnet34", paperResNet, basic, []int{3, 4, 6, 3}, stages, 1, 64, false},
	{"resnet50", paperResNet, bottleneck, []int{3, 4, 6, 3}, stages, 1, 64, false},
	{"resnet101", paperResNet, bottleneck, []int{3, 4, 23, 3}, stages, 1, 64, false},
	{"resnet152", paperResNet, bottleneck, []int{3, 8, 36, 3}, stages, 1, 64, false},
	{"resnext50_32x4d", paperResNeXt, bottleneck, []int{3, 4, 6, 3}, stages, 32, 4, false},
	{"resnext101_32x8d", paperResNeXt, bottleneck, []int{3, 4, 23, 3}, stages, 32, 8, false},
	{"resnext101_64x4d", paperResNeXt, bottleneck, []int{3, 4, 23, 3}, stages, 64, 4, false},
	{"wide_resnet50_2", paperWideResNet, bottleneck, []int{3, 4, 6, 3}, stages, 1, 128, false},
	{"wide_resnet101_2", paperWideResNet, bottleneck, []int{3, 4, 23, 3}, stages, 1, 128, false},
}

// block is a kind of residual block: what adds one of the given planes, and the options of networks made of it.
type block struct {
	add     func(b *graph.Builder, x *graph.Node, planes, stride int, c config) *graph.Node
	options []sdk.Option
}

var (
	basic      = block{addBasic, nil}
	bottleneck = block{addBottleneck, []sdk.Option{strideOption}}
)

// strideOption is for networks of bottlenecks.
var strideOption = sdk.Option{
	Name: "stride", Default: "3x3", Values: []string{"3x3", "1x1"},
	Help: "which convolution of a bottleneck halves the map: 3x3 as in torchvision (V1.5), or the first 1x1 as in the paper and in Caffe's and Keras's weights",
}

func conv3x3(out, stride, groups int) graph.Conv {
	return graph.Conv{Out: out, Kernel: graph.Square(3), Stride: graph.Square(stride), Pad: graph.Square(1), Groups: groups, Init: graph.KaimingNormalFanOut}
}

func conv1x1(out, stride int) graph.Conv {
	return graph.Conv{Out: out, Stride: graph.Square(stride), Init: graph.KaimingNormalFanOut}
}

// addBasic is two 3×3 convolutions (He et al., figure 5, left).
func addBasic(b *graph.Builder, x *graph.Node, planes, stride int, _ config) *graph.Node {
	y := b.ReLU(b.BatchNorm("bn1", b.Conv2d("conv1", x, conv3x3(planes, stride, 1))))
	y = b.BatchNorm("bn2", b.Conv2d("conv2", y, conv3x3(planes, 1, 1)))
	return b.ReLU(b.Add(y, shortcut(b, x, planes, stride)))
}

// addBottleneck is 1×1, 3×3, 1×1 (figure 5, right). torchvision has the stride on the 3×3 convolution ("V1.5").
func addBottleneck(b *graph.Builder, x *graph.Node, planes, stride int, c config) *graph.Node {
	width := planes * c.width / 64 * c.groups
	first, second := 1, stride
	if c.strided1x1 {
		first, second = stride, 1
	}
	y := b.ReLU(b.BatchNorm("bn1", b.Conv2d("conv1", x, conv1x1(width, first))))
	y = b.ReLU(b.BatchNorm("bn2", b.Conv2d("conv2", y, conv3x3(width, second, c.groups))))
	y = b.BatchNorm("bn3", b.Conv2d("conv3", y, conv1x1(4*planes, 1)))
	return b.ReLU(b.Add(y, shortcut(b, x, 4*planes, stride)))
}

// shortcut is the identity, or a projection where the shape changes (option B).
func shortcut(b *graph.Builder, x *graph.Node, out, stride int) *graph.Node {
	if stride == 1 && x.Shape.C == out {
		return x
	}
	d := b.Scope("downsample")
	return d.BatchNorm("1", d.Conv2d("0", x, conv1x1(out, stride)))
}

// build adds the network.
func (c config) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	c.strided1x1 = o.Is(strideOption.Name, "1x1")
	x = b.Conv2d("conv1", x, graph.Conv{Out: 64, Kernel: graph.Square(7), Stride: graph.Square(2), Pad: graph.Square(3), Init: graph.KaimingNormalFanOut})
	x = b.Tap("stage1", b.ReLU(b.BatchNorm("bn1", x)))
	x = b.MaxPool(x, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)})
	b.Group("stem", "conv1", "bn1")
	for i, blocks := range c.layers {
		layer := fmt.Sprintf("layer%d", i+1)
		for j := range blocks {
			stride := 1
			if i > 0 && j == 0 {
				stride = 2
			}
			x = c.block.add(b.Scopef("%s.%d", layer, j), x, c.widths[i], stride, c)
		}
		b.Tap(fmt.Sprintf("stage%d", i+2), x)
		b.Group(layer, layer)
	}
	x = b.GlobalAvgPool(b.Features(x))
	b.Group("fc", "fc")
	b.Classifier("fc")
	return b.Linear("fc", b.Flatten(x), graph.Fc{Out: b.Classes()})
}

// Family returns the residual networks.
func Family() sdk.Family {
	var models []sdk.Model
	for _, c := range configs {
		models = append(models, sdk.Model{
			Name: c.name, Paper: c.paper, Input: blocks.ImageNet, MinSize: 1, Options: c.block.options, Build: c.build,
		})
	}
	models = append(models, custom)
	models = append(models, cifar()...)
	return sdk.MustFamily(manifest, models...)
}
