//go:build (amd64 || arm64) && !noasm

package gemm

// vectorOuter sums in vectors: the values of a are broadcast.
type vectorOuter struct{ v vectorMultiplier }

func (k vectorOuter) grain() (int, int) { return k.v.grain() }

func (k vectorOuter) planes() int { return 1 }

func (k vectorOuter) valueBytes() int { return 4 }

func (k vectorOuter) rowBytes(positions int) int { return 4 * (positions + 16) }

func (k vectorOuter) bBytes(cols, positions int) int {
	width := k.v.panel
	return (cols + width - 1) / width * width * positions * 4
}

func (k vectorOuter) temporary() int { return 0 }

func (k vectorOuter) packA(dst []byte, row, _, at int, src []float32, stride, n, channels int, _ []byte) {
	f := floats(dst)
	for c := range channels {
		to := f[c*row/4+at:][:positionBlock]
		for p := range n {
			to[p] = src[p*stride+c]
		}
		clear(to[n:])
	}
	for c := channels; c%k.v.rows != 0; c++ { // multiply may read whole blocks
		clear(f[c*row/4+at:][:positionBlock])
	}
}

func (k vectorOuter) packB(dst []byte, positions, at int, src []float32, stride, n, channels int) {
	f, width := floats(dst), k.v.panel
	for j := 0; j < channels; j += width {
		cols := min(width, channels-j)
		block := f[j*positions+at*width:][:positionBlock*width]
		if cols < width {
			clear(block)
		} else {
			clear(block[n*width:])
		}
		for p := range n {
			copy(block[p*width:][:cols], src[p*stride+j:])
		}
	}
}

func (k vectorOuter) product(o outerCall, dst []float32, ldd int, a, b, _ []byte) {
	k.v.multiply(dst, ldd, o.rows, o.cols, o.positions, o.accumulate, floats(a), o.row/4, floats(b))
}
