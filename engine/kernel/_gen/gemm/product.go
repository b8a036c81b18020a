package main

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel/_gen/amx"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of productArgs in engine/kernel/gemm/product_amd64.go, each 8 bytes.
const (
	mA = 8 * iota
	mAStride
	mRuns
	mRunCount
	mB
	mC
	mCStride
	mRes
	mResStride
	mBias
	mRows
	mBlocks
	mLonger
	mNext
	mNextStep
	mMask
	mActivation
	mBounds // two float32
	mHalf
	mSums
	// State of the kernel itself.
	mAt
	mCAt
	mResAt
)

// product is a size of the kernels of products: rows of sums, as many as the registers hold beside two vectors of weights and two
// broadcast values, and up to how many rows a block fetches as many bytes as it reads; with more rows, half of them.
type product struct {
	form
	rows, fetchRows int
	pairs           bool // of bfloat16 are the values and the weights, else float32
}

var products = []product{{form512, 14, 9, false}, {form256, 6, 3, false}, {form512, 14, 9, true}}

// registers returns count vector registers from the given one on.
func registers(from, count int) []VecPhysical {
	all := []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31}
	return all[from : from+count]
}

// kernel emits the product of any number of rows with a panel of two vectors of columns, summed over runs of values, with bias,
// residual and activation. The rows are divided into blocks of nearly the same size, and there is a loop for each size, so that no
// lane computes what is thrown away. Weights that will be needed next are fetched into L2 on the way.
//
// Registers: R8 the arguments, R9 stride of A, DI weights, R15 runs, CX runs left, DX groups of four values left, R10 to R13 and BX
// rows 0, 3, 6, 9 and 12 of a block, SI what to fetch, R14 its step, AX temporary.
func (p product) kernel() {
	const unroll = 4
	name, doc := "product"+p.name, "multiplies rows"
	if p.pairs {
		name, doc = "productPairs"+p.name, "multiplies rows of bfloat16"
	}
	bytes := p.bytes()
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(fmt.Sprintf("%s %s with a panel of %d columns: see productArgs.", name, doc, bytes/2))
	Load(Param("args"), R8)
	for _, f := range [][2]int{{mA, mAt}, {mC, mCAt}, {mRes, mResAt}} {
		copyArg(f[0], f[1])
	}
	loadArgs(argument{mAStride, R9}, argument{mNext, RSI}, argument{mNextStep, R14})

	Label("block")
	loadArgs(argument{mB, RDI}, argument{mRuns, R15}, argument{mRunCount, RCX}, argument{mRows, RAX}, argument{mBias, RBX}, argument{mLonger, RDX})
	TESTQ(RDX, RDX)
	JZ(LabelRef("size"))
	INCQ(RAX)
	DECQ(RDX)
	MOVQ(RDX, arg(mLonger))
	Label("size")
	for n := p.rows; n > 1; n-- {
		CMPQ(RAX, Imm(uint64(n)))
		JEQ(LabelRef(numbered("rows", n)))
	}
	for n := 1; n <= p.rows; n++ {
		Label(numbered("rows", n))
		z := p.registers(0, 2*n)
		w, value := p.registers(2*p.rows, 2), p.registers(2*p.rows+2, 2)
		for i, r := range z {
			if i < 2 {
				VMOVUPS(Mem{Base: RBX, Disp: bytes * i}, r)
			} else {
				VMOVAPS(z[i%2], r)
			}
		}
		Label(numbered("run", n))
		MOVLQSX(Mem{Base: R15}, R10)
		MOVLQSX(Mem{Base: R15, Disp: 4}, RDX)
		ADDQ(Imm(8), R15)
		ADDQ(arg(mAt), R10)
		a := newRows(n)
		a.point()
		fetch := unroll * 2 * bytes // of a group
		if n > p.fetchRows {
			fetch /= 2
		}
		Label(numbered("group", n))
		for u := range unroll {
			for i := range w {
				VMOVUPS(Mem{Base: RDI, Disp: (2*u + i) * bytes}, w[i])
			}
			for at := 64 * ((fetch*u/unroll + 63) / 64); at < fetch*(u+1)/unroll; at += 64 {
				PREFETCHT1(Mem{Base: RSI, Disp: at})
			}
			for r := range n {
				VBROADCASTSS(a.at(r, 4*u), value[r%2])
				for i := range w {
					if p.pairs {
						amx.DotPairs(z[2*r+i], value[r%2], w[i])
					} else {
						VFMADD231PS(w[i], value[r%2], z[2*r+i])
					}
				}
			}
		}
		ADDQ(U32(uint32(unroll*2*bytes)), RDI)
		ADDQ(R14, RSI)
		a.advance(4 * unroll)
		DECQ(RDX)
		JNZ(LabelRef(numbered("group", n)))
		DECQ(RCX)
		JNZ(LabelRef(numbered("run", n)))
		if p.pairs {
			p.finishPairs(n, z, value)
		} else {
			p.finish(n, z, w, value)
		}
		if n < p.rows {
			JMP(LabelRef("stored"))
		}
	}
	Label("stored")
	// The next block begins behind the last row of this one.
	MOVQ(RDX, RAX)
	IMULQ(R9, RAX)
	ADDQ(RAX, arg(mAt))
	CMPL(arg(mActivation), Imm(actReLU6))
	JBE(LabelRef("next"))
	if p.pairs {
		p.activateSums()
	} else {
		p.activateRows()
	}
	Label("next")
	DECQ(arg(mBlocks))
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}

