package finetune

import (
	"math"
	"slices"
	"strings"
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
		{[]string{"conv1"}, "conv1"},
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
	part, err := newFreezePlan(g, []string{"stem", "layer1.conv1"}, 0, 2) // a group of which a part is frozen is one of the steps
	if err != nil {
		t.Fatal(err)
	}
	if frozen := part.frozen(2); !frozen["conv1.weight"] || frozen["layer1.conv1.weight"] {
		t.Errorf("two groups thaw at once, %v stay", frozen)
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
	c.NoDecayNorms = false
	for _, group := range parameterGroups(g, trainer.All(), &c) {
		if group.WeightDecay != 0.1 {
			t.Errorf("%s has weight decay %g without being asked to do without", group.Params[0].Name(), group.WeightDecay)
		}
	}
	for shape, want := range map[graph.Role]bool{graph.Weight: true, graph.Scale: false} { // ConvNeXt's scale has three dimensions
		if decays(&graph.Param{Role: shape, Shape: []int{8, 1, 1}}) != want {
			t.Errorf("weight decay of a %s is %v", shape, !want)
		}
	}
}

// withAux has an auxiliary classifier on its features, as GoogLeNet, and before its classifier an operator of the family's own.
func withAux(t *testing.T, own bool) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder(graph.Shape{C: 3, H: side, W: side}, 3)
	x := b.ReLU(b.Conv2d("conv", b.Input(), graph.Conv{Out: 8, Kernel: graph.Square(3)}))
	b.Aux("aux", b.Scope("aux").Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: 3}), 0.3)
	x = b.Features(b.ReLU(b.Conv2d("last", x, graph.Conv{Out: 8, Kernel: graph.Square(3)})))
	if own {
		x = b.Custom("own", ghost{}, nil, b.Linear("neck", b.GlobalAvgPool(x), graph.Fc{Out: 8}))
	}
	b.Group("all", "conv", "last", "neck", "aux", "fc")
	b.Classifier("fc", "aux.fc")
	g, err := b.Finish(b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: 3}))
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// ghost changes nothing.
type ghost struct{ graph.Custom }

func (ghost) Kind() string                                 { return "ghost" }
func (ghost) Infer(in []graph.Shape) (graph.Shape, error)  { return in[0], nil }
func (ghost) MACs(in []graph.Shape, out graph.Shape) int64 { return 0 }

func TestAuxiliaryClassifierLeftToTrainOnFrozenFeatures(t *testing.T) {
	g := withAux(t, false)
	plan, err := newFreezePlan(g, []string{"features"}, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !plan.start["aux.fc.weight"] || plan.start["fc.weight"] {
		t.Errorf("frozen are %v", plan.start)
	}
	part, err := behind(g, cutPoint(g, plan.start))
	if err != nil {
		t.Fatal(err)
	}
	if len(part.Params) != 2 || part.Params[0].Name != "fc.weight" || part.Params[1].Name != "fc.bias" {
		t.Errorf("what follows the features has %d parameters, want the classifier's two", len(part.Params))
	}
}

// The operator would have become one that can be listed and not run.
func TestOwnOperatorBehindTheCut(t *testing.T) {
	g := withAux(t, true)
	if _, err := behind(g, g.Features); err == nil || !strings.Contains(err.Error(), "ghost of own") {
		t.Errorf("error %v", err)
	}
}

func TestFreezingThatMeansNothing(t *testing.T) {
	g, err := tiny(graph.Shape{C: 3, H: side, W: side}, 3)
	if err != nil {
		t.Fatal(err)
	}
	for want, patterns := range map[string][]string{
		"leaves nothing to train":       {"*.weight", "*.bias"}, // buffers are left
		"conv1.weight comes first":      {"until:conv1.weight"},
		"a bracket has no end":          {"[a"},
		"while bn1.weight trains":       {"*.running_*"}, // they would change, and not be in a checkpoint
		"did you mean layer1.bn1":       {"layer1.bm1"},
		"layer groups are stem, layer1": {"head"},
	} {
		if _, err := newFreezePlan(g, patterns, 0, 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v, want one about %q", patterns, err, want)
		}
	}
}

func TestStrategyFreezesOrLearnsOtherwise(t *testing.T) {
	g, err := tiny(graph.Shape{C: 3, H: side, W: side}, 3)
	if err != nil {
		t.Fatal(err)
	}
	for s, want := range map[Strategy]struct {
		freezes  []string
		sgd, ada float64
	}{
		StrategyExtract: {[]string{"features"}, 1e-3, 1e-4}, StrategyHead: {[]string{"stem"}, 1e-3, 1e-4},
		StrategyFine: {nil, 1e-3, 1e-4}, StrategyScratch: {nil, 0.05, 0.005},
	} {
		c := Defaults()
		c.Strategy = s
		if got := s.patterns(g); !slices.Equal(got, want.freezes) {
			t.Errorf("%s freezes %v, want %v", s, got, want.freezes)
		}
		near(t, string(s)+" with sgd", c.autoLR(), want.sgd, 0)
		c.Optimizer.Name = "adamw"
		near(t, string(s)+" with adamw", c.autoLR(), want.ada, 1e-15)
	}
}

func TestNearestCentreOfAnotherClass(t *testing.T) {
	// Of each class the first and the third make the centre, whatever their length; the others are told apart by their angle to it.
	features := [][]float32{{1, 0}, {0, 5}, {3, 1}, {4, 1}, {100, 0}, {0, 1}, {2, 1.9}, {0.1, 0.2}, {-9, -1}}
	labels := []int{0, 1, 0, 1, 0, 1, 0, 1, 2}
	if hits, tested := nearestCentroid(features, labels, 4); hits != 3 || tested != 4 {
		t.Errorf("%d of %d, want 3 of 4: (4, 1) is not like (0, 5) and (0, 1)", hits, tested)
	}
	if hits, tested := nearestCentroid(nil, nil, 2); hits != 0 || tested != 0 {
		t.Errorf("%d of %d of nothing", hits, tested)
	}
}

// TestAverageOfOtherWeights follows weights that jump from 0 to 2: the decay is 1/10, 2/11, … and at last the one asked for.
func TestAverageOfOtherWeights(t *testing.T) {
	g, err := tiny(graph.Shape{C: 3, H: side, W: side}, 3)
	if err != nil {
		t.Fatal(err)
	}
	trainer := newTrainer(t, g)
	set := func(x float32) {
		for _, p := range trainer.All() {
			for i := range p.Values() {
				p.Values()[i] = x
			}
		}
	}
	set(0)
	a := newAverage(0.5, &trainer.Params)
	set(2)
	left := 1.0
	for step := range 12 {
		a.update(&trainer.Params)
		left *= min(0.5, float64(1+step)/float64(10+step))
		for _, name := range []string{"conv1.weight", "bn1.running_var", "fc.bias"} {
			for _, v := range a.values[name] {
				near(t, name, float64(v), 2*(1-left), 1e-6)
			}
		}
	}
	if len(a.values) != len(g.Params) {
		t.Errorf("%d of %d parameters and buffers have an average", len(a.values), len(g.Params))
	}
}

func TestLargestGradientOfAnotherParameter(t *testing.T) {
	g, err := tiny(graph.Shape{C: 3, H: side, W: side}, 3)
	if err != nil {
		t.Fatal(err)
	}
	trainer := newTrainer(t, g)
	var l largestGradient
	l.observe(0, trainer.All())
	if l.name != "conv1.weight" || l.value != 0 {
		t.Errorf("without gradients the largest is %g, of %s", l.value, l.name)
	}
	for i, c := range []struct {
		name string
		v    float32
	}{{"fc.bias", 1}, {"conv1.weight", -3}, {"fc.weight", 2}, {"bn1.bias", float32(math.Inf(-1))}, {"bn1.weight", float32(math.NaN())}} {
		for _, p := range trainer.All() {
			if p.Name() == c.name {
				p.AccGrad(p) // says that there is a gradient
				clear(p.Gradient())
				p.Gradient()[1] = c.v
			}
		}
		want := c
		if c.name == "fc.weight" {
			want.name, want.v = "conv1.weight", -3
		}
		l.observe(i, trainer.All())
		if v := math.Abs(float64(want.v)); l.name != want.name || l.value != v && !(math.IsNaN(v) && math.IsNaN(l.value)) {
			t.Errorf("the largest gradient is %g of %s, want %g of %s", l.value, l.name, v, want.name)
		}
	}
}
