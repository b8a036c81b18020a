package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// stage copies the input of a band to scratch memory in the layout of the geometry: zeros around the images, values in
// the element format of the grain, for the bundles [from, to).
func stage(p *geometry, s *ConvSpec, d *depth, g grain, src *kernel.Map, b band, scratch []byte, from, to int) {
	image, row, pixel := strides(p, src)
	left := s.PadLeft
	if p.flat {
		left = 0
	}
	// Staged columns [x0, x1) hold pixels of the image.
	x0 := min((left+p.colStep-1)/p.colStep, p.width)
	x1 := min((p.w-1+left)/p.colStep+1, p.width)
	for bundle := from; bundle < to; bundle++ {
		for block := range d.blocks {
			base := (bundle*d.blocks + block) * p.blockBytes
			channel := bundle*d.bundleIn + block*d.channels
			for phase := range p.phases {
				at := base + phase*p.phaseBytes
				for n := range b.images {
					image0 := src.Off + (b.image+n)*image + channel
					rows := b.rows + p.extra
					if n < b.images-1 {
						rows = min(rows, p.imageRows) // the rest is the next image's first rows
					}
					for j := range rows {
						y := ((b.row+j)*p.phases+phase)*p.rowStep - s.PadTop
						to := at + (n*p.imageRows+j)*p.width*p.pixel
						if y < 0 || y >= p.h {
							clearPlanes(p, g, scratch, to, p.width*p.pixel)
							continue
						}
						clearPlanes(p, g, scratch, to, x0*p.pixel)
						if x1 > x0 {
							e := image0 + y*row + (x0*p.colStep-left)*pixel
							stageRow(p, d, g, src, scratch, to+x0*p.pixel, e, x1-x0, p.colStep*pixel)
						}
						clearPlanes(p, g, scratch, to+x1*p.pixel, (p.width-x1)*p.pixel)
					}
				}
				end := ((b.images-1)*p.imageRows + b.rows + p.extra) * p.width * p.pixel
				clearPlanes(p, g, scratch, at+end, p.phaseBytes-((b.images-1)*p.imageRows+b.rows+p.extra)*p.width*p.pixel)
			}
		}
	}
}

// clearPlanes zeroes bytes in each plane.
func clearPlanes(p *geometry, g grain, scratch []byte, at, n int) {
	for plane := range g.planes {
		clear(scratch[plane*p.planeBytes+at:][:max(n, 0)])
	}
}

// stageRow copies the channels of one block for a row of pixels, from element e on, step elements apart.
func stageRow(p *geometry, d *depth, g grain, src *kernel.Map, scratch []byte, to, e, pixels, step int) {
	n := d.channels
	if step == n && p.pixel == n*g.element { // dense: one long pixel
		n, pixels = n*pixels, 1
	}
	for x := range pixels {
		at := to + x*p.pixel
		from := e + x*step
		if g.element == 4 {
			v := unsafe.Slice((*float32)(unsafe.Pointer(&scratch[at])), n)
			switch src.Format {
			case kernel.F32:
				copy(v, src.F32[from:from+n])
			case kernel.BF16:
				kernel.FromBF16s(v, src.Hi[from:from+n])
			default:
				kernel.FromSplits(v, src.Hi[from:from+n], src.Lo[from:from+n])
			}
			continue
		}
		hi := unsafe.Slice((*uint16)(unsafe.Pointer(&scratch[at])), n)
		if g.planes == 1 {
			if src.Format == kernel.F32 {
				kernel.ToBF16s(hi, src.F32[from:from+n])
			} else {
				copy(hi, src.Hi[from:from+n])
			}
			continue
		}
		lo := unsafe.Slice((*uint16)(unsafe.Pointer(&scratch[p.planeBytes+at])), n)
		switch src.Format {
		case kernel.F32:
			kernel.ToSplits(hi, lo, src.F32[from:from+n])
		case kernel.BF16:
			copy(hi, src.Hi[from:from+n])
			clear(lo)
		default:
			copy(hi, src.Hi[from:from+n])
			copy(lo, src.Lo[from:from+n])
		}
	}
}
