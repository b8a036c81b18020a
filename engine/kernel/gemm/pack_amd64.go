//go:build !noasm

package gemm

import (
	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// pack chooses the kernel for a spec whose defaults are filled in.
func pack(s ConvSpec, weight, bias []float32) packed {
	if s.Tier >= cpu.AMX && s.Precision != engine.Highest && !(s.Linear && s.Precision == engine.High) {
		return newTileConv(s, weight, bias)
	}
	if s.Tier >= cpu.AVX2 {
		return newVectorConv(s, weight, bias)
	}
	return newReference(s, weight, bias)
}