// activateRows applies an activation that does more than clip to the rows that finish has stored.
func (p product) activateRows() {
	bytes := p.bytes()
	sums, masks := p.registers(0, 2), p.maskRegisters(p.registers(14, 2))
	unused := p.registers(12, 1)[0] // there are no bounds
	p.masks(arg(mMask), unused, masks...)
	Label("row")
	for i, s := range sums {
		p.load(Mem{Base: R10, Disp: bytes * i}, masks[i], s)
	}
	activate(p.form, "row", arg(mActivation), unused, unused, sums...)
	for i, s := range sums {
		p.store(s, masks[i], Mem{Base: R10, Disp: bytes * i})
	}
	ADDQ(R11, R10)
	DECQ(RDX)
	JNZ(LabelRef("row"))
}

// maskRegisters returns what holds the masks of a panel: K registers or those given.
func (p product) maskRegisters(vectors []VecPhysical) []Register {
	if p.wide {
		return []Register{K3, K4}
	}
	return []Register{vectors[0], vectors[1]}
}

// finish adds the residual to n rows of sums, clips and stores them. It leaves the rows' place in R10, their distance in R11 and n in DX.
func (p product) finish(n int, z, w, value []VecPhysical) {
	bytes := p.bytes()
	masks := p.maskRegisters(w)
	p.masks(arg(mMask), value[0], masks...)
	loadArgs(argument{mResAt, RAX}, argument{mResStride, RDX})
	TESTQ(RAX, RAX)
	JZ(LabelRef(numbered("added", n)))
	for r := range n {
		for i, m := range masks {
			p.load(Mem{Base: RAX, Disp: bytes * i}, m, value[i])
			VADDPS(value[i], z[2*r+i], z[2*r+i])
		}
		ADDQ(RDX, RAX)
	}
	MOVQ(RAX, arg(mResAt))
	Label(numbered("added", n))
	// The activations that clip; those that do nothing or more have no bounds.
	VBROADCASTSS(arg(mBounds), value[0])
	VBROADCASTSS(arg(mBounds+4), value[1])
	for _, r := range z {
		VMAXPS(r, value[0], r) // a not-a-number in the first operand passes
		VMINPS(r, value[1], r)
	}
	loadArgs(argument{mCAt, R10}, argument{mCStride, R11})
	MOVQ(R10, RAX)
	rows := func(store func(i int, v VecPhysical, to Mem)) {
		for r := range n {
			for i := range 2 {
				store(i, z[2*r+i], Mem{Base: RAX, Disp: bytes * i})
			}
			ADDQ(R11, RAX)
		}
	}
	if !p.wide {
		// Stores under a mask of vectors are slow.
		CMPL(arg(mMask), U32(0xffff))
		JNE(LabelRef(numbered("partial", n)))
		rows(func(_ int, v VecPhysical, to Mem) { VMOVUPS(v, to) })
		JMP(LabelRef(numbered("whole", n)))
		Label(numbered("partial", n))
	}
	rows(func(i int, v VecPhysical, to Mem) { p.store(v, masks[i], to) })
	Label(numbered("whole", n))
	MOVQ(RAX, arg(mCAt))
	MOVQ(U32(uint32(n)), RDX)
}

// pairMasks are the masks of a panel where rows of bfloat16 are written: of each vector of float32, and of both as a vector of bfloat16.
var pairMasks = []Register{K3, K4}

// finishPairs adds the residual to n rows of sums of pairs, and clips and stores them in the format of the destination; before activations
// that do more it leaves them in memory for activateSums. It leaves n in DX.
func (p product) finishPairs(n int, z, tmp []VecPhysical) {
	bytes := p.bytes()
	p.masks(arg(mMask), tmp[0], pairMasks...)
	load(mMask, RAX)
	KMOVD(EAX, K1)
	loadArgs(argument{mResAt, RAX}, argument{mResStride, RDX})
	TESTQ(RAX, RAX)
	JZ(LabelRef(numbered("added", n)))
	CMPQ(arg(mHalf), Imm(0))
	JNE(LabelRef(numbered("addhalves", n)))
	residual := func(load func(i int, mask Register)) {
		for r := range n {
			for i, m := range pairMasks {
				load(i, m)
				VADDPS(tmp[i], z[2*r+i], z[2*r+i])
			}
			ADDQ(RDX, RAX)
		}
	}
	residual(func(i int, mask Register) { p.load(Mem{Base: RAX, Disp: bytes * i}, mask, tmp[i]) })
	JMP(LabelRef(numbered("sum", n)))
	Label(numbered("addhalves", n))
	residual(func(i int, mask Register) {
		VPMOVZXWD_Z(Mem{Base: RAX, Disp: bytes / 2 * i}, mask, tmp[i])
		VPSLLD(Imm(16), tmp[i], tmp[i])
	})
	Label(numbered("sum", n))
	MOVQ(RAX, arg(mResAt))
	Label(numbered("added", n))
	CMPL(arg(mActivation), Imm(actReLU6))
	JA(LabelRef(numbered("later", n)))
	VBROADCASTSS(arg(mBounds), tmp[0])
	VBROADCASTSS(arg(mBounds+4), tmp[1])
	for _, r := range z {
		VMAXPS(r, tmp[0], r) // a not-a-number in the first operand passes
		VMINPS(r, tmp[1], r)
	}
	loadArgs(argument{mCAt, RAX}, argument{mCStride, R11})
	CMPQ(arg(mHalf), Imm(0))
	JNE(LabelRef(numbered("halves", n)))
	for r := range n {
		p.storeFloats(z[2*r:], Mem{Base: RAX})
		ADDQ(R11, RAX)
	}
	JMP(LabelRef(numbered("whole", n)))
	Label(numbered("halves", n))
	for r := range n {
		p.storeHalves(z[2*r:], Mem{Base: RAX})
		ADDQ(R11, RAX)
	}
	Label(numbered("whole", n))
	MOVQ(RAX, arg(mCAt))
	JMP(LabelRef(numbered("finished", n)))
	Label(numbered("later", n))
	load(mSums, RAX)
	for i, r := range z {
		VMOVUPS(r, Mem{Base: RAX, Disp: bytes * i})
	}
	Label(numbered("finished", n))
	MOVQ(U32(uint32(n)), RDX)
}

// storeFloats stores a row as it is.
func (p product) storeFloats(row []VecPhysical, to Mem) {
	for i, m := range pairMasks {
		p.store(row[i], m, to.Offset(p.bytes()*i))
	}
}

// storeHalves rounds a row, which is lost, and stores it.
func (p product) storeHalves(row []VecPhysical, to Mem) {
	amx.RoundPair(row[0], row[1], row[0])
	VMOVDQU16(row[0], K1, to)
}

// activateSums applies an activation to the rows that finishPairs left in memory, as many as DX says, and stores them in the format of the
// destination.
func (p product) activateSums() {
	sums, unused := p.registers(0, 2), p.registers(12, 1)[0] // there are no bounds
	loadArgs(argument{mSums, RAX}, argument{mCAt, R10}, argument{mCStride, R11})
	Label("row")
	for i, s := range sums {
		VMOVUPS(Mem{Base: RAX, Disp: p.bytes() * i}, s)
	}
	activate(p.form, "row", arg(mActivation), unused, unused, sums...)
	CMPQ(arg(mHalf), Imm(0))
	JNE(LabelRef("rowhalves"))
	p.storeFloats(sums, Mem{Base: R10})
	JMP(LabelRef("rowdone"))
	Label("rowhalves")
	p.storeHalves(sums, Mem{Base: R10})
	Label("rowdone")
	ADDQ(Imm(uint64(2*p.bytes())), RAX)
	ADDQ(R11, R10)
	DECQ(RDX)
	JNZ(LabelRef("row"))
	MOVQ(R10, arg(mCAt))
}
