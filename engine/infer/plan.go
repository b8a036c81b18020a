package infer

import (
	"context"
	"slices"
	"sync"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/internal/pages"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// Plan is a network compiled for images of one size and a batch of one size. It is immutable but for its store of idle
// buffers, and safe for concurrent use: every run has buffers of its own.
type Plan struct {
	input   graph.Shape
	batch   int
	outputs []wanted
	inputID int
	pool    *work.Pool

	values  []*value
	maps    []kernel.Map // by value
	roots   []*root
	steps   []step
	early   int   // how many steps run on one group of images after the other
	group   int   // images in a group
	windows []int // values of the whole batch that early steps use: they see a group's images of them
	arena   int   // bytes
	guard   int   // bytes behind every buffer, which nothing may change
	check   func(x *exec)
	scratch int // bytes a worker

	mu   sync.Mutex
	idle []*exec
}

// compile builds a plan for n images from the graph of their size.
func (m *Model) compile(g *graph.Graph, n int) (*Plan, error) {
	outputs, err := m.wanted(g)
	if err != nil {
		return nil, err
	}
	nodes := make([]*graph.Node, len(outputs))
	for i, w := range outputs {
		nodes[i] = w.node
	}
	net, err := lower(g.InferenceNodes(append(nodes, g.Nodes[0])...), outputs)
	if err != nil {
		return nil, err
	}
	net.fuse()
	for _, o := range net.ops {
		if o.kind == kConv {
			o.tile = m.packer.convSpec(o).Winograd
		}
	}
	p := &Plan{input: g.Input, batch: n, outputs: outputs, inputID: net.input.id, pool: m.pool, values: net.values, guard: m.guard, check: m.check}
	p.roots = net.place(m.format, n, m.pool.Threads(), m.chains, m.groups)
	packed, err := m.packer.packAll(net.ops, m.pool)
	if err != nil {
		return nil, err
	}
	p.arena = allocate(p.roots, p.guard)
	p.maps = make([]kernel.Map, len(net.values))
	group := n
	for i, r := range p.roots {
		r.index = i
		group = min(group, r.images)
	}
	for _, r := range p.roots {
		layout := r.layout()
		for _, v := range r.values {
			p.maps[v.id] = layout.Sub(v.from, v.from+v.shape.C)
			if group < n && r.early && r.images == n {
				p.windows = append(p.windows, v.id)
			}
		}
	}
	c := &compiler{n: n, threads: m.pool.Threads(), tier: m.tier, chains: m.chains, maps: slices.Clone(p.maps)}
	if group < n {
		c.n = group
		for _, id := range p.windows {
			c.maps[id] = c.maps[id].Images(0, group)
		}
	}
	p.group = group
	var unclean []*root // whose border the next step has to clear
	for i, o := range net.ops {
		if c.n < n && !o.early {
			p.early = len(c.steps)
			c.n, c.maps = n, slices.Clone(p.maps)
		}
		begin := len(c.steps)
		if err := c.compile(o, packed); err != nil {
			return nil, err
		}
		for _, r := range p.roots {
			if r.pad > 0 && r.shared && r.first == i {
				unclean = append(unclean, r)
			}
		}
		if begin < len(c.steps) { // the network's input has no step
			for _, r := range unclean {
				c.steps[begin].zero(r)
			}
			unclean = nil
		}
	}
	if c.n < n {
		p.early = len(c.steps)
		c.n, c.maps = n, slices.Clone(p.maps)
	}
	for i, v := range net.output {
		c.output(i, v)
	}
	p.steps = c.steps
	for _, s := range p.steps {
		p.scratch = max(p.scratch, align(s.scratch))
	}
	return p, nil
}

// exec is what one run of a plan needs: buffers, and the steps' functions bound to them.
type exec struct {
	plan    *Plan
	arena   []byte
	scratch [][]byte    // by worker
	floats  [][]float32 // the same memory
	roots   []kernel.Map
	maps    []kernel.Map // by value, as the next step sees them
	whole   []kernel.Map // by value, for the whole batch
	outputs []kernel.Map // the caller's
	// residual is where each worker keeps the map that it points a kernel to.
	residual []kernel.Map
	tasks    []func(worker, task int)
}

// acquire returns idle buffers, or new ones.
func (p *Plan) acquire() *exec {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		x := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return x
	}
	return p.newExec()
}

// release keeps buffers for the next run; no more than can run at once.
func (p *Plan) release(x *exec) {
	for _, v := range p.external() {
		x.maps[v.id].F32, x.whole[v.id].F32 = nil, nil
	}
	for i := range x.outputs {
		x.outputs[i].F32 = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) < p.pool.Threads() {
		p.idle = append(p.idle, x)
	}
}

