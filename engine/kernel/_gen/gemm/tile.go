package main

import (
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

// tile is an AMX kernel.
type tile struct {
	name   string
	planes int  // 1 for operands of one bfloat16, 2 for operands of two (hi and lo, three products)
	strips bool // for Winograd's method
	// Places between the products of a step: see fetch and finish.
	fetches, finishes int
}

var tiles = []tile{
	{name: "amxMedium", planes: 1}, {name: "amxHigh", planes: 2},
	{name: "winogradStripMedium", planes: 1, strips: true}, {name: "winogradStripHigh", planes: 2, strips: true},
}

// kernel emits the kernel. For each group of blocks of 2×16 positions, each panel of 32 output channels and each
// block of the group it sums over all steps of 32 input values in four tiles, and stores the sums to scratch memory. The rows of the
// previous sums are finished (bias, residual, activation, rounding) between the tile products of the current ones, so that the vector
// units work while the tile unit does: see finishWithin in engine/kernel/gemm/tile_amd64.go.
//
// The steps may be divided into chunks whose weights stay in cache while all blocks of a group pass. Between chunks the sums
// of a block lie in memory, and a call may compute some of the chunks only (aSkip, aUntil). While the blocks pass, the next
// chunk of weights is prefetched into L2: the processor's own prefetching brings less than memory could.
//
// The last steps may read a second source (aBeside), whose rows lie elsewhere at a distance of their own.
//
// For Winograd's method, with strips, the sums are the products at one point. They are stored as rows of 16 even and 16 odd
// channels, row after row and panel after panel, and what is finished meanwhile are strips of earlier products.
//
// Registers: R8 the arguments, R9 stride of the rows of A, R10 and R11 the two tiles of A, R12 weights, R13 offsets of
// the steps, CX steps left, DX stride of the weights, or strips to do, or the end of the rows to do, R14 and R15 the pending rows and
// their end, SI the pending sums, DI from the hi to the lo plane of A, AX and BX temporary.
func (t *tile) kernel() {
	TEXT(t.name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(t.name + " computes blocks of a convolution in AMX tiles: see tileArgs.")
	t.begin()
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
	t.beginChunk()
	Label("block")
	t.beginBlock()
	Label("step")
	t.step()
	DECQ(RCX)
	JNZ(LabelRef("step"))

	if !t.strips {
		CMPQ(arg(aDone), Imm(0))
		JNE(LabelRef("end"))
	}
	CMPQ(arg(aBesideLeft), Imm(0))
	JNE(LabelRef("turn"))
	load(aStepsLeft, RAX)
	CMPQ(RAX, arg(aChunkSteps))
	JE(LabelRef("summed"))
	t.leaveChunk()
	Label("summed")
	t.storeSums()
	DECQ(arg(aBlocksLeft))
	JNZ(LabelRef("block"))

	t.nextPanel()
	Label("nextpanel")
	load(aBStep, RAX)
	ADDQ(RAX, arg(aChunkB))
	load(aAccStep, RAX)
	ADDQ(RAX, arg(aPanelAcc))
	DECQ(arg(aPanelsLeft))
	JNZ(LabelRef("panel"))
	copyArg(aTilesNext, aGroupTiles)
	copyArg(aStartsNext, aGroupStarts)
	DECQ(arg(aGroupsLeft))
	JNZ(LabelRef("group"))
	if !t.strips {
		t.lastRows()
		Label("end")
	}
	amx.Release()
	VZEROUPPER()
	RET()

	// What is needed seldom stands out of the way, so that the step's code runs straight on.
	t.secondSource()
	if !t.strips {
		t.finishing()
	}
	t.fetching()
}

// begin prepares what all groups need.
func (t *tile) begin() {
	Load(Param("args"), R8)
	load(aConfig, RAX)
	amx.LoadConfig(RAX)
	if t.strips {
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
	finishConstants()
	if t.strips {
		startStrips()
	}
}

// weightShift is the logarithm of the bytes that a panel's weights of a step take.
func (t *tile) weightShift() Constant { return Imm(uint64(10 + t.planes)) }

// beginChunk finds how many steps the chunk has, and how much of the next chunk's weights is asked for meanwhile.
func (t *tile) beginChunk() {
	load(aStepsLeft, RAX)
	load(aChunk, RBX)
	CMPQ(RBX, RAX)
	CMOVQGT(RAX, RBX)
	MOVQ(RBX, arg(aChunkSteps))
	SHLQ(t.weightShift(), RBX)
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
}

// beginBlock finds the block's rows of A and sets the tiles of sums to zero, or to what earlier chunks left.
func (t *tile) beginBlock() {
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
	JNE(LabelRef("split"))
	Label("source")
	load(aStepsLeft, RAX)
	CMPQ(RAX, arg(aSteps))
	JNE(LabelRef("resume"))
	for sum := range amx.Tile(4) {
		amx.Zero(sum)
	}
	JMP(LabelRef("step"))
	Label("resume")
	load(aAccNext, RAX)
	MOVQ(U32(64), RDX)
	for sum := range amx.Tile(4) {
		amx.Load(sum, RAX, RDX, 1024*int32(sum))
	}
}

// step sums 32 input values in four tiles, and does a share of the finishing.
func (t *tile) step() {
	MOVLQSX(Mem{Base: R13}, RAX)
	ADDQ(Imm(4), R13)
	MOVQ(RAX, RBX)
	ADDQ(R10, RAX)
	ADDQ(R11, RBX)
	MOVQ(U32(64), RDX)
	if t.planes == 1 {
		t.products()
	} else {
		t.productsOfTwoPlanes()
	}
	// The processor puts the path from tiles to memory to sleep after some 1,500 cycles, and a store then takes 870 cycles
	// to wake it, in which nothing is computed. A store to nowhere every 500 to 800 cycles keeps it awake.
	awake := 8 / t.planes
	TESTQ(U32(uint32(awake-1)), RCX)
	JNZ(LabelRef("awake"))
	load(aAwake, RAX)
	amx.Store(5, RAX, RDX, 0)
	Label("awake")
	ADDQ(U32(uint32(2048*t.planes)), R12)
	if t.strips {
		load(aShare, RDX)
		Label("strip")
		CMPQ(arg(aStripCount), Imm(0))
		JE(LabelRef("stripsdone"))
		finishStrip()
		DECQ(RDX)
		JNZ(LabelRef("strip"))
		Label("stripsdone")
	}
	t.finish()
}

func (t *tile) products() {
	amx.Load(4, RAX, R9, 0)
	amx.Load(6, R12, RDX, 0)
	amx.Dot(0, 4, 6)
	amx.Load(7, R12, RDX, 1024)
	amx.Dot(1, 4, 7)
	t.fetch()
	t.finish()
	amx.Load(5, RBX, R9, 0)
	amx.Dot(2, 5, 6)
	amx.Dot(3, 5, 7)
}

// productsOfTwoPlanes are lo·hi, hi·hi and hi·lo, in this order: each tile is loaded once.
func (t *tile) productsOfTwoPlanes() {
	ADDQ(RDI, RAX)
	ADDQ(RDI, RBX)
	amx.Load(4, RAX, R9, 0)
	amx.Load(6, R12, RDX, 0)
	amx.Dot(0, 4, 6)
	amx.Load(7, R12, RDX, 1024)
	amx.Dot(1, 4, 7)
	amx.Load(5, RBX, R9, 0)
	amx.Dot(2, 5, 6)
	t.fetch()
	amx.Dot(3, 5, 7)
	SUBQ(RDI, RAX)
	SUBQ(RDI, RBX)
	t.finish()
	amx.Load(4, RAX, R9, 0)
	amx.Dot(0, 4, 6)
	amx.Dot(1, 4, 7)
	t.fetch()
	amx.Load(5, RBX, R9, 0)
	amx.Dot(2, 5, 6)
	amx.Dot(3, 5, 7)
	t.finish()
	amx.Load(6, R12, RDX, 2048)
	amx.Dot(0, 4, 6)
	t.fetch()
	amx.Load(7, R12, RDX, 3072)
	amx.Dot(1, 4, 7)
	amx.Dot(2, 5, 6)
	amx.Dot(3, 5, 7)
	t.fetch()
}

// fetch is a place where weights for later are asked for, four lines at a time: the processor's own prefetching brings less than
// memory could, and many at once keep the tiles' own loads waiting. aFetch says how often at each of these places.
func (t *tile) fetch() {
	CMPQ(arg(aFetchLeft), Imm(0))
	JGT(LabelRef(numbered("fetch", t.fetches)))
	Label(numbered("fetched", t.fetches))
	t.fetches++
}

// finish is a place where rows are finished: aRowsAt says how many. Their code leaves the operands' registers as it finds them.
func (t *tile) finish() {
	if t.strips {
		return
	}
	CMPL(arg(aRowsAt+4*t.finishes), Imm(0))
	JNE(LabelRef(numbered("rows", t.finishes)))
	Label(numbered("rowsdone", t.finishes))
	t.finishes++
}

// leaveChunk stores the sums of a block that has more chunks, and goes on with the next block, chunk or panel.
func (t *tile) leaveChunk() {
	load(aAccNext, RAX)
	MOVQ(U32(64), RDX)
	for sum := range amx.Tile(4) {
		amx.Store(sum, RAX, RDX, 1024*int32(sum))
	}
	ADDQ(U32(4096), RAX)
	MOVQ(RAX, arg(aAccNext))
	DECQ(arg(aBlocksLeft))
	JNZ(LabelRef("block"))
	load(aChunkSteps, RAX)
	SUBQ(RAX, arg(aStepsLeft))
	load(aChunkOffsets, RBX)
	LEAQ(Mem{Base: RBX, Index: RAX, Scale: 4}, RBX)
	MOVQ(RBX, arg(aChunkOffsets))
	SHLQ(t.weightShift(), RAX)
	ADDQ(RAX, arg(aChunkB))
	load(aStepsLeft, RAX)
	CMPQ(RAX, arg(aUntil))
	JNE(LabelRef("chunk"))
	JMP(LabelRef("nextpanel")) // the sums are left to a later call
}

// storeSums stores the sums of a block: products of a point, or rows that are finished next.
func (t *tile) storeSums() {
	MOVQ(U32(128), RAX)
	sums := RSI
	if t.strips {
		sums = RBX
		load(aProductsNext, RBX)
	} else {
		XORQ(U32(4096), RSI) // the other buffer
	}
	for sum := range amx.Tile(4) {
		amx.Store(sum, sums, RAX, productTile(sum))
	}
	load(aAccNext, RAX) // as far as the other chunks have come
	ADDQ(U32(4096), RAX)
	MOVQ(RAX, arg(aAccNext))
	if t.strips {
		ADDQ(U32(4096), RBX)
		MOVQ(RBX, arg(aProductsNext))
	} else {
		pendRows()
	}
}

// productTile is where a tile lies in the sums of a block: two rows of 16 even and 16 odd channels side by side.
func productTile(t amx.Tile) int32 { return int32(t/2)*2048 + int32(t%2)*64 }

// nextPanel moves on to the next panel. The channels of one are 64 bytes in a plane of bfloat16, 128 in float32.
func (t *tile) nextPanel() {
	load(aChunkSteps, RAX)
	SHLQ(t.weightShift(), RAX)
	ADDQ(RAX, arg(aChunkB))
	ADDQ(U32(128), arg(aPanelBias))
	MOVQ(U32(64), RBX)
	MOVQ(U32(128), RDX)
	CMPQ(arg(aFormat), Imm(0))
	CMOVQEQ(RDX, RBX)
	ADDQ(RBX, arg(aPanelDst))
	ADDQ(RBX, arg(aPanelDstLow))
	CMPQ(arg(aRes), Imm(0))
	JE(LabelRef("nextpanel")) // stays nil
	ADDQ(RBX, arg(aPanelRes))
	ADDQ(RBX, arg(aPanelResLow))
}

// lastRows finishes the rows of the last sums, after which the step's end is the kernel's.
func (t *tile) lastRows() {
	MOVQ(U32(1), RCX)
	MOVQ(RCX, arg(aDone))
	MOVQ(U32(uint32(t.finishes-1)), RAX)
	MOVQ(RAX, arg(aSpot))
	MOVQ(R15, RDX)
	CMPQ(R14, RDX)
	JNE(LabelRef("rows"))
}

// secondSource keeps the steps of a chunk that read the second source, which are its last or all, apart from the others.
func (t *tile) secondSource() {
	point := func() {
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
	JLE(LabelRef("beside"))
	load(aAStride, R9)
	load(aALow, RDI)
	CMPQ(RAX, RCX)
	CMOVQGT(RCX, RAX)
	SUBQ(RAX, RCX)
	MOVQ(RCX, arg(aBesideLeft))
	MOVQ(RAX, RCX)
	JMP(LabelRef("source"))
	Label("beside")
	point()
	JMP(LabelRef("source"))
	Label("turn")
	load(aBesideLeft, RCX)
	XORQ(RAX, RAX)
	MOVQ(RAX, arg(aBesideLeft))
	point()
	JMP(LabelRef("step"))
}

// finishing is the code of the places where rows are finished: so many bytes of entries, or all that are pending.
func (t *tile) finishing() {
	last := t.finishes - 1
	for n := range t.finishes {
		Label(numbered("rows", n))
		CMPQ(R14, R15)
		JEQ(LabelRef(numbered("rowsdone", n)))
		MOVQ(U32(uint32(n)), RAX)
		MOVQ(RAX, arg(aSpot))
		MOVLQSX(arg(aRowsAt+4*n), RDX)
		if n < last {
			JMP(LabelRef("rowsupto"))
		}
	}
	Label("rowsupto")
	ADDQ(R14, RDX)
	CMPQ(RDX, R15)
	CMOVQGT(R15, RDX)
	Label("rows")
	finishRows("row", t.planes == 2, RDX, "rowsdone")
	Label("rowsdone")
	MOVLQSX(Mem{Base: R13, Disp: -4}, RAX) // the step's
	MOVQ(RAX, RBX)
	ADDQ(R10, RAX)
	ADDQ(R11, RBX)
	MOVQ(U32(64), RDX)
	for n := range last {
		CMPQ(arg(aSpot), Imm(uint64(n)))
		JEQ(LabelRef(numbered("rowsdone", n)))
	}
	JMP(LabelRef(numbered("rowsdone", last)))
}

// fetching is the code of the places where weights are asked for.
func (t *tile) fetching() {
	for n := range t.fetches {
		loop := numbered("lines", n)
		Label(numbered("fetch", n))
		MOVQ(R14, arg(aSpare))
		load(aFetchNext, RDX)
		MOVBQZX(arg(aFetch+n), R14)
		SHLQ(Imm(8), R14)
		SUBQ(R14, arg(aFetchLeft))
		Label(loop)
		SUBQ(U32(256), R14)
		JLT(LabelRef(loop + "done"))
		for line := range 4 {
			PREFETCHT1(Mem{Base: RDX, Disp: 64 * line})
		}
		ADDQ(U32(256), RDX)
		JMP(LabelRef(loop))
		Label(loop + "done")
		MOVQ(RDX, arg(aFetchNext))
		load(aSpare, R14)
		MOVQ(U32(64), RDX)
		JMP(LabelRef(numbered("fetched", n)))
	}
}
