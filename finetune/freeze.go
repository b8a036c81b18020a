package finetune

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// freezePlan says which parameters stay as they are, epoch by epoch.
type freezePlan struct {
	graph   *graph.Graph
	start   map[string]bool // names of the parameters frozen at first
	at      int             // epoch at which everything trains; 0 never
	gradual int             // epochs between layer groups; 0 off
}

// newFreezePlan resolves patterns to parameters. See Config.Freeze.
func newFreezePlan(g *graph.Graph, patterns []string, at, gradual int) (*freezePlan, error) {
	p := &freezePlan{graph: g, start: map[string]bool{}, at: at, gradual: gradual}
	for _, pattern := range patterns {
		names, err := matchParams(g, pattern)
		if err != nil {
			return nil, err
		}
		for _, n := range names {
			p.start[n] = true
		}
	}
	if len(p.start) == 0 {
		return p, nil
	}
	for _, q := range g.Params {
		if q.Role == graph.Weight && !p.start[q.Name] {
			for _, of := range q.Node.Params {
				if p.start[of.Name] && of.Role.Buffer() { // its batches would change what is taken for unchanged
					return nil, fmt.Errorf("%s does not stay as it is while %s trains: freeze that too", of.Name, q.Name)
				}
			}
		}
	}
	for _, q := range g.Params {
		if !q.Role.Buffer() && !p.start[q.Name] {
			return p, nil
		}
	}
	return nil, fmt.Errorf("freezing %s leaves nothing to train: the layer groups are %s", strings.Join(patterns, " and "), strings.Join(groupNames(g), ", "))
}

// frozen returns the names of the parameters that are frozen in an epoch.
func (p *freezePlan) frozen(epoch int) map[string]bool {
	if p.at > 0 && epoch >= p.at {
		return nil
	}
	if p.gradual == 0 {
		return p.start
	}
	thawed := maps.Clone(p.start)
	left := epoch / p.gradual
	for _, group := range slices.Backward(p.graph.Groups) {
		if left == 0 {
			break
		}
		counts := false
		for _, q := range group.Params {
			counts = counts || thawed[q.Name]
			delete(thawed, q.Name)
		}
		if counts {
			left--
		}
	}
	return thawed
}

// varies reports whether the set changes within a run.
func (p *freezePlan) varies(epochs int) bool {
	return len(p.frozen(epochs-1)) != len(p.start)
}

// matchParams returns the names of the parameters that a pattern means.
func matchParams(g *graph.Graph, pattern string) ([]string, error) {
	var names []string
	take := func(match func(*graph.Param) bool) []string {
		for _, p := range g.Params {
			if match(p) {
				names = append(names, p.Name)
			}
		}
		return names
	}
	if pattern == "features" {
		// Auxiliary classifiers exist to teach the features: they are frozen along.
		used := map[*graph.Node]bool{}
		for _, n := range g.InferenceNodes() {
			used[n] = true
		}
		return take(func(p *graph.Param) bool { return g.InFeatures(p) || !used[p.Node] }), nil
	}
	if until, ok := strings.CutPrefix(pattern, "until:"); ok {
		first, err := matchParams(g, until)
		if err != nil {
			return nil, err
		}
		for _, p := range g.Params {
			if slices.Contains(first, p.Name) {
				break
			}
			names = append(names, p.Name)
		}
		if len(names) == 0 {
			return nil, fmt.Errorf("freezing %q freezes nothing: %s comes first", pattern, until)
		}
		return names, nil
	}
	for _, group := range g.Groups {
		if group.Name == pattern {
			for _, p := range group.Params {
				names = append(names, p.Name)
			}
			return names, nil
		}
	}
	if _, err := path.Match(pattern, ""); err != nil {
		return nil, fmt.Errorf("freeze pattern %q: a bracket has no end", pattern)
	}
	take(func(p *graph.Param) bool {
		glob, err := path.Match(pattern, p.Name)
		return err == nil && glob || strings.HasPrefix(p.Name, pattern+".")
	})
	if len(names) == 0 {
		return nil, fmt.Errorf("freeze pattern %q matches nothing; the layer groups are %s%s", pattern, strings.Join(groupNames(g), ", "), ui.DidYouMean(pattern, freezable(g)))
	}
	return names, nil
}

func groupNames(g *graph.Graph) []string {
	names := make([]string, len(g.Groups))
	for i, group := range g.Groups {
		names[i] = group.Name
	}
	return names
}

// freezable lists all names that a pattern may be: groups, modules and parameters.
func freezable(g *graph.Graph) []string {
	names := append(groupNames(g), "features")
	for _, p := range g.Params {
		for name := p.Name; ; {
			names = append(names, name)
			i := strings.LastIndexByte(name, '.')
			if i < 0 {
				break
			}
			name = name[:i]
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}
