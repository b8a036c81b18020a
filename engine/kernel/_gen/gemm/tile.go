package main

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel/_gen/amx"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of tileArgs in engine/kernel/gemm/tile_amd64.go, each 8 bytes.
const (
	aConfig = 8 * iota
	aA
	aTiles
	aAStride
	aALow
	aOffsets
	aSteps
	aChunk
	aSkip
	aUntil
	aB
	aBStep
	aPanels
	aBlocks
	aGroups
	aRows
	aStarts
	aLimit
	aDst
	aDstLow
	aRes
	aResLow
	aBias
	aSums
	aAcc
	aAccStep
	aShare
	aFetch
	aAhead
	aFormat
	aActivation
	aBounds // two float32
	aMask
	aAwake
	aProducts
	aPoints
	aPointStep
	aStrips
	aStripCount
	// State of the kernel itself.
	aPendingDst
	aPendingDstLow
	aPendingRes
	aPendingResLow
	aPanelDst
	aPanelDstLow
	aPanelRes
	aPanelResLow
	aPanelBias
	aPanelAcc
	aGroupsLeft
	aGroupTiles
	aGroupStarts
	aPanelsLeft
	aStepsLeft
	aBlocksLeft
	aChunkSteps
	aChunkB
	aChunkOffsets
	aTilesNext
	aStartsNext
	aAccNext
	aFetchNext
	aFetchLeft // bytes
	aSpare
	aDone
	aProductsNext
)

// panelState are the pointers that advance from panel to panel: the argument, its value for the panel being summed, and for
// the panel of the pending rows. The arguments themselves stay: they are pointers that the garbage collector knows.
var panelState = []struct{ from, panel, pending int }{
	{aDst, aPanelDst, aPendingDst}, {aDstLow, aPanelDstLow, aPendingDstLow},
	{aRes, aPanelRes, aPendingRes}, {aResLow, aPanelResLow, aPendingResLow},
	{from: aBias, panel: aPanelBias}, {from: aAcc, panel: aPanelAcc},
}

