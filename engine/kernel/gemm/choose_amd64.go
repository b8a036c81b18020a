//go:build !noasm

package gemm

import (
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// choose chooses the kernel for a spec whose defaults are filled in.
func choose(s ConvSpec) packed {
	if s.tiled() {
		if s.Winograd == stripOutputs && s.transformable() {
			return newStripConv(s)
		}
		return newTileConv(s)
	}
	if s.Winograd != 0 && s.transformable() {
		return newWinogradConv(s)
	}
	if s.Tier >= cpu.AVX2 {
		return newVectorConv(s)
	}
	return newReference(s)
}
