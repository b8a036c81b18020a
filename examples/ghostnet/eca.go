package ghostnet

import (
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/graph"
)

// efficientChannelAttention scales channels by a function of their means and those of their neighbours (Wang et al., "ECA-Net: Efficient
// Channel Attention for Deep Convolutional Neural Networks", 2019, arXiv:1910.03151). zoo has no convolution along channels, so this
// family brings one.
func efficientChannelAttention(b *graph.Builder, x *graph.Node) *graph.Node {
	s := b.Scope("eca")
	// Eq. 12: the kernel grows with the logarithm of the channels and is odd.
	k := int(math.Abs(math.Log2(float64(x.Shape.C))/2 + 0.5))
	if k%2 == 0 {
		k++
	}
	y := s.Custom("conv", channelConv{k}, []graph.CustomParam{{Name: "weight", Shape: []int{1, 1, k}}}, s.GlobalAvgPool(x))
	return s.Mul(x, s.Activation(y, graph.Sigmoid))
}

// channelConv is a one-dimensional convolution along the channels of each pixel with zero padding and one filter of Kernel taps.
type channelConv struct{ Kernel int }

// Kind implements graph.Op.
func (channelConv) Kind() string { return "channel_conv1d" }

// Infer implements graph.Op.
func (c channelConv) Infer(in []graph.Shape) (graph.Shape, error) {
	if len(in) != 1 || c.Kernel < 1 || c.Kernel%2 == 0 {
		return graph.Shape{}, fmt.Errorf("takes one input and an odd kernel, has %d inputs and kernel %d", len(in), c.Kernel)
	}
	return in[0], nil
}

// MACs implements graph.Op.
func (c channelConv) MACs(_ []graph.Shape, out graph.Shape) int64 {
	return int64(out.Elements()) * int64(c.Kernel)
}

// taps calls f for every product: output i reads input j with weight w.
func (c channelConv) taps(channels, i int, f func(j, w int)) {
	for w := range c.Kernel {
		if j := i + w - c.Kernel/2; j >= 0 && j < channels {
			f(j, w)
		}
	}
}

// Forward implements graph.Custom.
func (c channelConv) Forward(out []float32, in, params [][]float32, shapes []graph.Shape, n int) {
	channels := shapes[0].C
	for p := range n * shapes[0].H * shapes[0].W {
		x, y := in[0][p*channels:][:channels], out[p*channels:][:channels]
		for i := range y {
			var sum float32
			c.taps(channels, i, func(j, w int) { sum += x[j] * params[0][w] })
			y[i] = sum
		}
	}
}

// Backward implements graph.Custom.
func (c channelConv) Backward(gradIn, gradParams [][]float32, gradOut []float32, in, params [][]float32, shapes []graph.Shape, n int) {
	channels := shapes[0].C
	for p := range n * shapes[0].H * shapes[0].W {
		x, g := in[0][p*channels:][:channels], gradOut[p*channels:][:channels]
		for i, d := range g {
			c.taps(channels, i, func(j, w int) {
				if gradIn[0] != nil {
					gradIn[0][p*channels+j] += d * params[0][w]
				}
				if gradParams[0] != nil {
					gradParams[0][w] += d * x[j]
				}
			})
		}
	}
}
