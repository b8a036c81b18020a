// Package senet is the family of squeeze-and-excitation networks: SENet-154, SE-ResNet and SE-ResNeXt of the authors' release ("legacy"), and
// the later SE-ResNets that are ResNets with a squeeze-and-excitation in each block.
package senet

import (
	_ "embed"
	"strconv"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "Hu, Shen, Albanie, Sun and Wu: Squeeze-and-Excitation Networks, 2017, arXiv:1709.01507"

// stages are the planes of layer1 to layer4.
var stages = [4]int{64, 128, 256, 512}

// reduction is the ratio r (§4.2).
const reduction = 16

func conv(out, kernel, stride, groups int) graph.Conv {
	return graph.Conv{
		Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Pad: graph.Square(kernel / 2),
		Groups: groups, Init: graph.KaimingNormalFanOut,
	}
}

// convNorm adds convN and bnN.
func convNorm(b *graph.Builder, n int, x *graph.Node, out, kernel, stride, groups int) *graph.Node {
	i := strconv.Itoa(n)
	return b.BatchNorm("bn"+i, b.Conv2d("conv"+i, x, conv(out, kernel, stride, groups)))
}

// excite is figure 2: scale channels by what two small layers make of their means.
func excite(b *graph.Builder, x *graph.Node, squeeze int) *graph.Node {
	return blocks.SqueezeExcite(b, x, squeeze, graph.ReLU, graph.Sigmoid, graph.DefaultInit)
}

// Family returns all of them.
func Family() sdk.Family { return sdk.MustFamily(manifest, append(legacy(), modern()...)...) }
