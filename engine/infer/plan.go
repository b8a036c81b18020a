package infer

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/internal/pages"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// Plan is a network compiled for images of one size and a batch of one size. It is immutable but for its store of idle
// buffers, and safe for concurrent use: every run has buffers of its own.
type Plan struct {
	input   graph.Shape
	batch   int
	outputs []wanted
	pool    *work.Pool

	maps  []kernel.Map // by value
	roots []*root
	steps []step
	ends  [late + 1]int // of each phase: how many steps there are up to there
	division
	external []*value // that lie in the caller's images
	windows  []*value // of the whole batch of which shards see a group's images
	arena    int      // bytes
	shared   lease    // the part of the arena that the shards' own roots are in
	scratch  int      // bytes a worker
	// For tests: bytes behind every buffer, which nothing may change, and what is called after every run.
	guard int
	check func(x *pass)

	mu      sync.Mutex
	idle    []*pass
	retired bool // forgotten by its model: no buffers are kept
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
	net.fuseProjections(func(o *op) bool { return gemm.Projects(m.packer.convSpec(o)) })
	for _, o := range net.ops {
		if o.kind == kConv {
			o.tile = m.packer.convSpec(o).Winograd
		}
	}
	p := &Plan{input: g.Input, batch: n, outputs: outputs, pool: m.pool, guard: m.guard, check: m.check}
	p.roots, p.division = net.place(m.format, n, m.pool.Threads(), m.chains, m.groups)
	packed, err := m.packer.packAll(net.ops, m.pool)
	if err != nil {
		return nil, err
	}
	p.allocate()
	p.layOut(net)
	if err := m.compileSteps(p, net, packed); err != nil {
		return nil, err
	}
	return p, nil
}

// layOut finds the geometry of all values' maps.
func (p *Plan) layOut(net *network) {
	p.external = net.input.root.values
	p.maps = make([]kernel.Map, len(net.values))
	for i, r := range p.roots {
		r.index = i
		layout := r.layout()
		for _, v := range r.values {
			p.maps[v.id] = layout.Sub(v.from, v.from+v.shape.C)
			if r.seen() {
				p.windows = append(p.windows, v)
			}
		}
	}
}

