package train

import (
	stdcontext "context"
	"fmt"
	"math"
	"slices"

	"github.com/nlpodyssey/spago/ag"
	"github.com/nlpodyssey/spago/mat"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// Options say how to train.
type Options struct {
	Pool      *work.Pool // must be set
	Precision engine.Precision
	// Trainable selects the parameters to train; nil trains all. A batch norm whose weight is not trained keeps its running statistics.
	// The values of the others must not change after the first batch.
	Trainable func(*graph.Param) bool
	Loss      Loss
	// NoDropout turns dropout and stochastic depth off.
	NoDropout bool
	// Seed begins the sequence of dropout masks.
	Seed uint64
}

// output is a node whose logits are in the loss.
type output struct {
	*node
	weight float64 // of its loss
	slot   int     // which consumer of the node that is
}

// Trainer is a network in training.
type Trainer struct {
	Params
	graph *graph.Graph
	env   *env
	loss  Loss
	nodes []*node  // in order; what the loss needs
	heads []output // the network's, then those of its auxiliary classifiers
	trunk *trunk   // nil if nothing but the image is static
	steps uint64
	seed  uint64
	least int       // images of a batch
	saved []float32 // of the buffers, before a batch

	at *graph.Node // whose gradient is wanted, in place of parameters'; nil in training
}

// node is a graph node, or a few that one operator computes.
type node struct {
	*graph.Node // whose output this is
	inputs      []*node
	slots       []int
	consumers   int
	op          operator
	params      []*Param
	ctx         *context
	grad        bool // something that it depends on is trained
	keep        bool // its values are needed by a backward pass
	last        int  // the index of the node that reads it last in the forward pass
}

// New copies the values of all parameters and prepares the operators.
func New(g *graph.Graph, params engine.Params, o Options) (*Trainer, error) {
	t, err := newTrainer(g, copies{params}, o)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(t.list, (*Param).Trainable) {
		return nil, fmt.Errorf("train: every parameter is frozen: nothing would be learnt")
	}
	if err := t.build(); err != nil {
		return nil, err
	}
	return t, nil
}

// newTrainer returns a trainer without operators. It keeps the values of params.
func newTrainer(g *graph.Graph, params engine.Params, o Options) (*Trainer, error) {
	if o.Pool == nil {
		return nil, fmt.Errorf("train: Options.Pool is missing")
	}
	tier := cpu.Best()
	t := &Trainer{
		graph:  g,
		Params: Params{byName: map[string]*Param{}},
		env: &env{
			pool: o.Pool, precision: gemm.Resolve(o.Precision, tier), tier: tier,
			buffers: newBuffers(), dropout: !o.NoDropout,
			moments: map[int][]*grad.Moments{}, products: map[product]*gemm.Multiplication{},
		},
		loss: o.Loss,
		seed: o.Seed,
	}
	if n := len(o.Loss.ClassWeights); n != 0 && n != g.Classes {
		return nil, fmt.Errorf("train: %d class weights for %d classes", n, g.Classes)
	}
	for _, spec := range g.Params {
		values, err := params.Param(spec.Name)
		if err != nil {
			if spec.Role != graph.NumBatchesTracked {
				return nil, fmt.Errorf("train: %w", err)
			}
			values = []float32{0}
		}
		p, err := newParam(t.env, spec, values, o.Trainable == nil || o.Trainable(spec))
		if err != nil {
			return nil, fmt.Errorf("train: %w", err)
		}
		t.list = append(t.list, p)
		t.byName[spec.Name] = p
	}
	return t, nil
}

// LeastBatch returns how many images a batch must have: 2 where the batch norm of a vector takes its statistics of the batch, since a single
// value has no variance.
func (t *Trainer) LeastBatch() int { return t.least }

// Result is what a batch gave.
type Result struct {
	Loss   float64   // the mean over the batch, auxiliary classifiers' shares included
	Logits []float32 // N × classes
}

// Accumulate runs n images (float32 NHWC) forward and backward in training mode and adds scale times the loss's gradient to the
// gradients of the parameters. With a scale of 1/k, k calls give the gradient of k batches' mean. A loss that is not finite is no error, but adds
// no gradient. When ctx ends meanwhile, everything is as it was before.
func (t *Trainer) Accumulate(ctx stdcontext.Context, images []float32, n int, targets Targets, scale float64) (Result, error) {
	if err := t.check(images, n, targets); err != nil {
		return Result{}, err
	}
	if n < t.least {
		return Result{}, fmt.Errorf("train: a batch of %d is too small: a batch norm gets one value a channel of each image, and one value has no variance", n)
	}
	t.saveBuffers()
	t.steps++
	t.env.random = &random{t.seed*0x9E3779B97F4A7C15 + t.steps}
	values, functions, err := t.forward(ctx, images, n, true)
	defer t.release(functions)
	if err != nil {
		t.undo()
		return Result{}, err
	}
	ce := &crossEntropy{n: n, classes: t.graph.Classes, scale: scale}
	for _, h := range t.heads {
		ce.heads = append(ce.heads, head{logits: values[h.node], weight: h.weight, slot: h.slot})
	}
	ce.targets = t.loss.distribution(targets, n, t.graph.Classes)
	loss := ag.NewOperator(ce).Run()
	r := Result{
		Loss:   loss.Value().Item().F64(),
		Logits: append([]float32(nil), values[t.heads[0].node].Value().(*featureMap).data...),
	}
	if math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0) {
		return r, nil // the caller decides; a gradient of NaN would only destroy the parameters
	}
	if err := ctx.Err(); err != nil {
		t.undo()
		return r, err
	}
	return r, ag.Backward(loss)
}

