package sdk

import (
	"context"
	"fmt"

	"github.com/go-modelzoo/zoo/engine"
	trainer "github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// camRunner is the runner of sessions that give out a class activation map, with or without the logits.
type camRunner struct {
	sessionOutputs
	params    engine.Params
	precision engine.Precision
	pool      *work.Pool
	wanted    graph.ActivationMap

	turn chan struct{} // held while cam is in use
	cam  *trainer.GradCAM
	size graph.Shape // of cam's images
}

// activationMap finds the class activation map among the outputs.
func activationMap(outputs []string) (m graph.ActivationMap, found bool, err error) {
	for _, name := range outputs {
		one, ok, err := graph.ParseActivationMap(name)
		switch {
		case err != nil:
			return m, true, invalid("%v", err)
		case ok && found:
			return m, true, invalid("a session has one class activation map: %s is another", name)
		case ok:
			m, found = one, true
		}
	}
	return m, found, nil
}

func newCAMRunner(n network, params engine.Params, precision engine.Precision, pool *work.Pool, outputs []string, m graph.ActivationMap) (*camRunner, error) {
	r := &camRunner{params: params, precision: precision, pool: pool, wanted: m, turn: make(chan struct{}, 1)}
	r.network, r.names, r.shape = n, outputs, r.outputShape
	if _, err := r.Outputs(n.input); err != nil {
		return nil, err
	}
	if err := r.prepare(n.input); err != nil {
		return nil, err
	}
	return r, nil
}

// outputShape is that of one image.
func (r *camRunner) outputShape(g *graph.Graph, name string) (graph.Shape, error) {
	switch name {
	case graph.LogitsOutput:
		return g.Output.Shape, nil
	case r.wanted.String():
		at, err := r.node(g)
		if err != nil {
			return graph.Shape{}, err
		}
		return graph.Shape{C: 1, H: at.Shape.H, W: at.Shape.W}, nil
	}
	return graph.Shape{}, fmt.Errorf("a class activation map comes alone or with the logits: ask for %s in a session of its own", name)
}

// node is the one whose map is looked at.
func (r *camRunner) node(g *graph.Graph) (*graph.Node, error) {
	node, shape, err := g.NamedOutput(r.wanted.At)
	if err == nil && shape.IsVector() {
		err = fmt.Errorf("%s has one pixel where images have %d×%d: a class activation map needs more: name a tap, or take larger images", r.wanted.At, g.Input.H, g.Input.W)
	}
	return node, err
}

// prepare makes cam one for images of the shape. The turn is the caller's.
func (r *camRunner) prepare(shape graph.Shape) error {
	if r.cam != nil && r.size == shape {
		return nil
	}
	g, err := r.graph(shape)
	if err != nil {
		return invalid("%v", err)
	}
	if r.wanted.Class >= g.Classes {
		return invalid("class %d is outside 0..%d", r.wanted.Class, g.Classes-1)
	}
	at, err := r.node(g)
	if err != nil {
		return invalid("%v", err)
	}
	cam, err := trainer.NewGradCAM(g, r.params, at, r.precision, r.pool)
	if err != nil {
		return invalid("%v", err)
	}
	if r.cam != nil {
		r.cam.Close()
	}
	r.cam, r.size = cam, shape
	return nil
}

// Run implements runner. Calls take turns.
func (r *camRunner) Run(ctx context.Context, n int, shape graph.Shape, in []float32, out []result) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.turn }()
	if err := r.prepare(shape); err != nil {
		return err
	}
	logits, maps, err := r.cam.Run(ctx, in, n, r.wanted.Class)
	if err != nil {
		return err
	}
	for _, o := range out {
		values := maps
		if o.name == graph.LogitsOutput {
			values = logits
		}
		copy(o.data, values)
	}
	return nil
}

// Profile implements runner.
func (r *camRunner) Profile(context.Context, int, graph.Shape) ([]*zoov1.ProfileResponse_Row, error) {
	return nil, invalid("a session with a class activation map has no profile: open one for the logits")
}

// Close implements runner.
func (r *camRunner) Close() error {
	r.cam.Close()
	return nil
}
