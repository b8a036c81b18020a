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
