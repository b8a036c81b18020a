// Package infer runs networks. It compiles a graph into a plan of fused kernels over one planned block of memory, and runs the plan on
// a pool of threads.
//
// # What a plan is
//
// The compiler drops what does nothing in inference, folds batch norm, layer scale and constant affine maps into weights,
// and lets convolutions apply bias, activation and residual sum before they store. Where both branches of a residual block end in a
// 1×1 convolution, one product computes them, if there is a kernel for that. Concatenations and slices are views where possible; a linear
// layer behind a flattened map is a convolution whose kernel covers the map. Every value gets a place in one arena such that values that
// are needed at the same time do not overlap. The result is a list of steps, each a kernel bound to geometry
// and cut into tasks.
//
// The path of a convolution, from the graph's node to the kernel: lower makes an op of the node (ir.go), fuse merges ops (fuse.go), and
// place chooses formats and memory (place.go), which ops run on which images (group.go), and which run together on bands of rows (chain.go,
// bands.go). The packer folds and packs the weights (weights.go: fold, gemm.Conv.Pack). compiler.conv binds the kernel to the geometry of
// the maps (compile.go: gemm.Conv.Bind), or bandConv that of a band (chain_step.go). A run gives the step's tasks to the pool, or to the
// thread of a shard (plan.go, shard.go), and each is a gemm.Call.Run; the documentation of package gemm goes on from there.
//
// # Precision
//
// Feature maps are in the format that the convolutions of the precision read fastest (kernel.F32, Split or BF16), except where no
// convolution reads them; vectors are float32. See engine.Precision.
//
// # Ownership and threads
//
// A Model is safe for concurrent use. It packs each parameter once, when the first plan that needs it is compiled; plans for
// other batches share the packed form, and so do those for other sizes, except for convolutions that another kernel computes at that size
// (Winograd's method) or that are padded otherwise (TensorFlow's SAME). Each running call has
// buffers of its own, kept for later calls. After the first call of a size, RunInto allocates nothing.
package infer

