package train

import (
	"fmt"

	"github.com/nlpodyssey/spago/mat"
	"github.com/nlpodyssey/spago/nn"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/internal/pages"
	"github.com/go-modelzoo/zoo/graph"
)

// Param is a parameter or buffer of the network in training: a spaGO matrix of shape[0] rows over PyTorch's layout. Operators add to its
// gradient in place, where spaGO's own would clone each contribution.
type Param struct {
	*mat.Dense[float32]
	// Spec is the parameter's description in the graph.
	Spec *graph.Param

	env        *env
	data, grad []float32 // grad is nil unless trainable
	trainable  bool
	touched    bool // grad holds a gradient since ZeroGrad
	stale      bool // grad holds what was there before ZeroGrad: the next that adds to it overwrites it
	gradient   *mat.Dense[float32]
	spago      *nn.Param
}

// newParam keeps values.
func newParam(e *env, spec *graph.Param, values []float32, trainable bool) (*Param, error) {
	if len(values) != spec.Elements() {
		return nil, fmt.Errorf("parameter %s has %d values, not the %d of shape %v", spec.Name, len(values), spec.Elements(), spec.Shape)
	}
	p := &Param{Spec: spec, env: e, data: values, trainable: trainable && !spec.Role.Buffer()}
	r := 1
	if len(spec.Shape) > 0 {
		r = spec.Shape[0]
	}
	p.Dense = matrix(p.data, r, len(p.data)/r)
	if p.trainable {
		p.grad = pages.Huge(make([]float32, len(p.data)))
		p.gradient = matrix(p.grad, r, len(p.data)/r)
		p.SetRequiresGrad(true)
	}
	p.spago = &nn.Param{Matrix: p}
	return p, nil
}

// Name returns PyTorch's name.
func (p *Param) Name() string { return p.Spec.Name }

// Values returns the live values in PyTorch's layout.
func (p *Param) Values() []float32 { return p.data }

// Gradient returns the live gradient in PyTorch's layout, nil for a parameter that is not trained.
func (p *Param) Gradient() []float32 { return p.accumulator() }

// accumulator returns the gradient to add to.
func (p *Param) accumulator() []float32 {
	if p.stale {
		p.env.split(len(p.grad), 1<<15, func(from, to int) { clear(p.grad[from:to]) })
		p.stale = false
	}
	return p.grad
}

// sum returns the gradient, and whether to add to it rather than to overwrite all of it.
func (p *Param) sum() (grad []float32, add bool) {
	add = !p.stale
	p.stale = false
	return p.grad, add
}

// Trainable reports whether the parameter is trained.
func (p *Param) Trainable() bool { return p.trainable }

// Value implements mat.Tensor.
func (p *Param) Value() mat.Tensor { return p }

// Grad implements mat.Tensor.
func (p *Param) Grad() mat.Tensor {
	if !p.touched {
		return nil
	}
	return p.gradient
}

// HasGrad implements mat.Tensor.
func (p *Param) HasGrad() bool { return p.touched }

// AccGrad implements mat.Tensor. The operator has already added to the gradient's buffer; any other tensor is added here.
func (p *Param) AccGrad(g mat.Tensor) {
	if g != mat.Tensor(p) {
		p.env.add(p.accumulator(), g.Data().F32())
	}
	p.touched = true
}

// ZeroGrad implements mat.Tensor.
func (p *Param) ZeroGrad() { p.stale, p.touched = true, false }

// Params are the parameters of a network by name. It implements engine.Params: what is read is live and changes with each step.
type Params struct {
	list   []*Param
	byName map[string]*Param
}

var _ engine.Params = (*Params)(nil)

// Param implements engine.Params.
func (p *Params) Param(name string) ([]float32, error) {
	if v := p.byName[name]; v != nil {
		return v.data, nil
	}
	return nil, fmt.Errorf("parameter %s is not part of this network", name)
}

// All returns parameters and buffers in the graph's order.
func (p *Params) All() []*Param { return p.list }

// copies gives out the values of other parameters as memory of their own.
type copies struct{ of engine.Params }

// Param implements engine.Params.
func (c copies) Param(name string) ([]float32, error) {
	values, err := c.of.Param(name)
	if err != nil {
		return nil, err
	}
	own := pages.Huge(make([]float32, len(values)))
	copy(own, values)
	return own, nil
}
