package train

import (
	"fmt"
	"math"

	"github.com/nlpodyssey/spago/nn"
	"github.com/nlpodyssey/spago/optimizers"

	"github.com/go-modelzoo/zoo/engine/internal/pages"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
)

// Algorithm is an optimiser's update rule and its constants, by PyTorch's names and defaults (torch.optim).
type Algorithm struct {
	// Name is sgd, adam, adamw, rmsprop or lamb.
	Name string `json:"name"`
	// Momentum is for sgd and rmsprop, Nesterov for sgd.
	Momentum float64 `json:"momentum,omitempty"`
	Nesterov bool    `json:"nesterov,omitempty"`
	// WeightDecay is added to the gradient as an L2 term; adamw and lamb decouple it.
	WeightDecay float64 `json:"weight_decay,omitempty"`
	// Beta1, Beta2 and Eps are for adam, adamw and lamb; Alpha and Eps for rmsprop. Zero means PyTorch's default, and
	// for lamb, which PyTorch lacks, adam's betas and an epsilon of 1e-6.
	Beta1 float64 `json:"beta1,omitempty"`
	Beta2 float64 `json:"beta2,omitempty"`
	Alpha float64 `json:"alpha,omitempty"`
	Eps   float64 `json:"eps,omitempty"`
}

// Group is a set of parameters that share a learning rate and a weight decay.
type Group struct {
	Params []*Param
	// LRScale multiplies the learning rate, as layer-wise decay does; 1 leaves it as it is.
	LRScale float64
	// WeightDecay replaces the algorithm's, also where it is 0.
	WeightDecay float64
}

// Optimizer changes the trainable parameters along their gradients.
//
// It drives spaGO's OptimizationStrategy parameter by parameter, one strategy a group. The strategies are
// our own where spaGO's formulas differ from PyTorch's (SGD with the learning rate inside the velocity, no weight decay; Adam's epsilon
// before bias correction).
type Optimizer struct {
	algorithm Algorithm
	groups    []Group
	rules     []*rule
}

// NewOptimizer checks the algorithm and prepares its state.
func NewOptimizer(a Algorithm, groups ...Group) (*Optimizer, error) {
	set := func(v *float64, def float64) {
		if *v == 0 {
			*v = def
		}
	}
	set(&a.Beta1, 0.9)
	set(&a.Beta2, 0.999)
	set(&a.Alpha, 0.99)
	switch a.Name {
	case "lamb":
		set(&a.Eps, 1e-6)
	default:
		set(&a.Eps, 1e-8)
	}
	update, ok := updates[a.Name]
	if !ok {
		return nil, fmt.Errorf("optimizer %q is unknown: use sgd, adam, adamw, rmsprop or lamb", a.Name)
	}
	for _, c := range []struct {
		name     string
		v        float64
		low, top float64
	}{{"momentum", a.Momentum, 0, 1}, {"beta1", a.Beta1, 0, 1}, {"beta2", a.Beta2, 0, 1}, {"alpha", a.Alpha, 0, 1}, {"weight decay", a.WeightDecay, 0, 1e6}, {"eps", a.Eps, 0, 1}} {
		if !(c.v >= c.low && c.v < c.top) {
			return nil, fmt.Errorf("optimizer %s: %s %g is outside [%g, %g)", a.Name, c.name, c.v, c.low, c.top)
		}
	}
	if a.Nesterov && a.Momentum == 0 {
		return nil, fmt.Errorf("optimizer %s: Nesterov needs a momentum above 0", a.Name)
	}
	o := &Optimizer{algorithm: a, groups: groups}
	for _, g := range groups {
		o.rules = append(o.rules, &rule{Algorithm: a, decay: g.WeightDecay, update: update})
	}
	return o, nil
}

// Step updates every parameter that has a gradient at the given base learning rate, and leaves the gradients as they are.
func (o *Optimizer) Step(lr float64) error {
	for i, g := range o.groups {
		r := o.rules[i]
		r.lr = lr * g.LRScale
		for _, p := range g.Params {
			if !p.HasGrad() {
				continue
			}
			if err := r.OptimizeParams(p.spago); err != nil {
				return err
			}
		}
	}
	return nil
}

// rule is a spaGO strategy: an algorithm at a learning rate.
type rule struct {
	Algorithm
	decay  float64
	lr     float64
	update func(r *rule, e *env, w, g []float32, s *moments)
}

var _ optimizers.OptimizationStrategy = (*rule)(nil)

// moments is the state of one parameter: PyTorch's momentum_buffer, exp_avg and exp_avg_sq, or square_avg.
type moments struct {
	first, second []float32
	steps         int // updates so far: a parameter that is trained from a later epoch on begins at 0, as in PyTorch
}

