package main

import (
	"github.com/go-modelzoo/zoo/engine/kernel/_gen/amx"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of tileArgs in engine/kernel/gemm/amx_amd64.go, each 8 bytes.
const (
	tConfig = 8 * iota
	tA0
	tA1
	tAInc
	tAStride
	tALow
	tOffsets
	tSteps
	tB
	tPanels
	tBlocks
	tRows
	tStarts
	tLimit
	tDst
	tDstLow
	tRes
	tResLow
	tBias
	tSums
	tShare
	tFormat
	tActivation
	tBounds // two float32
	tMask
	tAwake
	// State of the kernel itself.
	tPendingDst
	tPendingDstLow
	tPendingRes
	tPendingResLow
	tPanelsLeft
	tRowsFrom
	tRowsTo
	tDone
	tPanelDst
	tPanelDstLow
	tPanelRes
	tPanelResLow
	tBiasNext
)

// tileKernel emits the AMX kernel: for each block of 2×16 positions and for each panel of 32 output channels it sums
// over all steps of 32 input values in four tiles, and stores the sums to scratch memory. The rows of the previous sums
// are finished (bias, residual, activation, rounding) between the tile products of the current ones, so that the vector
// units work while the tile unit does.
//
// planes is 1 for operands of one bfloat16, 2 for operands of two (hi and lo, three products).
//
// Registers: R8 the arguments, R9 stride of the rows of A, R10 and R11 the two tiles of A, R12 weights, R13 offsets of
// the steps, CX steps left, DX stride of the weights or rows to do, R14 and R15 the pending rows and their end, SI the
// pending sums, DI from the hi to the lo plane of A, AX and BX temporary.
func tileKernel(name string, planes int) {
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " computes blocks of a convolution in AMX tiles: see tileArgs.")
	arg := func(offset int) Mem { return Mem{Base: R8, Disp: offset} }
	load := func(offset int, r GPPhysical) { MOVQ(arg(offset), r) }
	l := func(s string) string { return s }
	j := func(s string) LabelRef { return LabelRef(s) }

	Load(Param("args"), R8)
	load(tConfig, RAX)
	amx.LoadConfig(RAX)
	load(tAStride, R9)
	load(tA0, R10)
	load(tA1, R11)
	load(tALow, RDI)
	load(tSums, RSI)
	XORQ(R14, R14)
	XORQ(R15, R15)
	MOVQ(R14, arg(tDone))
	VBROADCASTSS(arg(tBounds), Z29)
	VBROADCASTSS(arg(tBounds+4), Z28)
	VPBROADCASTD(k("round16"), Z27)
	VPBROADCASTD(k("high16"), Z26)
	VPBROADCASTD(k("fixnan"), Z25)
	VMOVUPS(interleave, Z24)
	VMOVUPS(interleave.Offset(64), Z23)
	MOVL(k("oddWords"), EAX)
	KMOVD(EAX, K2)

	Label(l("block"))
	// The rows of this block are entries [starts[0], starts[1]) of the list, no further than the limit.
	load(tStarts, RAX)
	MOVLQSX(Mem{Base: RAX}, RBX)
	MOVLQSX(Mem{Base: RAX, Disp: 4}, RCX)
	ADDQ(Imm(4), RAX)
	MOVQ(RAX, arg(tStarts))
	load(tLimit, RDX)
	CMPQ(RBX, RDX)
	CMOVQGT(RDX, RBX)
	CMPQ(RCX, RDX)
	CMOVQGT(RDX, RCX)
	load(tRows, RAX)
	LEAQ(Mem{Base: RBX, Index: RBX, Scale: 2}, RBX)
	LEAQ(Mem{Base: RCX, Index: RCX, Scale: 2}, RCX)
	LEAQ(Mem{Base: RAX, Index: RBX, Scale: 4}, RBX)
	LEAQ(Mem{Base: RAX, Index: RCX, Scale: 4}, RCX)
	MOVQ(RBX, arg(tRowsFrom))
	MOVQ(RCX, arg(tRowsTo))
	load(tB, R12)
	load(tPanels, RAX)
	MOVQ(RAX, arg(tPanelsLeft))
	for _, f := range [][2]int{{tDst, tPanelDst}, {tDstLow, tPanelDstLow}, {tRes, tPanelRes}, {tResLow, tPanelResLow}, {tBias, tBiasNext}} {
		load(f[0], RAX)
		MOVQ(RAX, arg(f[1]))
	}

	Label(l("panel"))
	for t := range amx.Tile(4) {
		amx.Zero(t)
	}
	load(tOffsets, R13)
	load(tSteps, RCX)

	Label(l("step"))
	MOVLQSX(Mem{Base: R13}, RAX)
	ADDQ(Imm(4), R13)
	MOVQ(RAX, RBX)
	ADDQ(R10, RAX)
	ADDQ(R11, RBX)
	MOVQ(U32(64), RDX)
	if planes == 1 {
		amx.Load(4, RAX, R9, 0)
		amx.Load(6, R12, RDX, 0)
		amx.Dot(0, 4, 6)
		amx.Load(7, R12, RDX, 1024)
		amx.Dot(1, 4, 7)
		amx.Load(5, RBX, R9, 0)
		amx.Dot(2, 5, 6)
		amx.Dot(3, 5, 7)
	} else {
		// lo·hi, hi·hi, hi·lo: each tile is loaded once.
		ADDQ(RDI, RAX)
		ADDQ(RDI, RBX)
		amx.Load(4, RAX, R9, 0)
		amx.Load(6, R12, RDX, 0)
		amx.Dot(0, 4, 6)
		amx.Load(7, R12, RDX, 1024)
		amx.Dot(1, 4, 7)
		amx.Load(5, RBX, R9, 0)
		amx.Dot(2, 5, 6)
		amx.Dot(3, 5, 7)
		SUBQ(RDI, RAX)
		SUBQ(RDI, RBX)
		amx.Load(4, RAX, R9, 0)
		amx.Dot(0, 4, 6)
		amx.Dot(1, 4, 7)
		amx.Load(5, RBX, R9, 0)
		amx.Dot(2, 5, 6)
		amx.Dot(3, 5, 7)
		amx.Load(6, R12, RDX, 2048)
		amx.Dot(0, 4, 6)
		amx.Load(7, R12, RDX, 3072)
		amx.Dot(1, 4, 7)
		amx.Dot(2, 5, 6)
		amx.Dot(3, 5, 7)
	}
	// The processor puts the path from tiles to memory to sleep after some 1,500 cycles, and a store then takes 870 cycles
	// to wake it, in which nothing is computed. A store to nowhere every 500 to 800 cycles keeps it awake.
	awake := 8
	if planes == 2 {
		awake = 4
	}
	TESTQ(U32(uint32(awake-1)), RCX)
	JNZ(j("awake"))
	load(tAwake, RAX)
	amx.Store(5, RAX, RDX, 0)
	Label(l("awake"))
	ADDQ(U32(2048*uint32(planes)), R12)
	load(tShare, RDX)

	Label(l("row"))
	CMPQ(R14, R15)
	JGE(j("rowsdone"))
	finishRow(arg)
	ADDQ(Imm(12), R14)
	DECQ(RDX)
	JNZ(j("row"))
	Label(l("rowsdone"))
	DECQ(RCX)
	JNZ(j("step"))

	CMPQ(arg(tDone), Imm(0))
	JNE(j("end"))
	// Store the sums to the other buffer: two rows of 16 even and 16 odd channels side by side.
	XORQ(U32(4096), RSI)
	MOVQ(U32(128), RAX)
	amx.Store(0, RSI, RAX, 0)
	amx.Store(1, RSI, RAX, 64)
	amx.Store(2, RSI, RAX, 2048)
	amx.Store(3, RSI, RAX, 2048+64)
	// They are pending now.
	load(tRowsFrom, R14)
	load(tRowsTo, R15)
	load(tBiasNext, RAX)
	VMOVUPS(Mem{Base: RAX}, Z31)
	VMOVUPS(Mem{Base: RAX, Disp: 64}, Z30)
	ADDQ(U32(128), RAX)
	MOVQ(RAX, arg(tBiasNext))
	// The channels of this panel are 64 bytes in a plane of bfloat16, 128 in float32.
	MOVQ(U32(64), RBX)
	MOVQ(U32(128), RDX)
	CMPQ(arg(tFormat), Imm(0))
	CMOVQEQ(RDX, RBX)
	for _, f := range [][2]int{{tPanelDst, tPendingDst}, {tPanelDstLow, tPendingDstLow}, {tPanelRes, tPendingRes}, {tPanelResLow, tPendingResLow}} {
		load(f[0], RAX)
		MOVQ(RAX, arg(f[1]))
		if f[0] == tPanelRes { // stays nil
			TESTQ(RAX, RAX)
			CMOVQEQ(RAX, RBX)
		}
		ADDQ(RBX, RAX)
		MOVQ(RAX, arg(f[0]))
	}
	MOVQ(U32(0xffffffff), RAX)
	load(tPanelsLeft, RBX)
	load(tMask, RDX)
	DECQ(RBX)
	CMOVQEQ(RDX, RAX)
	MOVQ(RBX, arg(tPanelsLeft))
	KMOVD(EAX, K1)
	KMOVW(EAX, K3)
	SHRQ(Imm(16), RAX)
	KMOVW(EAX, K4)
	TESTQ(RBX, RBX)
	JNZ(j("panel"))

	load(tAInc, RAX)
	ADDQ(RAX, R10)
	ADDQ(RAX, R11)
	DECQ(arg(tBlocks))
	JNZ(j("block"))

	// The rows of the last sums.
	MOVQ(U32(1), RCX)
	MOVQ(RCX, arg(tDone))
	MOVQ(U32(32), RDX)
	JMP(j("row"))
	Label(l("end"))
	amx.Release()
	VZEROUPPER()
	RET()
}

