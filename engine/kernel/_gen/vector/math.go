package main

import (
	"math"

	"github.com/mmcloughlin/avo/reg"
)

// The polynomials were fitted by iteratively reweighted least squares on Chebyshev nodes, which approaches the minimax
// polynomial; the errors are those of the fit in float64.

// exp2Poly is 2^f for |f| <= 1/2, relative error 1.9e-9.
var exp2Poly = []float64{1, 0.6931471824645996, 0.24022646248340607, 0.05550328642129898, 0.009618489071726799, 0.0013399930903688073, 0.00015345794963650405}

// exp2Short is 2^f for |f| <= 1/2, relative error 7.5e-8.
var exp2Short = []float64{1.0000001192092896, 0.6931469440460205, 0.24022120237350464, 0.05550713464617729, 0.009675540961325169, 0.001327645150013268}

// exp2Above is 2^f for 0 <= f <= 1, relative error 7.5e-8.
var exp2Above = []float64{0.9999999403953552, 0.6931530833244324, 0.24015362560749054, 0.05582631379365921, 0.008989347144961357, 0.0018775737844407558}

// phiPoly is (Phi(x) - 1/2) / x for |x| <= phiLimit in u = x^2 * 2/phiLimit^2 - 1, where Phi is the distribution
// function of the normal distribution; the error of Phi is 8e-8, 1.5e-7 in float32. In u, not in x^2, because the
// powers of x^2 cancel away all digits.
var phiPoly = []float64{0.13465936481952667, -0.06712665408849716, 0.049643874168395996, -0.039768584072589874, 0.03206458315253258, -0.02499549090862274,
	0.018324336037039757, -0.012951897457242012, 0.009074169211089611, -0.005125181283801794, 0.001865512109361589, -0.0013212714111432433, 0.0014581214636564255, -0.000562820874620229}

const phiLimit = 5.25

// horner evaluates a polynomial of x into a new register.
func (g *gen) horner(poly []float64, x int) int {
	p := g.constant(poly[len(poly)-1])
	for k := len(poly) - 2; k >= 0; k-- {
		g.withConst("VFMADD213PS", poly[k], x, p)
	}
	return p
}

// limits pins the interval outside of which exp neither grows nor shrinks; put both back.
type limits struct{ lo, hi int }

func (g *gen) limits(lo, hi float64) limits { return limits{g.constant(lo), g.constant(hi)} }

// exp replaces x by exp(sign*x), sign 1 or -1, after clipping x to lim. 2^n is multiplied in two halves on AVX2, so that
// results underflow and overflow as they should for |x| up to 170.
func (g *gen) exp(x int, sign float64, poly []float64, lim limits) {
	log2e := sign * math.Log2E
	high := float64(float32(log2e))
	g.clip(x, lim.lo, lim.hi)
	n, f := g.get(), g.get()
	g.withConst("VMULPS", high, x, n)
	if g.wide() {
		g.i("VRNDSCALEPS", imm(8), n, n)
	} else {
		g.i("VROUNDPS", imm(8), n, n)
	}
	g.move(x, f)
	g.withConst("VFMSUB132PS", high, n, f)
	g.withConst("VFMADD231PS", log2e-high, x, f)
	p := g.horner(poly, f)
	if g.wide() {
		g.i("VSCALEFPS", n, p, x)
	} else {
		g.i("VCVTPS2DQ", n, n)
		g.i("VPSRAD", imm(1), n, f)
		g.i("VPSUBD", f, n, n)
		for _, half := range []int{n, f} {
			g.withBits("VPADDD", 127, half, half)
			g.i("VPSLLD", imm(23), half, half)
		}
		g.i("VMULPS", f, p, p)
		g.i("VMULPS", n, p, x)
	}
	g.put(n, f, p)
}

// reciprocal replaces d, positive and finite, by 1/d: an approximation of 14 bits and a Newton step on AVX-512, which
// takes a quarter of the time of a division and is within 2 units in the last place.
func (g *gen) reciprocal(d int) {
	if !g.wide() {
		one := g.constant(1)
		g.i("VDIVPS", d, one, d)
		g.put(one)
		return
	}
	r, t := g.get(), g.get()
	g.i("VRCP14PS", d, r)
	g.move(r, t)
	g.withConst("VFNMADD213PS", 2, d, t)
	g.i("VMULPS", t, r, d)
	g.put(r, t)
}

// sigmoidLimits limit -x*log2(e) to where 1+exp(-x) and its reciprocal are normal numbers. On AVX-512 lo is not needed:
// 2^-infinity is zero without help.
func (g *gen) sigmoidLimits() limits {
	if g.wide() {
		return limits{hi: g.constant(125)}
	}
	return g.limits(-126, 125)
}

