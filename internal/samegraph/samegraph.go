// Package samegraph compares the graphs of two builds, for the conformance kits: a family's function keeps no state.
package samegraph

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/go-modelzoo/zoo/graph"
)

// Check returns the first difference between two graphs, as far as a graph.Wire has it: that leaves out initial values, and the fields of
// operators of a family's own. It is safe for concurrent use.
func Check(a, b *graph.Graph) error {
	x, err := a.Wire()
	if err != nil {
		return err
	}
	y, err := b.Wire()
	if err != nil {
		return err
	}
	for i, n := range x.Nodes {
		if i >= len(y.Nodes) {
			return fmt.Errorf("%d nodes became %d", len(x.Nodes), len(y.Nodes))
		}
		if m := y.Nodes[i]; !reflect.DeepEqual(n, m) {
			return fmt.Errorf("node %s (%s of nodes %v, %v, %s) became %s (%s of nodes %v, %v, %s)",
				n.Name, n.Kind, n.Inputs, n.Shape, n.Arguments, m.Name, m.Kind, m.Inputs, m.Shape, m.Arguments)
		}
	}
	before, after := declared(a), declared(b)
	for i, part := range before {
		if other := after[min(i, len(after)-1)]; part != other {
			return fmt.Errorf("of the taps, layer groups and auxiliary outputs, %s became %s", part, other)
		}
	}
	if !reflect.DeepEqual(x, y) {
		return errors.New("its parameters, output, features or the parameters of a layer group changed")
	}
	return nil
}

// declared names what is declared of a network besides its layers, and the end of the list.
func declared(g *graph.Graph) []string {
	var list []string
	for _, t := range g.Taps {
		list = append(list, fmt.Sprintf("tap %s of %s", t.Name, t.Node.Name))
	}
	for _, gr := range g.Groups {
		list = append(list, fmt.Sprintf("group %s of %d parameters", gr.Name, len(gr.Params)))
	}
	for _, a := range g.Aux {
		list = append(list, fmt.Sprintf("auxiliary output %s of %s with weight %g", a.Name, a.Node.Name, a.Weight))
	}
	return append(list, "none")
}