// finishRow adds bias and residual to one row of 32 sums, applies the activation and stores it in the format of the
// destination. R14 is the entry of the row: offset of the sums in bytes, of destination and residual in elements.
// Z0 holds the 16 even channels and Z1 the odd ones: packing to bfloat16 is then a shift and a blend.
func finishRow(arg func(int) Mem) {
	MOVLQSX(Mem{Base: R14}, RBX)
	VADDPS(Mem{Base: RSI, Index: RBX, Scale: 1}, Z31, Z0)
	VADDPS(Mem{Base: RSI, Index: RBX, Scale: 1, Disp: 64}, Z30, Z1)
	CMPQ(arg(tFormat), Imm(0))
	JNE(LabelRef("halves"))

	// float32: to natural order first.
	VMOVAPS(Z24, Z2)
	VPERMI2PS(Z1, Z0, Z2)
	VPERMT2PS(Z1, Z23, Z0)
	VMOVAPS(Z0, Z1)
	VMOVAPS(Z2, Z0)
	MOVQ(arg(tPendingRes), RAX)
	TESTQ(RAX, RAX)
	JZ(LabelRef("noresidual32"))
	MOVLQSX(Mem{Base: R14, Disp: 8}, RBX)
	VMOVUPS_Z(Mem{Base: RAX, Index: RBX, Scale: 4}, K3, Z2)
	VMOVUPS_Z(Mem{Base: RAX, Index: RBX, Scale: 4, Disp: 64}, K4, Z3)
	VADDPS(Z2, Z0, Z0)
	VADDPS(Z3, Z1, Z1)
	Label("noresidual32")
	activate(form512, "f32", arg(tActivation), Z29, Z28, Z0, Z1)
	MOVLQSX(Mem{Base: R14, Disp: 4}, RBX)
	MOVQ(arg(tPendingDst), RAX)
	VMOVUPS(Z0, K3, Mem{Base: RAX, Index: RBX, Scale: 4})
	VMOVUPS(Z1, K4, Mem{Base: RAX, Index: RBX, Scale: 4, Disp: 64})
	JMP(LabelRef("rowdone"))

	Label("halves")
	MOVQ(arg(tPendingRes), RAX)
	TESTQ(RAX, RAX)
	JZ(LabelRef("noresidual16"))
	MOVLQSX(Mem{Base: R14, Disp: 8}, RBX)
	add := func() {
		VMOVDQU16_Z(Mem{Base: RAX, Index: RBX, Scale: 2}, K1, Z2)
		VPSLLD(Imm(16), Z2, Z3)
		VPANDD(Z26, Z2, Z2)
		VADDPS(Z3, Z0, Z0)
		VADDPS(Z2, Z1, Z1)
	}
	add()
	CMPQ(arg(tFormat), Imm(1))
	JE(LabelRef("noresidual16"))
	MOVQ(arg(tPendingResLow), RAX)
	add()
	Label("noresidual16")
	activate(form512, "f16", arg(tActivation), Z29, Z28, Z0, Z1)
	MOVLQSX(Mem{Base: R14, Disp: 4}, RBX)
	MOVQ(arg(tPendingDst), RAX)
	// Round to the nearest bfloat16 (halves away from zero: they matter to no one) and pack even below odd.
	VPADDD(Z27, Z0, Z2)
	VPADDD(Z27, Z1, Z3)
	VPSRLD(Imm(16), Z2, Z4)
	VMOVDQU16(Z3, K2, Z4)
	VMOVDQU16(Z4, K1, Mem{Base: RAX, Index: RBX, Scale: 2})
	CMPQ(arg(tFormat), Imm(1))
	JE(LabelRef("rowdone"))
	// lo is what hi leaves. Where hi is an infinity the difference is not a number, and lo must be zero.
	VPANDD(Z26, Z2, Z2)
	VPANDD(Z26, Z3, Z3)
	VSUBPS(Z2, Z0, Z0)
	VSUBPS(Z3, Z1, Z1)
	VFIXUPIMMPS(Imm(0), Z25, Z0, Z0)
	VFIXUPIMMPS(Imm(0), Z25, Z1, Z1)
	VPADDD(Z27, Z0, Z0)
	VPADDD(Z27, Z1, Z1)
	VPSRLD(Imm(16), Z0, Z0)
	VMOVDQU16(Z1, K2, Z0)
	MOVQ(arg(tPendingDstLow), RAX)
	VMOVDQU16(Z0, K1, Mem{Base: RAX, Index: RBX, Scale: 2})
	Label("rowdone")
}
