package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of inputArgs in engine/kernel/gemm/winograd_amd64.go, each 8 bytes.
const (
	iSrc = 8 * iota
	iRow
	iPixel
	iDst
	iPoint
	iVectors
	iMask
	iTemp
)

// Offsets of the fields of outputArgs, each 8 bytes.
const (
	oSrc = 8 * iota
	oPoint
	oDst
	oRow
	oPixel
	oRes
	oResRow
	oResPixel
	oBias
	oVectors
	oMask
	oTemp
	oActivation
	oBounds // two float32
	oBiasNext
)

// Offsets of the fields of productArgs, each 8 bytes.
const (
	mA = 8 * iota
	mAStride
	mB
	mC
	mCStride
	mGroups
	mRows
	mBlocks
	mLonger
	mNext
	mAt
)

// productRows is how many rows of sums the registers hold beside two vectors of weights and two broadcast values.
const productRows = 14

// winogradTile is a transformation with tiles of m×m outputs, computed from n×n inputs, n = m+2, by n×n products. The
// constants are exact in float32. See winograd.go in engine/kernel/gemm for where they come from.
type winogradTile struct {
	m int
	// input and output transform the registers in, n values along one axis, to out; they may use the registers in.
	input, output func(in, out []VecPhysical)
}

var winogradTiles = []winogradTile{
	{
		m: 2,
		input: func(d, v []VecPhysical) {
			VSUBPS(d[2], d[0], v[0])
			VADDPS(d[2], d[1], v[1])
			VSUBPS(d[1], d[2], v[2])
			VSUBPS(d[3], d[1], v[3])
		},
		output: func(m, y []VecPhysical) {
			VADDPS(m[2], m[1], y[0])
			VSUBPS(m[2], m[1], y[1])
			VADDPS(m[0], y[0], y[0])
			VSUBPS(m[3], y[1], y[1])
		},
	},
	{
		m: 4,
		input: func(d, v []VecPhysical) {
			// v1, v2 = (d4 - b²d2) ± a(d3 - b²d1), v3, v4 = (d4 - a²d2) ± b(d3 - a²d1).
			VMOVAPS(d[4], v[1])
			VFNMADD231PS_BCST(k("b²"), d[2], v[1])
			VMOVAPS(d[3], v[0])
			VFNMADD231PS_BCST(k("b²"), d[1], v[0])
			VMOVAPS(v[1], v[2])
			VFMADD231PS_BCST(k("a"), v[0], v[1])
			VFNMADD231PS_BCST(k("a"), v[0], v[2])
			VMOVAPS(d[4], v[3])
			VFNMADD231PS_BCST(k("a²"), d[2], v[3])
			VMOVAPS(d[3], v[0])
			VFNMADD231PS_BCST(k("a²"), d[1], v[0])
			VMOVAPS(v[3], v[4])
			VFMADD231PS_BCST(k("b"), v[0], v[3])
			VFNMADD231PS_BCST(k("b"), v[0], v[4])
			// v0 = a²b²d0 - (a²+b²)d2 + d4, v5 = a²b²d1 - (a²+b²)d3 + d5.
			VFMADD231PS_BCST(k("a²b²"), d[0], d[4])
			VFNMADD231PS_BCST(k("a²+b²"), d[2], d[4])
			VMOVAPS(d[4], v[0])
			VFMADD231PS_BCST(k("a²b²"), d[1], d[5])
			VFNMADD231PS_BCST(k("a²+b²"), d[3], d[5])
			VMOVAPS(d[5], v[5])
		},
		output: func(m, y []VecPhysical) {
			VADDPS(m[2], m[1], y[0]) // the even part of ±a
			VSUBPS(m[2], m[1], y[1]) // and the odd one
			VADDPS(m[4], m[3], m[1]) // of ±b
			VSUBPS(m[4], m[3], m[2])
			VMULPS_BCST(k("a²"), y[0], y[2])
			VFMADD231PS_BCST(k("b²"), m[1], y[2])
			VMOVAPS(m[5], y[3])
			VFMADD231PS_BCST(k("a³"), y[1], y[3])
			VFMADD231PS_BCST(k("b³"), m[2], y[3])
			VADDPS(m[1], y[0], y[0])
			VADDPS(m[0], y[0], y[0])
			VMULPS_BCST(k("a"), y[1], y[1])
			VFMADD231PS_BCST(k("b"), m[2], y[1])
		},
	},
}

func winogradKernels() {
	for _, t := range winogradTiles {
		t.inputKernel()
		t.outputKernel()
	}
	productKernel()
}

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

