package grad

import "github.com/go-modelzoo/zoo/engine/kernel/cpu"

// The three products of a linear layer y = x·Wᵀ, W [out, in], for a batch of a few rows: their time is in reading or writing
// W, once, as it lies. Linear layers of large batches are for the matrix products of kernel/gemm.

const (
	// innerRows is how many rows of W the kernel for the forward product takes at a time.
	innerRows = 4
	// linearColumns is how many columns of W are computed at a time: four rows of them and a row of x stay in L1.
	linearColumns = 1024
	// linearRows is how many rows of W are read beside each other, few enough for the processor to follow each.
	linearRows = 8
)

// LinearForward computes outputs [from, to) of y [batch, out] from x [batch, in] and W. They are added to what y holds: the bias, or zeros.
func LinearForward(tier cpu.Tier, y, x, w []float32, batch, in, out, from, to int) {
	k := innerKernels[levelOf(tier)]
	for o := from; o < to; o += innerRows {
		rows := min(innerRows, to-o)
		for c := 0; c < in; c += linearColumns {
			n := min(linearColumns, in-c)
			for b := range batch {
				sums := y[b*out+o:][:rows]
				v := x[b*in+c:][:n]
				block := w[o*in+c:]
				if k != nil && rows == innerRows {
					_ = block[(innerRows-1)*in+n-1]
					k(floats(sums), floats(block), floats(v), in, n)
					continue
				}
				for r := range sums {
					sums[r] += inner(block[r*in:][:n], v)
				}
			}
		}
	}
}

// inner returns the sum of a*b.
func inner(a, b []float32) float32 {
	var sum float32
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

// LinearData stores inputs [from, to) of the gradient dx [batch, in] from dy [batch, out] and W.
func LinearData(tier cpu.Tier, dx, dy, w []float32, batch, in, out, from, to int) {
	const columns = 4 * linearColumns // and linearRows rows of W stay in L2
	for c := from; c < to; c += columns {
		n := min(columns, to-c)
		for b := range batch {
			clear(dx[b*in+c:][:n])
		}
		for o := 0; o < out; o += linearRows {
			rows := min(linearRows, out-o)
			for b := range batch {
				mix(tier, dx[b*in+c:][:n], w[o*in+c:], in, dy[b*out+o:], 1, rows)
			}
		}
	}
}

// LinearWeights computes rows [from, to) of the gradient dw [out, in] from dy [batch, out] and x [batch, in], or with add adds them to dw.
func LinearWeights(tier cpu.Tier, dw, dy, x []float32, batch, in, out, from, to int, add bool) {
	const columns = 2 * linearColumns // of the batch's x stay in L2
	for c := 0; c < in; c += columns {
		n := min(columns, in-c)
		for o := from; o < to; o++ {
			row := dw[o*in+c:][:n]
			if !add {
				clear(row)
			}
			mix(tier, row, x[c:], in, dy[o:], out, batch)
		}
	}
}

// mix adds to acc the sum over rows of x, xStep apart, each times its factor.
func mix(tier cpu.Tier, acc, x []float32, xStep int, factors []float32, factorStep, rows int) {
	if len(acc) == 0 || rows == 0 {
		return
	}
	_, _ = x[(rows-1)*xStep+len(acc)-1], factors[(rows-1)*factorStep]
	if k := mixKernels[levelOf(tier)]; k != nil {
		k(floats(acc), floats(x), floats(factors), xStep, factorStep, rows, len(acc))
		return
	}
	for r := range rows {
		f := factors[r*factorStep]
		for i, v := range x[r*xStep:][:len(acc)] {
			acc[i] += f * v
		}
	}
}
