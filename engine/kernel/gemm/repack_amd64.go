//go:build !noasm

package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/internal/pages"
)

func (c *vectorConv) repack(each parallel, _ []byte, w *weights, bias []float32) {
	*c = *newVectorConv(c.spec, w, bias, each)
}

func (c *tileConv) repack(each parallel, memory []byte, w *weights, bias []float32) {
	panels := c.depth.bundles * c.panels
	c.weights = tileMemory(memory, panels*c.panelBytes()/2)
	each(panels, func(panel int) { c.pack(w, panel) })
	packBias(c.bias, bias, c.depth.bundleOut)
}

// tileMemory returns room for n weights: memory, if there is any.
func tileMemory(memory []byte, n int) []uint16 {
	if memory == nil {
		return pages.Huge(make([]uint16, n))
	}
	return unsafe.Slice((*uint16)(unsafe.Pointer(&memory[0])), n)
}

// packBias writes the biases of bundles of so many channels, of which each begins a panel; the even channels of a panel come before its
// odd ones.
func packBias(to, bias []float32, bundleOut int) {
	clear(to)
	width := (bundleOut + tilePanel - 1) / tilePanel * tilePanel
	for i, v := range bias {
		b, o := i/bundleOut, i%bundleOut
		to[b*width+o/tilePanel*tilePanel+o%2*16+o%tilePanel/2] = v
	}
}
