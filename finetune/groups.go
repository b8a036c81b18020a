package finetune

import (
	"math"

	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/graph"
)

// parameterGroups sorts the trained parameters into the optimiser's groups: by learning rate, decaying from the last layer group to the first,
// and by weight decay.
func parameterGroups(g *graph.Graph, params []*train.Param, c *Config) []train.Group {
	scale := map[string]float64{}
	for i, group := range g.Groups {
		for _, p := range group.Params {
			scale[p.Name] = math.Pow(c.LayerDecay, float64(len(g.Groups)-1-i))
		}
	}
	type key struct{ scale, decay float64 }
	index := map[key]int{}
	var groups []train.Group
	for _, p := range params {
		if !p.Trainable() {
			continue
		}
		k := key{scale[p.Name()], c.Optimizer.WeightDecay}
		if c.NoDecayNorms && !decays(p.Spec) {
			k.decay = 0
		}
		i, ok := index[k]
		if !ok {
			i = len(groups)
			index[k] = i
			groups = append(groups, train.Group{LRScale: k.scale, WeightDecay: k.decay})
		}
		groups[i].Params = append(groups[i].Params, p)
	}
	return groups
}

// decays reports whether weight decay is meant for a parameter: for the weights of convolutions and linear layers.
func decays(p *graph.Param) bool { return p.Role == graph.Weight && len(p.Shape) > 1 }
