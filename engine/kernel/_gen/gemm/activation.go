package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// The activations, numbered as kernel.Activation does. The first three only clip.
const (
	actReLU6 = 2 + iota
	actHardSwish
	actHardSigmoid
	actSiLU
	actSigmoid
	actGELU
	actTanh
)

// activate applies the activation whose number is in the 32-bit word kind to the registers z. lo and hi hold the bounds of
// those that clip. Labels begin with prefix.
func activate(f form, prefix string, kind Mem, lo, hi VecPhysical, z ...VecPhysical) {
	label := func(n int) string { return fmt.Sprintf("%s_act%d", prefix, n) }
	done := prefix + "_actdone"
	CMPL(kind, Imm(actReLU6))
	JA(LabelRef(label(actHardSwish)))
	for _, v := range z {
		VMAXPS(v, lo, v) // a not-a-number in the first operand passes
	}
	for _, v := range z {
		VMINPS(v, hi, v)
	}
	JMP(LabelRef(done))
	forms := []struct {
		kind int
		emit func(VecPhysical)
	}{
		{actHardSwish, f.hardSwish}, {actHardSigmoid, f.hardSigmoid}, {actSiLU, f.silu}, {actSigmoid, f.sigmoid}, {actGELU, f.gelu}, {actTanh, f.tanh},
	}
	for i, a := range forms {
		Label(label(a.kind))
		if i < len(forms)-1 {
			CMPL(kind, Imm(uint64(a.kind)))
			JNE(LabelRef(label(a.kind + 1)))
		}
		for _, v := range z {
			a.emit(v)
		}
		if i < len(forms)-1 {
			JMP(LabelRef(done))
		}
	}
	Label(done)
}

// hardSigmoid is min(max(x+3, 0), 6) / 6. It uses the temporary register 0.
func (f form) hardSigmoid(x VecPhysical) {
	t := f.t[0]
	f.with(VADDPS_BCST, VADDPS, "3", t, x, x)
	f.zero(t)
	VMAXPS(x, t, x)
	f.constant("6", t)
	VMINPS(x, t, x)
	f.with(VMULPS_BCST, VMULPS, "1/6", t, x, x)
}

func (f form) hardSwish(x VecPhysical) {
	f.move(x, f.t[1])
	f.hardSigmoid(x)
	VMULPS(f.t[1], x, x)
}

// horner evaluates a polynomial of x into p; it uses the temporary register 3.
func (f form) horner(q *polynomial, x, p VecPhysical) {
	last := len(q.coefficients) - 1
	f.constant(q.coefficient(last), p)
	for i := last - 1; i >= 0; i-- {
		f.with(VFMADD213PS_BCST, VFMADD213PS, q.coefficient(i), f.t[3], x, p)
	}
}

// sigmoid is 1 / (1 + exp(-x)). The exponent of 2^(-x log2(e)) is rounded down and the polynomial is in [1, 2], so that VREDUCEPS and
// VSCALEFPS, which both round down, or an addition to the exponent's bits do the rest. VRCP14PS and a step of Newton's method take
// a third of the time of a division and are within 2 units in the last place. It uses the temporary registers 0, 1 and 3.
func (f form) sigmoid(x VecPhysical) {
	z, p, t := f.t[0], f.t[1], f.t[3]
	f.with(VMULPS_BCST, VMULPS, "-log2e", t, x, x)
	f.constant("exp2Max", t)
	VMINPS(x, t, x) // a not-a-number in the first operand passes
	if f.wide {
		VREDUCEPS(Imm(9), x, z)
		f.horner(exp2Above, z, p)
		VSCALEFPS(x, p, x) // zero for 2 to the power of minus infinity
		VADDPS_BCST(k("1"), x, x)
		VRCP14PS(x, p)
		f.constant("2", t)
		VFNMADD231PS(x, p, t)
		VMULPS(t, p, x)
		return
	}
	f.constant("exp2Min", t)
	VMAXPS(x, t, x)
	VROUNDPS(Imm(9), x, z)
	VSUBPS(z, x, x)
	f.horner(exp2Above, x, p)
	VCVTPS2DQ(z, z)
	VPSLLD(Imm(23), z, z)
	VPADDD(z, p, x)
	f.constant("1", t)
	VADDPS(t, x, x)
	VDIVPS(x, t, x)
}

// silu uses the temporary register 2 as well.
func (f form) silu(x VecPhysical) {
	f.move(x, f.t[2])
	f.sigmoid(x)
	VMULPS(f.t[2], x, x)
}

// tanh is 2*sigmoid(2x) - 1.
func (f form) tanh(x VecPhysical) {
	VADDPS(x, x, x)
	f.sigmoid(x)
	VADDPS(x, x, x)
	f.with(VADDPS_BCST, VADDPS, "-1", f.t[0], x, x)
}

// gelu is x * Phi(x). It uses all temporary registers, and K5.
func (f form) gelu(x VecPhysical) {
	c, u, q, t := f.t[0], f.t[1], f.t[2], f.t[3]
	f.with(VMAXPS_BCST, VMAXPS, "-phiLimit", t, x, c)
	f.with(VMINPS_BCST, VMINPS, "phiLimit", t, c, c)
	VMULPS(c, c, u)
	f.constant("-1", q)
	f.with(VFMADD132PS_BCST, VFMADD132PS, "phiScale", t, q, u)
	f.horner(phi, u, q)
	f.with(VFMADD213PS_BCST, VFMADD213PS, "half", t, c, q)
	// Below the limit Phi is 2e-7 instead of 0; times a large x that would be seen.
	const notLessOrEqual = 6
	f.constant("-phiLimit", t)
	if f.wide {
		VCMPPS(Imm(notLessOrEqual), t, x, K5)
		VMULPS_Z(q, x, K5, x)
		return
	}
	VMULPS(q, x, q)
	VCMPPS(Imm(notLessOrEqual), t, x, x)
	VANDPS(q, x, x)
}
