package sdk

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// pools are the process's threads. Sessions that ask for the same number share them, so that concurrent inferences take turns and do not
// fight for processors.
type pools struct {
	mu  sync.Mutex
	all map[int]*work.Pool
}

func (p *pools) get(threads int) *work.Pool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all = map[int]*work.Pool{}
	}
	if p.all[threads] == nil {
		p.all[threads] = work.New(threads)
	}
	return p.all[threads]
}

// maxThreads is far above what a machine has.
const maxThreads = 1024

// compute checks what a session or a training asks of the processor.
func compute(want *zoov1.Compute) (precision engine.Precision, threads int, err error) {
	if precision, err = engine.ParsePrecision(want.GetPrecision()); err != nil {
		return 0, 0, invalid("%v", err)
	}
	if d := want.GetDevice(); d != "" && d != "cpu" {
		return 0, 0, invalid("device %q is not one of this plugin's: use cpu", d)
	}
	if threads = int(want.GetThreads()); threads < 0 || threads > maxThreads {
		return 0, 0, invalid("%d threads are out of range: use 1 to %d, or 0 for all processors", threads, maxThreads)
	}
	return precision, threads, cpu.Check()
}

// open implements opener with the engine of package infer.
func (p *pools) open(n network, params engine.Params, want *zoov1.Compute, outputs []string) (runner, *zoov1.Compute, error) {
	precision, threads, err := compute(want)
	if err != nil {
		return nil, nil, err
	}
	pool := p.get(threads)
	if wanted, ok, err := activationMap(outputs); err != nil {
		return nil, nil, err
	} else if ok {
		r, err := newCAMRunner(n, params, precision, pool, outputs, wanted)
		if err != nil {
			return nil, nil, err
		}
		return r, &zoov1.Compute{Precision: r.cam.Precision().String(), Threads: int32(pool.Threads()), Device: "cpu"}, nil
	}
	m, err := infer.New(n.graph, params, infer.Options{Precision: precision, Pool: pool, Outputs: outputs})
	if err != nil {
		return nil, nil, err
	}
	r := &cpuRunner{sessionOutputs: sessionOutputs{network: n, names: outputs, shape: func(g *graph.Graph, name string) (graph.Shape, error) {
		_, s, err := g.NamedOutput(name)
		return s, err
	}}, model: m}
	if _, err := r.Outputs(n.input); err != nil { // before the weights are packed
		return nil, nil, err
	}
	if _, err := m.Plan(n.input, 1); err != nil {
		return nil, nil, err
	}
	return r, &zoov1.Compute{Precision: m.Precision().String(), Threads: int32(pool.Threads()), Device: "cpu"}, nil
}

// sessionOutputs are the outputs of a session.
type sessionOutputs struct {
	network
	names []string
	shape func(g *graph.Graph, name string) (graph.Shape, error)

	mu    sync.Mutex
	known map[graph.Shape][]result
}

// Outputs implements runner.
func (o *sessionOutputs) Outputs(shape graph.Shape) ([]result, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if list := o.known[shape]; list != nil {
		return slices.Clone(list), nil
	}
	g, err := o.graph(shape)
	if err != nil {
		return nil, invalid("%v", err)
	}
	list := make([]result, len(o.names))
	for i, name := range o.names {
		s, err := o.shape(g, name)
		if err != nil {
			return nil, invalid("%v", err)
		}
		list[i] = result{name: name, shape: s}
	}
	if o.known == nil || len(o.known) > 64 { // images of every size
		o.known = map[graph.Shape][]result{}
	}
	o.known[shape] = list
	return slices.Clone(list), nil
}

// cpuRunner is the runner of the processor.
type cpuRunner struct {
	sessionOutputs
	model *infer.Model
}

// Run implements runner. The plan writes into out.
func (r *cpuRunner) Run(ctx context.Context, n int, shape graph.Shape, in []float32, out []result) error {
	to := make([]infer.Output, len(out))
	for i, o := range out {
		to[i] = infer.Output{Name: o.name, Shape: o.shape, Data: o.data}
	}
	wrote, err := r.model.RunInto(ctx, infer.Input{Data: in, N: n, H: shape.H, W: shape.W, C: shape.C}, to)
	if err != nil {
		return err
	}
	if len(wrote) > 0 && &wrote[0] != &to[0] {
		return fmt.Errorf("the plan's outputs differ from the graph's")
	}
	return nil
}

// profileRuns is how often a profile runs the network; each step counts with its fastest run.
const profileRuns = 9

// Profile implements runner.
func (r *cpuRunner) Profile(ctx context.Context, n int, shape graph.Shape) ([]*zoov1.ProfileResponse_Row, error) {
	g, err := r.graph(shape)
	if err != nil {
		return nil, invalid("%v", err)
	}
	plan, err := r.model.Plan(shape, n)
	if err != nil {
		return nil, err
	}
	rows, err := plan.Profile(ctx, profileRuns)
	if err != nil {
		return nil, err
	}
	out := make([]*zoov1.ProfileResponse_Row, len(rows))
	for i, row := range rows {
		out[i] = &zoov1.ProfileResponse_Row{
			Name: row.Node, Kernel: row.Kernel, Nanoseconds: int64(row.MS * 1e6), Macs: row.MACs,
		}
		if node := g.Node(row.Node); node != nil {
			out[i].Operator = node.Op.Kind()
		}
	}
	return out, nil
}

// Close implements runner.
func (r *cpuRunner) Close() error {
	r.model.Close()
	return nil
}