// tileKernel emits the AMX kernel. For each group of blocks of 2×16 positions, each panel of 32 output channels and each
// block of the group it sums over all steps of 32 input values in four tiles, and stores the sums to scratch memory. The rows of the previous sums are finished
// (bias, residual, activation, rounding) between the tile products of the current ones, so that the vector units work
// while the tile unit does.
//
// The steps may be divided into chunks whose weights stay in cache while all blocks of a group pass. Between chunks the sums
// of a block lie in memory, and a call may compute some of the chunks only (aSkip, aUntil). While the blocks pass, the next
// chunk of weights is prefetched into L2: the processor's own prefetching brings less than memory could.
//
// planes is 1 for operands of one bfloat16, 2 for operands of two (hi and lo, three products).
//
// For Winograd's method, with strips, the sums are the products at one point. They are stored as rows of 16 even and 16 odd
// channels, row after row and panel after panel, and what is finished meanwhile are strips of earlier products.
//
// Registers: R8 the arguments, R9 stride of the rows of A, R10 and R11 the two tiles of A, R12 weights, R13 offsets of
// the steps, CX steps left, DX stride of the weights or rows to do, R14 and R15 the pending rows and their end, SI the
// pending sums, DI from the hi to the lo plane of A, AX and BX temporary.
func tileKernel(name string, planes int, strips bool) {
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " computes blocks of a convolution in AMX tiles: see tileArgs.")
	arg := func(offset int) Mem { return Mem{Base: R8, Disp: offset} }
	load := func(offset int, r GPPhysical) { MOVQ(arg(offset), r) }
	copyArg := func(from, to int) {
		load(from, RAX)
		MOVQ(RAX, arg(to))
	}
	j := func(s string) LabelRef { return LabelRef(s) }
	stepBytes := uint32(2048 * planes)
	stepShift := Imm(uint64(10 + planes))

	Load(Param("args"), R8)
	load(aConfig, RAX)
	amx.LoadConfig(RAX)
	load(aAStride, R9)
	load(aALow, RDI)
	if strips {
		copyArg(aProducts, aProductsNext)
	}
	load(aSums, RSI)
	XORQ(R14, R14)
	XORQ(R15, R15)
	MOVQ(R14, arg(aDone))
	copyArg(aGroups, aGroupsLeft)
	copyArg(aTiles, aGroupTiles)
	copyArg(aStarts, aGroupStarts)
	finishConstants(arg)
	if strips {
		startStrips(arg)
	}

	Label("group")
	copyArg(aPanels, aPanelsLeft)
	copyArg(aB, aChunkB)
	for _, f := range panelState {
		copyArg(f.from, f.panel)
	}

	Label("panel")
	load(aSteps, RAX)
	SUBQ(arg(aSkip), RAX)
	MOVQ(RAX, arg(aStepsLeft))
	copyArg(aOffsets, aChunkOffsets)

	Label("chunk")
	load(aStepsLeft, RAX)
	load(aChunk, RBX)
	CMPQ(RBX, RAX)
	CMOVQGT(RAX, RBX)
	MOVQ(RBX, arg(aChunkSteps))
	SHLQ(stepShift, RBX)
	load(aChunkB, RAX)
	ADDQ(arg(aAhead), RAX)
	MOVQ(RAX, arg(aFetchNext))
	XORQ(RDX, RDX)
	CMPQ(arg(aFetch), Imm(0))
	CMOVQEQ(RDX, RBX)
	MOVQ(RBX, arg(aFetchLeft))
	copyArg(aBlocks, aBlocksLeft)
	copyArg(aGroupTiles, aTilesNext)
	copyArg(aGroupStarts, aStartsNext)
	copyArg(aPanelAcc, aAccNext)

	Label("block")
	load(aTilesNext, RAX)
	load(aA, R10)
	MOVQ(R10, R11)
	MOVLQSX(Mem{Base: RAX}, RBX)
	MOVLQSX(Mem{Base: RAX, Disp: 4}, RCX)
	ADDQ(RBX, R10)
	ADDQ(RCX, R11)
	ADDQ(Imm(8), RAX)
	MOVQ(RAX, arg(aTilesNext))
	load(aChunkB, R12)
	load(aChunkOffsets, R13)
	load(aChunkSteps, RCX)
	load(aStepsLeft, RAX)
	CMPQ(RAX, arg(aSteps))
	JNE(j("resume"))
	for t := range amx.Tile(4) {
		amx.Zero(t)
	}
	JMP(j("step"))
	Label("resume")
	load(aAccNext, RAX)
	MOVQ(U32(64), RDX)
	for t := range amx.Tile(4) {
		amx.Load(t, RAX, RDX, 1024*int32(t))
	}

	Label("step")
	MOVLQSX(Mem{Base: R13}, RAX)
	ADDQ(Imm(4), R13)
	MOVQ(RAX, RBX)
	ADDQ(R10, RAX)
	ADDQ(R11, RBX)
	MOVQ(U32(64), RDX)
	// Weights for later are asked for between the products, four lines at a time: the processor's own prefetching brings less than
	// memory could, and many at once keep the tiles' own loads waiting. aFetch says how often at each of these places.
	// The code for it stands at the end, so that kernels whose weights are in cache run straight on.
	spots := 0
	fetch := func() {
		CMPQ(arg(aFetchLeft), Imm(0))
		JGT(j(fmt.Sprintf("fetch%d", spots)))
		Label(fmt.Sprintf("fetched%d", spots))
		spots++
	}
	if planes == 1 {
		amx.Load(4, RAX, R9, 0)
		amx.Load(6, R12, RDX, 0)
		amx.Dot(0, 4, 6)
		amx.Load(7, R12, RDX, 1024)
		amx.Dot(1, 4, 7)
		fetch()
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
		fetch()
		amx.Dot(3, 5, 7)
		SUBQ(RDI, RAX)
		SUBQ(RDI, RBX)
		amx.Load(4, RAX, R9, 0)
		amx.Dot(0, 4, 6)
		amx.Dot(1, 4, 7)
		fetch()
		amx.Load(5, RBX, R9, 0)
		amx.Dot(2, 5, 6)
		amx.Dot(3, 5, 7)
		amx.Load(6, R12, RDX, 2048)
		amx.Dot(0, 4, 6)
		fetch()
		amx.Load(7, R12, RDX, 3072)
		amx.Dot(1, 4, 7)
		amx.Dot(2, 5, 6)
		amx.Dot(3, 5, 7)
		fetch()
	}
	// The processor puts the path from tiles to memory to sleep after some 1,500 cycles, and a store then takes 870 cycles
	// to wake it, in which nothing is computed. A store to nowhere every 500 to 800 cycles keeps it awake.
	awake := 8
	if planes == 2 {
		awake = 4
	}
	TESTQ(U32(uint32(awake-1)), RCX)
	JNZ(j("awake"))
	load(aAwake, RAX)
	amx.Store(5, RAX, RDX, 0)
	Label("awake")
	ADDQ(U32(stepBytes), R12)

	load(aShare, RDX)
	if strips {
		Label("strip")
		CMPQ(arg(aStripCount), Imm(0))
		JE(j("stripsdone"))
		finishStrip(arg)
		DECQ(RDX)
		JNZ(j("strip"))
		Label("stripsdone")
	} else {
		Label("row")
		CMPQ(R14, R15)
		JGE(j("rowsdone"))
		finishRow(arg)
		ADDQ(Imm(12), R14)
		DECQ(RDX)
		JNZ(j("row"))
		Label("rowsdone")
	}
	DECQ(RCX)
	JNZ(j("step"))

	if !strips {
		CMPQ(arg(aDone), Imm(0))
		JNE(j("end"))
	}
	load(aStepsLeft, RAX)
	CMPQ(RAX, arg(aChunkSteps))
	JE(j("summed"))
	// There are more chunks.
	load(aAccNext, RAX)
	MOVQ(U32(64), RDX)
	for t := range amx.Tile(4) {
		amx.Store(t, RAX, RDX, 1024*int32(t))
	}
	ADDQ(U32(4096), RAX)
	MOVQ(RAX, arg(aAccNext))
	DECQ(arg(aBlocksLeft))
	JNZ(j("block"))
	load(aChunkSteps, RAX)
	SUBQ(RAX, arg(aStepsLeft))
	load(aChunkOffsets, RBX)
	LEAQ(Mem{Base: RBX, Index: RAX, Scale: 4}, RBX)
	MOVQ(RBX, arg(aChunkOffsets))
	SHLQ(stepShift, RAX)
	ADDQ(RAX, arg(aChunkB))
	load(aStepsLeft, RAX)
	CMPQ(RAX, arg(aUntil))
	JNE(j("chunk"))
	JMP(j("nextpanel")) // the sums are left to a later call

	Label("summed")
	MOVQ(U32(128), RAX)
	sums := RSI
	if strips {
		sums = RBX
		load(aProductsNext, RBX)
	} else {
		XORQ(U32(4096), RSI) // the other buffer
	}
	for t := range amx.Tile(4) {
		amx.Store(t, sums, RAX, productTile(t))
	}
	load(aAccNext, RAX) // as far as the other chunks have come
	ADDQ(U32(4096), RAX)
	MOVQ(RAX, arg(aAccNext))
	if strips {
		ADDQ(U32(4096), RBX)
		MOVQ(RBX, arg(aProductsNext))
	} else {
		pendRows(arg)
	}
	DECQ(arg(aBlocksLeft))
	JNZ(j("block"))

	// The next panel. The channels of this one are 64 bytes in a plane of bfloat16, 128 in float32.
	load(aChunkSteps, RAX)
	SHLQ(stepShift, RAX)
	ADDQ(RAX, arg(aChunkB))
	ADDQ(U32(128), arg(aPanelBias))
	MOVQ(U32(64), RBX)
	MOVQ(U32(128), RDX)
	CMPQ(arg(aFormat), Imm(0))
	CMOVQEQ(RDX, RBX)
	ADDQ(RBX, arg(aPanelDst))
	ADDQ(RBX, arg(aPanelDstLow))
	CMPQ(arg(aRes), Imm(0))
	JE(j("nextpanel")) // stays nil
	ADDQ(RBX, arg(aPanelRes))
	ADDQ(RBX, arg(aPanelResLow))
	Label("nextpanel")
	load(aBStep, RAX)
	ADDQ(RAX, arg(aChunkB))
	load(aAccStep, RAX)
	ADDQ(RAX, arg(aPanelAcc))
	DECQ(arg(aPanelsLeft))
	JNZ(j("panel"))
	copyArg(aTilesNext, aGroupTiles)
	copyArg(aStartsNext, aGroupStarts)
	DECQ(arg(aGroupsLeft))
	JNZ(j("group"))

	if !strips {
		// The rows of the last sums.
		MOVQ(U32(1), RCX)
		MOVQ(RCX, arg(aDone))
		MOVQ(U32(32), RDX)
		JMP(j("row"))
		Label("end")
	}
	amx.Release()
	VZEROUPPER()
	RET()

	for spot := range spots {
		loop, fetched := fmt.Sprintf("lines%d", spot), j(fmt.Sprintf("fetched%d", spot))
		Label(fmt.Sprintf("fetch%d", spot))
		MOVQ(R14, arg(aSpare))
		load(aFetchNext, RDX)
		MOVBQZX(arg(aFetch+spot), R14)
		SHLQ(Imm(8), R14)
		SUBQ(R14, arg(aFetchLeft))
		Label(loop)
		SUBQ(U32(256), R14)
		JLT(j(loop + "done"))
		for line := range 4 {
			PREFETCHT1(Mem{Base: RDX, Disp: 64 * line})
		}
		ADDQ(U32(256), RDX)
		JMP(j(loop))
		Label(loop + "done")
		MOVQ(RDX, arg(aFetchNext))
		load(aSpare, R14)
		MOVQ(U32(64), RDX)
		JMP(fetched)
	}
}

