package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// How float32 become planes of bfloat16: 16 even and 16 odd values, in a register each, are 32 values in their order.

// planeConstants loads what packHigh and packLow expect in registers. It uses RAX.
func planeConstants() {
	VPBROADCASTD(k("round16"), Z27)
	VPBROADCASTD(k("high16"), Z26)
	VPBROADCASTD(k("fixnan"), Z25)
	VBROADCASTI32X4(upperToLower, Z22)
	MOVQ(U64(0x3333333333333333), RAX) // the lower halves
	KMOVQ(RAX, K2)
}

// packHigh rounds to the nearest bfloat16 (halves away from zero: they matter to no one). The rounded registers are for packLow.
func packHigh(even, odd, roundedEven, roundedOdd, packed VecPhysical) {
	VPADDD(Z27, even, roundedEven)
	VPADDD(Z27, odd, roundedOdd)
	VMOVDQA64(roundedOdd, packed)
	VPSHUFB(Z22, roundedEven, K2, packed)
}

// packLow leaves in odd what packHigh left of the values, rounded. Where that rounded to an infinity the difference is not a number, and lo
// must be zero.
func packLow(even, odd, roundedEven, roundedOdd VecPhysical) {
	VPANDD(Z26, roundedEven, roundedEven)
	VPANDD(Z26, roundedOdd, roundedOdd)
	VSUBPS(roundedEven, even, even)
	VSUBPS(roundedOdd, odd, odd)
	VFIXUPIMMPS(Imm(0), Z25, even, even)
	VFIXUPIMMPS(Imm(0), Z25, odd, odd)
	VPADDD(Z27, even, even)
	VPADDD(Z27, odd, odd)
	VPSHUFB(Z22, even, K2, odd)
}
