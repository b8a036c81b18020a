package inception

import (
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

const paperV1 = "Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke and Rabinovich: Going Deeper with Convolutions, 2014, arXiv:1409.4842"

var auxDropout = func() sdk.Option {
	o := blocks.Dropout(0.7)
	o.Name, o.Help = "aux_dropout", "probability of zeroing an input of an auxiliary classifier in training; 0 switches it off"
	return o
}()

// moduleV1 is a row of table 1: 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5 and pool projection.
type moduleV1 struct {
	name                                                  string
	conv1x1, reduce3x3, conv3x3, reduce5x5, conv5x5, pool int
}

var (
	stage3V1 = []moduleV1{
		{"inception3a", 64, 96, 128, 16, 32, 32},
		{"inception3b", 128, 128, 192, 32, 96, 64},
	}
	stage4V1 = []moduleV1{
		{"inception4a", 192, 96, 208, 16, 48, 64},
		{"inception4b", 160, 112, 224, 24, 64, 64},
		{"inception4c", 128, 128, 256, 24, 64, 64},
		{"inception4d", 112, 144, 288, 32, 64, 64},
		{"inception4e", 256, 160, 320, 32, 128, 128},
	}
	stage5V1 = []moduleV1{
		{"inception5a", 256, 160, 320, 32, 128, 128},
		{"inception5b", 384, 192, 384, 48, 128, 128},
	}
)

// Weights of the auxiliary losses (§5), and the modules whose outputs they read.
const (
	auxWeight = 0.3
	aux1After = "inception4a"
	aux2After = "inception4d"
)

func convV1(out, kernel int) graph.Conv {
	return graph.Conv{Out: out, Kernel: graph.Square(kernel), Pad: graph.Square(kernel / 2), Init: graph.TruncNormal(0.01)}
}

// add is figure 2 (b), with a batch norm after each convolution. The branch called 5×5 is 3×3 here, as in torchvision and its weights.
func (m moduleV1) add(b *graph.Builder, x *graph.Node) *graph.Node {
	s := b.Scope(m.name)
	return s.Concat(
		basic(s, "branch1", x, convV1(m.conv1x1, 1)),
		basic(s, "branch2.1", basic(s, "branch2.0", x, convV1(m.reduce3x3, 1)), convV1(m.conv3x3, 3)),
		basic(s, "branch3.1", basic(s, "branch3.0", x, convV1(m.reduce5x5, 1)), convV1(m.conv5x5, 3)),
		basic(s, "branch4.1", s.MaxPool(x, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(1), Pad: graph.Square(1), Ceil: true}), convV1(m.pool, 1)),
	)
}

func auxV1(b *graph.Builder, name string, x *graph.Node, p float64) {
	s := b.Scope(name)
	x = basic(s, "conv", s.AdaptiveAvgPool(x, graph.Square(4)), convV1(128, 1))
	x = s.ReLU(s.Linear("fc1", s.Flatten(x), graph.Fc{Out: 1024, Init: graph.TruncNormal(0.01)}))
	x = s.Linear("fc2", s.Dropout(x, p), graph.Fc{Out: b.Classes(), Init: graph.TruncNormal(0.01)})
	b.Aux(name, x, auxWeight)
	b.Group(name, name)
	b.Classifier(name + ".fc2")
}

func buildV1(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p, aux := o.Probability(b, "dropout"), o.Probability(b, "aux_dropout")
	if o.Bool("transform_input") {
		x = renormalise(b, x)
	}
	pool := graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Ceil: true}
	outputs := map[string]*graph.Node{}
	modules := func(list []moduleV1) {
		for _, m := range list {
			x = m.add(b, x)
			outputs[m.name] = x
			b.Group(m.name, m.name)
		}
	}

	first := convV1(64, 7)
	first.Stride = graph.Square(2)
	x = b.Tap("stage1", basic(b, "conv1", x, first))
	x = b.MaxPool(x, pool)
	x = basic(b, "conv2", x, convV1(64, 1))
	x = b.Tap("stage2", basic(b, "conv3", x, convV1(192, 3)))
	b.Group("stem", "conv1", "conv2", "conv3")
	x = b.MaxPool(x, pool)
	modules(stage3V1)
	x = b.MaxPool(b.Tap("stage3", x), pool)
	modules(stage4V1)
	x = b.MaxPool(b.Tap("stage4", x), graph.Pool{Kernel: graph.Square(2), Ceil: true})
	modules(stage5V1)
	x = b.Features(b.Tap("stage5", x))

	if o.Bool("aux_logits") {
		auxV1(b, "aux1", outputs[aux1After], aux)
		auxV1(b, "aux2", outputs[aux2After], aux)
	}
	x = b.Dropout(b.Flatten(b.GlobalAvgPool(x)), p)
	b.Group("fc", "fc")
	b.Classifier("fc")
	return b.Linear("fc", x, graph.Fc{Out: b.Classes(), Init: graph.TruncNormal(0.01)})
}
