//go:build (amd64 || arm64) && !noasm

package gemm

import "github.com/go-modelzoo/zoo/engine/kernel/cpu"

// vectorMultiplier multiplies in float32 vectors: blocks of rows with panels of columns. Its method multiply is the processor's.
type vectorMultiplier struct {
	rows, panel int
	tier        cpu.Tier
}

// groupRows is the multiple of the block next below groupRows.
func (v vectorMultiplier) groupRows() int { return groupRows / v.rows * v.rows }

func (v vectorMultiplier) grain() (int, int) { return v.rows, v.panel }

func (v vectorMultiplier) scratch(cols, depth int) int {
	return 5*64 + 4*(v.groupRows()*(depth+16)+(cols+v.panel-1)/v.panel*v.panel*depth)
}

// run computes rows [i0, i1) and columns [j0, j1): multiply adds up rows times cols sums of packed operands, a of rows aStride floats
// apart, b as panels, into dst of rows ldd floats apart, which without add it overwrites. It may read whole blocks of rows of a.
func (v vectorMultiplier) run(p *Product, depth, i0, i1, j0, j1 int, dst, a, b []float32, scratch []byte) {
	f := floats(align(scratch, 64))
	lda := depth + 16 // or rows would fall on few cache sets
	pa, pb := f[:v.groupRows()*lda], f[v.groupRows()*lda:]
	for k0 := 0; k0 < p.K; k0 += depth {
		k1 := min(k0+depth, p.K)
		v.packB(p, b, k0, k1, j0, j1, pb)
		for i := i0; i < i1; i += v.groupRows() {
			n := min(v.groupRows(), i1-i)
			v.packA(p, a, i, i+n, k0, k1, pa, lda)
			v.multiply(dst[i*p.N+j0:], p.N, n, j1-j0, padded(k1-k0), k0 > 0 || p.Accumulate, pa, lda, pb)
		}
	}
}

// padded returns how many values are summed for n.
func padded(n int) int { return (n + unrollValues - 1) / unrollValues * unrollValues }

// packA copies rows [i0, i1) of op(a), the depth filled with zeros to whole groups.
func (v vectorMultiplier) packA(p *Product, a []float32, i0, i1, k0, k1 int, dst []float32, lda int) {
	n := k1 - k0
	pad := padded(n)
	for i := i0; i < i1; i++ {
		row := dst[(i-i0)*lda:][:pad]
		clear(row[n:])
		if !p.TransA {
			copy(row, a[i*p.K+k0:][:n])
		}
	}
	if p.TransA {
		for k := k0; k < k1; k++ {
			for i, x := range a[k*p.M+i0:][:i1-i0] {
				dst[i*lda+k-k0] = x
			}
		}
	}
}

// packB copies columns [j0, j1) of op(b), panel by panel.
func (v vectorMultiplier) packB(p *Product, b []float32, k0, k1, j0, j1 int, dst []float32) {
	pad, width := padded(k1-k0), v.panel
	for j := j0; j < j1; j += width {
		cols := min(width, j1-j)
		panel := dst[:pad*width]
		dst = dst[len(panel):]
		if cols < width {
			clear(panel)
		} else {
			clear(panel[(k1-k0)*width:])
		}
		if p.TransB {
			for c := range cols {
				for k, x := range b[(j+c)*p.K+k0:][:k1-k0] {
					panel[k*width+c] = x
				}
			}
			continue
		}
		for k := k0; k < k1; k++ {
			copy(panel[(k-k0)*width:][:cols], b[k*p.N+j:])
		}
	}
}
