//go:build !noasm

package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// This file holds the second source of a tile convolution: the residual, if it goes through a 1×1 convolution before it is added. Its
// products are the last steps of the same sums, so that the projected residual is never written nor read.

// tileProjection is the projection of a tileConv's residual.
type tileProjection struct {
	spec  ConvSpec // as a convolution of its own
	depth depth
	steps []tileStep
}

func newTileProjection(s *ConvSpec, g grain) *tileProjection {
	p := &tileProjection{spec: s.projection()}
	p.depth = newDepth(p.spec, g)
	p.steps = listSteps(&p.depth, tileValues)
	return p
}

// weights returns those of the projection, which lie behind those of the convolution s.
func (p *tileProjection) weights(s *ConvSpec, w *weights) *weights {
	own := oihw(&p.spec, w.data)
	own.at = w.at + s.weights() - p.spec.weights()
	return &own
}

// projected is a tileProjection bound to maps. Its positions are those of the tileCall: the pixels of the output in their order.
type projected struct {
	*tileProjection
	geometry     // of the pixels that are read, and where they are staged
	h, w     int // of an output image
	aStride  int // bytes between positions
}

func (t *tileCall) project(src, dst *kernel.Map) *projected {
	p := &projected{tileProjection: t.projection, h: dst.H, w: dst.W}
	directable := t.direct && p.spec.In%tileValues == 0 && src.Format == t.grain.format()
	p.geometry = newGeometry(&p.spec, &p.depth, t.grain, src, dst, nil, directable)
	p.aStride = p.pixel
	if p.direct {
		step, _ := uniform(src)
		p.aStride = step * 2
	}
	return p
}

// bytes returns how many bytes of scratch memory a position takes.
func (p *projected) bytes(g grain) int {
	if p.direct {
		return 0
	}
	return g.planes * p.pixel
}

// planeSize returns how many bytes of scratch memory a plane of a band of so many positions takes: whole blocks, as many positions in
// front of them as tiles of a tail may begin earlier, and what a step may read behind the last value.
func (p *projected) planeSize(g grain, positions int) int {
	if p.direct {
		return 0
	}
	return align64((tileRows+g.blocks(positions)*g.rows)*p.pixel + 2*tileValues)
}

// tiles returns the offsets of tiles, and behind them those of the same positions in what the projection reads.
func (p *projected) tiles(first []int32, aStride int) []int32 {
	both := append(make([]int32, 0, 2*len(first)), first...)
	for _, at := range first {
		both = append(both, at/int32(aStride)*int32(p.aStride))
	}
	return both
}

// readProjected has the last steps of a band read the projection's source, which it stages unless tiles are read from the map itself.
func (t *tileCall) readProjected(args *tileArgs, b band, tiles []int32, src *kernel.Map, scratch []byte) {
	p := t.projected
	args.besideSteps, args.besideStride, args.besideTiles = len(p.steps), p.aStride, 2*len(tiles)
	first := t.firstPosition(b)
	if p.direct {
		args.beside, args.besideLow = operand(src)
		args.beside = unsafe.Add(args.beside, first*p.aStride)
		return
	}
	before := max(0, -int(tiles[0])/t.aStride) // positions by which tiles begin earlier
	args.besideLow = p.planeSize(t.grain, t.positions)
	args.beside = unsafe.Pointer(&scratch[before*p.pixel])
	p.stage(t.grain, src, first-before, b.positions+before, scratch, args.besideLow)
}

// stage copies what so many positions read to planes of the given size.
func (p *projected) stage(g grain, src *kernel.Map, first, positions int, scratch []byte, plane int) {
	layout := p.geometry
	layout.planeBytes = plane
	st := stager{p: &layout, d: &p.depth, g: g, src: *src, scratch: scratch}
	for done := 0; done < positions; {
		row, x := (first+done)/p.w, (first+done)%p.w
		n := min(p.w-x, positions-done)
		st.prepare(n, p.colStep*src.Pixel, 1)
		st.copy(done*p.pixel, src.Off+row/p.h*src.Image+row%p.h*p.rowStep*src.Row+x*p.colStep*src.Pixel, 1)
		done += n
	}
	st.clear(positions*p.pixel, 2*tileValues, 1) // read behind the last value, times zeros
}
