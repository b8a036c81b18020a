package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/internal/guard"
)

// tiers are those that this machine and ZOO_CPU allow.
func tiers() []cpu.Tier {
	var ts []cpu.Tier
	for t := cpu.Generic; t <= cpu.Best(); t++ {
		ts = append(ts, t)
	}
	return ts
}

// source is random numbers and the test that uses them.
type source struct {
	*rand.Rand
	tb testing.TB
}

var formats = []Format{F32, BF16, Split}

// eachTier runs f for every tier and format, with the same random numbers for each tier.
func eachTier(t *testing.T, f func(t *testing.T, tier cpu.Tier, format Format, r source)) {
	t.Helper()
	for _, tier := range tiers() {
		for _, format := range formats {
			t.Run(fmt.Sprintf("%v/%v", tier, format), func(t *testing.T) {
				f(t, tier, format, source{rand.New(rand.NewPCG(1, uint64(format))), t})
			})
		}
	}
}

// channelCounts meet every tail of every register width, and the unrolled loops.
func channels(r source) int {
	if r.IntN(3) == 0 {
		return 1 + r.IntN(200)
	}
	return 1 + r.IntN(40)
}

const (
	canaryF32 = -12345.678
	canary16  = 0xdead
)

// randomMap returns a map of random values in a buffer that ends where the map does, before a page that must not be
// touched where the system allows it. Half of the time it is a channel block of a wider map, and sometimes a band of
// rows of taller images. Everything outside the map holds canaries.
func randomMap(r source, format Format, n, h, w, c, pad int) Map {
	before, after := 0, 0
	if r.IntN(2) == 0 {
		before, after = r.IntN(9), r.IntN(9)
	}
	m := Layout(format, n, h, w, before+c+after, pad).Sub(before, before+c)
	m.Image += r.IntN(3) / 2 * m.Row
	size := m.Elements()
	switch format {
	case F32:
		m = m.Over(guard.Slice[float32](r.tb, size), nil, nil)
		fill(m.F32, canaryF32)
	case BF16:
		m = m.Over(nil, guard.Slice[uint16](r.tb, size), nil)
	default:
		m = m.Over(nil, guard.Slice[uint16](r.tb, size), guard.Slice[uint16](r.tb, size))
	}
	for i := range m.Hi {
		m.Hi[i] = canary16
	}
	for i := range m.Lo {
		m.Lo[i] = canary16
	}
	for n := range m.N {
		for y := range m.H {
			for x := range m.W {
				for c := range m.C {
					m.Set(n, y, x, c, float32(r.NormFloat64()*2))
				}
			}
		}
	}
	m.ZeroBorder(0, n)
	return m
}

// clone copies a map with its buffers.
func clone(m Map) Map {
	m.F32, m.Hi, m.Lo = append([]float32(nil), m.F32...), append([]uint16(nil), m.Hi...), append([]uint16(nil), m.Lo...)
	return m
}

// checkOutside fails if anything but the channels of rows [from, to) differs from before.
func checkOutside(t *testing.T, what string, before, after Map, from, to int) {
	t.Helper()
	inside := make([]bool, len(after.F32)+len(after.Hi))
	for r := from; r < to; r++ {
		for x := range after.W {
			for c := range after.C {
				inside[after.row(r)+x*after.Pixel+c] = true
			}
		}
	}
	for i, in := range inside {
		if in {
			continue
		}
		if after.F32 != nil && math.Float32bits(before.F32[i]) != math.Float32bits(after.F32[i]) ||
			after.Hi != nil && before.Hi[i] != after.Hi[i] || after.Lo != nil && before.Lo[i] != after.Lo[i] {
			t.Fatalf("%s: element %d of %v, outside rows %d to %d, was written", what, i, after, from, to)
		}
	}
}

// precision is the relative rounding error of a format.
func precision(f Format) float64 {
	switch f {
	case F32:
		return 1.0 / (1 << 23)
	case BF16:
		return 1.0 / (1 << 8)
	default:
		return 1.0 / (1 << 16)
	}
}

// checkRows compares rows [from, to) with want. The error may be that of storing in the format, plus slack times the
// scale, the magnitude of what was summed.
func checkRows(t *testing.T, what string, got Map, from, to int, want func(n, y, x, c int) (value, scale float64), slack float64) {
	t.Helper()
	for r := from; r < to; r++ {
		n, y := r/got.H, r%got.H
		for x := range got.W {
			for c := range got.C {
				w, scale := want(n, y, x, c)
				g := float64(got.At(n, y, x, c))
				if math.IsNaN(w) && math.IsNaN(g) || w == g {
					continue
				}
				if e := math.Abs(g - w); !(e <= math.Abs(w)*precision(got.Format)+slack*scale+1e-30) {
					t.Fatalf("%s: %v at image %d, row %d, column %d, channel %d: %g instead of %g (error %g)", what, got, n, y, x, c, g, w, e)
				}
			}
		}
	}
}

// someRows cuts a random range.
func someRows(r source, m Map) (int, int) {
	from := r.IntN(m.Rows())
	if r.IntN(2) == 0 {
		return 0, m.Rows()
	}
	return from, from + 1 + r.IntN(m.Rows()-from)
}

// exactScratch returns scratch of exactly the length asked for, full of not-a-number.
func exactScratch(r source, n int) []float32 {
	s := guard.Slice[float32](r.tb, n)
	fill(s[:min(n, 16)], float32(math.NaN()))
	for have := 16; have < n; have *= 2 { // value by value it would take a fifth of the time of fuzzing
		copy(s[have:], s[:have])
	}
	return s
}