// productTile is where a tile lies in the sums of a block: two rows of 16 even and 16 odd channels side by side.
func productTile(t amx.Tile) int32 { return int32(t/2)*2048 + int32(t%2)*64 }

// finishConstants loads what finishRow expects in registers beside the bias.
func finishConstants(arg func(int) Mem) {
	VBROADCASTSS(arg(aBounds), Z29)
	VBROADCASTSS(arg(aBounds+4), Z28)
	VPBROADCASTD(k("round16"), Z27)
	VPBROADCASTD(k("high16"), Z26)
	VPBROADCASTD(k("fixnan"), Z25)
	VMOVUPS(interleave, Z24)
	VMOVUPS(interleave.Offset(64), Z23)
	MOVL(k("oddWords"), EAX)
	KMOVD(EAX, K2)
}

// pendRows makes the rows of the block that was stored last those that are finished next.
func pendRows(arg func(int) Mem) {
	load := func(offset int, r GPPhysical) { MOVQ(arg(offset), r) }
	// The rows of this block are entries [starts[0], starts[1]) of the list, no further than the limit.
	load(aStartsNext, RAX)
	MOVLQSX(Mem{Base: RAX}, R14)
	MOVLQSX(Mem{Base: RAX, Disp: 4}, R15)
	ADDQ(Imm(4), RAX)
	MOVQ(RAX, arg(aStartsNext))
	load(aLimit, RDX)
	CMPQ(R14, RDX)
	CMOVQGT(RDX, R14)
	CMPQ(R15, RDX)
	CMOVQGT(RDX, R15)
	load(aRows, RAX)
	for _, r := range []GPPhysical{R14, R15} { // times 12, the size of an entry
		LEAQ(Mem{Base: r, Index: r, Scale: 2}, r)
		LEAQ(Mem{Base: RAX, Index: r, Scale: 4}, r)
	}
	load(aPanelBias, RAX)
	VMOVUPS(Mem{Base: RAX}, Z31)
	VMOVUPS(Mem{Base: RAX, Disp: 64}, Z30)
	for _, f := range panelState[:4] {
		load(f.panel, RAX)
		MOVQ(RAX, arg(f.pending))
	}
	MOVQ(U32(0xffffffff), RAX)
	load(aMask, RDX)
	CMPQ(arg(aPanelsLeft), Imm(1))
	CMOVQEQ(RDX, RAX)
	finishMasks()
}

