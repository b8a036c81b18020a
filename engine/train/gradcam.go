package train

import (
	stdcontext "context"
	"fmt"
	"slices"

	"github.com/nlpodyssey/spago/ag"
	"github.com/nlpodyssey/spago/mat"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// GradCAM computes class activation maps: which pixels of a feature map speak for a class. With A the feature map of K channels, of Z pixels
// each, and y the class's logit,
//
//	L = ReLU(Σₖ αₖ·Aₖ),  αₖ = 1/Z Σᵢⱼ ∂y/∂Aₖᵢⱼ
//
// (Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017, equations 1 and 2). The
// network is in evaluation mode. What comes before the feature map runs as an inference plan; what follows it runs forward and backward.
//
// A GradCAM is for one size of images, and not safe for concurrent use.
type GradCAM struct {
	t    *Trainer
	leaf *node // whose gradient is wanted
}

// NewGradCAM prepares maps of the node at, which has more than one pixel and on which the logits depend. The values of params are kept, not
// copied: they must not change.
func NewGradCAM(g *graph.Graph, params engine.Params, at *graph.Node, precision engine.Precision, pool *work.Pool) (*GradCAM, error) {
	if at.Shape.IsVector() {
		return nil, fmt.Errorf("%s gives one value a channel: a class activation map needs a feature map", at.Name)
	}
	if !slices.Contains(g.InferenceNodes(), at) {
		return nil, fmt.Errorf("the logits do not depend on %s", at.Name)
	}
	t, err := newTrainer(g, params, Options{Pool: pool, Precision: precision, Trainable: func(*graph.Param) bool { return false }, NoDropout: true})
	if err != nil {
		return nil, err
	}
	t.at = at
	if err := t.build(); err != nil {
		return nil, err
	}
	leaf := slices.IndexFunc(t.nodes, func(v *node) bool { return v.Node == at })
	return &GradCAM{t, t.nodes[leaf]}, nil
}

// Precision returns the precision in use.
func (m *GradCAM) Precision() engine.Precision { return m.t.env.precision }

// Close gives up what the plan holds.
func (m *GradCAM) Close() {
	if m.t.trunk != nil {
		m.t.trunk.model.Close()
	}
}

// Run returns the logits of n images (float32 NHWC), N × classes, and a map for each image, N × height × width of the feature map, of values
// from 0 on: for the given class, or for that of the image's largest logit if class is negative.
func (m *GradCAM) Run(ctx stdcontext.Context, images []float32, n, class int) (logits, maps []float32, err error) {
	t := m.t
	if err := t.checkImages(images, n); err != nil {
		return nil, nil, err
	}
	if class >= t.graph.Classes {
		return nil, nil, fmt.Errorf("class %d is outside 0..%d", class, t.graph.Classes-1)
	}
	values, functions, err := t.forward(ctx, images, n, true) // in training, values that the backward pass reads are kept
	defer t.release(functions)
	if err != nil {
		return nil, nil, err
	}
	y := &classLogits{logits: values[t.heads[0].node], slot: t.heads[0].slot, classes: t.graph.Classes}
	logits = append(logits, y.values()...)
	for i := range n {
		c := class
		if c < 0 {
			c = largest(logits[i*t.graph.Classes:][:t.graph.Classes])
		}
		y.of = append(y.of, c)
	}
	if err := ag.Backward(ag.NewOperator(y).Run()); err != nil {
		return nil, nil, err
	}
	a := values[m.leaf].Value().(*featureMap)
	gradient := a.Grad().Data().F32()
	defer t.env.buffers.put(gradient)
	maps = make([]float32, rows(n, a.shape))
	size := a.shape.Elements()
	for i := range n {
		activationMap(maps[i*len(maps)/n:(i+1)*len(maps)/n], a.data[i*size:][:size], gradient[i*size:][:size])
	}
	return logits, maps, ctx.Err()
}

// activationMap computes equations 1 and 2 for one image; a and gradient have as many rows as there are pixels.
func activationMap(dst, a, gradient []float32) {
	channels := len(a) / len(dst)
	alpha := make([]float64, channels)
	for i, g := range gradient {
		alpha[i%channels] += float64(g) / float64(len(dst))
	}
	for p := range dst {
		sum := 0.0
		for k, v := range a[p*channels:][:channels] {
			sum += alpha[k] * float64(v)
		}
		dst[p] = float32(max(sum, 0))
	}
}

// largest returns the index of the largest value, the first of equals.
func largest(x []float32) int {
	top := 0
	for i, v := range x {
		if v > x[top] {
			top = i
		}
	}
	return top
}

// classLogits is the sum of one logit of each image.
type classLogits struct {
	logits  mat.Tensor
	slot    int // which consumer of the logits this is
	classes int
	of      []int // by image
}

func (f *classLogits) values() []float32 { return f.logits.Value().(*featureMap).data }

// Operands implements ag.AutoGradFunction.
func (f *classLogits) Operands() []mat.Tensor { return []mat.Tensor{f.logits} }

// Forward implements ag.AutoGradFunction.
func (f *classLogits) Forward() (mat.Tensor, error) {
	sum := 0.0
	for i, c := range f.of {
		sum += float64(f.values()[i*f.classes+c])
	}
	return mat.NewDense[float64](mat.WithShape(1, 1), mat.WithBacking([]float64{sum})), nil
}

// Backward implements ag.AutoGradFunction.
func (f *classLogits) Backward(mat.Tensor) error {
	m := f.logits.Value().(*featureMap)
	g := m.env.buffers.zero(len(m.data))
	for i, c := range f.of {
		g[i*f.classes+c] = 1
	}
	f.logits.AccGrad(&contribution{matrix(g, len(f.of), f.classes), g, f.slot})
	return nil
}

var _ ag.AutoGradFunction = (*classLogits)(nil)
