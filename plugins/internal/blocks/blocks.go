// Package blocks holds the few building blocks that several first-party families share, with torchvision's module names.
//
// All functions are pure: they add nodes to the builder they are given and keep nothing.
package blocks

import (
	"strconv"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk"
)

// ImageNet is the input of most public weights.
var ImageNet = graph.Shape{C: 3, H: 224, W: 224}

// Dropout is the option of that name with a default; a Build reads it with Options.Probability.
func Dropout(p float64) sdk.Option {
	return sdk.Option{
		Name: "dropout", Default: strconv.FormatFloat(p, 'g', -1, 64),
		Help: "probability of zeroing an input of the classifier in training; 0 switches it off",
	}
}

// StochasticDepth is the option of that name with a default (Huang et al., "Deep Networks with Stochastic Depth", 2016).
func StochasticDepth(p float64) sdk.Option {
	return sdk.Option{
		Name: "stochastic_depth", Default: strconv.FormatFloat(p, 'g', -1, 64),
		Help: "probability of skipping the last residual branch in training; earlier ones are skipped less often, in proportion to their depth; 0 switches it off",
	}
}

// Switch is a true-or-false option.
func Switch(name string, on bool, help string) sdk.Option {
	return sdk.Option{Name: name, Default: strconv.FormatBool(on), Values: []string{"true", "false"}, Help: help}
}

// MakeDivisible rounds channels to a multiple of 8 that is at least 8 and not more than 10 % below, as the MobileNet reference code does.
func MakeDivisible(channels float64) int { return RoundChannels(channels, 0.9) }

// RoundChannels rounds to the nearest multiple of 8 that is at least 8 and at least limit times channels.
func RoundChannels(channels, limit float64) int {
	rounded := max(8, int(channels+4)/8*8)
	if float64(rounded) < limit*channels {
		rounded += 8
	}
	return rounded
}

// Conv says what ConvNorm needs. Zero Kernel and Stride mean 1; the padding is half the kernel.
type Conv struct {
	Out, Kernel, Stride, Groups int
	Norm                        graph.Norm
	// Same pads as TensorFlow does.
	Same bool
	// Folded leaves the batch norm out and gives the convolution a bias: checkpoints whose batch norms were folded.
	Folded bool
}

// ConvNorm adds a convolution name and a batch norm called norm. The initial values are those of torchvision's mobile networks.
func ConvNorm(b *graph.Builder, name, norm string, x *graph.Node, c Conv) *graph.Node {
	k := max(c.Kernel, 1)
	x = b.Conv2d(name, x, graph.Conv{
		Out: c.Out, Kernel: graph.Square(k), Stride: graph.Square(max(c.Stride, 1)), Pad: graph.Square(k / 2), Same: c.Same,
		Groups: c.Groups, Bias: c.Folded, Init: graph.KaimingNormalFanOut, BiasInit: graph.Constant(0),
	})
	if c.Folded {
		return x
	}
	return b.BatchNorm(norm, x, c.Norm)
}

// ConvNormAct is torchvision.ops.Conv2dNormActivation: submodules 0 (convolution), 1 (batch norm), 2 (activation).
func ConvNormAct(b *graph.Builder, x *graph.Node, c Conv, f graph.Function) *graph.Node {
	return b.Activation(ConvNorm(b, "0", "1", x, c), f)
}

// SqueezeExcite is torchvision.ops.SqueezeExcitation: global pooling, fc1, activation, fc2, gate, scaling of x
// (Hu et al., "Squeeze-and-Excitation Networks", 2018).
func SqueezeExcite(b *graph.Builder, x *graph.Node, squeeze int, act, gate graph.Function, biasInit graph.Init) *graph.Node {
	conv := graph.Conv{Out: squeeze, Bias: true, Init: graph.KaimingNormalFanOut, BiasInit: biasInit}
	s := b.GlobalAvgPool(x)
	s = b.Activation(b.Conv2d("fc1", s, conv), act)
	conv.Out = x.Shape.C
	s = b.Activation(b.Conv2d("fc2", s, conv), gate)
	return b.Mul(x, s)
}
