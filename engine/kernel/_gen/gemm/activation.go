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

// activate512 applies the activation whose number is in the 32-bit word kind to the registers z. lo and hi hold the
// bounds of those that clip. It uses Z2 to Z8 and labels that begin with prefix.
func activate512(prefix string, kind Mem, lo, hi VecPhysical, z ...VecPhysical) {
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
		{actHardSwish, hardSwish512}, {actHardSigmoid, hardSigmoid512}, {actSiLU, silu512}, {actSigmoid, sigmoid512}, {actGELU, gelu512}, {actTanh, tanh512},
	}
	for i, f := range forms {
		Label(label(f.kind))
		if i < len(forms)-1 {
			CMPL(kind, Imm(uint64(f.kind)))
			JNE(LabelRef(label(f.kind + 1)))
		}
		for _, v := range z {
			f.emit(v)
		}
		if i < len(forms)-1 {
			JMP(LabelRef(done))
		}
	}
	Label(done)
}

// hardSigmoid512 is min(max(x+3, 0), 6) / 6.
func hardSigmoid512(x VecPhysical) {
	VADDPS_BCST(k("3"), x, x)
	VPXORD(Z2, Z2, Z2)
	VMAXPS(x, Z2, x)
	VBROADCASTSS(k("6"), Z2)
	VMINPS(x, Z2, x)
	VMULPS_BCST(k("1/6"), x, x)
}

func hardSwish512(x VecPhysical) {
	VMOVAPS(x, Z3)
	hardSigmoid512(x)
	VMULPS(Z3, x, x)
}

// exp512 is exp(x) in place, for x already at most 0 or clipped; it uses Z2 and Z3.
func exp512(x VecPhysical) {
	VBROADCASTSS(k("expMin"), Z2)
	VMAXPS(x, Z2, x)
	VBROADCASTSS(k("expMax"), Z2)
	VMINPS(x, Z2, x)
	VMULPS_BCST(k("log2e"), x, Z2)
	VRNDSCALEPS(Imm(8), Z2, Z2)
	VFNMADD231PS_BCST(k("ln2hi"), Z2, x)
	VFNMADD231PS_BCST(k("ln2lo"), Z2, x)
	VBROADCASTSS(k("exp0"), Z3)
	for i := 1; i <= 5; i++ {
		VFMADD213PS_BCST(k(fmt.Sprintf("exp%d", i)), x, Z3)
	}
	VMULPS(x, Z3, Z3)
	VFMADD213PS(x, x, Z3) // (p*x)*x + x
	VADDPS_BCST(k("1"), Z3, Z3)
	VSCALEFPS(Z2, Z3, x)
}

// sigmoid512 is 1 / (1 + exp(-x)).
func sigmoid512(x VecPhysical) {
	VPXORD_BCST(k("sign"), x, x)
	exp512(x)
	VADDPS_BCST(k("1"), x, x)
	VBROADCASTSS(k("1"), Z2)
	VDIVPS(x, Z2, x)
}

func silu512(x VecPhysical) {
	VMOVAPS(x, Z4)
	sigmoid512(x)
	VMULPS(Z4, x, x)
}

// tanh512 is 2*sigmoid(2x) - 1.
func tanh512(x VecPhysical) {
	VADDPS(x, x, x)
	sigmoid512(x)
	VADDPS(x, x, x)
	VADDPS_BCST(k("-1"), x, x)
}

// gelu512 is max(x, 0) - |x|/2 * (1 - erf(|x|/sqrt(2))).
func gelu512(x VecPhysical) {
	VMOVAPS(x, Z4)
	VPANDD_BCST(k("abs"), x, Z5)
	VMOVAPS(Z5, Z6)
	VBROADCASTSS(k("1"), Z7)
	VFMADD132PS_BCST(k("erfP"), Z7, Z6) // 1 + p*z
	VDIVPS(Z6, Z7, Z6)                  // t
	VMULPS(x, x, x)
	VMULPS_BCST(k("-half"), x, x)
	exp512(x)
	VBROADCASTSS(k("erf5"), Z7)
	for i := 4; i >= 1; i-- {
		VFMADD213PS_BCST(k(fmt.Sprintf("erf%d", i)), Z6, Z7)
	}
	VMULPS(Z6, Z7, Z7)
	VMULPS(x, Z7, Z7)
	VMULPS_BCST(k("half"), Z5, Z5)
	VPXORD(Z2, Z2, Z2)
	VMAXPS(Z4, Z2, x)
	VFNMADD231PS(Z5, Z7, x)
}
