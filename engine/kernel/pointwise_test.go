package kernel

import (
	"fmt"
	"math"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/internal/guard"
)

// activationSlack is the error of an activation, relative to 1+|x|: see the ULP tests for more.
const activationSlack = 4e-7

func TestActivationOfChannelBlockStaysInside(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, from Format, r source) {
		for range guard.Trials(60) {
			to := formats[r.IntN(3)]
			act := Activation(r.IntN(int(activations)))
			n, h, w, c := 1+r.IntN(3), 1+r.IntN(4), 1+r.IntN(6), channels(r)
			src, dst := randomMap(r, from, n, h, w, c, r.IntN(2)), randomMap(r, to, n, h, w, c, r.IntN(2))
			before := clone(dst)
			lo, hi := someRows(r, dst)
			Activate(tier, dst, src, act, lo, hi)
			what := fmt.Sprintf("%v from %v to %v", act, from, to)
			checkOutside(t, what, before, dst, lo, hi)
			checkRows(t, what, dst, lo, hi, func(n, y, x, c int) (float64, float64) {
				v := src.At(n, y, x, c)
				return float64(act.Apply(v)), 1 + math.Abs(float64(v))
			}, activationSlack)
			if from != to {
				continue
			}
			want := clone(src)
			Activate(tier, src, src, act, lo, hi)
			checkRows(t, what+" in place", src, lo, hi, func(n, y, x, c int) (float64, float64) {
				v := want.At(n, y, x, c)
				return float64(act.Apply(v)), 1 + math.Abs(float64(v))
			}, activationSlack)
		}
	})
}

func TestConvertKeepsSpecialValues(t *testing.T) {
	values := []float32{0, float32(math.Copysign(0, -1)), 1, -1, 1.00390625, 1.01171875, -1.00390625, 3.3895e38, -3.3895e38, math.MaxFloat32,
		float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.Float32frombits(0x7f800001), math.Float32frombits(0xff800001),
		1e-30, -1e-30, 123.456, 65504, 1.1754944e-38, 0.33333334}
	for _, tier := range tiers() {
		for _, f := range formats {
			for shift := range values { // every value in every lane, tails too
				src, dst := NewMap(F32, 1, 1, 1, len(values)+shift, 0), NewMap(f, 1, 1, 1, len(values)+shift, 0)
				for i := range src.F32 {
					src.F32[i] = values[(i+shift)%len(values)]
				}
				Convert(tier, dst, src, 0, 1)
				back := NewMap(F32, 1, 1, 1, src.C, 0)
				Convert(tier, back, dst, 0, 1)
				for i, v := range src.F32 {
					want := v
					switch f {
					case BF16:
						want = FromBF16(ToBF16(v))
					case Split:
						want = FromSplit(ToSplit(v))
					}
					if got := back.F32[i]; got != want && !(got != got && want != want) {
						t.Fatalf("%v: %g through %v is %g instead of %g", tier, v, f, got, want)
					}
				}
			}
		}
	}
}

func TestNaNSurvivesActivation(t *testing.T) {
	nan := float32(math.NaN())
	for _, tier := range tiers() {
		for act := range activations {
			m := NewMap(F32, 1, 1, 1, 37, 0)
			fill(m.F32, nan)
			Activate(tier, m, m, act, 0, 1)
			for i, v := range m.F32 {
				if v == v {
					t.Errorf("%v: %v of not-a-number is %g in lane %d", tier, act, v, i)
					break
				}
			}
		}
	}
}

func TestAddIntoItsOperand(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for range guard.Trials(40) {
			act := Activation(r.IntN(int(activations)))
			n, h, w, c := 1+r.IntN(3), 1+r.IntN(4), 1+r.IntN(6), channels(r)
			a, b, dst := randomMap(r, f, n, h, w, c, r.IntN(2)), randomMap(r, f, n, h, w, c, r.IntN(2)), randomMap(r, f, n, h, w, c, r.IntN(2))
			a0 := clone(a)
			if r.IntN(2) == 0 {
				dst = a
			}
			before := clone(dst)
			lo, hi := someRows(r, dst)
			Add(tier, dst, a, b, act, lo, hi)
			checkOutside(t, "add", before, dst, lo, hi)
			checkRows(t, fmt.Sprintf("add and %v", act), dst, lo, hi, func(n, y, x, c int) (float64, float64) {
				v := a0.At(n, y, x, c) + b.At(n, y, x, c)
				return float64(act.Apply(v)), 1 + math.Abs(float64(v))
			}, activationSlack+intermediate(f, act))
		}
	})
}

// intermediate is the error of an activation applied to a sum that was rounded to the format first.
func intermediate(f Format, act Activation) float64 {
	if _, _, clip := act.bounds(); clip || f == F32 {
		return 0
	}
	return 1.5 * precision(f)
}

func TestAffineWithEveryPart(t *testing.T) {
	eachTier(t, func(t *testing.T, tier cpu.Tier, f Format, r source) {
		for range guard.Trials(80) {
			act := Activation(r.IntN(int(activations)))
			n, h, w, c := 1+r.IntN(3), 1+r.IntN(4), 1+r.IntN(6), channels(r)
			src, dst, res := randomMap(r, f, n, h, w, c, r.IntN(2)), randomMap(r, f, n, h, w, c, r.IntN(2)), randomMap(r, f, n, h, w, c, r.IntN(2))
			stride := 0
			if r.IntN(2) == 0 {
				stride = c
			}
			scale, shift := guard.Slice[float32](r.tb, (n-1)*stride+c), guard.Slice[float32](r.tb, (n-1)*stride+c)
			for i := range scale {
				scale[i], shift[i] = float32(r.NormFloat64()), float32(r.NormFloat64())
			}
			residual := &res
			if r.IntN(2) == 0 {
				residual = nil
			}
			if r.IntN(2) == 0 {
				shift = nil
			}
			if residual == nil && shift == nil && r.IntN(2) == 0 {
				src = randomMap(r, F32, n, h, w, c, r.IntN(2))
			}
			before := clone(dst)
			lo, hi := someRows(r, dst)
			Affine(tier, dst, src, scale, shift, stride, residual, act, lo, hi)
			checkOutside(t, "affine", before, dst, lo, hi)
			checkRows(t, fmt.Sprintf("affine and %v", act), dst, lo, hi, func(n, y, x, c int) (float64, float64) {
				v := float64(src.At(n, y, x, c)) * float64(scale[n*stride+c])
				size := 1 + math.Abs(v)
				if shift != nil {
					v += float64(shift[n*stride+c])
				}
				if residual != nil {
					v += float64(res.At(n, y, x, c))
					size += math.Abs(float64(res.At(n, y, x, c)))
				}
				return float64(act.Apply(float32(v))), size + math.Abs(v)
			}, activationSlack+intermediate(f, act))
		}
	})
}

func TestActivationsWithinStatedError(t *testing.T) {
	// The stated errors, relative to the result (and 7e-8*|x| more, the rounding of an exponent) and absolute.
	stated := map[Activation]struct{ relative, absolute float64 }{
		Sigmoid: {5e-7, 2e-38}, SiLU: {6e-7, 1e-30}, GELU: {4e-7, 1e-6}, Tanh: {0, 4e-7}, HardSwish: {3e-7, 1e-7}, HardSigmoid: {2e-7, 0},
	}
	for _, tier := range tiers() {
		for act, bound := range stated {
			var xs []float32
			for x := -30.0; x < 30; x += 0.00113 {
				xs = append(xs, float32(x))
			}
			m := Vectors(append([]float32(nil), xs...), 1, len(xs))
			Activate(tier, m, m, act, 0, 1)
			worst, at := 0.0, float32(0)
			for i, x := range xs {
				want := float64(act.Apply(x))
				limit := bound.absolute*max(1, math.Abs(float64(x))/5) + (bound.relative+7e-8*math.Abs(float64(x)))*math.Abs(want)
				if e := math.Abs(float64(m.F32[i]) - want); e > limit && e-limit > worst {
					worst, at = e-limit, x
				}
			}
			if worst > 0 {
				t.Errorf("%v: %v(%g) is off by %g more than stated: %g", tier, act, at, worst, act.Apply(at))
			}
		}
	}
}

func TestBF16RoundsToEven(t *testing.T) {
	for _, c := range []struct {
		in   uint32
		want uint16
	}{{0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, {0x3f808001, 0x3f81}, {0x7f7fffff, 0x7f80}, {0x7f800000, 0x7f80}, {0x7f800001, 0x7fc0}, {0xff800001, 0xffc0}, {0x80000000, 0x8000}} {
		if got := ToBF16(math.Float32frombits(c.in)); got != c.want {
			t.Errorf("%08x becomes %04x instead of %04x", c.in, got, c.want)
		}
	}
	if hi, lo := ToSplit(float32(math.Inf(-1))); hi != 0xff80 || lo != 0 {
		t.Errorf("-Inf splits into %04x and %04x", hi, lo)
	}
}
