package kernel

import (
	"fmt"
	"math"
)

// Activation is a function of one value that kernels apply before they store. The zero value is None. The names and
// the formulas are those of torch.nn.
type Activation uint8

const (
	None        Activation = iota // x
	ReLU                          // max(x, 0)
	ReLU6                         // min(max(x, 0), 6)
	HardSwish                     // x * min(max(x+3, 0), 6) / 6
	HardSigmoid                   // min(max(x+3, 0), 6) / 6
	SiLU                          // x / (1 + exp(-x)), also called swish
	Sigmoid                       // 1 / (1 + exp(-x))
	GELU                          // x * (1 + erf(x/sqrt(2))) / 2
	Tanh                          // tanh(x)
	activations                   // how many there are
)

var activationNames = [...]string{"none", "relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "gelu", "tanh"}

// String returns the lower-case name.
func (a Activation) String() string {
	if int(a) < len(activationNames) {
		return activationNames[a]
	}
	return fmt.Sprintf("activation(%d)", uint8(a))
}

// Apply returns the activation of x, computed in float64 where it is not exact: the reference of the vector forms.
// Not-a-number gives not-a-number.
func (a Activation) Apply(x float32) float32 {
	switch a {
	case ReLU:
		if x < 0 {
			return 0
		}
		return x
	case ReLU6:
		return clamp6(x)
	case HardSwish:
		return x * clamp6(x+3) * (1.0 / 6)
	case HardSigmoid:
		return clamp6(x+3) * (1.0 / 6)
	case SiLU:
		return float32(float64(x) / (1 + math.Exp(-float64(x))))
	case Sigmoid:
		return float32(1 / (1 + math.Exp(-float64(x))))
	case GELU:
		return float32(float64(x) * 0.5 * (1 + math.Erf(float64(x)/math.Sqrt2)))
	case Tanh:
		return float32(math.Tanh(float64(x)))
	default:
		return x
	}
}

func clamp6(x float32) float32 {
	switch {
	case x < 0:
		return 0
	case x > 6:
		return 6
	default:
		return x
	}
}

// bounds returns the interval to which the activation clips, and whether clipping is all it does. The vector kernels
// clip for nothing and leave the other activations to a second pass over values that are still in cache.
func (a Activation) bounds() (lo, hi float32, ok bool) {
	inf := float32(math.Inf(1))
	switch a {
	case None:
		return -inf, inf, true
	case ReLU:
		return 0, inf, true
	case ReLU6:
		return 0, 6, true
	default:
		return -inf, inf, false
	}
}
