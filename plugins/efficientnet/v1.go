// Package efficientnet is the family of EfficientNet B0 to B7 and EfficientNet V2.
package efficientnet

import (
	_ "embed"
	"math"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

const paper = "Tan and Le: EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, 2019, arXiv:1905.11946"

// coefficients are how much wider, deeper and at what resolution a network is than B0. The paper derives them from
// width 1.1^φ, depth 1.2^φ and resolution 1.15^φ (eq. 3) and publishes rounded ones.
type coefficients struct {
	name         string
	width, depth float64
	resolution   int // of the public weights
	dropout      float64
	norm         graph.Norm
}

// tensorflow is the batch norm of the weights that came from TensorFlow.
var tensorflow = graph.Norm{Eps: 1e-3, Momentum: 0.01}

var variants = []coefficients{
	{"efficientnet_b0", 1.0, 1.0, 224, 0.2, graph.Norm{}},
	{"efficientnet_b1", 1.0, 1.1, 240, 0.2, graph.Norm{}},
	{"efficientnet_b2", 1.1, 1.2, 288, 0.3, graph.Norm{}},
	{"efficientnet_b3", 1.2, 1.4, 300, 0.3, graph.Norm{}},
	{"efficientnet_b4", 1.4, 1.8, 380, 0.4, graph.Norm{}},
	{"efficientnet_b5", 1.6, 2.2, 456, 0.4, tensorflow},
	{"efficientnet_b6", 1.8, 2.6, 528, 0.5, tensorflow},
	{"efficientnet_b7", 2.0, 3.1, 600, 0.5, tensorflow},
}

// b0 is table 1.
var b0 = []stage{
	{mbconv, 1, 3, 1, 16, 1, "stage1"},
	{mbconv, 6, 3, 2, 24, 2, "stage2"},
	{mbconv, 6, 5, 2, 40, 2, "stage3"},
	{mbconv, 6, 3, 2, 80, 3, ""},
	{mbconv, 6, 5, 1, 112, 3, "stage4"},
	{mbconv, 6, 5, 2, 192, 4, ""},
	{mbconv, 6, 3, 1, 320, 1, "stage5"},
}

// stemB0 is the number of filters of B0's first convolution.
const stemB0 = 32

// scale is compound scaling (§3): channels are rounded to multiples of 8, layers are rounded up.
func (c coefficients) scale() network {
	width := func(channels int) int { return blocks.MakeDivisible(float64(channels) * c.width) }
	n := network{stem: width(stemB0), norm: c.norm}
	for _, s := range b0 {
		s.out = width(s.out)
		s.layers = int(math.Ceil(float64(s.layers) * c.depth))
		n.stages = append(n.stages, s)
	}
	n.last = 4 * n.stages[len(n.stages)-1].out
	return n
}

// Family returns B0 to B7 and V2.
func Family() sdk.Family {
	var models []sdk.Model
	for _, c := range variants {
		models = append(models, sdk.Model{
			Name: c.name, Paper: paper, Input: graph.Shape{C: 3, H: c.resolution, W: c.resolution}, MinSize: 1,
			Options: options(c.dropout), Build: c.scale().build,
		})
	}
	return sdk.MustFamily(manifest, append(models, v2()...)...)
}

func options(dropout float64) []sdk.Option {
	return []sdk.Option{blocks.Dropout(dropout), blocks.StochasticDepth(0.2)}
}