func (p *Plan) newExec() *exec {
	x := &exec{
		plan:     p,
		arena:    aligned(p.arena + overread),
		roots:    make([]kernel.Map, len(p.roots)),
		maps:     append([]kernel.Map(nil), p.maps...),
		outputs:  make([]kernel.Map, len(p.outputs)),
		residual: make([]kernel.Map, p.pool.Threads()),
	}
	for range p.pool.Threads() {
		s := aligned(p.scratch)
		x.scratch = append(x.scratch, s)
		x.floats = append(x.floats, slice[float32](s))
	}
	for i, r := range p.roots {
		x.roots[i] = r.layout()
		if r.external {
			continue
		}
		plane, _ := r.planes()
		memory := x.arena[r.offset : r.offset+r.bytes()]
		f32, hi, lo := views(r.format, memory, plane)
		x.roots[i] = x.roots[i].Over(f32, hi, lo)
		for _, v := range r.values {
			x.maps[v.id] = x.maps[v.id].Over(f32, hi, lo)
		}
	}
	x.whole = slices.Clone(x.maps)
	x.eachGuard(func(b []byte) {
		for i := range b {
			b[i] = canary
		}
	})
	for i, w := range p.outputs {
		x.outputs[i] = kernel.Layout(kernel.F32, p.batch, w.shape.H, w.shape.W, w.shape.C, 0)
	}
	for _, s := range p.steps {
		x.tasks = append(x.tasks, s.bind(x))
	}
	return x
}

// canary fills the guards.
const canary = 0xA5

// eachGuard calls f for the bytes behind each buffer that belong to no buffer at any time.
func (x *exec) eachGuard(f func([]byte)) {
	p := x.plan
	if p.guard == 0 {
		return
	}
	used := make([]bool, p.arena)
	for _, r := range p.roots {
		if !r.external {
			for i := range r.bytes() {
				used[r.offset+i] = true
			}
		}
	}
	for at := 0; at < len(used); at++ {
		if !used[at] {
			f(x.arena[at : at+1])
		}
	}
}

// overread is how far behind the last buffer a vector load may reach.
const overread = 256

// views returns the planes of a map, each of plane bytes, over memory.
func views(f kernel.Format, memory []byte, plane int) (f32 []float32, hi, lo []uint16) {
	switch f {
	case kernel.F32:
		return slice[float32](memory[:plane]), nil, nil
	case kernel.BF16:
		return nil, slice[uint16](memory[:plane]), nil
	default:
		return nil, slice[uint16](memory[:plane]), slice[uint16](memory[plane : 2*plane])
	}
}

// aligned returns n bytes that begin at a cache line.
func aligned(n int) []byte {
	b := pages.Huge(make([]byte, n+cacheLine))
	at := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (cacheLine - 1))
	return b[at : at+n : at+n]
}

// slice views aligned bytes as numbers.
func slice[T float32 | uint16](b []byte) []T {
	var zero T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/int(unsafe.Sizeof(zero)))
}

// run computes the outputs for exactly p.batch images. each, if not nil, is called to run a step.
func (p *Plan) run(ctx context.Context, in []float32, output func(i int) []float32, each func(i int, run func())) error {
	x := p.acquire()
	for _, v := range p.external() {
		x.whole[v.id].F32, x.maps[v.id].F32 = in, in
	}
	for i := range x.outputs {
		x.outputs[i].F32 = output(i)
	}
	err := p.runEarly(ctx, x, each)
	if err == nil {
		err = p.runSteps(ctx, x, p.early, len(p.steps), each)
	}
	if err == nil && p.check != nil {
		p.check(x)
	}
	p.release(x)
	return err
}

// runEarly runs the early steps on every group of images.
func (p *Plan) runEarly(ctx context.Context, x *exec, each func(i int, run func())) error {
	if p.early == 0 {
		return nil
	}
	for first := 0; first < p.batch; first += p.group {
		for _, id := range p.windows {
			x.maps[id] = x.whole[id].Images(first, first+p.group)
		}
		if err := p.runSteps(ctx, x, 0, p.early, each); err != nil {
			return err
		}
	}
	for _, id := range p.windows {
		x.maps[id] = x.whole[id]
	}
	return nil
}

// runSteps runs steps [from, to).
func (p *Plan) runSteps(ctx context.Context, x *exec, from, to int, each func(i int, run func())) error {
	for i := from; i < to; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if each != nil {
			each(i, func() { p.pool.Run(p.steps[i].tasks, x.tasks[i]) })
			continue
		}
		p.pool.Run(p.steps[i].tasks, x.tasks[i])
	}
	return nil
}

// external returns the values that lie in the caller's images.
func (p *Plan) external() []*value { return p.values[p.inputID].root.values }

// part runs the plan on images [first, first+p.batch) of a batch.
func (p *Plan) part(ctx context.Context, in Input, out []Output, first int) error {
	size := p.input.Elements()
	image := in.Data[first*size : (first+p.batch)*size]
	return p.run(ctx, image, func(i int) []float32 {
		n := p.outputs[i].shape.Elements()
		return out[i].Data[first*n : (first+p.batch)*n]
	}, nil)
}

// Batch returns how many images the plan computes at a time.
func (p *Plan) Batch() int { return p.batch }

// ArenaBytes returns the memory that the feature maps of one run take.
func (p *Plan) ArenaBytes() int { return p.arena }