// OptimizeParams implements optimizers.OptimizationStrategy.
func (r *rule) OptimizeParams(param *nn.Param) error {
	p, ok := param.Matrix.(*Param)
	if !ok {
		return fmt.Errorf("optimizer %s: %T is not a parameter of a Trainer", r.Name, param.Matrix)
	}
	s, ok := param.State.(*moments)
	if !ok {
		s = new(moments)
		param.State = s
	}
	s.steps++
	r.update(r, p.env, p.data, p.accumulator(), s)
	return nil
}

func (s *moments) need(n int, second bool) {
	if s.first == nil {
		s.first = pages.Huge(make([]float32, n))
	}
	if second && s.second == nil {
		s.second = pages.Huge(make([]float32, n))
	}
}

// updates are the algorithms: w -= …, by torch.optim's formulas.
var updates = map[string]func(r *rule, e *env, w, g []float32, s *moments){
	"sgd":     (*rule).sgd,
	"adam":    func(r *rule, e *env, w, g []float32, s *moments) { r.adam(e, w, g, s, false) },
	"adamw":   func(r *rule, e *env, w, g []float32, s *moments) { r.adam(e, w, g, s, true) },
	"rmsprop": (*rule).rmsprop,
	"lamb":    (*rule).lamb,
}

// updateGrain is the least number of values that an update gives to a thread.
const updateGrain = 1 << 14

func (r *rule) sgd(e *env, w, g []float32, s *moments) {
	k := grad.SGD{
		LR: float32(r.lr), Momentum: float32(r.Momentum), WeightDecay: float32(r.decay), Nesterov: r.Nesterov, First: s.steps == 1,
	}
	if k.Momentum == 0 {
		e.split(len(w), updateGrain, func(from, to int) { k.Step(e.tier, w[from:to], g[from:to], nil) })
		return
	}
	s.need(len(w), false)
	e.split(len(w), updateGrain, func(from, to int) { k.Step(e.tier, w[from:to], g[from:to], s.first[from:to]) })
}

func (r *rule) adam(e *env, w, g []float32, s *moments, decoupled bool) {
	s.need(len(w), true)
	k := grad.Adam{
		LR: float32(r.lr), Beta1: float32(r.Beta1), Beta2: float32(r.Beta2), Eps: float32(r.Eps), WeightDecay: float32(r.decay),
		Decoupled: decoupled, T: s.steps,
	}
	e.split(len(w), updateGrain, func(from, to int) {
		k.Step(e.tier, w[from:to], g[from:to], s.first[from:to], s.second[from:to])
	})
}

func (r *rule) rmsprop(e *env, w, g []float32, s *moments) {
	s.need(len(w), true)
	lr, decay, alpha, eps, mu := float32(r.lr), float32(r.decay), float32(r.Alpha), float32(r.Eps), float32(r.Momentum)
	e.split(len(w), updateGrain, func(from, to int) {
		for i := from; i < to; i++ {
			d := g[i] + decay*w[i]
			s.second[i] = alpha*s.second[i] + (1-alpha)*d*d
			s.first[i] = mu*s.first[i] + d/(sqrt(s.second[i])+eps)
			w[i] -= lr * s.first[i]
		}
	})
}

// lamb is You et al., 2020, algorithm 2, with bias correction and the trust ratio ‖w‖/‖update‖.
func (r *rule) lamb(e *env, w, g []float32, s *moments) {
	s.need(len(w), true)
	b1, b2 := float32(r.Beta1), float32(r.Beta2)
	c1, c2 := float32(1-math.Pow(r.Beta1, float64(s.steps))), float32(1-math.Pow(r.Beta2, float64(s.steps)))
	update := func(i int) float32 {
		return s.first[i]/c1/(sqrt(s.second[i]/c2)+float32(r.Eps)) + float32(r.decay)*w[i]
	}
	norms := e.reduce(len(w), 2, func(acc []float64, from, to int) {
		for i := from; i < to; i++ {
			s.first[i] = b1*s.first[i] + (1-b1)*g[i]
			s.second[i] = b2*s.second[i] + (1-b2)*g[i]*g[i]
			u := float64(update(i))
			acc[0] += float64(w[i]) * float64(w[i])
			acc[1] += u * u
		}
	})
	trust := 1.0
	if norms[0] > 0 && norms[1] > 0 {
		trust = math.Sqrt(norms[0] / norms[1])
	}
	lr := float32(r.lr * trust)
	e.split(len(w), updateGrain, func(from, to int) {
		for i := from; i < to; i++ {
			w[i] -= lr * update(i)
		}
	})
}

func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }
