package main

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel/_gen/amx"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of groupedArgs in engine/kernel/gemm/grouped_amd64.go, each 8 bytes.
const (
	gA = 8 * iota
	gAStride
	gOffsets
	gTaps
	gB
	gC
	gCStride
	gRes
	gResStride
	gBias
	gRows
	gBlocks
	gLonger
	gActivation
	gBounds // two float32
	gHalf
	// State of the kernel itself.
	gAt
	gCAt
	gResAt
)

// grouped is a kernel for the convolution of groups of size input and output channels, one vector of channels at a time.
type grouped struct {
	form
	size      int
	sums      int // of a position
	positions int // of a block
}

var groupedKernels = []grouped{{form512, 4, 2, 14}, {form512, 8, 4, 6}, {form512, 16, 1, 14}, {form256, 4, 2, 6}, {form256, 8, 4, 2}}

// kernel emits the kernel.
//
// Registers: R8 the arguments, R9 stride of the positions, DI weights, R15 offsets, CX taps left, R10 to R13 and BX rows 0, 3, 6, 9
// and 12 of a block, AX and DX temporary.
func (g grouped) kernel() {
	name := fmt.Sprintf("grouped%sOf%d", g.name, g.size)
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s computes positions of a convolution in groups of %d channels: see groupedArgs.", name, g.size))
	Load(Param("args"), R8)
	for _, f := range [][2]int{{gA, gAt}, {gC, gCAt}, {gRes, gResAt}} {
		copyArg(f[0], f[1])
	}
	load(gAStride, R9)
	Label("block")
	loadArgs(argument{gB, RDI}, argument{gOffsets, R15}, argument{gTaps, RCX}, argument{gRows, RAX}, argument{gLonger, RDX})
	TESTQ(RDX, RDX)
	JZ(LabelRef("size"))
	INCQ(RAX)
	DECQ(RDX)
	MOVQ(RDX, arg(gLonger))
	Label("size")
	for n := g.positions; n > 1; n-- {
		CMPQ(RAX, Imm(uint64(n)))
		JEQ(LabelRef(numbered("rows", n)))
	}
	for n := 1; n <= g.positions; n++ {
		Label(numbered("rows", n))
		g.sum(n)
		g.finish(n)
		if n < g.positions {
			JMP(LabelRef("stored"))
		}
	}
	Label("stored")
	MOVQ(RDX, RAX)
	IMULQ(R9, RAX)
	ADDQ(RAX, arg(gAt))
	CMPL(arg(gActivation), Imm(actReLU6))
	JBE(LabelRef("next"))
	Label("row")
	sum, unused := g.registers(0, 1)[0], g.registers(12, 1)[0] // there are no bounds
	VMOVUPS(Mem{Base: R10}, sum)
	activate(g.form, "row", arg(gActivation), unused, unused, sum)
	VMOVUPS(sum, Mem{Base: R10})
	ADDQ(R11, R10)
	DECQ(RDX)
	JNZ(LabelRef("row"))
	Label("next")
	DECQ(arg(gBlocks))
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// sumsOf are the registers of a block of n positions, the sums of each side by side.
func (g grouped) sumsOf(n int) []VecPhysical { return g.registers(0, n*g.sums) }

// spare are the registers that no block has sums in.
func (g grouped) spare() []VecPhysical {
	taken := g.positions * g.sums
	return g.registers(taken, g.count()-taken)
}

// sum sums n positions.
//
// With groups of 16 each input value is broadcast to the group's outputs. With smaller groups a vector holds several, and a
// value belongs to the lanes of its group alone: the even values of a vector are doubled to pairs of lanes while they are loaded, then the
// odd ones, and multiplied into as many sums as a group has pairs. Lane l of sum r is of the output r pairs further in its group;
// the sums are turned back and added at the end. So no lane is idle and no shuffle competes with the multiply-adds.
func (g grouped) sum(n int) {
	sums, bytes, z := g.sums, g.bytes(), g.sumsOf(n)
	w, x := g.spare()[:max(sums, 2)], g.spare()[max(sums, 2):]
	for _, r := range z {
		g.zero(r)
	}
	Label(numbered("tap", n))
	MOVLQSX(Mem{Base: R15}, R10)
	ADDQ(Imm(4), R15)
	ADDQ(arg(gAt), R10)
	a := newRows(n)
	a.point()
	if g.size == 16 {
		for i := range g.size {
			VMOVUPS(Mem{Base: RDI, Disp: bytes * i}, w[i%2])
			for r := range n {
				VFMADD231PS_BCST(a.at(r, 4*i), w[i%2], z[r])
			}
		}
	} else {
		for parity, double := range []func(...Op){func(o ...Op) { VMOVSLDUP(o[0], o[1]) }, func(o ...Op) { VMOVSHDUP(o[0], o[1]) }} {
			for i := range sums {
				VMOVUPS(Mem{Base: RDI, Disp: bytes * (parity*sums + i)}, w[i])
			}
			for r := range n {
				double(a.at(r, 0), x[r%2])
				for i := range sums {
					VFMADD231PS(w[i], x[r%2], z[r*sums+i])
				}
			}
		}
	}
	ADDQ(U32(uint32(bytes*g.size)), RDI)
	DECQ(RCX)
	JNZ(LabelRef(numbered("tap", n)))

	load(gBias, RAX)
	VMOVUPS(Mem{Base: RAX}, w[0])
	loadArgs(argument{gResAt, RAX}, argument{gResStride, RDX})
	for r := range n {
		sum := z[r*sums]
		for i := 1; i < sums; i++ {
			VPERMPD(Imm(uint64(turn(sums, i))), z[r*sums+i], x[0])
			VADDPS(x[0], sum, sum)
		}
		VADDPS(w[0], sum, sum)
	}
}

// finish adds the residual, at AX, to n positions, clips and stores them. It leaves their place in R10, their distance in R11 and n in DX.
func (g grouped) finish(n int) {
	z, w := g.sumsOf(n), g.spare()
	TESTQ(RAX, RAX)
	JZ(LabelRef(numbered("added", n)))
	if g.wide {
		CMPQ(arg(gHalf), Imm(0))
		JNE(LabelRef(numbered("addhalves", n)))
	}
	for r := range n {
		VADDPS(Mem{Base: RAX}, z[r*g.sums], z[r*g.sums])
		ADDQ(RDX, RAX)
	}
	if g.wide {
		JMP(LabelRef(numbered("sum", n)))
		Label(numbered("addhalves", n))
		for r := range n {
			VPMOVZXWD(Mem{Base: RAX}, w[0])
			VPSLLD(Imm(16), w[0], w[0])
			VADDPS(w[0], z[r*g.sums], z[r*g.sums])
			ADDQ(RDX, RAX)
		}
		Label(numbered("sum", n))
	}
	MOVQ(RAX, arg(gResAt))
	Label(numbered("added", n))
	VBROADCASTSS(arg(gBounds), w[0])
	VBROADCASTSS(arg(gBounds+4), w[1])
	loadArgs(argument{gCAt, R10}, argument{gCStride, R11})
	MOVQ(R10, RAX)
	if g.wide {
		CMPQ(arg(gHalf), Imm(0))
		JNE(LabelRef(numbered("halves", n)))
	}
	clip := func(sum VecPhysical) {
		VMAXPS(sum, w[0], sum) // a not-a-number in the first operand passes
		VMINPS(sum, w[1], sum)
	}
	for r := range n {
		sum := z[r*g.sums]
		clip(sum)
		VMOVUPS(sum, Mem{Base: RAX})
		ADDQ(R11, RAX)
	}
	if g.wide {
		JMP(LabelRef(numbered("whole", n)))
		Label(numbered("halves", n))
		for r := range n {
			sum := z[r*g.sums]
			clip(sum)
			amx.Round(sum, sum)
			VMOVDQU16(sum.AsY(), Mem{Base: RAX})
			ADDQ(R11, RAX)
		}
		Label(numbered("whole", n))
	}
	MOVQ(RAX, arg(gCAt))
	MOVQ(U32(uint32(n)), RDX)
}

// turn returns the operand of VPERMPD that takes pair p of a group of so many pairs from pair p-by.
func turn(pairs, by int) int {
	imm := 0
	for p := range 4 {
		from := p&^(pairs-1) | (p-by)&(pairs-1)
		imm |= from << (2 * p)
	}
	return imm
}
