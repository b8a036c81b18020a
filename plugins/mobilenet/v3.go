package mobilenet

import (
	"strconv"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

const paperV3 = "Howard, Sandler, Chu, Chen, Chen, Tan, Wang, Zhu, Pang, Vasudevan, Le and Adam: Searching for MobileNetV3, 2019, arXiv:1905.02244"

// blockV3 is a row of tables 1 and 2: kernel, expanded channels, output channels, squeeze-and-excite, activation, stride. tap names an
// output that is the last of its stride; "" is none.
type blockV3 struct {
	kernel, expand, out int
	se                  bool
	act                 graph.Function
	stride              int
	tap                 string
}

const (
	re = graph.ReLU
	hs = graph.HardSwish
)

type configV3 struct {
	name   string
	stem   string // tap of the first convolution's output
	blocks []blockV3
	hidden int // width of the classifier's hidden layer
}

// stemV3 is the number of filters of the first convolution.
const stemV3 = 16

var configsV3 = []configV3{
	{"mobilenet_v3_large", "", []blockV3{
		{3, 16, 16, false, re, 1, "stage1"},
		{3, 64, 24, false, re, 2, ""},
		{3, 72, 24, false, re, 1, "stage2"},
		{5, 72, 40, true, re, 2, ""},
		{5, 120, 40, true, re, 1, ""},
		{5, 120, 40, true, re, 1, "stage3"},
		{3, 240, 80, false, hs, 2, ""},
		{3, 200, 80, false, hs, 1, ""},
		{3, 184, 80, false, hs, 1, ""},
		{3, 184, 80, false, hs, 1, ""},
		{3, 480, 112, true, hs, 1, ""},
		{3, 672, 112, true, hs, 1, "stage4"},
		{5, 672, 160, true, hs, 2, ""},
		{5, 960, 160, true, hs, 1, ""},
		{5, 960, 160, true, hs, 1, ""},
	}, 1280},
	{"mobilenet_v3_small", "stage1", []blockV3{
		{3, 16, 16, true, re, 2, "stage2"},
		{3, 72, 24, false, re, 2, ""},
		{3, 88, 24, false, re, 1, "stage3"},
		{5, 96, 40, true, hs, 2, ""},
		{5, 240, 40, true, hs, 1, ""},
		{5, 240, 40, true, hs, 1, ""},
		{5, 120, 48, true, hs, 1, ""},
		{5, 144, 48, true, hs, 1, "stage4"},
		{5, 288, 96, true, hs, 2, ""},
		{5, 576, 96, true, hs, 1, ""},
		{5, 576, 96, true, hs, 1, ""},
	}, 1024},
}

// normV3 has TensorFlow's numbers.
var normV3 = graph.Norm{Eps: 1e-3, Momentum: 0.01}

// add is figure 4: expand, depthwise, squeeze-and-excite, project.
func (c blockV3) add(b *graph.Builder, x *graph.Node, with func(blocks.Conv) blocks.Conv) *graph.Node {
	s := b.Scope("block")
	index := 0 // of the next module of block
	next := func() *graph.Builder { index++; return s.Scope(strconv.Itoa(index - 1)) }
	y := x
	if c.expand != x.Shape.C {
		y = blocks.ConvNormAct(next(), y, with(blocks.Conv{Out: c.expand, Norm: normV3}), c.act)
	}
	y = blocks.ConvNormAct(next(), y, with(blocks.Conv{Out: c.expand, Kernel: c.kernel, Stride: c.stride, Groups: c.expand, Norm: normV3}), c.act)
	if c.se {
		squeeze := blocks.MakeDivisible(float64(c.expand / 4))
		y = blocks.SqueezeExcite(next(), y, squeeze, graph.ReLU, graph.HardSigmoid, graph.Constant(0))
	}
	y = blocks.ConvNorm(next(), "0", "1", y, with(blocks.Conv{Out: c.out, Norm: normV3}))
	if c.stride == 1 && x.Shape.C == c.out {
		return b.Add(y, x)
	}
	return y
}

func (c configV3) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p, with := o.Probability(b, "dropout"), dialect(o)

	f := b.Scope("features")
	x = blocks.ConvNormAct(f.Scope("0"), x, with(blocks.Conv{Out: stemV3, Kernel: 3, Stride: 2, Norm: normV3}), graph.HardSwish)
	if c.stem != "" {
		b.Tap(c.stem, x)
	}
	group, modules := "stem", []string{"features.0"}
	for i, block := range c.blocks {
		name := strconv.Itoa(i + 1)
		if block.stride == 2 {
			b.Group(group, modules...)
			group, modules = "features."+name, nil
		}
		x = block.add(f.Scope(name), x, with)
		modules = append(modules, "features."+name)
		if block.tap != "" {
			b.Tap(block.tap, x)
		}
	}
	last := strconv.Itoa(len(c.blocks) + 1)
	x = blocks.ConvNormAct(f.Scope(last), x, with(blocks.Conv{Out: 6 * x.Shape.C, Norm: normV3}), graph.HardSwish)
	x = b.Features(b.Tap("stage5", x))
	b.Group(group, append(modules, "features."+last)...)

	h := b.Scope("classifier")
	fc := graph.Fc{Out: c.hidden, Init: graph.Normal(0.01), BiasInit: graph.Constant(0)}
	x = h.Activation(h.Linear("0", b.Flatten(b.GlobalAvgPool(x)), fc), graph.HardSwish)
	fc.Out = b.Classes()
	x = h.Linear("3", h.Dropout(x, p), fc)
	b.Group("classifier", "classifier")
	b.Classifier("classifier.3")
	return x
}

func v3() []sdk.Model {
	var models []sdk.Model
	for _, c := range configsV3 {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paperV3, Input: blocks.ImageNet, MinSize: 1,
			Options: options(0.2), Build: c.build,
		})
	}
	return models
}
