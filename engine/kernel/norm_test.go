package kernel

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/internal/guard"
)

func TestLayerNormOfALargeMean(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for range guard.Trials(40) {
			n, h, w, c := 1+r.IntN(2), 1+r.IntN(3), 1+r.IntN(5), 2+channels(r)
			src, dst := randomMap(r, f, n, h, w, c, r.IntN(2)), randomMap(r, f, n, h, w, c, r.IntN(2))
			if f == F32 {
				for n := range n {
					src.Set(n, 0, 0, 0, src.At(n, 0, 0, 0)+50)
				}
			}
			gamma, beta := randoms(r, c), randoms(r, c)
			const eps = 1e-5
			before := clone(dst)
			lo, hi := someRows(r, dst)
			LayerNorm(tier, dst, src, gamma, beta, eps, lo, hi)
			checkOutside(t, "layer norm", before, dst, lo, hi)
			checkRows(t, "layer norm", dst, lo, hi, func(n, y, x, c int) (float64, float64) {
				var sum, squares float64
				for i := range src.C {
					sum += float64(src.At(n, y, x, i))
				}
				mean := sum / float64(src.C)
				for i := range src.C {
					d := float64(src.At(n, y, x, i)) - mean
					squares += d * d
				}
				hat := (float64(src.At(n, y, x, c)) - mean) / math.Sqrt(squares/float64(src.C)+eps)
				return hat*float64(gamma[c]) + float64(beta[c]), math.Abs(hat*float64(gamma[c])) + math.Abs(float64(beta[c])) + 1
			}, 3e-6)
			// In place.
			again := clone(src)
			LayerNorm(tier, again, again, gamma, beta, eps, lo, hi)
			checkRows(t, "layer norm in place", again, lo, hi, func(n, y, x, c int) (float64, float64) { return float64(dst.At(n, y, x, c)), 0 }, 0)
		}
	})
}

func TestLRNWindows(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for range guard.Trials(30) {
			n, h, w, c, size := 1+r.IntN(2), 1+r.IntN(3), 1+r.IntN(4), channels(r), 1+r.IntN(7)
			beta := []float32{0.75, 0.5, 1}[r.IntN(3)]
			const alpha, k = 0.5, 2
			src, dst := randomMap(r, f, n, h, w, c, 0), randomMap(r, f, n, h, w, c, 0)
			before := clone(dst)
			lo, hi := someRows(r, dst)
			LRN(tier, dst, src, size, alpha, beta, k, lo, hi, exactScratch(r, LRNScratch(c, size)))
			checkOutside(t, "local response norm", before, dst, lo, hi)
			checkRows(t, "local response norm", dst, lo, hi, func(n, y, x, c int) (float64, float64) {
				sum := 0.0
				for i := max(c-size/2, 0); i <= min(c+(size-1)/2, src.C-1); i++ {
					sum += float64(src.At(n, y, x, i)) * float64(src.At(n, y, x, i))
				}
				v := float64(src.At(n, y, x, c))
				return v * math.Pow(k+alpha/float64(size)*sum, -float64(beta)), math.Abs(v)
			}, 1e-6)
		}
	})
}

func TestSoftmaxOfExtremes(t *testing.T) {
	for _, tier := range tiers() {
		r := source{rand.New(rand.NewPCG(1, 2)), t}
		for range guard.Trials(50) {
			rows, columns := 1+r.IntN(3), 1+r.IntN(1100)
			src, dst := randoms(r, rows*columns), guard.Slice[float32](r.tb, rows*columns)
			for i := range src {
				src[i] = src[i]*40 + 3e4
			}
			src[r.IntN(len(src))] = float32(math.Inf(-1))
			Softmax(tier, dst, src, rows, columns)
			for n := range rows {
				top, sum := math.Inf(-1), 0.0
				for _, v := range src[n*columns : (n+1)*columns] {
					top = max(top, float64(v))
				}
				for _, v := range src[n*columns : (n+1)*columns] {
					sum += math.Exp(float64(v) - top)
				}
				for i := n * columns; i < (n+1)*columns; i++ {
					want := math.Exp(float64(src[i])-top) / sum
					if columns == 1 && math.IsInf(top, -1) {
						want = math.NaN()
					}
					if got := float64(dst[i]); math.Abs(got-want) > 1e-6*want+2e-38 || math.IsNaN(got) != math.IsNaN(want) {
						t.Fatalf("%v: softmax %d of %d is %g instead of %g", tier, i, columns, got, want)
					}
				}
			}
		}
	}
}