// inputKernel emits the transformation of one tile's input: along the rows into temporary memory, along the columns from
// there. Point (row i, column j) of the result is number j*n+i.
//
// Registers: R8 the arguments, R9 source, R10 row, R11 pixel, R14 and R15 three and five pixels, R12 distance of points, DI
// destination, SI temporary memory, CX vectors left, R13 and AX addresses.
func (t winogradTile) inputKernel() {
	n := t.m + 2
	name := fmt.Sprintf("winogradInput%d", t.m)
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " transforms the input of a tile: see inputArgs.")
	Load(Param("args"), R8)
	loadArgs(argument{iSrc, R9}, argument{iRow, R10}, argument{iPixel, R11}, argument{iPoint, R12}, argument{iDst, RDI}, argument{iTemp, RSI}, argument{iVectors, RCX})
	LEAQ(Mem{Base: R11, Index: R11, Scale: 2}, R14)
	LEAQ(Mem{Base: R11, Index: R11, Scale: 4}, R15)
	pixels := []Mem{{Base: R13}, {Base: R13, Index: R11, Scale: 1}, {Base: R13, Index: R11, Scale: 2}, {Base: R13, Index: R14, Scale: 1}, {Base: R13, Index: R11, Scale: 4}, {Base: R13, Index: R15, Scale: 1}}
	d, v := registers(0, n), registers(n, n)
	MOVL(U32(0xffff), EAX)
	KMOVW(EAX, K1)
	Label("vector")
	CMPQ(RCX, Imm(1))
	JNE(LabelRef("whole"))
	KMOVW(Mem{Base: R8, Disp: iMask}, K1)
	Label("whole")
	MOVQ(R9, R13)
	for i := range n {
		for j := range n {
			VMOVUPS_Z(pixels[j], K1, d[j])
		}
		t.input(d, v)
		for j := range n {
			VMOVUPS(v[j], Mem{Base: RSI, Disp: 64 * (j*n + i)})
		}
		if i < n-1 {
			ADDQ(R10, R13)
		}
	}
	MOVQ(RDI, R13)
	for j := range n {
		for i := range n {
			VMOVUPS(Mem{Base: RSI, Disp: 64 * (j*n + i)}, d[i])
		}
		t.input(d, v)
		for i := range n {
			VMOVUPS(v[i], Mem{Base: R13})
			ADDQ(R12, R13)
		}
	}
	ADDQ(Imm(64), R9)
	ADDQ(Imm(64), RDI)
	DECQ(RCX)
	JNZ(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

// outputKernel emits the transformation of one tile's products to its outputs, with bias, residual and activation.
//
// Registers: R8 the arguments, R9 products, R12 distance of points, DI destination, R10 and R11 its row and pixel, R14 three
// pixels, DX residual or 0, BX its row, R15 its pixel, SI temporary memory, CX vectors left, R13 and AX addresses.
func (t winogradTile) outputKernel() {
	n, m := t.m+2, t.m
	name := fmt.Sprintf("winogradOutput%d", t.m)
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " transforms the products of a tile to outputs: see outputArgs.")
	arg := func(offset int) Mem { return Mem{Base: R8, Disp: offset} }
	Load(Param("args"), R8)
	loadArgs(argument{oSrc, R9}, argument{oPoint, R12}, argument{oDst, RDI}, argument{oRow, R10}, argument{oPixel, R11}, argument{oRes, RDX},
		argument{oResRow, RBX}, argument{oResPixel, R15}, argument{oTemp, RSI}, argument{oVectors, RCX})
	MOVQ(arg(oBias), RAX)
	MOVQ(RAX, arg(oBiasNext))
	VBROADCASTSS(arg(oBounds), Z30)
	VBROADCASTSS(arg(oBounds+4), Z31)
	in := registers(0, n)
	y := registers(8, m)
	MOVL(U32(0xffff), EAX)
	KMOVW(EAX, K1)
	Label("vector")
	CMPQ(RCX, Imm(1))
	JNE(LabelRef("whole"))
	KMOVW(arg(oMask), K1)
	Label("whole")
	MOVQ(R9, R13)
	for j := range n {
		for i := range n {
			VMOVUPS(Mem{Base: R13}, in[i])
			ADDQ(R12, R13)
		}
		t.output(in, y)
		for i := range m {
			VMOVUPS(y[i], Mem{Base: RSI, Disp: 64 * (i*n + j)})
		}
	}
	MOVQ(arg(oBiasNext), RAX)
	VMOVUPS(Mem{Base: RAX}, Z29)
	ADDQ(Imm(64), RAX)
	MOVQ(RAX, arg(oBiasNext))
	MOVQ(RDI, R13)
	MOVQ(RDX, R14) // the residual's row
	for i := range m {
		for j := range n {
			VMOVUPS(Mem{Base: RSI, Disp: 64 * (i*n + j)}, in[j])
		}
		t.output(in, y)
		for j := range m {
			VADDPS(Z29, y[j], y[j])
		}
		l := fmt.Sprintf("row%d", i)
		TESTQ(RDX, RDX)
		JZ(LabelRef(l))
		MOVQ(R14, RAX)
		for j := range m {
			VMOVUPS_Z(Mem{Base: RAX}, K1, Z7)
			VADDPS(Z7, y[j], y[j])
			if j < m-1 {
				ADDQ(R15, RAX)
			}
		}
		ADDQ(RBX, R14)
		Label(l)
		activate(form512, l, arg(oActivation), Z30, Z31, y...)
		MOVQ(R13, RAX)
		for j := range m {
			VMOVUPS(y[j], K1, Mem{Base: RAX})
			if j < m-1 {
				ADDQ(R11, RAX)
			}
		}
		if i < m-1 {
			ADDQ(R10, R13)
		}
	}
	ADDQ(Imm(64), R9)
	ADDQ(Imm(64), RDI)
	TESTQ(RDX, RDX)
	JZ(LabelRef("next"))
	ADDQ(Imm(64), RDX)
	Label("next")
	DECQ(RCX)
	JNZ(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

// productKernel emits the product of any number of rows with a panel of 32 columns. The rows are divided into blocks of
// nearly the same size, and there is a loop for each size, so that no lane computes what is thrown away. The weights that
// will be needed next are fetched into L2 on the way.
//
// Registers: R8 the arguments, R9 stride of A, DI weights, DX groups of four values left, R10 to R13 and BX rows 0, 3, 6, 9
// and 12 of a block, SI what to fetch, R14 sums, R15 blocks left, CX blocks left that have a row more, AX temporary.
func productKernel() {
	const unroll = 4
	TEXT("product512", NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc("product512 multiplies rows with a panel of 32 columns: see productArgs.")
	arg := func(offset int) Mem { return Mem{Base: R8, Disp: offset} }
	bases := []GPPhysical{R10, R11, R12, R13, RBX}
	l := func(format string, n int) string { return fmt.Sprintf(format, n) }
	Load(Param("args"), R8)
	loadArgs(argument{mAStride, R9}, argument{mC, R14}, argument{mBlocks, R15}, argument{mLonger, RCX}, argument{mNext, RSI}, argument{mA, R10})
	MOVQ(R10, arg(mAt))
	Label("block")
	MOVQ(arg(mB), RDI)
	MOVQ(arg(mGroups), RDX)
	MOVQ(arg(mRows), RAX)
	TESTQ(RCX, RCX)
	JZ(LabelRef("size"))
	DECQ(RCX)
	INCQ(RAX)
	Label("size")
	for n := productRows; n > 1; n-- {
		CMPQ(RAX, Imm(uint64(n)))
		JEQ(LabelRef(l("rows%d", n)))
	}
	for n := 1; n <= productRows; n++ {
		Label(l("rows%d", n))
		z := registers(0, 2*n)
		w, value := registers(28, 2), registers(30, 2)
		for _, r := range z {
			VPXORD(r, r, r)
		}
		if n > 3 {
			LEAQ(Mem{Base: R9, Index: R9, Scale: 2}, RAX)
		}
		for i := 1; 3*i < n; i++ {
			LEAQ(Mem{Base: bases[i-1], Index: RAX, Scale: 1}, bases[i])
		}
		rows := addresses(n)
		Label(l("group%d", n))
		for u := range unroll {
			for i := range w {
				VMOVUPS(Mem{Base: RDI, Disp: (2*u + i) * 64}, w[i])
			}
			PREFETCHT1(Mem{Base: RSI, Disp: 64 * u})
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
		ADDQ(U32(unroll*64), RSI)
		for i := 0; 3*i < n; i++ {
			ADDQ(Imm(4*unroll), bases[i])
		}
		DECQ(RDX)
		JNZ(LabelRef(l("group%d", n)))
		MOVQ(arg(mCStride), RAX)
		for r := range n {
			VMOVUPS(z[2*r], Mem{Base: R14})
			VMOVUPS(z[2*r+1], Mem{Base: R14, Disp: 64})
			ADDQ(RAX, R14)
		}
		// The next block begins after the last row of this one.
		MOVQ(arg(mAt), R10)
		MOVL(U32(uint32(n)), EAX)
		IMULQ(R9, RAX)
		ADDQ(RAX, R10)
		MOVQ(R10, arg(mAt))
		DECQ(R15)
		JNZ(LabelRef("block"))
		VZEROUPPER()
		RET()
	}
}
