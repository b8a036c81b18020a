// Package convnext is the family of ConvNeXt.
package convnext

import (
	_ "embed"
	"fmt"
	"strconv"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "Liu, Mao, Wu, Feichtenhofer, Darrell and Xie: A ConvNet for the 2020s, 2022, arXiv:2201.03545"

// config is §3's list of variants: channels and blocks of each stage, and the stochastic depth of torchvision's training.
type config struct {
	name   string
	widths [4]int
	layers [4]int
	depth  float64
}

var configs = []config{
	{"convnext_tiny", [4]int{96, 192, 384, 768}, [4]int{3, 3, 9, 3}, 0.1},
	{"convnext_small", [4]int{96, 192, 384, 768}, [4]int{3, 3, 27, 3}, 0.4},
	{"convnext_base", [4]int{128, 256, 512, 1024}, [4]int{3, 3, 27, 3}, 0.5},
	{"convnext_large", [4]int{192, 384, 768, 1536}, [4]int{3, 3, 27, 3}, 0.5},
}

// layerScale is the initial factor of a residual branch.
const layerScale = 1e-6

var (
	norm  = graph.Norm{Eps: 1e-6}
	small = graph.TruncNormal(0.02)
	zero  = graph.Constant(0)
)

// block is figure 4: 7×7 depthwise, layer norm, 1×1 to four times the width, GELU, 1×1 back.
func block(b *graph.Builder, x *graph.Node, p float64) *graph.Node {
	s, c := b.Scope("block"), x.Shape.C
	y := s.Conv2d("0", x, graph.Conv{Out: c, Kernel: graph.Square(7), Pad: graph.Square(3), Groups: c, Bias: true, Init: small, BiasInit: zero})
	y = s.LayerNorm("2", y, norm)
	y = s.Activation(s.Linear("3", y, graph.Fc{Out: 4 * c, Init: small, BiasInit: zero}), graph.GELU)
	y = s.Linear("5", y, graph.Fc{Out: c, Init: small, BiasInit: zero})
	return b.Add(b.StochasticDepth(b.LayerScale("layer_scale", y, layerScale), p), x)
}

func (c config) build(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "stochastic_depth")
	patch := func(out, size int) graph.Conv {
		return graph.Conv{Out: out, Kernel: graph.Square(size), Stride: graph.Square(size), Bias: true, Init: small, BiasInit: zero}
	}
	total := 0
	for _, layers := range c.layers {
		total += layers
	}

	f := b.Scope("features")
	done := 0 // blocks so far
	for i, width := range c.widths {
		// features.0, 2, 4 and 6 reduce the map; 1, 3, 5 and 7 are the stages.
		reduce, stage := strconv.Itoa(2*i), strconv.Itoa(2*i+1)
		r := f.Scope(reduce)
		if i == 0 {
			x = r.LayerNorm("1", r.Conv2d("0", x, patch(width, 4)), norm)
		} else {
			x = r.Conv2d("1", r.LayerNorm("0", x, norm), patch(width, 2))
		}
		for j := range c.layers[i] {
			x = block(f.Scopef("%s.%d", stage, j), x, p*float64(done)/float64(total-1))
			done++
		}
		b.Tap(fmt.Sprintf("stage%d", i+2), x)
		b.Group(fmt.Sprintf("stage%d", i+2), "features."+reduce, "features."+stage)
	}

	h := b.Scope("classifier")
	x = b.Flatten(h.LayerNorm("0", b.GlobalAvgPool(b.Features(x)), norm))
	b.Group("classifier", "classifier")
	b.Classifier("classifier.2")
	return h.Linear("2", x, graph.Fc{Out: b.Classes(), Init: small, BiasInit: zero})
}

// Family returns the four sizes.
func Family() sdk.Family {
	var models []sdk.Model
	for _, c := range configs {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paper, Input: blocks.ImageNet, MinSize: 32,
			Options: []sdk.Option{blocks.StochasticDepth(c.depth)}, Build: c.build,
		})
	}
	return sdk.MustFamily(manifest, models...)
}
