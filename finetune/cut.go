package finetune

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/go-modelzoo/zoo/graph"
)

// cutPoint finds the last node whose value is the same at every epoch and from which everything trainable follows: what the frozen part
// computes. It returns nil where there is none but the image itself.
func cutPoint(g *graph.Graph, frozen map[string]bool) *graph.Node {
	order := g.InferenceNodes()
	static := map[*graph.Node]bool{}
	for _, n := range order {
		static[n] = true
		switch n.Op.(type) {
		case graph.Dropout, graph.StochasticDepth:
			static[n] = false
		}
		for _, p := range n.Params {
			if !p.Role.Buffer() && !frozen[p.Name] {
				static[n] = false
			}
		}
		for _, in := range n.Inputs {
			static[n] = static[n] && static[in]
		}
	}
	for i := len(order) - 1; i > 0; i-- {
		if n := order[i]; static[n] && separates(g, order, n) {
			return n
		}
	}
	return nil
}

// separates reports whether every path from the image to the output goes through n.
func separates(g *graph.Graph, order []*graph.Node, n *graph.Node) bool {
	before := map[*graph.Node]bool{}
	for _, a := range g.InferenceNodes(n) {
		before[a] = true
	}
	for _, v := range order {
		if before[v] {
			continue
		}
		for _, in := range v.Inputs {
			if before[in] && in != n {
				return false
			}
		}
	}
	return true
}

// behind returns the part of a graph that follows a cut point, with the cut point's value as its input. Auxiliary classifiers are left out.
func behind(g *graph.Graph, cut *graph.Node) (*graph.Graph, error) {
	w, err := g.Wire()
	if err != nil {
		return nil, err
	}
	drop := map[int]bool{}
	for _, n := range g.InferenceNodes(cut) {
		drop[n.ID] = true
	}
	input, err := json.Marshal(graph.InputOp{Shape: cut.Shape})
	if err != nil {
		return nil, err
	}
	out := graph.Wire{Classes: w.Classes, Nodes: []graph.WireNode{{Name: "input", Kind: graph.InputOp{}.Kind(), Arguments: input, Shape: cut.Shape}}}
	index := map[int]int{cut.ID: 0}
	for _, n := range g.InferenceNodes() {
		if drop[n.ID] {
			continue
		}
		if _, ok := n.Op.(graph.Custom); ok {
			return nil, fmt.Errorf("operator %s of %s is the family's own and cannot be separated from the features", n.Op.Kind(), n.Name)
		}
		node := w.Nodes[n.ID]
		node.Inputs = nil
		for _, in := range n.Inputs {
			node.Inputs = append(node.Inputs, index[in.ID])
		}
		index[n.ID] = len(out.Nodes)
		out.Nodes = append(out.Nodes, node)
	}
	out.Output = index[w.Output]
	params := map[int]int{}
	for i, p := range w.Params {
		at, ok := index[p.Node]
		if !ok || drop[p.Node] {
			continue
		}
		p.Node = at
		params[i] = len(out.Params)
		out.Params = append(out.Params, p)
	}
	for _, group := range w.Groups {
		kept := graph.WireGroup{Name: group.Name}
		for _, i := range group.Params {
			if j, ok := params[i]; ok {
				kept.Params = append(kept.Params, j)
			}
		}
		out.Groups = append(out.Groups, kept) // the empty ones too: the rate of a group depends on its place in the list
	}
	return graph.FromWire(out)
}

// fingerprint is a digest of what nodes of a graph compute, but for the values of parameters.
func fingerprint(g *graph.Graph, nodes []*graph.Node) (string, error) {
	w, err := g.Wire()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	e := json.NewEncoder(h)
	for _, n := range nodes {
		if err := e.Encode(w.Nodes[n.ID]); err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
