// Package mnasnet is the family of MNASNet B1.
package mnasnet

import (
	_ "embed"
	"strconv"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "Tan, Chen, Pang, Vasudevan, Sandler, Howard and Le: MnasNet: Platform-Aware Neural Architecture Search for Mobile, 2018, arXiv:1807.11626"

type config struct {
	name  string
	width float64
}

var configs = []config{{"mnasnet0_5", 0.5}, {"mnasnet0_75", 0.75}, {"mnasnet1_0", 1.0}, {"mnasnet1_3", 1.3}}

// Channels of the stem, the separable convolution after it and the last convolution, which is not scaled.
const (
	stem      = 32
	separable = 16
	last      = 1280
)

// stage is a stack of inverted residuals; tap names its output where it is the last of its stride.
type stage struct {
	layer                                string
	out, kernel, stride, expand, repeats int
	tap                                  string
}

var stages = []stage{
	{"8", 24, 3, 2, 3, 3, "stage2"},
	{"9", 40, 5, 2, 3, 3, "stage3"},
	{"10", 80, 5, 2, 6, 3, ""},
	{"11", 96, 3, 1, 6, 2, "stage4"},
	{"12", 192, 5, 2, 6, 4, ""},
	{"13", 320, 3, 1, 6, 1, "stage5"},
}

// norm: the paper's momentum of 0.9997 is TensorFlow's; PyTorch's is the rest.
var norm = graph.Norm{Momentum: 1 - 0.9997}

// convNorm adds layers i (convolution) and i+1 (batch norm).
func convNorm(b *graph.Builder, i int, x *graph.Node, out, kernel, stride, groups int) *graph.Node {
	return blocks.ConvNorm(b, strconv.Itoa(i), strconv.Itoa(i+1), x, blocks.Conv{Out: out, Kernel: kernel, Stride: stride, Groups: groups, Norm: norm})
}

// invertedResidual expands, filters each channel, and projects without an activation.
func invertedResidual(b *graph.Builder, x *graph.Node, out, kernel, stride, expand int) *graph.Node {
	l := b.Scope("layers")
	hidden := expand * x.Shape.C
	y := l.ReLU(convNorm(l, 0, x, hidden, 1, 1, 1))
	y = l.ReLU(convNorm(l, 3, y, hidden, kernel, stride, hidden))
	y = convNorm(l, 6, y, out, 1, 1, 1)
	if stride == 1 && x.Shape.C == out {
		return b.Add(y, x)
	}
	return y
}

func (c config) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")
	width := func(channels int) int { return blocks.MakeDivisible(float64(channels) * c.width) }

	l := b.Scope("layers")
	x = l.ReLU(convNorm(l, 0, x, width(stem), 3, 2, 1))
	x = l.ReLU(convNorm(l, 3, x, width(stem), 3, 1, width(stem)))
	x = b.Tap("stage1", convNorm(l, 6, x, width(separable), 1, 1, 1))
	b.Group("stem", "layers.0", "layers.1", "layers.3", "layers.4", "layers.6", "layers.7")
	for _, s := range stages {
		for i := range s.repeats {
			stride := 1
			if i == 0 {
				stride = s.stride
			}
			x = invertedResidual(l.Scopef("%s.%d", s.layer, i), x, width(s.out), s.kernel, stride, s.expand)
		}
		if s.tap != "" {
			b.Tap(s.tap, x)
		}
		b.Group("layers."+s.layer, "layers."+s.layer)
	}
	x = l.ReLU(convNorm(l, 14, x, last, 1, 1, 1))
	b.Group("layers.14", "layers.14", "layers.15")

	x = b.Flatten(b.GlobalAvgPool(b.Features(x)))
	h := b.Scope("classifier")
	b.Group("classifier", "classifier")
	b.Classifier("classifier.1")
	return h.Linear("1", h.Dropout(x, p), graph.Fc{Out: b.Classes(), Init: graph.KaimingUniformFanOutSigmoid, BiasInit: graph.Constant(0)})
}

// Family returns the four widths.
func Family() sdk.Family {
	var models []sdk.Model
	for _, c := range configs {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paper, Input: blocks.ImageNet, MinSize: 1,
			Options: []sdk.Option{blocks.Dropout(0.2)}, Build: c.build,
		})
	}
	return sdk.MustFamily(manifest, models...)
}