// compileSteps compiles the ops: for a group of images, or, in the late phase, for the whole batch.
func (m *Model) compileSteps(p *Plan, net *network, all map[*op]*packed) error {
	var compilers [late + 1]*compiler
	for ph := range compilers {
		compilers[ph] = &compiler{n: p.batch, threads: m.pool.Threads(), grain: m.grain, tier: m.tier, maps: p.maps}
	}
	for ph, c := range compilers[:late] {
		c.n, c.maps = p.groups[ph], slices.Clone(p.maps)
		if p.shards > 1 {
			c.threads = 1
		}
		for _, v := range p.windows {
			c.maps[v.id] = c.maps[v.id].Images(0, c.n)
		}
	}
	var unclean []*root // whose border the next step has to clear
	for i, o := range net.ops {
		c := compilers[o.phase]
		begin := len(c.steps)
		if err := c.compile(o, all); err != nil {
			return err
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
	for i, v := range net.output {
		compilers[late].output(i, v)
	}
	for ph, c := range compilers {
		p.steps = append(p.steps, c.steps...)
		p.ends[ph] = len(p.steps)
	}
	for _, s := range p.steps {
		p.scratch = max(p.scratch, align(s.scratch))
	}
	return nil
}

// allocate finds places in the arena: the roots that only early ops use within the memory of a shard, and that of all shards among
// the other roots.
func (p *Plan) allocate() {
	var own, other []*lease
	for _, r := range p.roots {
		if r.external {
			continue
		}
		plane, count := r.planes()
		r.size = plane * count
		if r.own() {
			own = append(own, &r.lease)
			p.shared.last = max(p.shared.last, r.last)
		} else {
			other = append(other, &r.lease)
		}
	}
	if len(own) > 0 {
		p.shared.size = p.shards * align(allocate(own, p.guard))
		other = append(other, &p.shared)
	}
	p.arena = allocate(other, p.guard)
	for _, l := range own {
		l.shared = l.shared || p.shared.shared
	}
}

// ownPart returns where in the arena the roots of shard s are.
func (p *Plan) ownPart(s int) (from, to int) {
	size := p.shared.size / p.shards
	return p.shared.offset + s*size, p.shared.offset + (s+1)*size
}

// rounds returns how many groups of images each shard goes through in a phase.
func (p *Plan) rounds(ph phase) int { return p.batch / p.shards / p.groups[ph] }

// span returns the steps of a phase.
func (p *Plan) span(ph phase) span {
	s := span{0, p.ends[ph]}
	if ph > 0 {
		s.from = p.ends[ph-1]
	}
	return s
}

// early returns how many steps run in shards or on groups of images: those in front of the late phase.
func (p *Plan) early() int { return p.span(late).from }

// exec is what steps are bound to: maps in memory, and the scratch memory of workers.
type exec struct {
	plan    *Plan
	scratch [][]byte    // by worker
	floats  [][]float32 // the same memory
	roots   []kernel.Map
	maps    []kernel.Map // by value
	outputs []kernel.Map // the caller's, for late steps
	// residual is where each worker keeps the map that it points a kernel to.
	residual []kernel.Map
	tasks    []func(worker, task int) // by step: those that are bound to it
}

// pass is what one run of a plan needs: the buffers of the whole batch, to which the late steps are bound, and those of its shards, to
// which the early ones are.
type pass struct {
	exec
	arena    []byte
	shards   []*shard
	runShard func(worker, s int)
	ctx      context.Context // of the run under way
	begun    atomic.Int32    // shards that a thread has begun, and
	ended    atomic.Int32    // those that are done
}

// acquire returns idle buffers, or new ones.
func (p *Plan) acquire() *pass {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.idle); n > 0 {
		x := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return x
	}
	return p.newPass()
}

// release keeps buffers for the next run; no more than can run at once.
func (p *Plan) release(x *pass) {
	for _, v := range p.external {
		x.maps[v.id].F32 = nil
		for _, s := range x.shards {
			s.maps[v.id].F32 = nil
		}
	}
	x.ctx = nil
	for i := range x.outputs {
		x.outputs[i].F32 = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired || len(p.idle) == p.pool.Threads() {
		x.free()
		return
	}
	p.idle = append(p.idle, x)
}

// retire gives up the idle buffers, and those of runs under way when these end.
func (p *Plan) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.idle {
		x.free()
	}
	p.idle, p.retired = nil, true
}

func (p *Plan) newPass() *pass {
	x := &pass{arena: aligned(p.arena + overread), exec: exec{
		plan:     p,
		roots:    make([]kernel.Map, len(p.roots)),
		maps:     slices.Clone(p.maps),
		outputs:  make([]kernel.Map, len(p.outputs)),
		residual: make([]kernel.Map, p.pool.Threads()),
		tasks:    make([]func(worker, task int), len(p.steps)),
	}}
	for range p.pool.Threads() {
		s := aligned(p.scratch)
		x.scratch = append(x.scratch, s)
		x.floats = append(x.floats, slice[float32](s))
	}
	for _, r := range p.roots {
		if !r.own() {
			x.place(r, x.arena)
		}
	}
	x.eachGuard(func(b []byte) {
		for i := range b {
			b[i] = canary
		}
	})
	for i, w := range p.outputs {
		x.outputs[i] = kernel.Layout(kernel.F32, p.batch, w.shape.H, w.shape.W, w.shape.C, 0)
	}
	if p.early() > 0 {
		for s := range p.shards {
			x.shards = append(x.shards, x.newShard(s))
		}
		x.runShard = func(_, s int) { x.runOwn(s) }
	}
	for i := p.early(); i < len(p.steps); i++ {
		x.tasks[i] = p.steps[i].bind(&x.exec)
	}
	return x
}

// free is called when the buffers are not kept.
func (x *pass) free() {
	pages.Release(x.arena)
	for _, s := range x.scratch {
		pages.Release(s)
	}
}

// place gives a root and its values their memory.
func (x *exec) place(r *root, memory []byte) {
	x.roots[r.index] = r.layout()
	if r.external {
		return
	}
	plane, _ := r.planes()
	f32, hi, lo := views(r.format, memory[r.offset:r.offset+r.size], plane)
	x.roots[r.index] = x.roots[r.index].Over(f32, hi, lo)
	for _, v := range r.values {
		x.maps[v.id] = x.maps[v.id].Over(f32, hi, lo)
	}
}

// canary fills the guards.
const canary = 0xA5

// eachGuard calls f for the bytes behind each buffer that belong to no buffer at any time.
func (x *pass) eachGuard(f func([]byte)) {
	p := x.plan
	if p.guard == 0 {
		return
	}
	used := make([]bool, p.arena)
	use := func(from, size int) {
		for i := range size {
			used[from+i] = true
		}
	}
	for _, r := range p.roots {
		switch {
		case r.external:
		case r.own():
			for s := range p.shards {
				from, _ := p.ownPart(s)
				use(from+r.offset, r.size)
			}
		default:
			use(r.offset, r.size)
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
	for _, v := range p.external {
		x.maps[v.id].F32 = in
	}
	for i := range x.outputs {
		x.outputs[i].F32 = output(i)
	}
	err := x.runEarly(ctx, each)
	if err == nil {
		err = x.runSteps(ctx, p.span(late), each)
	}
	if err == nil && p.check != nil {
		p.check(x)
	}
	p.release(x)
	return err
}

// runSteps runs some of the steps, each on all threads.
func (x *pass) runSteps(ctx context.Context, steps span, each func(i int, run func())) error {
	for i := steps.from; i < steps.to; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if each != nil {
			each(i, func() { x.runStep(i) })
			continue
		}
		x.runStep(i)
	}
	return nil
}

func (x *pass) runStep(i int) {
	p := x.plan
	switch {
	case i >= p.early():
		p.pool.Run(p.steps[i].tasks, x.tasks[i])
	case p.shards == 1:
		p.pool.Run(p.steps[i].tasks, x.shards[0].tasks[i])
	default:
		p.pool.Run(p.shards, func(_, s int) { x.shards[s].runTasks(i) })
	}
}

// part runs the plan on images [first, first+p.batch) of a batch.
func (p *Plan) part(ctx context.Context, in Input, out []Output, first int) error {
	size := p.input.Elements()
	image := in.Data[first*size : (first+p.batch)*size]
	return p.run(ctx, image, func(i int) []float32 {
		n := p.outputs[i].shape.Elements()
		return out[i].Data[first*n : (first+p.batch)*n]
	}, nil)
}