// sigmoid replaces x by 1/(1+exp(-x)). The exponent is rounded down and the polynomial is in [1, 2], so that 2^n is
// multiplied by adding to the exponent (AVX2), or by VREDUCEPS and VSCALEFPS, which both round down (AVX-512). That -x*log2(e)
// is rounded makes a relative error of 6e-8*|x| for negative x.
func (g *gen) sigmoid(x int, lim limits) {
	z, f := g.get(), g.get()
	g.withConst("VMULPS", -math.Log2E, x, z)
	if g.wide() {
		g.i("VMINPS", z, lim.hi, z)
		g.i("VREDUCEPS", imm(9), z, f)
		p := g.horner(exp2Above, f)
		g.i("VSCALEFPS", z, p, x)
		g.put(p)
	} else {
		g.clip(z, lim.lo, lim.hi)
		g.i("VROUNDPS", imm(9), z, f)
		g.i("VSUBPS", f, z, z)
		p := g.horner(exp2Above, z)
		g.i("VCVTPS2DQ", f, f)
		g.i("VPSLLD", imm(23), f, f)
		g.i("VPADDD", f, p, x)
		g.put(p)
	}
	g.put(z, f)
	g.withConst("VADDPS", 1, x, x)
	g.reciprocal(x)
}

func (g *gen) phiLimits() limits { return g.limits(-phiLimit, phiLimit) }

// phi replaces x by the distribution function of the normal distribution.
func (g *gen) phi(x int, lim limits) {
	g.clip(x, lim.lo, lim.hi)
	u := g.get()
	g.i("VMULPS", x, x, u)
	minusOne := g.constant(-1)
	// u = x^2 * 2/limit^2 - 1
	g.withConst("VFMADD132PS", 2/(phiLimit*phiLimit), minusOne, u)
	g.put(minusOne)
	q := g.horner(phiPoly, u)
	g.withConst("VFMADD213PS", 0.5, q, x)
	g.put(u, q)
}

// Activations with a loop of their own, in the order of the classes of package kernel.
const (
	clipOnly = iota
	hardSwish
	hardSigmoid
	silu
	sigmoid
	gelu
	tanh
	expOnly
)

var classNames = []string{"clip", "hardSwish", "hardSigmoid", "silu", "sigmoid", "gelu", "tanh", "exp"}

// activation returns a function that replaces a register by its activation. What it needs in every iteration is loaded
// before the loop.
func (g *gen) activation(class int) func(x int) {
	switch class {
	case clipOnly:
		lo, hi := g.scalar("lo"), g.scalar("hi")
		return func(x int) { g.clip(x, lo, hi) }
	case hardSwish, hardSigmoid:
		zero, six := g.get(), g.constant(6)
		g.zero(zero)
		return func(x int) {
			t := g.get()
			g.withConst("VADDPS", 3, x, t)
			g.clip(t, zero, six)
			if class == hardSwish {
				g.i("VMULPS", t, x, t)
			}
			g.withConst("VMULPS", 1.0/6, t, x)
			g.put(t)
		}
	case silu:
		lim := g.sigmoidLimits()
		return func(x int) {
			t := g.get()
			g.move(x, t)
			g.sigmoid(t, lim)
			g.i("VMULPS", t, x, x)
			g.put(t)
		}
	case sigmoid:
		lim := g.sigmoidLimits()
		return func(x int) { g.sigmoid(x, lim) }
	case gelu:
		lim := g.phiLimits()
		return func(x int) {
			t := g.get()
			g.move(x, t)
			g.phi(t, lim)
			// Below the limit phi is 2e-7 instead of 0; times a large x that would be seen.
			if g.wide() {
				g.i("VCMPPS", imm(6), lim.lo, x, reg.K2) // not less or equal
				g.i("VMULPS_Z", t, x, reg.K2, x)
			} else {
				g.i("VMULPS", x, t, t)
				g.i("VCMPPS", imm(6), lim.lo, x, x)
				g.i("VANDPS", t, x, x)
			}
			g.put(t)
		}
	case tanh: // 2*sigmoid(2x) - 1
		lim := g.sigmoidLimits()
		return func(x int) {
			g.i("VADDPS", x, x, x)
			g.sigmoid(x, lim)
			g.i("VADDPS", x, x, x)
			g.withConst("VADDPS", -1, x, x)
		}
	default:
		lim := g.limits(-150, 150)
		return func(x int) { g.exp(x, 1, exp2Poly, lim) }
	}
}
