package grad

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// checkLinear compares the three products of a linear layer with sums in float64; guards lie around all matrices. The error may be that of
// adding up products of their size: it has nothing to do with that of the sum, which may be near zero.
func checkLinear(t *testing.T, tier cpu.Tier, r source, batch, in, out int, add bool) {
	t.Helper()
	x, w, dy := randoms(r, batch*in), randoms(r, out*in), randoms(r, batch*out)
	y, dx, dw := randoms(r, batch*out), randoms(r, batch*in), randoms(r, out*in)
	y0, dw0 := append([]float32(nil), y...), append([]float32(nil), dw...)
	o, i := r.IntN(out+1), r.IntN(in+1)
	for _, part := range [][2]int{{0, o}, {o, out}} {
		LinearForward(tier, y, x, w, batch, in, out, part[0], part[1])
		LinearWeights(tier, dw, dy, x, batch, in, out, part[0], part[1], add)
	}
	for _, part := range [][2]int{{0, i}, {i, in}} {
		LinearData(tier, dx, dy, w, batch, in, out, part[0], part[1])
	}
	check := func(what string, at int, got, start float32, n int, product func(k int) float64) {
		t.Helper()
		want := float64(start)
		size := math.Abs(want)
		for k := range n {
			p := product(k)
			want += p
			size += math.Abs(p)
		}
		if e := math.Abs(float64(got) - want); !(e <= 1e-6*size) {
			t.Fatalf("%s: value %d is %g instead of %g", what, at, got, want)
		}
	}
	for b := range batch {
		for o := range out {
			at := b*out + o
			check("output", at, y[at], y0[at], in, func(i int) float64 { return float64(x[b*in+i]) * float64(w[o*in+i]) })
		}
		for i := range in {
			at := b*in + i
			check("gradient of the input", at, dx[at], 0, out, func(o int) float64 { return float64(dy[b*out+o]) * float64(w[o*in+i]) })
		}
	}
	for o := range out {
		for i := range in {
			at, start := o*in+i, float32(0)
			if add {
				start = dw0[at]
			}
			check("gradient of the weights", at, dw[at], start, batch, func(b int) float64 { return float64(dy[b*out+o]) * float64(x[b*in+i]) })
		}
	}
}

func TestLinearRandomShapes(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, r source) {
		for i := range 30 {
			checkLinear(t, tier, r, 1+r.IntN(9), 1+r.IntN(200), 1+r.IntN(60), i%2 == 0)
		}
		checkLinear(t, tier, r, 2, 4*linearColumns+37, 9, false)
		checkLinear(t, tier, r, 3, linearColumns+1, 5, true)
	})
}

// FuzzLinear draws sizes around the widths at which a product is cut: most of them small, as the sums in float64 take most of the time.
func FuzzLinear(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(4), uint16(70), uint8(9), true)
	f.Add(uint64(2), uint8(1), uint8(1), uint16(1), uint8(1), false)
	f.Add(uint64(3), uint8(2), uint8(9), uint16(0x1f85), uint8(12), true)
	f.Add(uint64(83), uint8(0), uint8(3), uint16(8061), uint8(1), true) // 2046 products whose sum is near zero
	f.Fuzz(func(t *testing.T, seed uint64, tier, batch uint8, in uint16, out uint8, add bool) {
		r := source{rand.New(rand.NewPCG(seed, 5)), t}
		columns := int(in%256) + 1
		if high := int(in / 256); high%16 == 15 { // at most 128 columns before or behind a cut
			columns += (1+high/16%4)*linearColumns - 128
		}
		checkLinear(t, min(cpu.Tier(tier%4), cpu.Best()), r, int(batch%10)+1, columns, int(out%20)+1, add)
	})
}
