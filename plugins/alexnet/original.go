package alexnet

import (
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk"
)

const paperOriginal = "Krizhevsky, Sutskever and Hinton: ImageNet Classification with Deep Convolutional Neural Networks, 2012"

// lrn is §3.3: k = 2, n = 5, α = 1e-4, β = 0.75. The operator divides α by n, the paper does not.
var lrn = graph.LocalResponseNorm{Size: 5, Alpha: 5e-4, Beta: 0.75, K: 2}

// column is a convolution whose halves each read one of the two columns (groups = 2) or both (groups = 1), initialised as in §5.
func column(out, kernel, stride, pad, groups int, bias float64) graph.Conv {
	c := conv(out, kernel, stride, pad)
	c.Groups, c.Init, c.BiasInit = groups, graph.Normal(0.01), graph.Constant(bias)
	return c
}

// buildOriginal is figure 2 of the paper. Its input is 224×224 as stated there; the padding of 2 gives the 55×55 maps shown there.
func buildOriginal(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")

	f := b.Scope("features")
	x = f.ReLU(f.Conv2d("0", x, column(96, 11, 4, 2, 1, 0)))
	x = b.Tap("stage2", f.LocalResponseNorm(x, lrn)) // 2
	x = f.MaxPool(x, pool)                           // 3
	x = f.ReLU(f.Conv2d("4", x, column(256, 5, 1, 2, 2, 1)))
	x = b.Tap("stage3", f.LocalResponseNorm(x, lrn)) // 6
	x = f.MaxPool(x, pool)                           // 7
	x = f.ReLU(f.Conv2d("8", x, column(384, 3, 1, 1, 1, 0)))
	x = f.ReLU(f.Conv2d("10", x, column(384, 3, 1, 1, 2, 1)))
	x = f.ReLU(f.Conv2d("12", x, column(256, 3, 1, 1, 2, 1)))
	x = f.MaxPool(b.Tap("stage4", x), pool) // 14
	x = b.Features(b.Tap("stage5", x))

	c := b.Scope("classifier")
	wide := graph.Fc{Out: hidden, Init: graph.Normal(0.01), BiasInit: graph.Constant(1)}
	x = b.Flatten(b.AdaptiveAvgPool(x, graph.Square(6)))
	x = c.ReLU(c.Linear("1", c.Dropout(x, p), wide))
	x = c.ReLU(c.Linear("4", c.Dropout(x, p), wide))
	x = c.Linear("6", x, graph.Fc{Out: b.Classes(), Init: graph.Normal(0.01), BiasInit: graph.Constant(0)})

	for _, g := range [][2]string{
		{"conv1", "features.0"}, {"conv2", "features.4"}, {"conv3", "features.8"}, {"conv4", "features.10"}, {"conv5", "features.12"},
		{"fc6", "classifier.1"}, {"fc7", "classifier.4"}, {"fc8", "classifier.6"},
	} {
		b.Group(g[0], g[1])
	}
	b.Classifier("classifier.6")
	return x
}
