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
	d := &c.depth
	n := d.bundles * c.panels * c.panelBytes() / 2
	switch {
	case memory != nil:
		c.weights = unsafe.Slice((*uint16)(unsafe.Pointer(&memory[0])), n)
	default:
		c.weights = pages.Huge(make([]uint16, n))
	}
	each(d.bundles*c.panels, func(panel int) { c.pack(w, panel) })
	clear(c.bias)
	for i, v := range bias {
		b, o := i/d.bundleOut, i%d.bundleOut
		c.bias[b*c.panels*tilePanel+o/tilePanel*tilePanel+o%2*16+o%tilePanel/2] = v
	}
}
