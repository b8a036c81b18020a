package grad

import (
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// checkLinear compares the three products of a linear layer with sums in float64; guards lie around all matrices.
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
	for b := range batch {
		for o := range out {
			want := float64(y0[b*out+o])
			for i := range in {
				want += float64(x[b*in+i]) * float64(w[o*in+i])
			}
			near(t, "output", b*out+o, float64(y[b*out+o]), want, 1e-4)
		}
		for i := range in {
			want := 0.0
			for o := range out {
				want += float64(dy[b*out+o]) * float64(w[o*in+i])
			}
			near(t, "gradient of the input", b*in+i, float64(dx[b*in+i]), want, 1e-4)
		}
	}
	for o := range out {
		for i := range in {
			want := 0.0
			if add {
				want = float64(dw0[o*in+i])
			}
			for b := range batch {
				want += float64(dy[b*out+o]) * float64(x[b*in+i])
			}
			near(t, "gradient of the weights", o*in+i, float64(dw[o*in+i]), want, 1e-4)
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

func FuzzLinear(f *testing.F) {
	f.Add(uint64(1), uint8(3), uint8(4), uint16(70), uint8(9), true)
	f.Add(uint64(2), uint8(1), uint8(1), uint16(1), uint8(1), false)
	f.Fuzz(func(t *testing.T, seed uint64, tier, batch uint8, in uint16, out uint8, add bool) {
		r := source{rand.New(rand.NewPCG(seed, 5)), t}
		checkLinear(t, min(cpu.Tier(tier%4), cpu.Best()), r, int(batch%20)+1, int(in%3000)+1, int(out%50)+1, add)
	})
}
