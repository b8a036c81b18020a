// Package squeezenet is the family of SqueezeNets.
package squeezenet

import (
	_ "embed"
	"strconv"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "Iandola, Han, Moskewicz, Ashraf, Dally and Keutzer: SqueezeNet, 2016, arXiv:1602.07360"

// fire gives the channels of a fire module: squeeze, and each of the two expansions. The zero fire is a pooling.
type fire struct{ squeeze, expand int }

var pool fire

// config is a column of table 1: the first convolution, and what follows it as features.1 (a ReLU), 2, 3, ….
type config struct {
	name            string
	filters, kernel int
	rest            []fire // from features.2 on
	min             int
}

var configs = []config{
	{"squeezenet1_0", 96, 7, []fire{
		pool, {16, 64}, {16, 64}, {32, 128},
		pool, {32, 128}, {48, 192}, {48, 192}, {64, 256},
		pool, {64, 256},
	}, 21},
	{"squeezenet1_1", 64, 3, []fire{
		pool, {16, 64}, {16, 64},
		pool, {32, 128}, {32, 128},
		pool, {48, 192}, {48, 192}, {64, 256}, {64, 256},
	}, 17},
}

func conv(out, kernel, stride, pad int) graph.Conv {
	return graph.Conv{
		Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Pad: graph.Square(pad),
		Bias: true, Init: graph.KaimingUniformFanIn, BiasInit: graph.Constant(0),
	}
}

// fireModule is figure 2: a 1×1 squeeze, then 1×1 and 3×3 convolutions side by side.
func fireModule(b *graph.Builder, x *graph.Node, f fire) *graph.Node {
	x = b.ReLU(b.Conv2d("squeeze", x, conv(f.squeeze, 1, 1, 0)))
	return b.Concat(
		b.ReLU(b.Conv2d("expand1x1", x, conv(f.expand, 1, 1, 0))),
		b.ReLU(b.Conv2d("expand3x3", x, conv(f.expand, 3, 1, 1))),
	)
}

func (c config) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")

	f := b.Scope("features")
	x = f.ReLU(f.Conv2d("0", x, conv(c.filters, c.kernel, 2, 0)))
	level, modules := 1, []string{"features.0"} // of the stage: its stride is 2^level
	end := func() {
		name := "stage" + strconv.Itoa(level)
		b.Tap(name, x)
		b.Group(name, modules...)
		level, modules = level+1, nil
	}
	for i, m := range c.rest {
		name := strconv.Itoa(i + 2)
		if m == pool {
			end()
			x = f.MaxPool(x, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Ceil: true})
			continue
		}
		x = fireModule(f.Scope(name), x, m)
		modules = append(modules, "features."+name)
	}
	end()
	x = b.Features(x)

	h := b.Scope("classifier")
	final := conv(b.Classes(), 1, 1, 0)
	final.Init = graph.Normal(0.01)
	x = h.ReLU(h.Conv2d("1", h.Dropout(x, p), final))
	x = b.Flatten(h.GlobalAvgPool(x))
	b.Group("classifier", "classifier")
	b.Classifier("classifier.1")
	return x
}

// Family returns both versions.
func Family() sdk.Family {
	var models []sdk.Model
	for _, c := range configs {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paper, Input: blocks.ImageNet, MinSize: c.min,
			Options: []sdk.Option{blocks.Dropout(0.5)}, Build: c.build,
		})
	}
	return sdk.MustFamily(manifest, models...)
}
