//go:build !noasm

package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// newOuter chooses the kernel of a gradient of weights whose sums lie in rows of the given width.
func newOuter(s *ConvSpec, width int) outer {
	p := Product{M: 1, N: width, K: 1, Precision: s.Precision, Tier: s.Tier}
	switch {
	case s.Tier >= cpu.AMX && s.Precision != engine.Highest:
		return tileOuter{newTileMultiplier(&p)}
	case s.Tier >= cpu.AVX2:
		return vectorOuter{newVectorMultiplier(&p)}
	}
	return plainOuter{}
}

// tileOuter sums in AMX tiles: a is the left operand as it lies, b is packed as weights are.
type tileOuter struct{ t *tileMultiplier }

func (k tileOuter) grain() (int, int) { return tileBlock, tilePanel }

func (k tileOuter) planes() int { return k.t.planes }

func (k tileOuter) valueBytes() int { return 2 }

func (k tileOuter) rowBytes(positions int) int { return rowBytes(positions) }

func (k tileOuter) bBytes(cols, positions int) int {
	return (cols + tilePanel - 1) / tilePanel * (positions / tileValues) * k.t.stepBytes()
}

func (k tileOuter) temporary() int { return 4*sumsBytes + awakeBytes + k.t.stepBytes() + 64 }

func (k tileOuter) packA(dst []byte, row, low, at int, src []float32, stride, n, channels int, temporary []byte) {
	temporary = align(temporary, 64)
	for i := 0; i < channels; i += tileBlock {
		k.t.pairs(temporary, src[i:], stride, n, min(tileBlock, channels-i))
		for plane := range k.t.planes {
			for parity := range 2 {
				to := plane*low + (i+parity)*row + 2*at
				transpose16(unsafe.Pointer(&dst[to]), 2*row, unsafe.Pointer(&temporary[plane*2048+parity*1024]), 64)
			}
		}
	}
}

func (k tileOuter) packB(dst []byte, positions, at int, src []float32, stride, n, channels int) {
	panel := positions / tileValues * k.t.stepBytes()
	dst = dst[at/tileValues*k.t.stepBytes():]
	for j := 0; j < channels; j += tilePanel {
		k.t.pairs(dst[j/tilePanel*panel:], src[j:], stride, n, min(tilePanel, channels-j))
	}
}

func (k tileOuter) product(o outerCall, dst []float32, ldd int, a, b, temporary []byte) {
	t := k.t
	temporary = align(temporary, 2*sumsBytes)
	steps := o.positions / tileValues
	var tiles [2 * groupRows / tileBlock]int32
	listTiles(tiles[:], o.row)
	args := tileArgs{
		config:  &t.config,
		tiles:   &tiles[0],
		aStride: o.row, aLow: o.low,
		offsets: &t.offsets[0], steps: steps, chunk: steps,
		blocks: 1,
		b:      unsafe.Pointer(&b[0]), panels: (o.cols + tilePanel - 1) / tilePanel,
		rows: &t.rows[0], bias: &t.bias[0],
		sums:   unsafe.Pointer(&temporary[0]),
		format: int(kernel.F32),
		mask:   1<<((o.cols-1)%tilePanel+1) - 1,
		awake:  unsafe.Pointer(&temporary[2*sumsBytes]),
	}
	args.low, args.high = bounds(kernel.None)
	args.finishWithin(steps, t.planes)
	call := t.callBlocks(steps, args.panels)
	for i := 0; i < o.rows; i += call * tileBlock {
		args.a = unsafe.Pointer(&a[i*o.row])
		args.limit = min(call*tileBlock, o.rows-i)
		args.groups = (args.limit + tileBlock - 1) / tileBlock
		args.starts = &t.starts[0]
		args.dst = unsafe.Pointer(&dst[i*ldd])
		if o.accumulate {
			args.res = args.dst
		}
		args.multiply(t.planes)
	}
}
