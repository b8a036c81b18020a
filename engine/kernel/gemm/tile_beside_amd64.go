//go:build !noasm

package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// This file holds the second source of a tile convolution: the residual, if it goes through a 1×1 convolution before it is added. Its
// products are the last steps of the same sums, so that the projected residual is never written nor read.

// besideConv is the projection of a tileConv's residual.
type besideConv struct {
	spec  ConvSpec // as a convolution of its own
	depth depth
	steps []tileStep
}

func newBesideConv(s *ConvSpec, g grain) *besideConv {
	b := &besideConv{spec: s.projection()}
	b.depth = newDepth(b.spec, g)
	b.steps = listSteps(&b.depth, tileValues)
	return b
}

// weights returns those of the projection, which lie behind those of the convolution s.
func (b *besideConv) weights(s *ConvSpec, w *weights) *weights {
	p := oihw(&b.spec, w.data)
	p.at = w.at + s.weights() - b.spec.weights()
	return &p
}

// besideCall is a besideConv bound to maps. The positions are those of the tileCall: the pixels of the output one after the other.
type besideCall struct {
	*besideConv
	geometry     // of the pixels that are read, and of where they are staged
	height   int // of an output image
	line     int // its width
	stride   int // bytes between positions
}

func (t *tileCall) bindBeside(src, dst *kernel.Map) *besideCall {
	b := &besideCall{besideConv: t.tileConv.beside, height: dst.H, line: dst.W}
	directable := t.direct && b.spec.In%tileValues == 0 && src.Format == t.grain.format()
	b.geometry = newGeometry(&b.spec, &b.depth, t.grain, src, dst, nil, directable)
	b.stride = b.pixel
	if b.direct {
		step, _ := uniform(src)
		b.stride = step * 2
	}
	return b
}

// bytes returns how many bytes of scratch memory a position takes.
func (b *besideCall) bytes(g grain) int {
	if b.direct {
		return 0
	}
	return g.planes * b.pixel
}

// scratch returns how many bytes of scratch memory a band of so many positions takes: whole blocks, as many positions in front of them
// as tiles of a tail may begin earlier, and what a step may read behind the last value.
func (b *besideCall) scratch(g grain, positions int) int {
	if b.direct {
		return 0
	}
	return g.planes * b.plane(g, positions)
}

func (b *besideCall) plane(g grain, positions int) int {
	return align64((tileRows+g.blocks(positions)*g.rows)*b.pixel + 2*tileValues)
}

// tiles returns the offsets of tiles, and behind them those of the same positions in the second source.
func (b *besideCall) tiles(first []int32, aStride int) []int32 {
	n := len(first)
	both := append(make([]int32, 0, 2*n), first...)
	for _, at := range first {
		both = append(both, at/int32(aStride)*int32(b.stride))
	}
	return both
}

// readBeside has the last steps of a band read the second source, which it stages unless the tiles are read from the map itself.
func (t *tileCall) readBeside(args *tileArgs, b band, tiles []int32, src *kernel.Map, scratch []byte) {
	e := t.beside
	args.besideSteps, args.besideStride, args.besideTiles = len(e.steps), e.stride, 2*len(tiles)
	first := t.firstPosition(b)
	if e.direct {
		args.beside = unsafe.Pointer(&src.Hi[src.Off])
		if t.grain.planes == 2 {
			args.besideLow = int(uintptr(unsafe.Pointer(&src.Lo[src.Off])) - uintptr(args.beside))
		}
		args.beside = unsafe.Add(args.beside, first*e.stride)
		return
	}
	before := max(0, -int(tiles[0])/t.aStride) // positions that the tiles of a tail begin earlier
	p := e.geometry
	p.planeBytes = e.plane(t.grain, t.positions)
	st := stager{p: &p, d: &e.depth, g: t.grain, src: *src, scratch: scratch}
	end := first + b.positions
	for at := first - before; at < end; {
		row, x := at/e.line, at%e.line
		n := min(e.line-x, end-at)
		st.prepare(n, p.colStep*src.Pixel, 1)
		st.copy((at-first+before)*p.pixel, src.Off+row/e.height*src.Image+row%e.height*p.rowStep*src.Row+x*p.colStep*src.Pixel, 1)
		at += n
	}
	st.clear((b.positions+before)*p.pixel, 2*tileValues, 1)
	args.beside = unsafe.Pointer(&scratch[before*p.pixel])
	args.besideLow = p.planeBytes
}

func align64(n int) int { return (n + 63) &^ 63 }