// finishMasks sets the masks that finishRow stores with to the bits of RAX.
func finishMasks() {
	KMOVD(EAX, K1)
	KMOVW(EAX, K3)
	SHRQ(Imm(16), RAX)
	KMOVW(EAX, K4)
}

// finishRow adds bias and residual to one row of 32 sums, applies the activation and stores it in the format of the
// destination. R14 is the entry of the row: offset of the sums in bytes, of destination and residual in elements.
// Z0 holds the 16 even channels and Z1 the odd ones: packing to bfloat16 is then a shift and a blend.
func finishRow(arg func(int) Mem) {
	MOVLQSX(Mem{Base: R14}, RBX)
	VADDPS(Mem{Base: RSI, Index: RBX, Scale: 1}, Z31, Z0)
	VADDPS(Mem{Base: RSI, Index: RBX, Scale: 1, Disp: 64}, Z30, Z1)
	CMPQ(arg(aFormat), Imm(0))
	JNE(LabelRef("halves"))

	// float32: to natural order first.
	VMOVAPS(Z24, Z2)
	VPERMI2PS(Z1, Z0, Z2)
	VPERMT2PS(Z1, Z23, Z0)
	VMOVAPS(Z0, Z1)
	VMOVAPS(Z2, Z0)
	MOVQ(arg(aPendingRes), RAX)
	TESTQ(RAX, RAX)
	JZ(LabelRef("noresidual32"))
	MOVLQSX(Mem{Base: R14, Disp: 8}, RBX)
	VMOVUPS_Z(Mem{Base: RAX, Index: RBX, Scale: 4}, K3, Z2)
	VMOVUPS_Z(Mem{Base: RAX, Index: RBX, Scale: 4, Disp: 64}, K4, Z3)
	VADDPS(Z2, Z0, Z0)
	VADDPS(Z3, Z1, Z1)
	Label("noresidual32")
	activate(form512, "f32", arg(aActivation), Z29, Z28, Z0, Z1)
	MOVLQSX(Mem{Base: R14, Disp: 4}, RBX)
	MOVQ(arg(aPendingDst), RAX)
	VMOVUPS(Z0, K3, Mem{Base: RAX, Index: RBX, Scale: 4})
	VMOVUPS(Z1, K4, Mem{Base: RAX, Index: RBX, Scale: 4, Disp: 64})
	JMP(LabelRef("rowdone"))

	Label("halves")
	MOVQ(arg(aPendingRes), RAX)
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
	CMPQ(arg(aFormat), Imm(1))
	JE(LabelRef("noresidual16"))
	MOVQ(arg(aPendingResLow), RAX)
	add()
	Label("noresidual16")
	activate(form512, "f16", arg(aActivation), Z29, Z28, Z0, Z1)
	MOVLQSX(Mem{Base: R14, Disp: 4}, RBX)
	MOVQ(arg(aPendingDst), RAX)
	// Round to the nearest bfloat16 (halves away from zero: they matter to no one) and pack even below odd.
	VPADDD(Z27, Z0, Z2)
	VPADDD(Z27, Z1, Z3)
	VPSRLD(Imm(16), Z2, Z4)
	VMOVDQU16(Z3, K2, Z4)
	VMOVDQU16(Z4, K1, Mem{Base: RAX, Index: RBX, Scale: 2})
	CMPQ(arg(aFormat), Imm(1))
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
	MOVQ(arg(aPendingDstLow), RAX)
	VMOVDQU16(Z0, K1, Mem{Base: RAX, Index: RBX, Scale: 2})
	Label("rowdone")
}
