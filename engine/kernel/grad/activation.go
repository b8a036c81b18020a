package grad

import (
	"math"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// Activation stores dx = dy * act'(x), where x is the input of the activation (for ReLU and ReLU6 its output does as
// well). dx may be dy. At the corners of the piecewise functions the derivative is PyTorch's: 0 for ReLU at 0, for ReLU6
// at 0 and 6, for HardSigmoid at -3 and 3, and that of the inner piece for HardSwish.
func Activation(tier cpu.Tier, act kernel.Activation, dx, dy, x []float32) {
	dy, x = dy[:len(dx)], x[:len(dx)]
	if len(dx) == 0 {
		return
	}
	if k := activationKernel(tier, act); k != nil {
		k(floats(dx), floats(dy), floats(x), len(dx))
		return
	}
	for i, v := range x {
		dx[i] = dy[i] * Derivative(act, v)
	}
}

// Derivative returns act'(x), computed in float64.
func Derivative(act kernel.Activation, x float32) float32 {
	v := float64(x)
	switch act {
	case kernel.None:
		return 1
	case kernel.ReLU:
		return within(x > 0, 1)
	case kernel.ReLU6:
		return within(x > 0 && x < 6, 1)
	case kernel.HardSwish:
		if x < -3 {
			return 0
		}
		if x <= 3 {
			return x/3 + 0.5
		}
		return 1
	case kernel.HardSigmoid:
		return within(x > -3 && x < 3, 1.0/6)
	case kernel.SiLU:
		s := 1 / (1 + math.Exp(-v))
		return float32(s * (1 + v*(1-s)))
	case kernel.Sigmoid:
		s := 1 / (1 + math.Exp(-v))
		return float32(s * (1 - s))
	case kernel.GELU:
		return float32(0.5*(1+math.Erf(v/math.Sqrt2)) + v*math.Exp(-v*v/2)/math.Sqrt(2*math.Pi))
	default: // Tanh
		t := math.Tanh(v)
		return float32(1 - t*t)
	}
}

func within(ok bool, v float32) float32 {
	if ok {
		return v
	}
	return 0
}

// CrossEntropy returns the sum over the rows of logits, classes values each, of the softmax cross-entropy with the
// labels, and stores scale times its gradient into dlogits, which may be logits. scale is 1/batch for the mean that
// torch.nn.CrossEntropyLoss takes. smoothing mixes the target with the uniform distribution as label_smoothing does.
// Labels are in [0, classes).
func CrossEntropy(tier cpu.Tier, dlogits, logits []float32, labels []int, classes int, smoothing, scale float32) float64 {
	var loss float64
	for r, label := range labels {
		row := logits[r*classes : (r+1)*classes]
		out := dlogits[r*classes : (r+1)*classes]
		top, mean := math.Inf(-1), 0.0
		for _, v := range row {
			top = max(top, float64(v))
			mean += float64(v)
		}
		mean /= float64(classes)
		var sum float64
		for _, v := range row {
			sum += math.Exp(float64(v) - top)
		}
		log := top + math.Log(sum)
		loss += log - float64(1-smoothing)*float64(row[label]) - float64(smoothing)*mean
		uniform := float64(smoothing) / float64(classes)
		for i, v := range row {
			p := math.Exp(float64(v)-log) - uniform
			if i == label {
				p -= float64(1 - smoothing)
			}
			out[i] = float32(p) * scale
		}
	}
	return loss
}
