package plugins_test

import (
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

// TestRegistryRowDiffersFromNetwork builds the network of every row of the shipped index and compares parameters, multiply-accumulates
// and the smallest size.
func TestRegistryRowDiffersFromNetwork(t *testing.T) {
	index, err := registry.Parse(zoo.RegistryJSON())
	if err != nil {
		t.Fatal(err)
	}
	families := plugins.All()
	rows := 0
	for _, row := range index.Models {
		i := slices.IndexFunc(families, func(f sdk.Family) bool { return f.Name == row.Family })
		if i < 0 {
			t.Errorf("%s: no family is called %s", row.Name, row.Family)
			continue
		}
		m, ok := families[i].Model(row.Name)
		if !ok {
			t.Errorf("family %s has no model %s", row.Family, row.Name)
			continue
		}
		variants := []registry.Model{row}
		for _, w := range row.Weights {
			variants = append(variants, row.With(&w))
		}
		for _, v := range variants {
			tag := ""
			if len(v.Weights) == 1 {
				tag = ":" + v.Weights[0].Tag
			}
			rows++
			g, err := m.Graph(graph.Shape{C: v.Input[0], H: v.Input[1], W: v.Input[2]}, v.Classes, v.Options)
			if err != nil {
				t.Errorf("%s%s: %v", row.Name, tag, err)
				continue
			}
			// Some published counts leave out the auxiliary classifiers that the file has.
			if n := g.NumParams(); n != v.Params && inferenceParams(g) != v.Params {
				t.Errorf("%s%s has %d parameters, the index says %d", row.Name, tag, n, v.Params)
			}
			// The published figures have three decimals of 1e9.
			const half = 500_000
			if d := g.MACs() - v.MACs; d < -half || d > half {
				t.Errorf("%s%s takes %d multiply-accumulates, the index says %d", row.Name, tag, g.MACs(), v.MACs)
			}
			if low := v.MinSize; low != ([2]int{}) && (low[0] < m.MinSize || low[1] < m.MinSize) { // for EfficientNet V2 a larger one is published
				t.Errorf("%s has the smallest size %d, the index says %v", row.Name, m.MinSize, low)
			}
		}
	}
	t.Logf("%d models, %d rows", len(index.Models), rows)
	for _, f := range families {
		if index.FamilyByName(f.Name) == nil {
			t.Errorf("the index has no family %s", f.Name)
		}
	}
}

// inferenceParams counts the trainable values of the nodes that inference needs.
func inferenceParams(g *graph.Graph) int64 {
	var total int64
	for _, n := range g.InferenceNodes() {
		for _, p := range n.Params {
			if !p.Role.Buffer() {
				total += int64(p.Elements())
			}
		}
	}
	return total
}
