//go:build !noasm

package gemm

import (
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// pack chooses the kernel for a spec whose defaults are filled in.
func pack(s ConvSpec, w *weights, bias []float32, each parallel) packed {
	if s.tiled() {
		if s.Winograd == stripOutputs && s.transformable() {
			return newStripConv(s, w, bias, each)
		}
		return newTileConv(s, w, bias, each)
	}
	if s.Winograd != 0 && s.transformable() {
		return newWinogradConv(s, w, bias, each)
	}
	if s.Tier >= cpu.AVX2 {
		return newVectorConv(s, w, bias, each)
	}
	return newReference(s, w, bias)
}
