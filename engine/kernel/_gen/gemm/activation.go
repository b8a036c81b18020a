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

// form is a width of vectors: its temporary registers 2 to 7.
type form struct {
	wide bool
	t    [6]VecPhysical
}

var (
	form512 = form{true, [6]VecPhysical{Z2, Z3, Z4, Z5, Z6, Z7}}
	form256 = form{false, [6]VecPhysical{Y2, Y3, Y4, Y5, Y6, Y7}}
)

// constant loads a constant into all lanes of v.
func (f form) constant(name string, v VecPhysical) { VBROADCASTSS(k(name), v) }

// with emits an operation whose first operand is a constant: from memory, or through the temporary register tmp where the
// processor cannot broadcast in the operation.
func (f form) with(bcst, plain func(...Op), name string, tmp VecPhysical, ops ...Op) {
	if f.wide {
		bcst(append([]Op{k(name)}, ops...)...)
		return
	}
	f.constant(name, tmp)
	plain(append([]Op{tmp}, ops...)...)
}

func (f form) move(from, to VecPhysical) { VMOVAPS(from, to) }

func (f form) zero(v VecPhysical) {
	if f.wide {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

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

// exp is exp(x) in place; it uses the temporary registers 0, 1 and 5.
func (f form) exp(x VecPhysical) {
	n, p, t := f.t[0], f.t[1], f.t[5]
	f.constant("expMin", n)
	VMAXPS(x, n, x)
	f.constant("expMax", n)
	VMINPS(x, n, x)
	f.with(VMULPS_BCST, VMULPS, "log2e", t, x, n)
	if f.wide {
		VRNDSCALEPS(Imm(8), n, n)
	} else {
		VROUNDPS(Imm(8), n, n)
	}
	f.with(VFNMADD231PS_BCST, VFNMADD231PS, "ln2hi", t, n, x)
	f.with(VFNMADD231PS_BCST, VFNMADD231PS, "ln2lo", t, n, x)
	f.constant("exp0", p)
	for i := 1; i <= 5; i++ {
		f.with(VFMADD213PS_BCST, VFMADD213PS, fmt.Sprintf("exp%d", i), t, x, p)
	}
	VMULPS(x, p, p)
	VFMADD213PS(x, x, p) // (p*x)*x + x
	f.with(VADDPS_BCST, VADDPS, "1", t, p, p)
	if f.wide {
		VSCALEFPS(n, p, x)
		return
	}
	// Times 2^n by its exponent bits: expMin and expMax keep n within [-126, 127].
	VCVTPS2DQ(n, n)
	f.constant("bias", t)
	VPADDD(t, n, n)
	VPSLLD(Imm(23), n, n)
	VMULPS(n, p, x)
}

// sigmoid is 1 / (1 + exp(-x)).
func (f form) sigmoid(x VecPhysical) {
	t := f.t[0]
	f.with(VXORPS_BCST, VXORPS, "sign", t, x, x)
	f.exp(x)
	f.with(VADDPS_BCST, VADDPS, "1", t, x, x)
	f.constant("1", t)
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

// gelu is max(x, 0) - |x|/2 * (1 - erf(|x|/sqrt(2))). It uses all temporary registers.
func (f form) gelu(x VecPhysical) {
	keep, t, q := f.t[2], f.t[3], f.t[4]
	f.move(x, keep)
	f.constant("abs", f.t[0])
	VANDPS(f.t[0], x, t)
	f.constant("1", q)
	f.with(VFMADD132PS_BCST, VFMADD132PS, "erfP", f.t[5], q, t) // 1 + p*z
	VDIVPS(t, q, t)
	VMULPS(x, x, x)
	f.with(VMULPS_BCST, VMULPS, "-half", f.t[0], x, x)
	f.exp(x)
	f.constant("erf5", q)
	for i := 4; i >= 1; i-- {
		f.with(VFMADD213PS_BCST, VFMADD213PS, fmt.Sprintf("erf%d", i), f.t[0], t, q)
	}
	VMULPS(t, q, q)
	VMULPS(x, q, q)
	f.constant("abs", f.t[0])
	VANDPS(f.t[0], keep, t)
	f.with(VMULPS_BCST, VMULPS, "half", f.t[0], t, t)
	f.zero(f.t[0])
	VMAXPS(keep, f.t[0], x)
	VFNMADD231PS(t, q, x)
}
