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
		dx[i] = dy[i] * derivative(act, v)
	}
}

// derivative returns act'(x), computed in float64.
func derivative(act kernel.Activation, x float32) float32 {
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
