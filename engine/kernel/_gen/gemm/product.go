package main

import (
	"fmt"

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
	// State of the kernel itself.
	mAt
	mCAt
	mResAt
)

// productRows is how many rows of sums the registers hold beside two vectors of weights and two broadcast values.
const productRows = 14

// fetchRows is up to how many rows a block fetches as many bytes as it reads; with more rows, half of them.
const fetchRows = 9

// argument is a field of the arguments, in R8, and where it belongs.
type argument struct {
	offset int
	to     GPPhysical
}

func loadArgs(list ...argument) {
	for _, a := range list {
		MOVQ(Mem{Base: R8, Disp: a.offset}, a.to)
	}
}

// registers returns count vector registers from the given one on.
func registers(from, count int) []VecPhysical {
	all := []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15, Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31}
	return all[from : from+count]
}

// productKernel emits the product of any number of rows with a panel of 32 columns, summed over runs of values, with bias,
// residual and activation. The rows are divided into blocks of nearly the same size, and there is a loop for each size, so that no
// lane computes what is thrown away. Weights that will be needed next are fetched into L2 on the way.
//
// Registers: R8 the arguments, R9 stride of A, DI weights, R15 runs, CX runs left, DX groups of four values left, R10 to R13 and BX
// rows 0, 3, 6, 9 and 12 of a block, SI what to fetch, R14 its step, AX temporary.
func productKernel() {
	const unroll = 4
	TEXT("product512", NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc("product512 multiplies rows with a panel of 32 columns: see productArgs.")
	arg := func(offset int) Mem { return Mem{Base: R8, Disp: offset} }
	bases := []GPPhysical{R10, R11, R12, R13, RBX}
	l := func(name string, n int) string { return fmt.Sprintf("%s%d", name, n) }
	Load(Param("args"), R8)
	for _, f := range [][2]int{{mA, mAt}, {mC, mCAt}, {mRes, mResAt}} {
		MOVQ(arg(f[0]), RAX)
		MOVQ(RAX, arg(f[1]))
	}
	MOVQ(arg(mMask), RAX)
	KMOVW(EAX, K3)
	SHRQ(Imm(16), RAX)
	KMOVW(EAX, K4)
	masks := []Register{K3, K4}
	loadArgs(argument{mAStride, R9}, argument{mNext, RSI}, argument{mNextStep, R14})

	Label("block")
	loadArgs(argument{mB, RDI}, argument{mRuns, R15}, argument{mRunCount, RCX}, argument{mRows, RAX}, argument{mBias, RBX}, argument{mLonger, RDX})
	TESTQ(RDX, RDX)
	JZ(LabelRef("size"))
	INCQ(RAX)
	DECQ(RDX)
	MOVQ(RDX, arg(mLonger))
	Label("size")
	for n := productRows; n > 1; n-- {
		CMPQ(RAX, Imm(uint64(n)))
		JEQ(LabelRef(l("rows", n)))
	}
	for n := 1; n <= productRows; n++ {
		Label(l("rows", n))
		z := registers(0, 2*n)
		w, value := registers(28, 2), registers(30, 2)
		for i, r := range z {
			if i < 2 {
				VMOVUPS(Mem{Base: RBX, Disp: 64 * i}, r)
			} else {
				VMOVAPS(z[i%2], r)
			}
		}
		Label(l("run", n))
		MOVLQSX(Mem{Base: R15}, R10)
		MOVLQSX(Mem{Base: R15, Disp: 4}, RDX)
		ADDQ(Imm(8), R15)
		ADDQ(arg(mAt), R10)
		if n > 3 {
			LEAQ(Mem{Base: R9, Index: R9, Scale: 2}, RAX)
		}
		for i := 1; 3*i < n; i++ {
			LEAQ(Mem{Base: bases[i-1], Index: RAX, Scale: 1}, bases[i])
		}
		rows := addresses(n)
		fetch := 1 // lines per value: half of the weights; all of them where rows are few
		if n <= fetchRows {
			fetch = 2
		}
		Label(l("group", n))
		for u := range unroll {
			for i := range w {
				VMOVUPS(Mem{Base: RDI, Disp: (2*u + i) * 64}, w[i])
			}
			for i := range fetch {
				PREFETCHT1(Mem{Base: RSI, Disp: 64 * (fetch*u + i)})
			}
			for r, a := range rows {
				m := Mem{Base: bases[a.base/3], Disp: 4 * u}
				if a.scale > 0 {
					m.Index, m.Scale = R9, uint8(a.scale)
				}
				VBROADCASTSS(m, value[r%2])
				for i := range w {
					VFMADD231PS(w[i], value[r%2], z[2*r+i])
				}
			}
		}
		ADDQ(U32(unroll*128), RDI)
		ADDQ(R14, RSI)
		for i := 0; 3*i < n; i++ {
			ADDQ(Imm(4*unroll), bases[i])
		}
		DECQ(RDX)
		JNZ(LabelRef(l("group", n)))
		DECQ(RCX)
		JNZ(LabelRef(l("run", n)))

		loadArgs(argument{mResAt, RAX}, argument{mResStride, RDX})
		TESTQ(RAX, RAX)
		JZ(LabelRef(l("added", n)))
		for r := range n {
			for i := range 2 {
				VADDPS(Mem{Base: RAX, Disp: 64 * i}, z[2*r+i], masks[i], z[2*r+i])
			}
			ADDQ(RDX, RAX)
		}
		MOVQ(RAX, arg(mResAt))
		Label(l("added", n))
		// The activations that clip; those that do nothing or more have no bounds.
		VBROADCASTSS(arg(mBounds), w[0])
		VBROADCASTSS(arg(mBounds+4), w[1])
		for _, r := range z {
			VMAXPS(r, w[0], r) // a not-a-number in the first operand passes
			VMINPS(r, w[1], r)
		}
		loadArgs(argument{mCAt, R10}, argument{mCStride, R11})
		MOVQ(R10, RAX)
		for r := range n {
			for i := range 2 {
				VMOVUPS(z[2*r+i], masks[i], Mem{Base: RAX, Disp: 64 * i})
			}
			ADDQ(R11, RAX)
		}
		MOVQ(RAX, arg(mCAt))
		MOVQ(U32(uint32(n)), RDX)
		if n < productRows {
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
	Label("row")
	VMOVUPS_Z(Mem{Base: R10}, K3, Z0)
	VMOVUPS_Z(Mem{Base: R10, Disp: 64}, K4, Z1)
	activate(form512, "row", arg(mActivation), Z30, Z31, Z0, Z1)
	VMOVUPS(Z0, K3, Mem{Base: R10})
	VMOVUPS(Z1, K4, Mem{Base: R10, Disp: 64})
	ADDQ(R11, R10)
	DECQ(RDX)
	JNZ(LabelRef("row"))
	Label("next")
	DECQ(arg(mBlocks))
	JNZ(LabelRef("block"))
	VZEROUPPER()
	RET()
}
