// Package mobilenet is the family of MobileNet V1, V2 and V3.
package mobilenet

import (
	_ "embed"

	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

//go:embed plugin.json
var manifest []byte

// tensorflow are the options that make a network read checkpoints made with TensorFlow.
var tensorflow = []sdk.Option{
	{Name: "padding", Default: "torch", Values: []string{"torch", "same"}, Help: "pad as PyTorch does, or as TensorFlow does (SAME: odd padding at the end)"},
	{Name: "norm", Default: "batch", Values: []string{"batch", "none"}, Help: "batch norm, or none: checkpoints whose batch norms were folded into biases of the convolutions"},
}

// dialect applies the options to a convolution.
func dialect(o sdk.Options) func(blocks.Conv) blocks.Conv {
	return func(c blocks.Conv) blocks.Conv {
		c.Same, c.Folded = o.Is("padding", "same"), o.Is("norm", "none")
		return c
	}
}

func options(dropout float64) []sdk.Option {
	return append([]sdk.Option{blocks.Dropout(dropout)}, tensorflow...)
}

// Family returns the MobileNets.
func Family() sdk.Family {
	var models []sdk.Model
	for _, list := range [][]sdk.Model{v1(), v2(), v3()} {
		models = append(models, list...)
	}
	return sdk.MustFamily(manifest, models...)
}
