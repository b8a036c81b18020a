package finetune

import (
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
)

func TestCutNeverSplitsAResidualBlock(t *testing.T) {
	g, err := tiny(graph.Shape{C: 3, H: side, W: side}, 3)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		freeze []string
		want   string
	}{
		{[]string{"features"}, "flatten"},
		{[]string{"stem"}, "relu"},
		// The block's first branch alone: its result meets the shortcut, so the cut lies before both.
		{[]string{"stem", "layer1.conv1"}, "relu"},
		{[]string{"layer1"}, ""},
		{[]string{"fc"}, ""},
	} {
		plan, err := newFreezePlan(g, c.freeze, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		cut := cutPoint(g, plan.start)
		name := ""
		if cut != nil {
			name = cut.Name
		}
		if name != c.want {
			t.Errorf("freezing %v cuts at %q, want %q", c.freeze, name, c.want)
			continue
		}
		if cut == nil {
			continue
		}
		part, err := behind(g, cut)
		if err != nil {
			t.Fatal(err)
		}
		if part.Input != cut.Shape || part.Classes != 3 {
			t.Errorf("the part behind %s has input %v and %d classes", name, part.Input, part.Classes)
		}
		for _, p := range part.Params {
			if plan.start[p.Name] && p.Name != "layer1.conv1.weight" {
				t.Errorf("%s lies behind the cut", p.Name)
			}
		}
	}
}

func TestUnfreezingByEpoch(t *testing.T) {
	g, err := tiny(graph.Shape{C: 3, H: side, W: side}, 3)
	if err != nil {
		t.Fatal(err)
	}
	gradual, err := newFreezePlan(g, []string{"features"}, 0, 2)
	if err != nil {
		t.Fatal(err)
	}
	trains := func(p *freezePlan, epoch int) []string {
		var names []string
		frozen := p.frozen(epoch)
		for _, group := range g.Groups {
			if !frozen[group.Params[0].Name] {
				names = append(names, group.Name)
			}
		}
		return names
	}
	for epoch, want := range [][]string{{"fc"}, {"fc"}, {"layer1", "fc"}, {"layer1", "fc"}, {"stem", "layer1", "fc"}, {"stem", "layer1", "fc"}} {
		if got := trains(gradual, epoch); !slices.Equal(got, want) {
			t.Errorf("epoch %d trains %v, want %v", epoch, got, want)
		}
	}
	at, err := newFreezePlan(g, []string{"features"}, 3, 0)
	if err != nil {
		t.Fatal(err)
	}
	if got := trains(at, 2); len(got) != 1 {
		t.Errorf("before the epoch %v train", got)
	}
	if got := trains(at, 3); len(got) != 3 || at.varies(3) || !at.varies(4) {
		t.Errorf("from the epoch on %v train", got)
	}
}

func TestLayerDecayAndNormsWithoutWeightDecay(t *testing.T) {
	g, err := tiny(graph.Shape{C: 3, H: side, W: side}, 3)
	if err != nil {
		t.Fatal(err)
	}
	trainer := newTrainer(t, g)
	c := Defaults()
	c.LayerDecay, c.NoDecayNorms, c.Optimizer.WeightDecay = 0.5, true, 0.1
	type setting struct{ scale, decay float64 }
	got := map[string]setting{}
	for _, group := range parameterGroups(g, trainer.All(), &c) {
		for _, p := range group.Params {
			got[p.Name()] = setting{group.LRScale, group.WeightDecay}
		}
	}
	for name, want := range map[string]setting{
		"conv1.weight": {0.25, 0.1}, "bn1.weight": {0.25, 0}, "bn1.bias": {0.25, 0}, "layer1.conv1.weight": {0.5, 0.1},
		"fc.weight": {1, 0.1}, "fc.bias": {1, 0},
	} {
		if got[name] != want {
			t.Errorf("%s has %v, want %v", name, got[name], want)
		}
	}
	if _, ok := got["bn1.running_mean"]; ok {
		t.Error("a buffer is among the optimiser's parameters")
	}
}
