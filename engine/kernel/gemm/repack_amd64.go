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
	each(d.bundles*c.panels, func(panel int) {
		if !c.packTaps(w, panel) {
			c.pack(w, panel)
		}
	})
	clear(c.bias)
	for i, v := range bias {
		b, o := i/d.bundleOut, i%d.bundleOut
		c.bias[b*c.panels*tilePanel+o/tilePanel*tilePanel+o%2*16+o%tilePanel/2] = v
	}
}

// mostTaps is the largest number of taps whose weights packTaps takes at a time: 36 KB, a part of L1.
const mostTaps = 9

// packTaps packs a panel as pack does, but reads the weights of 32 by 32 channels once for all taps, as they lie, where pack gathers them
// tap by tap. It reports whether it could: the panel must be full and without groups.
func (c *tileConv) packTaps(w *weights, panel int) bool {
	s, d := &c.spec, &c.depth
	taps := s.KernelH * s.KernelW
	first := panel * tilePanel
	if !d.blocked || s.Groups != 1 || taps > mostTaps || first+tilePanel > d.bundleOut {
		return false
	}
	var at [mostTaps]int // elements from the first tap
	for t := range taps {
		at[t] = t/s.KernelW*w.tapH + t%s.KernelW*w.tapW
	}
	const size = tilePanel * tileValues
	var values [mostTaps * size]float32 // [tap][row][column]: rows are those channels that lie further apart
	byOutput := w.out > w.in
	rowStep, colStep := w.out, w.in
	if !byOutput {
		rowStep, colStep = w.in, w.out
	}
	to := c.weights[panel*c.panelBytes()/2:]
	stepValues := c.grain.planes * 2 * tileRows * tileValues
	for b := range d.blocks {
		from := w.at + first*w.out + b*tileValues*w.in
		for r := range tilePanel {
			base := from + r*rowStep
			for col := range tileValues {
				to := values[r*tileValues+col:]
				for t, off := range at[:taps] {
					to[t*size] = w.data[base+off]
				}
				base += colStep
			}
		}
		for t := range taps {
			c.packStep(to, values[t*size:][:size], byOutput)
			to = to[stepValues:]
		}
	}
	return true
}

// packStep packs 32 by 32 weights: rows are output channels, or input channels.
func (c *tileConv) packStep(to []uint16, values []float32, byOutput bool) {
	dst, src := unsafe.Pointer(&to[0]), unsafe.Pointer(&values[0])
	if !byOutput { // rows are pairs already
		args := pairArgs{dst: dst, src: src, stride: 4 * tilePanel, rows: tileValues, mask: 1<<tilePanel - 1}
		if c.grain.planes == 2 {
			pairSplit(&args)
		} else {
			pairRound(&args)
		}
		return
	}
	var rows [2][tilePanel][tileValues]uint16 // both planes
	args := stageArgs{
		dst: unsafe.Pointer(&rows), src: src, pixels: tilePanel, srcStep: 4 * tileValues, dstStep: 2 * tileValues,
		chunks: 1, loadMask: 1<<tileValues - 1, storeMask: 1<<tileValues - 1, low: int(unsafe.Sizeof(rows[0])),
	}
	if c.grain.planes == 2 {
		stageSplit(&args)
	} else {
		stageRound(&args)
	}
	for plane := range c.grain.planes {
		for parity := range 2 {
			transpose16(unsafe.Add(dst, 2*(plane*2+parity)*tileRows*tileValues), 64, unsafe.Pointer(&rows[plane][parity]), 4*tileValues)
		}
	}
}