// saveBuffers keeps what a forward pass in training changes: the statistics of batch norms.
func (t *Trainer) saveBuffers() {
	t.saved = t.saved[:0]
	for _, p := range t.list {
		if p.Spec.Role.Buffer() {
			t.saved = append(t.saved, p.data...)
		}
	}
}

// undo makes a batch that was begun, and has no gradient yet, one that was not.
func (t *Trainer) undo() {
	t.steps--
	saved := t.saved
	for _, p := range t.list {
		if p.Spec.Role.Buffer() {
			saved = saved[copy(p.data, saved):]
		}
	}
}

func (t *Trainer) checkImages(images []float32, n int) error {
	if n < 1 || len(images) != n*t.graph.Input.Elements() {
		return fmt.Errorf("train: %d values are not %d images of %v", len(images), n, t.graph.Input)
	}
	return nil
}

func (t *Trainer) check(images []float32, n int, targets Targets) error {
	if err := t.checkImages(images, n); err != nil {
		return err
	}
	if targets.Soft != nil {
		if len(targets.Soft) != n*t.graph.Classes {
			return fmt.Errorf("train: %d soft targets for %d images of %d classes", len(targets.Soft), n, t.graph.Classes)
		}
		return nil
	}
	if len(targets.Labels) != n {
		return fmt.Errorf("train: %d labels for %d images", len(targets.Labels), n)
	}
	for _, l := range targets.Labels {
		if l < 0 || l >= t.graph.Classes {
			return fmt.Errorf("train: label %d is outside 0..%d", l, t.graph.Classes-1)
		}
	}
	return nil
}

// forward runs the operators. In evaluation mode batch norms use their running statistics and dropout does nothing.
func (t *Trainer) forward(ctx stdcontext.Context, images []float32, n int, train bool) (map[*node]mat.Tensor, []*function, error) {
	values := make(map[*node]mat.Tensor, len(t.nodes))
	var functions []*function
	var frozen map[*node][]float32
	if t.trunk != nil {
		var err error
		if frozen, err = t.trunk.run(ctx, images, n, t.graph.Input); err != nil {
			return nil, nil, err
		}
	}
	for i, v := range t.nodes {
		if err := ctx.Err(); err != nil {
			return nil, functions, err
		}
		if v.op == nil {
			data := images
			if known, ok := frozen[v]; ok {
				data = known
			}
			m := newFeatureMap(data, n, v.Shape, v.consumers, t.env)
			m.SetRequiresGrad(v.grad)
			values[v] = m
			continue
		}
		v.ctx.n, v.ctx.train = n, train
		f := &function{ctx: v.ctx, op: v.op, inputs: len(v.inputs), slots: v.slots, consumer: v.consumers}
		for _, in := range v.inputs {
			f.operands = append(f.operands, values[in])
		}
		for _, p := range v.params {
			f.operands = append(f.operands, p)
		}
		values[v] = ag.NewOperator(f).Run()
		functions = append(functions, f)
		for _, in := range v.inputs {
			if in.op != nil && in.last == i && !(train && in.keep) {
				values[in].Value().(*featureMap).release()
			}
		}
	}
	return values, functions, nil
}

// release takes back the maps that no backward pass has.
func (t *Trainer) release(functions []*function) {
	for _, f := range functions {
		if f.out != nil {
			f.out.release()
		}
	}
}

// Evaluate returns the logits of n images in evaluation mode. Package infer is faster for many batches.
func (t *Trainer) Evaluate(ctx stdcontext.Context, images []float32, n int) ([]float32, error) {
	if err := t.checkImages(images, n); err != nil {
		return nil, err
	}
	values, functions, err := t.forward(ctx, images, n, false)
	defer t.release(functions)
	if err != nil {
		return nil, err
	}
	return append([]float32(nil), values[t.heads[0].node].Value().(*featureMap).data...), nil
}

// ZeroGrad clears all gradients.
func (t *Trainer) ZeroGrad() {
	for _, p := range t.list {
		if p.trainable {
			p.ZeroGrad()
		}
	}
}

// GradNorm returns the L2 norm of all gradients together.
func (t *Trainer) GradNorm() float64 {
	sum := 0.0
	for _, p := range t.list {
		if g := p.accumulator(); len(g) > 0 {
			sum += t.env.reduce(len(g), 1, func(acc []float64, from, to int) { acc[0] = grad.SumSquares(g[from:to]) })[0]
		}
	}
	return math.Sqrt(sum)
}

// ClipGradNorm scales all gradients so that their norm is at most limit, and returns the norm before
// (torch.nn.utils.clip_grad_norm_).
func (t *Trainer) ClipGradNorm(limit float64) float64 {
	norm := t.GradNorm()
	if norm <= limit {
		return norm
	}
	f := float32(limit / (norm + 1e-6))
	for _, p := range t.list {
		g := p.accumulator()
		t.env.split(len(g), 1<<15, func(from, to int) { grad.ScaleBy(g[from:to], f) })
	}
	return norm
}
