package zootest

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/internal/samegraph"
)

// many is the number of classes of ImageNet, few any other.
const (
	many = 1000
	few  = 7
)

func description(s *subject) error {
	var f faults
	m := s.model
	if strings.TrimSpace(m.Paper) == "" {
		f.add("Paper is empty: cite the source of the architecture")
	}
	if m.Input.H < m.MinSize || m.Input.W < m.MinSize {
		f.add("Input %v is below MinSize %d", m.Input, m.MinSize)
	}
	for _, o := range m.Options {
		if o.Name == "" || strings.ContainsAny(o.Name, "= \t\n") {
			f.add("option name %q is empty or has a space or an equals sign", o.Name)
		}
		if strings.TrimSpace(o.Help) == "" {
			f.add("option %s has no Help", o.Name)
		}
		if len(o.Values) > 0 && !slices.Contains(o.Values, o.Default) {
			f.add("option %s: default %q is not among its values %q", o.Name, o.Default, o.Values)
		}
	}
	return f.err()
}

// sizes builds at the model's own size, at the smallest, and at sizes around it that are odd or not square, and wants one pixel less refused.
func sizes(s *subject) error {
	if _, err := s.graph(s.model.Input, few); err != nil {
		return fmt.Errorf("does not build: %w", err) // nor at other sizes, most likely
	}
	var f faults
	low := s.model.MinSize
	list := []graph.Pair{{H: low, W: low}, {H: low + 1, W: low + 2}, {H: low + 16, W: low}, {H: low, W: low + 33}}
	for d := range 9 {
		list = append(list, graph.Pair{H: max(low, 64) + d, W: max(low, 64) + 8 - d})
	}
	list = append(list, graph.Pair{H: s.size.H, W: s.size.W})
	for _, p := range list {
		if _, err := s.graph(graph.Shape{C: s.model.Input.C, H: p.H, W: p.W}, few); err != nil {
			f.add("does not build at %d×%d pixels: %w", p.H, p.W, err)
		}
	}
	for _, p := range []graph.Pair{{H: low - 1, W: low}, {H: low, W: low - 1}} {
		_, err := s.graph(graph.Shape{C: s.model.Input.C, H: p.H, W: p.W}, few)
		if err == nil {
			f.add("builds at %d×%d pixels, below MinSize %d", p.H, p.W, low)
		} else if !strings.Contains(err.Error(), s.model.Name) || !strings.Contains(err.Error(), fmt.Sprint(low)) {
			f.add("the error for %d×%d pixels names neither the model nor its smallest size: %w", p.H, p.W, err)
		}
	}
	if _, err := s.graph(graph.Shape{C: s.model.Input.C + 1, H: s.size.H, W: s.size.W}, few); err == nil {
		f.add("builds for images of %d channels", s.model.Input.C+1)
	}
	return f.err()
}

func classCounts(s *subject) error {
	var f faults
	for _, n := range []int{1, 2, many} {
		g, err := s.graph(s.size, n)
		if err != nil {
			f.add("does not build for %d classes: %w", n, err)
		} else if g.Classes != n || g.Output.Shape != (graph.Shape{C: n, H: 1, W: 1}) {
			f.add("for %d classes the output is %v", n, g.Output.Shape)
		}
	}
	if _, err := s.graph(s.size, 0); err == nil {
		f.add("builds for no classes")
	}
	return f.err()
}

// pure wants builds one after the other, and some at once, to give the same network: a family keeps no state.
func pure(s *subject) error {
	const builds = 6
	graphs, errs := make([]*graph.Graph, builds), make([]error, builds)
	build := func(i int) {
		errs[i] = guard(func(s *subject) (err error) {
			graphs[i], err = s.graph(s.size, few)
			return err
		}, s)
	}
	build(0)
	build(1)
	var wg sync.WaitGroup
	for i := 2; i < builds; i++ {
		wg.Go(func() { build(i) })
	}
	wg.Wait()
	for i, g := range graphs {
		if errs[i] != nil {
			return errs[i]
		}
		if err := sameNetwork(graphs[0], g); err != nil {
			return fmt.Errorf("two builds differ: %w: Build must be a function of its arguments alone", err)
		}
	}
	return nil
}

func sameNetwork(a, b *graph.Graph) error {
	if err := samegraph.Check(a, b); err != nil {
		return err
	}
	for i, p := range a.Params {
		if p.Init != b.Params[i].Init {
			return fmt.Errorf("%s begins at other values", p.Name)
		}
	}
	return nil
}

// crosses wants a host to take the network as the plugin's process would send it.
func crosses(s *subject) error {
	g, err := s.graph(s.model.Input, many)
	if err != nil {
		return err
	}
	m, err := pluginrpc.FromGraph(g)
	if err != nil {
		return err
	}
	_, err = pluginrpc.ToGraph(m)
	return err
}

func uniqueNames(s *subject) error {
	g, err := s.graph(s.size, few)
	if err != nil {
		return err
	}
	var f faults
	seen := map[string]bool{}
	unique := func(kind, name string) {
		if name == "" || seen[kind+name] {
			f.add("%s name %q is empty or taken", kind, name)
		}
		seen[kind+name] = true
	}
	for _, n := range g.Nodes {
		unique("node", n.Name)
	}
	for _, p := range g.Params {
		unique("parameter", p.Name)
	}
	for _, t := range g.Taps {
		unique("tap", t.Name)
	}
	for _, gr := range g.Groups {
		unique("layer group", gr.Name)
	}
	return f.err()
}

// groups wants every parameter in exactly one group, and the groups in the order in which the network computes.
func groups(s *subject) error {
	g, err := s.graph(s.size, few)
	if err != nil {
		return err
	}
	var f faults
	in := map[string]string{}
	var before *graph.Param // the first of the group in front
	for _, gr := range g.Groups {
		if len(gr.Params) == 0 {
			f.add("group %s is empty", gr.Name)
			continue
		}
		for _, p := range gr.Params {
			if other, ok := in[p.Name]; ok {
				f.add("parameter %s is in groups %s and %s", p.Name, other, gr.Name)
			}
			in[p.Name] = gr.Name
		}
		first := gr.Params[0]
		if before != nil && first.Node.ID < before.Node.ID {
			f.add("group %s begins with %s, which comes before %s of group %s in front of it: order groups from the input to the output",
				gr.Name, first.Name, before.Name, in[before.Name])
		}
		before = first
	}
	for _, p := range g.Params {
		if in[p.Name] == "" {
			f.add("parameter %s is in no group", p.Name)
		}
	}
	if len(g.Groups) < 2 {
		f.add("%d groups are too few to freeze anything by", len(g.Groups))
	}
	return f.err()
}

// taps wants at least one tap, strides that grow, and maps of the size that stride and receptive field allow: between that of a
// network without padding and that of one whose padding makes up for every kernel.
func taps(s *subject) error {
	var f faults
	for _, input := range []graph.Shape{s.model.Input, s.size} {
		g, err := s.graph(input, few)
		if err != nil {
			return err
		}
		if len(g.Taps) == 0 {
			f.add("there is none: multi-scale features need Builder.Tap")
		}
		rows := g.Summary()
		inference := map[int]bool{}
		for _, n := range g.InferenceNodes() {
			inference[n.ID] = true
		}
		stride := 0
		for _, t := range g.Taps {
			if t.Stride <= stride {
				f.add("%s has stride %d after one of stride %d: order taps from fine to coarse, one a stride", t.Name, t.Stride, stride)
			}
			stride = max(t.Stride, 1)
			if !inference[t.Node.ID] {
				f.add("%s is on a node that inference does not need", t.Name)
			}
			field := rows[t.Node.ID].ReceptiveField
			for _, d := range []struct {
				what       string
				in, out, r int
			}{{"height", input.H, t.Node.Shape.H, field.H}, {"width", input.W, t.Node.Shape.W, field.W}} {
				low, high := (d.in-d.r)/stride+1, (d.in+stride-1)/stride+1
				if d.r >= d.in {
					low = 1 // the receptive field is capped at the input: nothing is known
				}
				if d.out < low || d.out > high {
					f.add("at input %v %s has %s %d at stride %d, not %d to %d", input, t.Name, d.what, d.out, stride, low, high)
				}
			}
		}
	}
	return f.err()
}

// totals wants the summary's rows to add up to the graph's sums.
func totals(s *subject) error {
	g, err := s.graph(s.model.Input, many)
	if err != nil {
		return err
	}
	var f faults
	var params, macs int64
	for _, r := range g.Summary() {
		params += r.Params
		if !r.Training {
			macs += r.MACs
		}
	}
	if params != g.NumParams() || params <= 0 {
		f.add("the layers have %d parameters, the network %d", params, g.NumParams())
	}
	if macs != g.MACs() || macs <= 0 {
		f.add("the layers take %d multiply-accumulates, the network %d", macs, g.MACs())
	}
	return f.err()
}

// classifier wants the number of classes to change the declared parameters and no others, and the feature part to be free of them.
func classifier(s *subject) error {
	a, err := s.graph(s.size, few)
	if err != nil {
		return err
	}
	b, err := s.graph(s.size, many)
	if err != nil {
		return err
	}
	if len(a.Params) != len(b.Params) {
		return fmt.Errorf("%d parameters for %d classes, %d for %d", len(a.Params), few, len(b.Params), many)
	}
	var f faults
	heads, trunk := 0, 0
	for i, p := range a.Params {
		q := b.Params[i]
		if p.Name != q.Name {
			return fmt.Errorf("parameter %d is %s for %d classes and %s for %d", i, p.Name, few, q.Name, many)
		}
		same := reflect.DeepEqual(p.Shape, q.Shape)
		switch {
		case !same && !a.InClassifier(p):
			f.add("%s depends on the number of classes: give its layer to Builder.Classifier", p.Name)
		case same && a.InClassifier(p) && p.Role == graph.Weight:
			f.add("%s does not depend on the number of classes: leave it out of Builder.Classifier", p.Name)
		case a.InClassifier(p) && a.InFeatures(p):
			f.add("%s belongs to both features and classifier", p.Name)
		}
		if a.InClassifier(p) {
			heads++
		}
		if a.InFeatures(p) {
			trunk++
		}
	}
	if heads == 0 || trunk == 0 {
		f.add("%d parameters belong to the classifier and %d to the features", heads, trunk)
	}
	return f.err()
}

// options wants every listed value to build, and all others, and unknown options, to be refused by name.
func options(s *subject) error {
	var f faults
	build := func(name, value string) error {
		_, err := s.model.Graph(s.size, few, map[string]string{name: value})
		return err
	}
	const nonsense = "no-such-thing"
	if err := build(nonsense, "1"); err == nil || !strings.Contains(err.Error(), nonsense) {
		f.add("an unknown option is not refused by name: %v", err)
	}
	for _, o := range s.model.Options {
		for _, value := range append([]string{o.Default}, o.Values...) {
			if err := build(o.Name, value); err != nil {
				f.add("%s=%s does not build: %w", o.Name, value, err)
			}
		}
		if err := build(o.Name, nonsense); err == nil || !strings.Contains(err.Error(), o.Name) {
			f.add("%s=%s is not refused by name: %v", o.Name, nonsense, err)
		}
	}
	return f.err()
}
