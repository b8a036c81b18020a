package train

import (
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
	"github.com/go-modelzoo/zoo/graph"
)

// activations are package kernel's names of graph.Function.
var activations = [...]kernel.Activation{
	graph.ReLU: kernel.ReLU, graph.ReLU6: kernel.ReLU6, graph.HardSwish: kernel.HardSwish, graph.HardSigmoid: kernel.HardSigmoid,
	graph.SiLU: kernel.SiLU, graph.GELU: kernel.GELU, graph.Sigmoid: kernel.Sigmoid, graph.Tanh: kernel.Tanh,
}

// clips reports whether a function's derivative follows from its value.
func clips(f graph.Function) bool { return f == graph.ReLU || f == graph.ReLU6 }

// activation is an elementwise function, or none.
type activation struct {
	active   bool
	function graph.Function
}

func (a activation) kernel() kernel.Activation {
	if !a.active {
		return kernel.None
	}
	return activations[a.function]
}

// fromValue reports whether the derivative follows from the value, so that the argument need not be known.
func (a activation) fromValue() bool { return !a.active || clips(a.function) }

// clip is an activation whose derivative follows from its value, or none.
type clip struct{ activation }

// gradient multiplies dy by the derivative where the value is y.
func (a clip) gradient(c *context, dy, y []float32) {
	if a.active {
		a.activation.gradient(c, dy, dy, y)
	}
}

// gradient stores dx = dy·f'(x); dx may be dy, and where fromValue holds x may be the value.
func (a activation) gradient(c *context, dx, dy, x []float32) {
	c.split(len(dx), 1<<13, func(from, to int) {
		grad.Activation(c.tier, a.kernel(), dx[from:to], dy[from:to], x[from:to])
	})
}

// elementwise is graph.Activation.
type elementwise struct{ activation }

func (o *elementwise) reads() (in, out bool) { return !o.fromValue(), o.fromValue() }

func (o *elementwise) overwrites() []int { return []int{0} }

func (o *elementwise) forward(c *context, out []float32, in [][]float32) {
	y, x := denseMap(out, c.n, c.out), denseMap(in[0], c.n, c.out)
	c.rows(func(_, from, to int) { kernel.Activate(c.tier, y, x, o.kernel(), from, to) })
}

func (o *elementwise) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	if gin[0] == nil {
		return
	}
	x := out
	if !o.fromValue() {
		x = in[0]
	}
	o.gradient(c, gin[0], gout, x)
}
