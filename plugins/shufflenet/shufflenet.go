// Package shufflenet is the family of ShuffleNet V2.
package shufflenet

import (
	_ "embed"
	"fmt"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "Ma, Zhang, Zheng and Sun: ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, 2018, arXiv:1807.11164"

// config is a column of table 5: channels of conv1, the stages and conv5.
type config struct {
	name   string
	conv1  int
	stages [3]int
	conv5  int
}

var configs = []config{
	{"shufflenet_v2_x0_5", 24, [3]int{48, 96, 192}, 1024},
	{"shufflenet_v2_x1_0", 24, [3]int{116, 232, 464}, 1024},
	{"shufflenet_v2_x1_5", 24, [3]int{176, 352, 704}, 1024},
	{"shufflenet_v2_x2_0", 24, [3]int{244, 488, 976}, 2048},
}

// repeats is the number of units in each stage.
var repeats = [3]int{4, 8, 4}

func pointwise(out int) graph.Conv { return graph.Conv{Out: out} }

func depthwise(channels, stride int) graph.Conv {
	return graph.Conv{Out: channels, Kernel: graph.Square(3), Stride: graph.Square(stride), Pad: graph.Square(1), Groups: channels}
}

// unit is figure 3 (c): half of the channels pass, the other half goes through branch2; then the halves are shuffled.
func unit(b *graph.Builder, x *graph.Node, out int) *graph.Node {
	half := out / 2
	return b.ChannelShuffle(b.Concat(b.Slice(x, 0, half), branch2(b.Scope("branch2"), b.Slice(x, half, out), half, 1)), 2)
}

// downUnit is figure 3 (d): both branches read all channels and halve height and width.
func downUnit(b *graph.Builder, x *graph.Node, out int) *graph.Node {
	half := out / 2
	l := b.Scope("branch1")
	y := l.BatchNorm("1", l.Conv2d("0", x, depthwise(x.Shape.C, 2)))
	y = l.ReLU(l.BatchNorm("3", l.Conv2d("2", y, pointwise(half))))
	return b.ChannelShuffle(b.Concat(y, branch2(b.Scope("branch2"), x, half, 2)), 2)
}

func branch2(b *graph.Builder, x *graph.Node, out, stride int) *graph.Node {
	x = b.ReLU(b.BatchNorm("1", b.Conv2d("0", x, pointwise(out))))
	x = b.BatchNorm("4", b.Conv2d("3", x, depthwise(out, stride)))
	return b.ReLU(b.BatchNorm("6", b.Conv2d("5", x, pointwise(out))))
}

func (c config) build(b *graph.Builder, x *graph.Node, _ sdk.Options) *graph.Node {
	stem := b.Scope("conv1")
	x = stem.Conv2d("0", x, graph.Conv{Out: c.conv1, Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)})
	x = b.Tap("stage1", stem.ReLU(stem.BatchNorm("1", x)))
	x = b.Tap("stage2", b.MaxPool(x, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)}))
	b.Group("conv1", "conv1")
	for i, out := range c.stages {
		stage := fmt.Sprintf("stage%d", i+2) // torchvision's name; its stride is 2^(i+3)
		x = downUnit(b.Scope(stage+".0"), x, out)
		for j := 1; j < repeats[i]; j++ {
			x = unit(b.Scopef("%s.%d", stage, j), x, out)
		}
		b.Tap(fmt.Sprintf("stage%d", i+3), x)
		b.Group(stage, stage)
	}
	last := b.Scope("conv5")
	x = last.ReLU(last.BatchNorm("1", last.Conv2d("0", x, pointwise(c.conv5))))
	b.Group("conv5", "conv5")

	x = b.Flatten(b.GlobalAvgPool(b.Features(x)))
	b.Group("fc", "fc")
	b.Classifier("fc")
	return b.Linear("fc", x, graph.Fc{Out: b.Classes()})
}

// Family returns the four widths.
func Family() sdk.Family {
	var models []sdk.Model
	for _, c := range configs {
		models = append(models, sdk.Model{Name: c.name, Paper: paper, Input: blocks.ImageNet, MinSize: 1, Build: c.build})
	}
	return sdk.MustFamily(manifest, models...)
}
