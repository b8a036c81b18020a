package plugins

import (
	"testing"

	"github.com/go-modelzoo/zoo/graph"
)

// TestDropoutThatIsAskedForIsNotThere looks also at the networks that torchvision does not have.
func TestDropoutThatIsAskedForIsNotThere(t *testing.T) {
	for _, f := range All() {
		for _, m := range f.Models {
			for _, o := range m.Options {
				if o.Name != "dropout" {
					continue
				}
				found := 0
				for _, n := range build(t, m, graph.Shape{}, map[string]string{"dropout": "0.35"}).Nodes {
					if op, ok := n.Op.(graph.Dropout); ok && op.P == 0.35 {
						found++
					}
				}
				if found == 0 {
					t.Errorf("%s has no dropout with the probability that was asked for", m.Name)
				}
			}
		}
	}
}
