package resnet

import (
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/internal/blocks"
	"github.com/go-modelzoo/zoo/sdk"
)

// maxStages keeps the last stage's stride (2^(stages+1)) and width within reason.
const maxStages = 8

// custom is a ResNet of one's own: as many stages as the option layers has numbers. With the defaults it is resnet18.
var custom = sdk.Model{
	Name: "resnet_custom", Paper: paperResNet, Input: blocks.ImageNet, MinSize: 1,
	Options: []sdk.Option{
		{Name: "layers", Default: "2,2,2,2", Help: "blocks in each stage, from 1 to 8 stages, such as 1,1"},
		{Name: "widths", Default: "", Help: "channels of each stage (a bottleneck has four times as many outside), such as 32,64; empty doubles from 64"},
		{Name: "block", Default: "basic", Values: []string{"basic", "bottleneck"}, Help: "two 3×3 convolutions, or 1×1, 3×3, 1×1"},
		strideOption,
	},
	Build: func(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
		c := config{block: basic, groups: 1, width: 64}
		if o.Is("block", "bottleneck") {
			c.block = bottleneck
		}
		var err error
		if c.layers, err = o.Ints("layers"); err != nil {
			b.Errorf("%w", err)
			return x
		}
		if len(c.layers) > maxStages {
			b.Errorf("option layers=%s has more than %d stages", o["layers"], maxStages)
			return x
		}
		for i := range c.layers {
			c.widths = append(c.widths, 64<<i)
			if c.layers[i] > 256 {
				b.Errorf("option layers=%s: %d blocks in a stage are more than 256", o["layers"], c.layers[i])
				return x
			}
		}
		if o["widths"] != "" {
			if c.widths, err = o.Ints("widths"); err != nil {
				b.Errorf("%w", err)
				return x
			}
			if len(c.widths) != len(c.layers) {
				b.Errorf("option widths=%s has %d numbers for the %d stages of layers=%s: give as many", o["widths"], len(c.widths), len(c.layers), o["layers"])
				return x
			}
		}
		return c.build(b, x, o)
	},
}