import (
	"cmp"
	"container/list"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// Options are settings of a Model. The zero value is the fastest that keeps float32-like accuracy on this machine.
type Options struct {
	// Precision of convolutions and linear layers; Default is High where the CPU has AMX, else Highest.
	Precision engine.Precision
	// Pool computes the steps. Nil gives the model a pool of its own with work.DefaultThreads threads, which Close ends.
	Pool *work.Pool
	// Tier limits the instructions used; nil means cpu.Best().
	Tier *cpu.Tier
	// Outputs names what Run returns: graph.LogitsOutput, FeaturesOutput, EmbeddingOutput, or a tap of the graph. None means the logits.
	Outputs []string
	// Plans is how many plans are kept, each for one size of images and one of batches; 0 means 8.
	Plans int
}

// Input is a batch of images: float32, in the order image, row, column, channel (NHWC), preprocessed as the model expects.
type Input struct {
	Data       []float32
	N, H, W, C int
}

// complete reports whether there are as many values as the sizes say. It divides, as a product of sizes may overflow.
func (in *Input) complete() bool {
	n := len(in.Data)
	for _, size := range [...]int{in.N, in.H, in.W, in.C} {
		if size < 1 || n%size != 0 {
			return false
		}
		n /= size
	}
	return n == 1
}

// Output is one result of a batch: N maps of Shape in the order image, row, column, channel (NHWC).
type Output struct {
	Name  string
	Shape graph.Shape
	Data  []float32
}

// Model is a network with its parameters, ready to run on images of any size that its graph can be built for. See the package
// comment for how it behaves in concurrent use.
type Model struct {
	build   func(graph.Shape) (*graph.Graph, error)
	pool    *work.Pool
	owned   bool // Close ends the pool
	tier    cpu.Tier
	format  kernel.Format // that the convolutions of the precision read fastest
	names   []string      // of the outputs
	packer  *packer
	limit   int // of plans
	chains  chainLimits
	groups  groupLimits
	grain   int
	guard   int           // bytes between buffers, for tests
	check   func(x *pass) // called after every run, for tests
	mu      sync.Mutex    // guards plans and recents; it is not held while a plan is compiled
	plans   map[planKey]*list.Element
	recents *list.List // of *entry, the most recently used first
}

type planKey struct {
	shape graph.Shape
	batch int
}

// entry is a plan that is compiled, or being compiled by the first who asked.
type entry struct {
	key  planKey
	made chan struct{} // closed when the plan or the error is set, under the model's lock
	plan *Plan
	err  error
}

// New returns a model. build makes the graph for images of a shape; it is called for every plan, for several at the same time if
// sizes are first used at once, and for a plan that was forgotten again. params gives the parameters in PyTorch's layouts and must
// stay valid until Close; it is read when a size is first used.
func New(build func(graph.Shape) (*graph.Graph, error), params engine.Params, o Options) (*Model, error) {
	if build == nil || params == nil {
		return nil, errors.New("infer: a graph and parameters are needed")
	}
	tier := cpu.Best()
	if o.Tier != nil {
		if tier = *o.Tier; tier > cpu.Best() {
			return nil, fmt.Errorf("infer: tier %v asked for, but this process can use %v at most", tier, cpu.Best())
		}
	}
	precision := gemm.Resolve(o.Precision, tier)
	m := &Model{
		build: build, pool: o.Pool, tier: tier, format: gemm.FormatOf(precision, tier), names: slices.Clone(o.Outputs),
		packer:  &packer{params: params, precision: precision, tier: tier, cache: map[packKey]*packed{}},
		limit:   cmp.Or(o.Plans, 8),
		plans:   map[planKey]*list.Element{},
		recents: list.New(),
		chains:  defaultChains,
		groups:  defaultGroups,
		grain:   defaultGrain,
	}
	if len(m.names) == 0 {
		m.names = []string{graph.LogitsOutput}
	}
	if m.pool == nil {
		m.pool, m.owned = work.New(0), true
	}
	return m, nil
}

// Close ends the model's own pool and gives up what it holds. No run may be under way.
func (m *Model) Close() {
	m.mu.Lock()
	for e := m.recents.Front(); e != nil; e = e.Next() {
		if p := e.Value.(*entry).plan; p != nil {
			p.retire()
		}
	}
	m.mu.Unlock()
	m.packer.release()
	if m.owned {
		m.pool.Close()
	}
}

// Precision returns the precision in use.
func (m *Model) Precision() engine.Precision { return m.packer.precision }

// PackedBytes returns the memory that the packed parameters take so far.
func (m *Model) PackedBytes() int { return m.packer.bytes() }

// wanted finds the nodes of the model's outputs.
func (m *Model) wanted(g *graph.Graph) ([]wanted, error) {
	var list []wanted
	for _, name := range m.names {
		node, shape, err := g.NamedOutput(name)
		if err != nil {
			return nil, err
		}
		list = append(list, wanted{name: name, node: node, shape: shape, pooled: shape != node.Shape})
	}
	return list, nil
}

// Plan returns the plan for batches of n images of the given shape, compiled on first use.
func (m *Model) Plan(shape graph.Shape, n int) (*Plan, error) {
	return m.plan(context.Background(), shape, n)
}

// plan is Plan for a call that neither begins to compile nor waits for another that does when its context has ended. What is being compiled
// is finished and kept.
func (m *Model) plan(ctx context.Context, shape graph.Shape, n int) (*Plan, error) {
	if n < 1 {
		return nil, fmt.Errorf("infer: a batch of %d images", n)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key := planKey{shape, n}
	m.mu.Lock()
	e, ok := m.plans[key]
	if ok {
		m.recents.MoveToFront(e)
	} else {
		e = m.recents.PushFront(&entry{key: key, made: make(chan struct{})})
		m.plans[key] = e
		if m.recents.Len() > m.limit {
			last := m.recents.Back()
			m.recents.Remove(last)
			old := last.Value.(*entry)
			delete(m.plans, old.key)
			if old.plan != nil {
				old.plan.retire()
			}
		}
	}
	m.mu.Unlock()
	x := e.Value.(*entry)
	if !ok {
		m.fill(e)
	}
	select {
	case <-x.made:
		return x.plan, x.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// fill compiles the plan of an entry. A panic, of a family's code for instance, is an error to those who wait for the plan.
func (m *Model) fill(e *list.Element) {
	x := e.Value.(*entry)
	var p *Plan
	err := fmt.Errorf("infer: the plan for %d images of %v was not made: the call that was to compile it panicked", x.key.batch, x.key.shape)
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		x.plan, x.err = p, err
		close(x.made)
		kept := m.plans[x.key] == e
		switch {
		case kept && err != nil: // the next call may find the parameters repaired
			m.recents.Remove(e)
			delete(m.plans, x.key)
		case !kept && err == nil: // forgotten meanwhile
			p.retire()
		}
	}()
	p, err = m.newPlan(x.key)
}

func (m *Model) newPlan(key planKey) (*Plan, error) {
	g, err := m.build(key.shape)
	if err != nil {
		return nil, err
	}
	if g.Input != key.shape {
		return nil, fmt.Errorf("infer: the graph is for images of %v, not %v", g.Input, key.shape)
	}
	return m.compile(g, key.batch)
}

// Run computes the outputs for a batch, in the order of Options.Outputs. It returns ctx.Err() if the context ends before the
// last step; a plan that the call itself compiles is finished before.
func (m *Model) Run(ctx context.Context, in Input) ([]Output, error) {
	return m.RunInto(ctx, in, nil)
}

// RunInto is Run with memory to use: the outputs that an earlier call with a batch of the same size returned. It returns
// out, or a new list if out does not fit.
func (m *Model) RunInto(ctx context.Context, in Input, out []Output) ([]Output, error) {
	if !in.complete() {
		return nil, fmt.Errorf("infer: %d values given for %d images of %dx%d pixels and %d channels", len(in.Data), in.N, in.H, in.W, in.C)
	}
	shape := graph.Shape{C: in.C, H: in.H, W: in.W}
	plan, err := m.plan(ctx, shape, min(in.N, m.largest(shape)))
	if err != nil {
		return nil, err
	}
	if !fits(out, plan.outputs, in.N) {
		out = make([]Output, len(plan.outputs))
		for i, w := range plan.outputs {
			out[i] = Output{Name: w.name, Shape: w.shape, Data: make([]float32, in.N*w.shape.Elements())}
		}
	}
	for first := 0; first < in.N; {
		if rest := in.N - first; rest < plan.batch {
			if plan, err = m.plan(ctx, shape, rest); err != nil {
				return nil, err
			}
		}
		if err := plan.part(ctx, in, out, first); err != nil {
			return nil, err
		}
		first += plan.batch
	}
	return out, nil
}

// largest returns how many images of a shape a plan is made for at most; larger batches run in parts. Beyond what fills the
// matrix units, a larger batch costs memory and gains nothing.
func (m *Model) largest(s graph.Shape) int {
	return min(max(batchPixels/max(s.H*s.W, 1), 1), 64)
}

// batchPixels is how many pixels of images a plan computes at a time: 16 images of 224x224.
const batchPixels = 16 * 224 * 224

func fits(out []Output, outputs []wanted, n int) bool {
	if len(out) != len(outputs) {
		return false
	}
	for i, w := range outputs {
		if out[i].Name != w.name || out[i].Shape != w.shape || len(out[i].Data) != n*w.shape.Elements() {
			return false
		}
	}
	return true
}
