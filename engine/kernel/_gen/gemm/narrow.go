package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of narrowArgs in engine/kernel/gemm/narrow_amd64.go, each 8 bytes.
const (
	tA0 = 8 * iota
	tAInc
	tAStride
	tOffsets
	tSteps
	tB
	tPanels
	tBlocks
	tRows
	tStarts
	tLimit
	tDst
	tRes
	tBias
	tSums
	tActivation
	tBounds // two float32
	tMask
	// State of the kernel itself.
	tPanelsLeft
	tPanelDst
	tPanelRes
	tBiasNext
)

const (
	narrowRow    = 2 * 64      // bytes of a row of sums: two vectors
	narrowVector = 16 * 20 / 8 // bytes of a vector of weights
)

// narrow is the AVX-512 kernel for weights of 20 bits, 80 bytes for 32 channels.
type narrow struct {
	name      string
	positions int // of a block
}

var narrowKernels = []narrow{{"fmaNarrow4", 4}, {"fmaNarrow8", 8}}

// kernel emits the kernel: blocks of positions times panels of two vectors of output channels. The sums of a block stay in registers
// over all runs, and the rows are finished from memory, by the table, as in the tile kernels.
//
// Registers: R8 the arguments, R9 stride of the positions, DI weights, SI runs, CX runs left, DX groups of four values
// left, R10 to R13 and BX rows 0, 3, 6, 9 and 12, R14 and R15 rows to finish, AX temporary.
func (k narrow) kernel() {
	TEXT(k.name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(k.name + " computes blocks of a convolution in float32: see narrowArgs.")
	Load(Param("args"), R8)
	load(tAStride, R9)
	VMOVDQU64(widen, Z26)
	VMOVDQU64(widen.Offset(64), Z27)
	MOVQ(U64(0xeeeeeeeeeeeeeeee), RAX)
	KMOVQ(RAX, K1)
	Label("block")
	load(tB, RDI)
	load(tPanels, RAX)
	MOVQ(RAX, arg(tPanelsLeft))
	for _, f := range [][2]int{{tDst, tPanelDst}, {tRes, tPanelRes}, {tBias, tBiasNext}} {
		copyArg(f[0], f[1])
	}

	Label("panel")
	k.sum()
	k.findRows()
	CMPQ(R14, R15)
	JGE(LabelRef("rowsdone"))
	Label("row")
	k.finishRow()
	ADDQ(Imm(12), R14)
	CMPQ(R14, R15)
	JL(LabelRef("row"))
	Label("rowsdone")
	ADDQ(U32(narrowRow), R11)
	MOVQ(R11, arg(tPanelDst))
	TESTQ(R12, R12)
	JZ(LabelRef("next"))
	ADDQ(U32(narrowRow), R12)
	MOVQ(R12, arg(tPanelRes))
	Label("next")
	DECQ(RCX)
	MOVQ(RCX, arg(tPanelsLeft))
	JNZ(LabelRef("panel"))

	load(tAInc, RAX)
	ADDQ(RAX, arg(tA0))
	ADDQ(Imm(4), arg(tStarts))
	DECQ(arg(tBlocks))
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// sum stores the sums of a block and a panel. A weight becomes the upper bits of a 32-bit integer, with what the packing knows of below
// them, and this a float32; each input value is broadcast and multiplied by two vectors of weights, and the sums by the channels' scales,
// which lie behind a panel's weights.
func (k narrow) sum() {
	const unroll = 4 // values of a run per loop; runs are padded to it
	z := registers(0, 32)
	sums, weights, value := z[:2*k.positions], z[2*k.positions:2*k.positions+2], z[2*k.positions+2:2*k.positions+4]
	a := newRows(k.positions)
	for _, s := range sums {
		VPXORD(s, s, s)
	}
	load(tOffsets, RSI)
	load(tSteps, RCX)
	Label("run")
	MOVLQSX(Mem{Base: RSI}, R10)
	MOVLQSX(Mem{Base: RSI, Disp: 4}, RDX)
	ADDQ(Imm(8), RSI)
	ADDQ(arg(tA0), R10)
	a.point()
	Label("group")
	for u := range unroll {
		for i, w := range weights {
			VPERMB_Z(Mem{Base: RDI, Disp: (2*u + i) * narrowVector}, Z26, K1, w)
			VPSLLVD(Z27, w, w)
			VCVTDQ2PS(w, w)
			// Page after page of weights is read once: ask ahead where the hardware stops at the end of a page.
			PREFETCHT0(Mem{Base: RDI, Disp: 2048 + (2*u+i)*narrowVector})
		}
		for r := range k.positions {
			v := value[r%2]
			VBROADCASTSS(a.at(r, 4*u), v)
			for i, w := range weights {
				VFMADD231PS(w, v, sums[2*r+i])
			}
		}
	}
	ADDQ(U32(unroll*2*narrowVector), RDI)
	a.advance(4 * unroll)
	DECQ(RDX)
	JNZ(LabelRef("group"))
	DECQ(RCX)
	JNZ(LabelRef("run"))

	load(tSums, RAX)
	for i, s := range sums {
		VMULPS(Mem{Base: RDI, Disp: i % 2 * 64}, s, s)
		VMOVUPS(s, Mem{Base: RAX, Disp: i * 64})
	}
	ADDQ(U32(narrowRow), RDI)
}

// findRows finds the rows of the block in the table, R14 to R15, and loads what finishRow expects in registers.
func (k narrow) findRows() {
	load(tStarts, RAX)
	MOVLQSX(Mem{Base: RAX}, R14)
	MOVLQSX(Mem{Base: RAX, Disp: 4}, R15)
	load(tLimit, RDX)
	CMPQ(R14, RDX)
	CMOVQGT(RDX, R14)
	CMPQ(R15, RDX)
	CMOVQGT(RDX, R15)
	load(tRows, RAX)
	LEAQ(Mem{Base: R14, Index: R14, Scale: 2}, R14)
	LEAQ(Mem{Base: R15, Index: R15, Scale: 2}, R15)
	LEAQ(Mem{Base: RAX, Index: R14, Scale: 4}, R14)
	LEAQ(Mem{Base: RAX, Index: R15, Scale: 4}, R15)
	loadArgs(argument{tSums, R10}, argument{tPanelDst, R11}, argument{tPanelRes, R12}, argument{tBiasNext, RAX}, argument{tPanelsLeft, RCX})
	VMOVUPS(Mem{Base: RAX}, Z28)
	VMOVUPS(Mem{Base: RAX, Disp: 64}, Z29)
	VBROADCASTSS(arg(tBounds), Z30)
	VBROADCASTSS(arg(tBounds+4), Z31)
	MOVQ(U32(0xffffffff), RDX)
	load(tMask, RBX)
	CMPQ(RCX, Imm(1))
	CMOVQEQ(RBX, RDX)
	KMOVW(EDX, K3)
	SHRQ(Imm(16), RDX)
	KMOVW(EDX, K4)

	ADDQ(U32(narrowRow), RAX)
	MOVQ(RAX, arg(tBiasNext))
}

// finishRow adds bias and residual to the row of sums that the entry at R14 names, applies the activation and stores it.
func (k narrow) finishRow() {
	MOVLQSX(Mem{Base: R14}, RBX)
	sum := func(i int) Mem { return Mem{Base: R10, Index: RBX, Scale: 1, Disp: i * 64} }
	at := func(base GPPhysical, i int) Mem { return Mem{Base: base, Index: RBX, Scale: 4, Disp: i * 64} }
	VADDPS(sum(0), Z28, Z0)
	VADDPS(sum(1), Z29, Z1)

	TESTQ(R12, R12)
	JZ(LabelRef("noresidual"))
	MOVLQSX(Mem{Base: R14, Disp: 8}, RBX)
	VMOVUPS_Z(at(R12, 0), K3, Z2)
	VMOVUPS_Z(at(R12, 1), K4, Z3)
	VADDPS(Z2, Z0, Z0)
	VADDPS(Z3, Z1, Z1)

	Label("noresidual")
	activate(form512, "v", arg(tActivation), Z30, Z31, Z0, Z1)

	MOVLQSX(Mem{Base: R14, Disp: 4}, RBX)
	VMOVUPS(Z0, K3, at(R11, 0))
	VMOVUPS(Z1, K4, at(R11, 1))
}
