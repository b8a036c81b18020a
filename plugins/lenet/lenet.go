// Package lenet is the family of LeNet-5.
package lenet

import (
	_ "embed"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "LeCun, Bottou, Bengio and Haffner: Gradient-Based Learning Applied to Document Recognition, 1998"

// build is figure 2 of the paper with two usual simplifications: the poolings have no coefficients, and C3 reads all of S2. At other
// sizes than 32×32 the map before the fully connected layers is pooled to 5×5.
func build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	act := graph.Tanh
	if o.Is("activation", "relu") {
		act = graph.ReLU
	}
	pool := func(x *graph.Node) *graph.Node {
		if o.Is("pool", "max") {
			return b.MaxPool(x, graph.Pool{Kernel: graph.Square(2)})
		}
		return b.AvgPool(x, graph.Pool{Kernel: graph.Square(2)})
	}
	conv := func(out int) graph.Conv { return graph.Conv{Out: out, Kernel: graph.Square(5), Bias: true} }

	x = b.Activation(b.Conv2d("conv1", x, conv(6)), act)  // C1
	x = pool(b.Tap("stage0", x))                          // S2
	x = b.Activation(b.Conv2d("conv2", x, conv(16)), act) // C3
	x = pool(b.Tap("stage1", x))                          // S4
	x = b.Features(b.Tap("stage2", x))

	x = b.Flatten(b.AdaptiveAvgPool(x, graph.Square(5)))
	x = b.Activation(b.Linear("fc1", x, graph.Fc{Out: 120}), act) // C5
	x = b.Activation(b.Linear("fc2", x, graph.Fc{Out: 84}), act)  // F6
	x = b.Linear("fc3", x, graph.Fc{Out: b.Classes()})

	for _, name := range []string{"conv1", "conv2", "fc1", "fc2", "fc3"} {
		b.Group(name, name)
	}
	b.Classifier("fc3")
	return x
}

// Family returns LeNet-5.
func Family() sdk.Family {
	return sdk.MustFamily(manifest, sdk.Model{
		Name: "lenet5", Paper: paper, Input: graph.Shape{C: 1, H: 32, W: 32}, MinSize: 16,
		Options: []sdk.Option{
			{Name: "activation", Default: "tanh", Values: []string{"tanh", "relu"}, Help: "function after each layer but the last"},
			{Name: "pool", Default: "avg", Values: []string{"avg", "max"}, Help: "mean, as in the paper, or maximum of 2×2 pixels"},
		},
		Build: build,
	})
}
