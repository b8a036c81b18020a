package train

import (
	stdcontext "context"
	"fmt"
	"strconv"

	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/graph"
)

// trunk is the part of a network that depends on nothing trained and nothing random: an inference plan, of which only the values that the
// rest reads are known here.
type trunk struct {
	model *infer.Model
	nodes []*node                // whose values the outputs are
	out   map[int][]infer.Output // by images, used again from step to step
}

// staticNodes finds the nodes whose values depend on no trained parameter, on no random number, and not on t.at.
func (t *Trainer) staticNodes(order []*graph.Node) map[*graph.Node]bool {
	static := map[*graph.Node]bool{}
	for _, n := range order {
		ok := true
		switch n.Op.(type) {
		case graph.Dropout, graph.StochasticDepth:
			ok = !t.env.dropout
		}
		for _, p := range n.Params {
			ok = ok && !t.byName[p.Name].trainable
		}
		for _, in := range n.Inputs {
			ok = ok && static[in] && in != t.at
		}
		static[n] = ok
	}
	return static
}

// border lists the static nodes that others read, or that are roots, but for the image.
func border(order, roots []*graph.Node, static map[*graph.Node]bool) []*graph.Node {
	read := map[*graph.Node]bool{}
	for _, n := range order {
		if !static[n] {
			for _, in := range n.Inputs {
				read[in] = true
			}
		}
	}
	for _, r := range roots {
		read[r] = true
	}
	var list []*graph.Node
	for _, n := range order {
		if _, image := n.Op.(graph.InputOp); static[n] && read[n] && !image {
			list = append(list, n)
		}
	}
	return list
}

// newTrunk prepares the plan that computes the nodes.
func (t *Trainer) newTrunk(nodes []*node) error {
	g := &graph.Graph{Input: t.graph.Input, Nodes: t.graph.Nodes, Classes: t.graph.Classes, Output: nodes[0].Node, Features: nodes[0].Node}
	var names []string
	for i, v := range nodes {
		name := strconv.Itoa(i) // a layer may be called as an output of every network is, "features" for instance
		g.Taps = append(g.Taps, graph.Tap{Name: name, Node: v.Node})
		names = append(names, name)
	}
	model, err := infer.New(func(s graph.Shape) (*graph.Graph, error) {
		if s != g.Input {
			return nil, fmt.Errorf("train: the network is for images of %v, not %v", g.Input, s)
		}
		return g, nil
	}, &t.Params, infer.Options{Precision: t.env.precision, Pool: t.env.pool, Tier: &t.env.tier, Outputs: names})
	if err != nil {
		return fmt.Errorf("train: frozen part: %w", err)
	}
	t.trunk = &trunk{model: model, nodes: nodes, out: map[int][]infer.Output{}}
	return nil
}

// run returns the values of the trunk's nodes for n images. They are overwritten by the next run of as many.
func (k *trunk) run(ctx stdcontext.Context, images []float32, n int, s graph.Shape) (map[*node][]float32, error) {
	out, err := k.model.RunInto(ctx, infer.Input{Data: images, N: n, H: s.H, W: s.W, C: s.C}, k.out[n])
	if err != nil {
		return nil, err
	}
	k.out[n] = out
	values := map[*node][]float32{}
	for i, v := range k.nodes {
		values[v] = out[i].Data
	}
	return values, nil
}
