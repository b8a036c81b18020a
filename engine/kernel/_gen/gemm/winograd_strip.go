package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of stripArgs in engine/kernel/gemm/winograd_strip_amd64.go, each 8 bytes.
const (
	lSrc = 8 * iota
	lLow
	lFirst
	lPixel
	lStep
	lDst
	lDstLow
	lPoint
	lBlock
	lBlocks
	lMask
	lTiles
	lMasks
	// State of the kernel itself.
	lNext
)

func winogradStripKernels() {
	for _, t := range winogradTiles {
		t.stripInputKernel(1)
		t.stripInputKernel(2)
		t.stripOutputKernel()
	}
}

// stripInputKernel emits the transformation of a row of pixels to the operands of tile products: for every tile of m outputs
// its n points, in chunks of 32 channels of one or two planes of bfloat16.
//
// Registers: R8 the arguments, R9 the tile's first pixel, R13 the same at a block of channels, R10 from the hi to the lo plane, R11
// pixel, R14 and R15 three and five pixels, DI destination of the tile, SI of the block, R12 distance of points, BX from hi to lo there,
// CX tiles left, DX blocks left, AX temporary. K1 to K6 are the masks of the pixels, K7 that of the last block's channels.
func (t winogradTile) stripInputKernel(planes int) {
	n := t.m + 2
	name := fmt.Sprintf("winogradStrip%s%d", []string{"Round", "Split"}[planes-1], t.m)
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " transforms the input of a row of tiles: see stripArgs.")
	arg := func(offset int) Mem { return Mem{Base: R8, Disp: offset} }
	Load(Param("args"), R8)
	loadArgs(argument{lSrc, R9}, argument{lLow, R10}, argument{lPixel, R11}, argument{lDst, RDI}, argument{lPoint, R12}, argument{lTiles, RCX},
		argument{lMasks, RAX})
	MOVQ(RAX, arg(lNext))
	ADDQ(arg(lFirst), R9)
	LEAQ(Mem{Base: R11, Index: R11, Scale: 2}, R14)
	LEAQ(Mem{Base: R11, Index: R11, Scale: 4}, R15)
	VPBROADCASTD(k("round16"), Z31)
	VPBROADCASTD(k("high16"), Z30)
	KMOVD(arg(lMask), K7)
	pixels := func(base GPPhysical) []Mem {
		return []Mem{{Base: base}, {Base: base, Index: R11, Scale: 1}, {Base: base, Index: R11, Scale: 2}, {Base: base, Index: R14, Scale: 1}, {Base: base, Index: R11, Scale: 4}, {Base: base, Index: R15, Scale: 1}}
	}
	masks := []OpmaskPhysical{K1, K2, K3, K4, K5, K6}[:n]
	even, odd := registers(0, n), registers(n, n)
	evenPoints, oddPoints := registers(2*n, n), registers(3*n, n)
	spare := registers(4*n, 4)

	Label("tile")
	MOVQ(arg(lNext), RAX)
	for i, m := range masks {
		KMOVD(Mem{Base: RAX, Disp: 4 * i}, m)
	}
	ADDQ(Imm(uint64(4*n)), RAX)
	MOVQ(RAX, arg(lNext))
	MOVQ(arg(lBlocks), RDX)
	MOVQ(arg(lDstLow), RBX)
	MOVQ(R9, R13)
	MOVQ(RDI, RSI)
	Label("block")
	CMPQ(RDX, Imm(1))
	JNE(LabelRef("whole"))
	for _, m := range masks {
		KANDD(K7, m, m)
	}
	Label("whole")
	if planes == 2 {
		LEAQ(Mem{Base: R13, Index: R10, Scale: 1}, RAX)
	}
	// A word of 32 bits holds an even channel below an odd one.
	for j := range n {
		VMOVDQU16_Z(pixels(R13)[j], masks[j], spare[0])
		VPSLLD(Imm(16), spare[0], even[j])
		VPANDD(Z30, spare[0], odd[j])
		if planes == 2 {
			VMOVDQU16_Z(pixels(RAX)[j], masks[j], spare[1])
			VPSLLD(Imm(16), spare[1], spare[2])
			VPANDD(Z30, spare[1], spare[3])
			VADDPS(spare[2], even[j], even[j])
			VADDPS(spare[3], odd[j], odd[j])
		}
	}
	t.input(even, evenPoints)
	t.input(odd, oddPoints)
	MOVQ(RSI, RAX)
	for i := range n {
		e, o := evenPoints[i], oddPoints[i]
		roundedEven, roundedOdd, packed := spare[0], spare[1], spare[2]
		// pack takes the upper halves of two words.
		pack := func() {
			const orAnd = 0xf8 // a or (b and c)
			VPSRLD(Imm(16), roundedEven, packed)
			VPTERNLOGD(Imm(orAnd), Z30, roundedOdd, packed)
		}
		VPADDD(Z31, e, roundedEven)
		VPADDD(Z31, o, roundedOdd)
		pack()
		VMOVDQU64(packed, Mem{Base: RAX})
		if planes == 2 {
			VPANDD(Z30, roundedEven, roundedEven)
			VPANDD(Z30, roundedOdd, roundedOdd)
			VSUBPS(roundedEven, e, e)
			VSUBPS(roundedOdd, o, o)
			VPADDD(Z31, e, roundedEven)
			VPADDD(Z31, o, roundedOdd)
			pack()
			VMOVDQU64(packed, Mem{Base: RAX, Index: RBX, Scale: 1})
		}
		if i < n-1 {
			ADDQ(R12, RAX)
		}
	}
	ADDQ(Imm(64), R13)
	ADDQ(arg(lBlock), RSI)
	DECQ(RDX)
	JNZ(LabelRef("block"))
	ADDQ(arg(lStep), R9)
	ADDQ(Imm(64), RDI)
	DECQ(RCX)
	JNZ(LabelRef("tile"))
	VZEROUPPER()
	RET()
}

