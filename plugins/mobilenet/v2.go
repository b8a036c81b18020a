package mobilenet

import (
	"strconv"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

const paperV2 = "Sandler, Howard, Zhu, Zhmoginov and Chen: MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018, arXiv:1801.04381"

// Filters of the first and the last convolution.
const (
	stemV2 = 32
	lastV2 = 1280
)

// stagesV2 is table 2: expansion, channels, repeats, and the stride of the first; tap names an output that is the last of its stride.
var stagesV2 = []struct {
	expand, out, repeats, stride int
	tap                          string
}{
	{1, 16, 1, 1, "stage1"},
	{6, 24, 2, 2, "stage2"},
	{6, 32, 3, 2, "stage3"},
	{6, 64, 4, 2, ""},
	{6, 96, 3, 1, "stage4"},
	{6, 160, 3, 2, ""},
	{6, 320, 1, 1, "stage5"},
}

// invertedResidual is table 1: expand by 1×1, 3×3 depthwise, project by 1×1 without an activation.
func invertedResidual(b *graph.Builder, x *graph.Node, out, stride, expand int, with func(blocks.Conv) blocks.Conv) *graph.Node {
	s := b.Scope("conv")
	hidden, y, i := expand*x.Shape.C, x, 0
	if expand != 1 {
		y = blocks.ConvNormAct(s.Scope("0"), y, with(blocks.Conv{Out: hidden}), graph.ReLU6)
		i = 1
	}
	y = blocks.ConvNormAct(s.Scope(strconv.Itoa(i)), y, with(blocks.Conv{Out: hidden, Kernel: 3, Stride: stride, Groups: hidden}), graph.ReLU6)
	y = blocks.ConvNorm(s, strconv.Itoa(i+1), strconv.Itoa(i+2), y, with(blocks.Conv{Out: out}))
	if stride == 1 && x.Shape.C == out {
		return b.Add(x, y)
	}
	return y
}

func buildV2(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p, with := o.Probability(b, "dropout"), dialect(o)

	f := b.Scope("features")
	x = blocks.ConvNormAct(f.Scope("0"), x, with(blocks.Conv{Out: stemV2, Kernel: 3, Stride: 2}), graph.ReLU6)
	b.Group("features.0", "features.0")
	index := 1 // of the next module of features
	for _, s := range stagesV2 {
		first, modules := "features."+strconv.Itoa(index), []string(nil)
		for i := range s.repeats {
			stride := 1
			if i == 0 {
				stride = s.stride
			}
			x = invertedResidual(f.Scope(strconv.Itoa(index)), x, s.out, stride, s.expand, with)
			modules = append(modules, "features."+strconv.Itoa(index))
			index++
		}
		b.Group(first, modules...)
		if s.tap != "" {
			b.Tap(s.tap, x)
		}
	}
	x = blocks.ConvNormAct(f.Scope(strconv.Itoa(index)), x, with(blocks.Conv{Out: lastV2}), graph.ReLU6)
	b.Group("features."+strconv.Itoa(index), "features."+strconv.Itoa(index))

	x = b.Flatten(b.GlobalAvgPool(b.Features(x)))
	h := b.Scope("classifier")
	b.Group("classifier", "classifier")
	b.Classifier("classifier.1")
	return h.Linear("1", h.Dropout(x, p), graph.Fc{Out: b.Classes(), Init: graph.Normal(0.01), BiasInit: graph.Constant(0)})
}

func v2() []sdk.Model {
	return []sdk.Model{{
		Name: "mobilenet_v2", Paper: paperV2, Input: blocks.ImageNet, MinSize: 1,
		Options: options(0.2), Build: buildV2,
	}}
}
