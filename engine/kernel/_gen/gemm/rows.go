package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// What the tile kernels do with sums: rows of 16 even and 16 odd channels become rows of a map.

// finishConstants loads what finishRow expects in registers beside the bias.
func finishConstants() {
	VBROADCASTSS(arg(aBounds), Z29)
	VBROADCASTSS(arg(aBounds+4), Z28)
	VMOVUPS(interleave, Z24)
	VMOVUPS(interleave.Offset(64), Z23)
	planeConstants()
}

// pendRows makes the rows of the block that was stored last those that are finished next.
func pendRows() {
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
		copyArg(f.panel, f.pending)
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

// rowLoop is finishRow for one kind of destination, without its branches: five of a row's are taken, which takes as long as its
// arithmetic does at medium.
type rowLoop struct {
	split    bool // two planes of bfloat16, else one
	residual bool
	capped   bool // ReLU6; else ReLU, or no activation, for which it is a ReLU at minus infinity
}

// rowLoops are numbered as rowLoopOf in tile_amd64.go does.
var rowLoops = func() (loops [8]rowLoop) {
	for i := range loops {
		loops[i] = rowLoop{capped: i&1 != 0, residual: i&2 != 0, split: i&4 != 0}
	}
	return loops
}()

// finishRows finishes the rows from R14 to end, of which there is at least one, with the loop that aRowLoop names, and goes to done.
// Labels begin with prefix. What is written in two planes is looked for first if split is set.
func finishRows(prefix string, split bool, end GPPhysical, done string) {
	loop := func(label string, row func()) {
		Label(label)
		row()
		ADDQ(Imm(12), R14)
		CMPQ(R14, end)
		JLT(LabelRef(label))
		JMP(LabelRef(done))
	}
	label := func(i int) string { return fmt.Sprint(prefix, i) }
	load(aRowLoop, RAX)
	for _, first := range []bool{true, false} {
		for i, l := range rowLoops {
			if (l.split == split) == first {
				CMPQ(RAX, Imm(uint64(i)))
				JEQ(LabelRef(label(i)))
			}
		}
	}
	loop(prefix, func() { finishRow(prefix) })
	for i, l := range rowLoops {
		loop(label(i), func() { l.finishRow() })
	}
}

// finishRow is as the function of that name.
func (l rowLoop) finishRow() {
	planes := 1
	if l.split {
		planes = 2
	}
	MOVLQSX(Mem{Base: R14}, RBX)
	VADDPS(Mem{Base: RSI, Index: RBX, Scale: 1}, Z31, Z0)
	VADDPS(Mem{Base: RSI, Index: RBX, Scale: 1, Disp: 64}, Z30, Z1)
	if l.residual {
		MOVLQSX(Mem{Base: R14, Disp: 8}, RBX)
		for _, plane := range []int{aPendingRes, aPendingResLow}[:planes] {
			addPlane(arg(plane))
		}
	}
	VMAXPS(Z0, Z29, Z0) // a not-a-number in the first operand passes
	VMAXPS(Z1, Z29, Z1)
	if l.capped {
		VMINPS(Z0, Z28, Z0)
		VMINPS(Z1, Z28, Z1)
	}
	MOVLQSX(Mem{Base: R14, Disp: 4}, RBX)
	storeHigh()
	if l.split {
		storeLow()
	}
}

// finishRow adds bias and residual to one row of 32 sums, applies the activation and stores it in the format of the
// destination. R14 is the entry of the row: offset of the sums in bytes, of destination and residual in elements.
// Z0 holds the 16 even channels and Z1 the odd ones: packing to bfloat16 is then one shuffle under a mask.
func finishRow(prefix string) {
	j := func(label string) LabelRef { return LabelRef(prefix + label) }
	MOVLQSX(Mem{Base: R14}, RBX)
	VADDPS(Mem{Base: RSI, Index: RBX, Scale: 1}, Z31, Z0)
	VADDPS(Mem{Base: RSI, Index: RBX, Scale: 1, Disp: 64}, Z30, Z1)
	CMPQ(arg(aFormat), Imm(0))
	JNE(j("halves"))

	// float32: to natural order first.
	VMOVAPS(Z24, Z2)
	VPERMI2PS(Z1, Z0, Z2)
	VPERMT2PS(Z1, Z23, Z0)
	VMOVAPS(Z0, Z1)
	VMOVAPS(Z2, Z0)
	load(aPendingRes, RAX)
	TESTQ(RAX, RAX)
	JZ(j("noresidual32"))
	MOVLQSX(Mem{Base: R14, Disp: 8}, RBX)
	VMOVUPS_Z(Mem{Base: RAX, Index: RBX, Scale: 4}, K3, Z2)
	VMOVUPS_Z(Mem{Base: RAX, Index: RBX, Scale: 4, Disp: 64}, K4, Z3)
	VADDPS(Z2, Z0, Z0)
	VADDPS(Z3, Z1, Z1)
	Label(prefix + "noresidual32")
	activate(form512, prefix+"f32", arg(aActivation), Z29, Z28, Z0, Z1)
	MOVLQSX(Mem{Base: R14, Disp: 4}, RBX)
	load(aPendingDst, RAX)
	VMOVUPS(Z0, K3, Mem{Base: RAX, Index: RBX, Scale: 4})
	VMOVUPS(Z1, K4, Mem{Base: RAX, Index: RBX, Scale: 4, Disp: 64})
	JMP(j("rowdone"))

	Label(prefix + "halves")
	CMPQ(arg(aPendingRes), Imm(0))
	JE(j("noresidual16"))
	MOVLQSX(Mem{Base: R14, Disp: 8}, RBX)
	addPlane(arg(aPendingRes))
	CMPQ(arg(aFormat), Imm(1))
	JE(j("noresidual16"))
	addPlane(arg(aPendingResLow))
	Label(prefix + "noresidual16")
	activate(form512, prefix+"f16", arg(aActivation), Z29, Z28, Z0, Z1)
	MOVLQSX(Mem{Base: R14, Disp: 4}, RBX)
	storeHigh()
	CMPQ(arg(aFormat), Imm(1))
	JE(j("rowdone"))
	storeLow()
	Label(prefix + "rowdone")
}

// addPlane adds 32 values, which begin RBX elements behind a pointer, to Z0 and Z1.
func addPlane(pointer Mem) {
	MOVQ(pointer, RAX)
	VMOVDQU16_Z(Mem{Base: RAX, Index: RBX, Scale: 2}, K1, Z2)
	VPSLLD(Imm(16), Z2, Z3)
	VPANDD(Z26, Z2, Z2)
	VADDPS(Z3, Z0, Z0)
	VADDPS(Z2, Z1, Z1)
}

// storeHigh stores Z0 and Z1, rounded, RBX elements behind the pending destination, and leaves in Z2 and Z3 what storeLow needs.
func storeHigh() {
	load(aPendingDst, RAX)
	packHigh(Z0, Z1, Z2, Z3, Z4)
	VMOVDQU16(Z4, K1, Mem{Base: RAX, Index: RBX, Scale: 2})
}

// storeLow stores what storeHigh left of Z0 and Z1, rounded.
func storeLow() {
	load(aPendingDstLow, RAX)
	packLow(Z0, Z1, Z2, Z3)
	VMOVDQU16(Z1, K1, Mem{Base: RAX, Index: RBX, Scale: 2})
}