// stripOutputKernel emits the transformation of the products of a panel to outputs, which are finished as the rows of the tile
// kernels are.
//
// Registers: R8 the arguments, SI the sums of a tile's outputs, R9 distance of points, R10 tiles, CX tiles left, R11 products of the tile, R14 and R15
// the rows and their end, AX and BX temporary.
func (t winogradTile) stripOutputKernel() {
	n, m := t.m+2, t.m
	name := fmt.Sprintf("winogradStripOutput%d", m)
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " transforms the products of a panel to outputs: see tileArgs.")
	arg := func(offset int) Mem { return Mem{Base: R8, Disp: offset} }
	Load(Param("args"), R8)
	loadArgs(argument{aSums, RSI}, argument{aPointStep, R9}, argument{aStrips, R10}, argument{aStripCount, RCX}, argument{aRows, R14})
	for _, f := range panelState[:4] {
		MOVQ(arg(f.from), RAX)
		MOVQ(RAX, arg(f.pending))
	}
	finishConstants(arg)
	MOVQ(arg(aBias), RAX)
	VMOVUPS(Mem{Base: RAX}, Z31)
	VMOVUPS(Mem{Base: RAX, Disp: 64}, Z30)
	MOVQ(arg(aMask), RAX)
	finishMasks()
	even, odd := registers(0, n), registers(n, n)
	evenOut, oddOut := registers(12, m), registers(16, m)
	Label("tile")
	MOVLQSX(Mem{Base: R10}, R11)
	ADDQ(arg(aPoints), R11)
	for i := range n {
		VMOVUPS(Mem{Base: R11}, even[i])
		VMOVUPS(Mem{Base: R11, Disp: 64}, odd[i])
		if i < n-1 {
			ADDQ(R9, R11)
		}
	}
	t.output(even, evenOut)
	t.output(odd, oddOut)
	for i := range m {
		VMOVUPS(evenOut[i], Mem{Base: RSI, Disp: 128 * i})
		VMOVUPS(oddOut[i], Mem{Base: RSI, Disp: 128*i + 64})
	}
	MOVLQSX(Mem{Base: R10, Disp: 4}, R15)
	ADDQ(arg(aRows), R15)
	ADDQ(Imm(8), R10)
	Label("row")
	CMPQ(R14, R15)
	JGE(LabelRef("next"))
	finishRow(arg)
	ADDQ(Imm(12), R14)
	JMP(LabelRef("row"))
	Label("next")
	DECQ(RCX)
	JNZ(LabelRef("tile"))
	VZEROUPPER()
	RET()
}
