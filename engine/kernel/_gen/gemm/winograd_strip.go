package main

import (
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

// strip is the transformation of tiles of 1×4 outputs.
var strip = winogradTiles[1]

func winogradStripKernels() {
	stripInputKernel("winogradStripRound", 1)
	stripInputKernel("winogradStripSplit", 2)
	stripOutputKernel("winogradStripOutput")
}

// stripInputKernel emits the transformation of a row of pixels to the operands of tile products: for every tile of m outputs
// its n points, in chunks of 32 channels of one or two planes of bfloat16.
//
// Registers: R8 the arguments, R9 the tile's first pixel, R13 the same at a block of channels, R10 from the hi to the lo plane, R11
// pixel, R14 and R15 three and five pixels, DI destination of the tile, SI of the block, R12 distance of points, BX from hi to lo there,
// CX tiles left, DX blocks left, AX temporary. K1 to K6 are the masks of the pixels, K7 that of the last block's channels.
func stripInputKernel(name string, planes int) {
	n := strip.m + 2
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " transforms the input of a row of tiles: see stripArgs.")
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
	load(lNext, RAX)
	for i, m := range masks {
		KMOVD(Mem{Base: RAX, Disp: 4 * i}, m)
	}
	ADDQ(Imm(uint64(4*n)), RAX)
	MOVQ(RAX, arg(lNext))
	load(lBlocks, RDX)
	load(lDstLow, RBX)
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
	strip.input(form512, even, evenPoints, nil)
	strip.input(form512, odd, oddPoints, nil)
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

// stripOutputKernel emits the transformation of the products of a panel to outputs by itself: the tile kernel does it beside its products.
//
// Registers: as in the tile kernel.
func stripOutputKernel(name string) {
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " transforms the products of a panel to outputs: see tileArgs.")
	Load(Param("args"), R8)
	load(aSums, RSI)
	finishConstants()
	startStrips()
	Label("strip")
	CMPQ(arg(aStripCount), Imm(0))
	JE(LabelRef("end"))
	finishStrip()
	JMP(LabelRef("strip"))
	Label("end")
	VZEROUPPER()
	RET()
}

// startStrips prepares to finish the strips of the panel that the arguments name.
func startStrips() {
	for _, f := range panelState[:4] {
		copyArg(f.from, f.pending)
	}
	load(aBias, RAX)
	VMOVUPS(Mem{Base: RAX}, Z31)
	VMOVUPS(Mem{Base: RAX, Disp: 64}, Z30)
	load(aMask, RAX)
	finishMasks()
}

// finishStrip transforms the products of the next strip to sums of its outputs, and finishes these as rows.
func finishStrip() {
	n, m := strip.m+2, strip.m
	even, odd := registers(0, n), registers(n, n)
	evenOut, oddOut := registers(12, m), registers(16, m)
	load(aStrips, RAX)
	MOVLQSX(Mem{Base: RAX}, RBX)
	MOVLQSX(Mem{Base: RAX, Disp: 4}, R14)
	MOVLQSX(Mem{Base: RAX, Disp: 12}, R15)
	ADDQ(Imm(8), RAX)
	MOVQ(RAX, arg(aStrips))
	ADDQ(arg(aRows), R14)
	ADDQ(arg(aRows), R15)
	ADDQ(arg(aPoints), RBX)
	load(aPointStep, RAX)
	for i := range n {
		VMOVUPS(Mem{Base: RBX}, even[i])
		VMOVUPS(Mem{Base: RBX, Disp: 64}, odd[i])
		if i < n-1 {
			ADDQ(RAX, RBX)
		}
	}
	strip.output(form512, even, evenOut, nil)
	strip.output(form512, odd, oddOut, nil)
	for i := range m {
		VMOVUPS(evenOut[i], Mem{Base: RSI, Disp: 128 * i})
		VMOVUPS(oddOut[i], Mem{Base: RSI, Disp: 128*i + 64})
	}
	finishRows("row", true, R15, "stripdone")
	Label("stripdone")
	DECQ(arg(aStripCount))
}
