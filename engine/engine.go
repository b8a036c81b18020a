// Package engine holds what the inference and the training engine share: the precision of matrix products and the
// source of parameter values. The engines themselves are engine/infer and engine/train; their kernels are below
// engine/kernel.
package engine

import "fmt"

// Precision says how float32 matrix products and convolutions are computed. The words are those of
// torch.set_float32_matmul_precision.
type Precision uint8

const (
	// Default is High where the CPU has AMX, else Highest.
	Default Precision = iota
	// Highest is IEEE float32 with fused multiply-add.
	Highest
	// High splits each float32 into two bfloat16 and sums three products in float32: 16 bits of mantissa.
	High
	// Medium rounds operands to bfloat16 and accumulates in float32.
	Medium
)

var precisionNames = [...]string{Default: "default", Highest: "highest", High: "high", Medium: "medium"}

// String returns the name that ParsePrecision reads.
func (p Precision) String() string {
	if int(p) < len(precisionNames) {
		return precisionNames[p]
	}
	return fmt.Sprintf("precision(%d)", uint8(p))
}

// ParsePrecision reads "highest", "high", "medium", or "default" (also "").
func ParsePrecision(s string) (Precision, error) {
	if s == "" {
		return Default, nil
	}
	for p, name := range precisionNames {
		if s == name {
			return Precision(p), nil
		}
	}
	return Default, fmt.Errorf("precision %q is unknown: use highest, high or medium", s)
}

// Params gives the values of a graph's parameters by their torchvision name, in PyTorch's layout (convolution weights
// OIHW, linear weights [out, in]). The slice belongs to the source, may be mapped read-only memory and must not be written.
// An implementation is safe for concurrent use.
type Params interface {
	// Param returns the values of the named parameter or buffer, or an error that names it.
	Param(name string) ([]float32, error)
}

// Releaser is a Params whose values take memory that it can get again, such as a mapped file.
type Releaser interface {
	Params
	// Release lets go of that memory until the values are read again. Slices that Param returned stay valid.
	Release()
}

// ParamMap is a Params over a plain map.
type ParamMap map[string][]float32

// Param implements Params.
func (m ParamMap) Param(name string) ([]float32, error) {
	v, ok := m[name]
	if !ok {
		return nil, fmt.Errorf("parameter %s has no value: load weights or initialise it", name)
	}
	return v, nil
}
