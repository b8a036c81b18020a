package train

import (
	"math"

	"github.com/nlpodyssey/spago/ag"
	"github.com/nlpodyssey/spago/mat"
)

// Targets are what a batch's logits should become: labels, or with Soft a distribution over classes for each image (mixup, cutmix).
type Targets struct {
	Labels []int
	Soft   []float32 // N × classes, row-major; replaces Labels unless nil
}

// Loss describes the softmax cross-entropy, as torch.nn.CrossEntropyLoss with reduction "mean".
type Loss struct {
	// LabelSmoothing ε mixes each target with the uniform distribution: (1-ε)·t + ε/classes (Szegedy et al., 2016, §7).
	LabelSmoothing float64
	// ClassWeights scales each class's terms; the mean is then taken over the weights of the labels. Nil weighs all alike. Only with Labels.
	ClassWeights []float64
}

// crossEntropy is the loss of the network's logits and those of its auxiliary classifiers, as one scalar.
type crossEntropy struct {
	heads   []head
	targets []float64 // N × classes, weighted, summing to the mean's denominator
	n       int
	classes int
	scale   float64 // of the gradient
}

type head struct {
	logits mat.Tensor
	weight float64
	slot   int
	probs  []float64
}

// distribution returns the target weights w such that loss = -Σ w·log softmax.
func (l Loss) distribution(t Targets, n, classes int) []float64 {
	w := make([]float64, n*classes)
	weight := func(c int) float64 {
		if l.ClassWeights == nil {
			return 1
		}
		return l.ClassWeights[c]
	}
	total := 0.0
	for i := range n {
		row := w[i*classes:][:classes]
		if t.Soft != nil {
			for c := range row {
				row[c] = float64(t.Soft[i*classes+c])
			}
			total++
		} else {
			row[t.Labels[i]] = 1
			total += weight(t.Labels[i])
		}
		for c := range row {
			row[c] = weight(c) * ((1-l.LabelSmoothing)*row[c] + l.LabelSmoothing/float64(classes))
		}
	}
	for i := range w {
		w[i] /= total
	}
	return w
}

// Operands implements ag.AutoGradFunction.
func (f *crossEntropy) Operands() []mat.Tensor {
	list := make([]mat.Tensor, len(f.heads))
	for i, h := range f.heads {
		list[i] = h.logits
	}
	return list
}

// Forward implements ag.AutoGradFunction.
func (f *crossEntropy) Forward() (mat.Tensor, error) {
	total := 0.0
	for k := range f.heads {
		h := &f.heads[k]
		logits := h.logits.Value().(*featureMap).data
		h.probs = make([]float64, len(logits))
		for i := range f.n {
			x, p := logits[i*f.classes:][:f.classes], h.probs[i*f.classes:][:f.classes]
			top := math.Inf(-1)
			for _, v := range x {
				top = math.Max(top, float64(v)) // NaN stays NaN
			}
			sum := 0.0
			for c, v := range x {
				p[c] = math.Exp(float64(v) - top)
				sum += p[c]
			}
			logSum := top + math.Log(sum)
			for c, v := range x {
				p[c] /= sum
				if w := f.targets[i*f.classes+c]; w != 0 {
					total += h.weight * w * (logSum - float64(v))
				}
			}
		}
	}
	return mat.NewDense[float64](mat.WithShape(1, 1), mat.WithBacking([]float64{total})), nil
}

// Backward implements ag.AutoGradFunction: d/dx = p·Σw - w.
func (f *crossEntropy) Backward(mat.Tensor) error {
	for _, h := range f.heads {
		if !h.logits.RequiresGrad() {
			continue
		}
		m := h.logits.Value().(*featureMap)
		g := m.env.buffers.get(len(m.data))
		for i := range f.n {
			w, p := f.targets[i*f.classes:][:f.classes], h.probs[i*f.classes:][:f.classes]
			sum := 0.0
			for _, v := range w {
				sum += v
			}
			for c := range w {
				g[i*f.classes+c] = float32(f.scale * h.weight * (p[c]*sum - w[c]))
			}
		}
		h.logits.AccGrad(&contribution{matrix(g, f.n, f.classes), g, h.slot})
	}
	return nil
}

var _ ag.AutoGradFunction = (*crossEntropy)(nil)
