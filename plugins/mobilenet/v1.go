package mobilenet

import (
	"fmt"
	"strconv"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

const paperV1 = "Howard, Zhu, Chen, Kalenichenko, Wang, Weyand, Andreetto and Adam: MobileNets, 2017, arXiv:1704.04861"

// configV1 is a width multiplier α (§3.3). With a head, a 1×1 convolution follows the pooling's input (timm's "h").
type configV1 struct {
	name  string
	width float64
	head  bool
}

var configsV1 = []configV1{
	{"mobilenetv1_025", 0.25, false},
	{"mobilenetv1_050", 0.50, false},
	{"mobilenetv1_075", 0.75, false},
	{"mobilenetv1_100", 1.00, false},
	{"mobilenetv1_125", 1.25, false},
	{"mobilenetv1_025h", 0.25, true},
	{"mobilenetv1_050h", 0.50, true},
	{"mobilenetv1_075h", 0.75, true},
	{"mobilenetv1_100h", 1.00, true},
	{"mobilenetv1_125h", 1.25, true},
}

// stemV1 is the number of filters of the first convolution.
const stemV1 = 32

// stagesV1 is table 1: channels, units, and the stride of the first unit of blocks.0, 1, ….
var stagesV1 = []struct{ out, units, stride int }{
	{64, 1, 1},
	{128, 2, 2},
	{256, 2, 2},
	{512, 6, 2},
	{1024, 2, 2},
}

// separable is figure 3, right: 3×3 depthwise, then 1×1.
func separable(b *graph.Builder, x *graph.Node, out, stride int, with func(blocks.Conv) blocks.Conv) *graph.Node {
	in := x.Shape.C
	x = b.Activation(blocks.ConvNorm(b, "conv_dw", "bn1", x, with(blocks.Conv{Out: in, Kernel: 3, Stride: stride, Groups: in})), graph.ReLU6)
	return b.Activation(blocks.ConvNorm(b, "conv_pw", "bn2", x, with(blocks.Conv{Out: out})), graph.ReLU6)
}

func (c configV1) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p, with := o.Probability(b, "dropout"), dialect(o)
	width := func(channels int) int { return blocks.MakeDivisible(float64(channels) * c.width) }

	x = b.Activation(blocks.ConvNorm(b, "conv_stem", "bn1", x, with(blocks.Conv{Out: width(stemV1), Kernel: 3, Stride: 2})), graph.ReLU6)
	b.Group("stem", "conv_stem", "bn1")
	for i, s := range stagesV1 {
		for j := range s.units {
			stride := 1
			if j == 0 {
				stride = s.stride
			}
			x = separable(b.Scopef("blocks.%d.%d", i, j), x, width(s.out), stride, with)
		}
		b.Tap("stage"+strconv.Itoa(i+1), x)
		stage := fmt.Sprintf("blocks.%d", i)
		b.Group(stage, stage)
	}
	if c.head {
		x = b.Activation(blocks.ConvNorm(b, "conv_head", "bn2", x, with(blocks.Conv{Out: max(1024, width(1024))})), graph.ReLU6)
		b.Group("head", "conv_head", "bn2")
	}

	x = b.Dropout(b.Flatten(b.GlobalAvgPool(b.Features(x))), p)
	b.Group("classifier", "classifier")
	b.Classifier("classifier")
	return b.Linear("classifier", x, graph.Fc{Out: b.Classes(), Init: graph.UniformFanOut, BiasInit: graph.Constant(0)})
}

func v1() []sdk.Model {
	var models []sdk.Model
	for _, c := range configsV1 {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paperV1, Input: blocks.ImageNet, MinSize: 1,
			Options: options(0), Build: c.build,
		})
	}
	return models
}
