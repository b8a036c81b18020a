package train

import (
	"github.com/nlpodyssey/spago/ag"
	"github.com/nlpodyssey/spago/mat"

	"github.com/go-modelzoo/zoo/graph"
)

// An operator computes one node (with what was fused into it) forward and backward. It may keep what
// its backward pass needs from one forward to the next backward.
type operator interface {
	// forward writes out from the operands.
	forward(c *context, out []float32, in [][]float32)
	// backward writes to gin[i] the gradient of operand i, unless gin[i] is nil, and adds to the gradients of the trainable
	// parameters, given the gradient of the output. It may overwrite gout. What reads does not ask for may be nil.
	backward(c *context, gin [][]float32, gout, out []float32, in [][]float32)
	// reads reports whether backward reads the operands and the output.
	reads() (in, out bool)
	// overwrites lists operands whose gradient may lie in the same memory as gout; the first that is wanted does.
	overwrites() []int
}

// context is what operators work with: the batch, the pool, memory.
type context struct {
	*env
	n      int           // images
	in     []graph.Shape // of the operands
	out    graph.Shape
	params map[graph.Role]*Param
	train  bool // batch statistics, dropout
}

func (c *context) weight() []float32 { return c.params[graph.Weight].data }

// bias returns the bias, or nil.
func (c *context) bias() []float32 {
	if p := c.params[graph.Bias]; p != nil {
		return p.data
	}
	return nil
}

// rows calls f for ranges of the rows of the output's maps, with the number of the worker for scratch memory.
func (c *context) rows(f func(worker, from, to int)) {
	c.splitWorkers(c.n*c.out.H, max(1<<12/(c.out.W*c.out.C), 1), f)
}

// rows is the number of pixels of a batch of maps.
func rows(n int, s graph.Shape) int { return n * s.H * s.W }

// function adapts an operator to spaGO: one per node and step.
type function struct {
	ctx      *context
	op       operator
	operands []mat.Tensor // *ag.Operator or *input, then *Param
	inputs   int          // how many of operands are maps
	slots    []int        // which consumer of operand i this is
	out      *featureMap
	consumer int // how many consumers out has
}

// Operands implements ag.AutoGradFunction.
func (f *function) Operands() []mat.Tensor { return f.operands }

func (f *function) values() [][]float32 {
	in := make([][]float32, f.inputs)
	for i := range in {
		in[i] = f.operands[i].Value().(*featureMap).data
	}
	return in
}

// Forward implements ag.AutoGradFunction. Shapes were checked when the graph was built.
func (f *function) Forward() (mat.Tensor, error) {
	s := f.ctx.out
	out := f.ctx.buffers.get(f.ctx.n * s.Elements())
	f.op.forward(f.ctx, out, f.values())
	f.out = newFeatureMap(out, f.ctx.n, s, f.consumer, f.ctx.env)
	return f.out, nil
}

// Backward implements ag.AutoGradFunction.
func (f *function) Backward(mat.Tensor) error {
	contributions := f.compute()
	for i, c := range contributions {
		if c != nil {
			f.operands[i].AccGrad(c)
		}
	}
	for _, p := range f.operands[f.inputs:] {
		if p.RequiresGrad() {
			p.AccGrad(p) // its buffer has been added to; this tells spaGO
		}
	}
	return nil
}

func (f *function) compute() []*contribution {
	f.ctx.lock.Lock()
	defer f.ctx.lock.Unlock()
	gout := f.out.sum.Data().F32()
	given := -1 // the operand whose gradient lies over gout
	for _, i := range f.op.overwrites() {
		if i < f.inputs && f.operands[i].RequiresGrad() {
			given = i
			break
		}
	}
	gin := make([][]float32, f.inputs)
	contributions := make([]*contribution, f.inputs)
	for i := range gin {
		if !f.operands[i].RequiresGrad() {
			continue
		}
		s := f.ctx.in[i]
		data := gout
		if i != given {
			data = f.ctx.buffers.get(f.ctx.n * s.Elements())
		}
		gin[i] = data
		contributions[i] = &contribution{matrix(data, rows(f.ctx.n, s), s.C), data, f.slots[i]}
	}
	f.op.backward(f.ctx, gin, gout, f.out.data, f.values())
	if given < 0 {
		f.ctx.buffers.put(gout)
	}
	f.out.sum = nil
	// Every consumer has had its turn, and this was the producer's: nobody reads the map any more.
	f.out.release()
	return contributions
}

var _ ag.AutoGradFunction = (*function)(nil)
