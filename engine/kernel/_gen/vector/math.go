package main

import (
	"math"

	"github.com/go-modelzoo/zoo/engine/kernel/_gen/poly"
	"github.com/mmcloughlin/avo/reg"
)

// horner evaluates a polynomial of x into a new register.
func (g *gen) horner(coefficients []float64, x int) int {
	p := g.constant(coefficients[len(coefficients)-1])
	for k := len(coefficients) - 2; k >= 0; k-- {
		g.withConst("VFMADD213PS", coefficients[k], x, p)
	}
	return p
}

// limits are registers with the ends of the interval outside of which a function neither grows nor shrinks.
type limits struct{ lo, hi int }

func (g *gen) limits(lo, hi float64) limits { return limits{g.constant(lo), g.constant(hi)} }

// exp replaces x, at most 0, by exp(x), after raising it to lowest: at least -87, so that 2^n and the result are normal numbers.
func (g *gen) exp(x, lowest int) {
	high := float64(float32(math.Log2E))
	g.i("VMAXPS", x, lowest, x)
	n, f := g.get(), g.get()
	g.withConst("VMULPS", high, x, n)
	if g.wide() {
		g.i("VRNDSCALEPS", imm(8), n, n)
	} else {
		g.i("VROUNDPS", imm(8), n, n)
	}
	g.move(x, f)
	g.withConst("VFMSUB132PS", high, n, f)
	g.withConst("VFMADD231PS", math.Log2E-high, x, f)
	p := g.horner(poly.Exp2, f)
	if g.wide() {
		g.i("VSCALEFPS", n, p, x)
	} else {
		g.i("VCVTPS2DQ", n, n)
		g.i("VPSLLD", imm(23), n, n)
		g.i("VPADDD", n, p, x)
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
		p := g.horner(poly.Exp2Above, f)
		g.i("VSCALEFPS", z, p, x)
		g.put(p)
	} else {
		g.clip(z, lim.lo, lim.hi)
		g.i("VROUNDPS", imm(9), z, f)
		g.i("VSUBPS", f, z, z)
		p := g.horner(poly.Exp2Above, z)
		g.i("VCVTPS2DQ", f, f)
		g.i("VPSLLD", imm(23), f, f)
		g.i("VPADDD", f, p, x)
		g.put(p)
	}
	g.put(z, f)
	g.withConst("VADDPS", 1, x, x)
	g.reciprocal(x)
}

func (g *gen) phiLimits() limits { return g.limits(-poly.PhiLimit, poly.PhiLimit) }

// phi replaces x by the distribution function of the normal distribution.
func (g *gen) phi(x int, lim limits) {
	g.clip(x, lim.lo, lim.hi)
	u := g.get()
	g.i("VMULPS", x, x, u)
	minusOne := g.constant(-1)
	// u = x^2 * 2/limit^2 - 1
	g.withConst("VFMADD132PS", 2/(poly.PhiLimit*poly.PhiLimit), minusOne, u)
	g.put(minusOne)
	q := g.horner(poly.Phi, u)
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
	expOnly // of numbers that are not above 0
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
		lowest := g.constant(-87)
		return func(x int) { g.exp(x, lowest) }
	}
}
