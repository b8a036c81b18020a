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
	aRowLoop
	aRowsAt // four int32
	_
	aAwake
	aProducts
	aPoints
	aPointStep
	aStrips
	aStripCount
	aBeside
	aBesideStride
	aBesideLow
	aBesideTiles
	aBesideSteps
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
	aBesideLeft // steps of the block that read the second source
	aChunkB
	aChunkOffsets
	aTilesNext
	aStartsNext
	aAccNext
	aFetchNext
	aFetchLeft // bytes
	aSpare
	aDone
	aSpot
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
// while the tile unit does: see finishWithin in engine/kernel/gemm/tile_amd64.go.
//
// The steps may be divided into chunks whose weights stay in cache while all blocks of a group pass. Between chunks the sums
// of a block lie in memory, and a call may compute some of the chunks only (aSkip, aUntil). While the blocks pass, the next
// chunk of weights is prefetched into L2: the processor's own prefetching brings less than memory could.
//
// The last steps may read a second source (aBeside), whose rows lie elsewhere at a distance of their own.
//
// planes is 1 for operands of one bfloat16, 2 for operands of two (hi and lo, three products).
//
// For Winograd's method, with strips, the sums are the products at one point. They are stored as rows of 16 even and 16 odd
// channels, row after row and panel after panel, and what is finished meanwhile are strips of earlier products.
//
// Registers: R8 the arguments, R9 stride of the rows of A, R10 and R11 the two tiles of A, R12 weights, R13 offsets of
// the steps, CX steps left, DX stride of the weights, or strips to do, or the end of the rows to do, R14 and R15 the pending rows and their end, SI the
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
	if strips {
		copyArg(aProducts, aProductsNext)
	}
	load(aAStride, R9)
	load(aALow, RDI)
	load(aSums, RSI)
	XORQ(R14, R14)
	XORQ(R15, R15)
	MOVQ(R14, arg(aDone))
	MOVQ(R14, arg(aBesideLeft))
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
	CMPQ(arg(aBesideSteps), Imm(0))
	JNE(j("split"))
	Label("source")
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
	// Rows are finished at as many places: aRowsAt says how many. Their code is out of the way, too, and leaves the operands' registers as
	// it finds them.
	rowSpots := 0
	rows := func() {
		if strips {
			return
		}
		CMPL(arg(aRowsAt+4*rowSpots), Imm(0))
		JNE(j(fmt.Sprintf("rows%d", rowSpots)))
		Label(fmt.Sprintf("rowsdone%d", rowSpots))
		rowSpots++
	}
	if planes == 1 {
		amx.Load(4, RAX, R9, 0)
		amx.Load(6, R12, RDX, 0)
		amx.Dot(0, 4, 6)
		amx.Load(7, R12, RDX, 1024)
		amx.Dot(1, 4, 7)
		fetch()
		rows()
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
		rows()
		amx.Load(4, RAX, R9, 0)
		amx.Dot(0, 4, 6)
		amx.Dot(1, 4, 7)
		fetch()
		amx.Load(5, RBX, R9, 0)
		amx.Dot(2, 5, 6)
		amx.Dot(3, 5, 7)
		rows()
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

	if strips {
		load(aShare, RDX)
		Label("strip")
		CMPQ(arg(aStripCount), Imm(0))
		JE(j("stripsdone"))
		finishStrip(arg)
		DECQ(RDX)
		JNZ(j("strip"))
		Label("stripsdone")
	}
	rows()
	DECQ(RCX)
	JNZ(j("step"))

	if !strips {
		CMPQ(arg(aDone), Imm(0))
		JNE(j("end"))
	}
	CMPQ(arg(aBesideLeft), Imm(0))
	JNE(j("turn"))
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
		MOVQ(U32(uint32(rowSpots-1)), RAX)
		MOVQ(RAX, arg(aSpot))
		MOVQ(R15, RDX)
		CMPQ(R14, RDX)
		JNE(j("rows"))
		Label("end")
	}
	amx.Release()
	VZEROUPPER()
	RET()

	// The steps of a chunk that read the second source, which are its last or all, are kept apart from the others.
	second := func() {
		load(aTilesNext, RAX)
		ADDQ(arg(aBesideTiles), RAX)
		load(aBeside, R10)
		MOVQ(R10, R11)
		MOVLQSX(Mem{Base: RAX, Disp: -8}, RBX)
		MOVLQSX(Mem{Base: RAX, Disp: -4}, RDX)
		ADDQ(RBX, R10)
		ADDQ(RDX, R11)
		load(aBesideStride, R9)
		load(aBesideLow, RDI)
	}
	Label("split")
	load(aStepsLeft, RAX)
	SUBQ(arg(aBesideSteps), RAX)
	JLE(j("beside"))
	load(aAStride, R9)
	load(aALow, RDI)
	CMPQ(RAX, RCX)
	CMOVQGT(RCX, RAX)
	SUBQ(RAX, RCX)
	MOVQ(RCX, arg(aBesideLeft))
	MOVQ(RAX, RCX)
	JMP(j("source"))
	Label("beside")
	second()
	JMP(j("source"))
	Label("turn")
	load(aBesideLeft, RCX)
	XORQ(RAX, RAX)
	MOVQ(RAX, arg(aBesideLeft))
	second()
	JMP(j("step"))

	if !strips {
		for spot := range rowSpots {
			Label(fmt.Sprintf("rows%d", spot))
			CMPQ(R14, R15)
			JEQ(j(fmt.Sprintf("rowsdone%d", spot)))
			MOVQ(U32(uint32(spot)), RAX)
			MOVQ(RAX, arg(aSpot))
			MOVLQSX(arg(aRowsAt+4*spot), RDX)
			if spot < rowSpots-1 {
				JMP(j("rowsupto"))
			}
		}
		// The rows to finish now: so many bytes of entries, or all that are pending.
		Label("rowsupto")
		ADDQ(R14, RDX)
		CMPQ(RDX, R15)
		CMOVQGT(R15, RDX)
		Label("rows")
		finishRows(arg, "row", planes == 2, RDX, "rowsdone")
		Label("rowsdone")
		MOVLQSX(Mem{Base: R13, Disp: -4}, RAX) // the step's
		MOVQ(RAX, RBX)
		ADDQ(R10, RAX)
		ADDQ(R11, RBX)
		MOVQ(U32(64), RDX)
		for spot := range rowSpots - 1 {
			CMPQ(arg(aSpot), Imm(uint64(spot)))
			JEQ(j(fmt.Sprintf("rowsdone%d", spot)))
		}
		JMP(j(fmt.Sprintf("rowsdone%d", rowSpots-1)))
	}
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
