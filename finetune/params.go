package finetune

import (
	"fmt"
	"strings"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/weights"
)

// initial are a network's values before training: from a file, and drawn from a seed where the file has none for the new classifier.
type initial struct {
	graph *graph.Graph
	seed  uint64
	file  *weights.File // nil: everything is drawn
	fresh map[string]bool
}

// openParams opens a checkpoint and holds it against the graph. The classifier may differ and is then new; anything else is an error.
func openParams(g *graph.Graph, path string, seed uint64) (*initial, error) {
	p := &initial{graph: g, seed: seed, fresh: map[string]bool{}}
	if path == "" {
		return p, nil
	}
	file, err := weights.Open(path)
	if err != nil {
		return nil, err
	}
	fresh, err := weights.Match(weights.Wants(g), file).AllowNewClassifier()
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, closing(file))
	}
	for _, name := range fresh {
		p.fresh[name] = true
	}
	p.file = file
	return p, nil
}

func closing(f *weights.File) string {
	if err := f.Close(); err != nil {
		return "; " + err.Error()
	}
	return ""
}

// Param implements engine.Params.
func (p *initial) Param(name string) ([]float32, error) {
	if p.file != nil && !p.fresh[name] {
		if _, ok := p.file.Tensor(name); ok {
			return p.file.Param(name)
		}
	}
	q := p.graph.Param(name)
	if q == nil {
		return nil, fmt.Errorf("the network has no parameter %s", name)
	}
	return q.Initialise(p.seed), nil
}

// describe names the parameters that the file did not give.
func (p *initial) describe() string {
	var names []string
	for _, q := range p.graph.Params {
		if p.fresh[q.Name] {
			names = append(names, q.Name)
		}
	}
	return strings.Join(names, ", ")
}

func (p *initial) Close() error {
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}

// overlay gives some parameters' values in place of another source's.
type overlay struct {
	top   engine.ParamMap
	under engine.Params
}

// Param implements engine.Params.
func (o overlay) Param(name string) ([]float32, error) {
	if v, ok := o.top[name]; ok {
		return v, nil
	}
	return o.under.Param(name)
}

// live returns the parameters of a trainer as a map; the values change with each step.
func live(params *train.Params) engine.ParamMap {
	m := engine.ParamMap{}
	for _, p := range params.All() {
		m[p.Name()] = p.Values()
	}
	return m
}

// tensors lists the values of a graph's parameters as a state dict.
func tensors(g *graph.Graph, values engine.Params) ([]weights.Tensor, error) {
	list := make([]weights.Tensor, len(g.Params))
	for i, p := range g.Params {
		v, err := values.Param(p.Name)
		if err != nil {
			return nil, err
		}
		if p.Role == graph.NumBatchesTracked {
			list[i] = weights.FromInt64(p.Name, p.Shape, []int64{int64(v[0])})
		} else {
			list[i] = weights.FromFloat32(p.Name, p.Shape, v)
		}
	}
	return list, nil
}
