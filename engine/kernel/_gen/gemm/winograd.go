package main

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel/_gen/amx"
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
	// input and output transform the registers in, n values along one axis, to out; they may use the registers in, and tmp where the
	// processor cannot take constants from memory.
	input, output func(f form, in, out []VecPhysical, tmp VecPhysical)
}

var winogradTiles = []winogradTile{
	{
		m: 2,
		input: func(f form, d, v []VecPhysical, tmp VecPhysical) {
			VSUBPS(d[2], d[0], v[0])
			VADDPS(d[2], d[1], v[1])
			VSUBPS(d[1], d[2], v[2])
			VSUBPS(d[3], d[1], v[3])
		},
		output: func(f form, m, y []VecPhysical, tmp VecPhysical) {
			VADDPS(m[2], m[1], y[0])
			VSUBPS(m[2], m[1], y[1])
			VADDPS(m[0], y[0], y[0])
			VSUBPS(m[3], y[1], y[1])
		},
	},
	{
		m: 4,
		input: func(f form, d, v []VecPhysical, tmp VecPhysical) {
			// v1, v2 = (d4 - b²d2) ± a(d3 - b²d1), v3, v4 = (d4 - a²d2) ± b(d3 - a²d1).
			VMOVAPS(d[4], v[1])
			f.with(VFNMADD231PS_BCST, VFNMADD231PS, "b²", tmp, d[2], v[1])
			VMOVAPS(d[3], v[0])
			f.with(VFNMADD231PS_BCST, VFNMADD231PS, "b²", tmp, d[1], v[0])
			VMOVAPS(v[1], v[2])
			f.with(VFMADD231PS_BCST, VFMADD231PS, "a", tmp, v[0], v[1])
			f.with(VFNMADD231PS_BCST, VFNMADD231PS, "a", tmp, v[0], v[2])
			VMOVAPS(d[4], v[3])
			f.with(VFNMADD231PS_BCST, VFNMADD231PS, "a²", tmp, d[2], v[3])
			VMOVAPS(d[3], v[0])
			f.with(VFNMADD231PS_BCST, VFNMADD231PS, "a²", tmp, d[1], v[0])
			VMOVAPS(v[3], v[4])
			f.with(VFMADD231PS_BCST, VFMADD231PS, "b", tmp, v[0], v[3])
			f.with(VFNMADD231PS_BCST, VFNMADD231PS, "b", tmp, v[0], v[4])
			// v0 = a²b²d0 - (a²+b²)d2 + d4, v5 = a²b²d1 - (a²+b²)d3 + d5.
			f.with(VFMADD231PS_BCST, VFMADD231PS, "a²b²", tmp, d[0], d[4])
			f.with(VFNMADD231PS_BCST, VFNMADD231PS, "a²+b²", tmp, d[2], d[4])
			VMOVAPS(d[4], v[0])
			f.with(VFMADD231PS_BCST, VFMADD231PS, "a²b²", tmp, d[1], d[5])
			f.with(VFNMADD231PS_BCST, VFNMADD231PS, "a²+b²", tmp, d[3], d[5])
			VMOVAPS(d[5], v[5])
		},
		output: func(f form, m, y []VecPhysical, tmp VecPhysical) {
			VADDPS(m[2], m[1], y[0]) // the even part of ±a
			VSUBPS(m[2], m[1], y[1]) // and the odd one
			VADDPS(m[4], m[3], m[1]) // of ±b
			VSUBPS(m[4], m[3], m[2])
			f.with(VMULPS_BCST, VMULPS, "a²", tmp, y[0], y[2])
			f.with(VFMADD231PS_BCST, VFMADD231PS, "b²", tmp, m[1], y[2])
			VMOVAPS(m[5], y[3])
			f.with(VFMADD231PS_BCST, VFMADD231PS, "a³", tmp, y[1], y[3])
			f.with(VFMADD231PS_BCST, VFMADD231PS, "b³", tmp, m[2], y[3])
			VADDPS(m[1], y[0], y[0])
			VADDPS(m[0], y[0], y[0])
			f.with(VMULPS_BCST, VMULPS, "a", tmp, y[1], y[1])
			f.with(VFMADD231PS_BCST, VFMADD231PS, "b", tmp, m[2], y[1])
		},
	},
}

func winogradKernels() {
	for _, f := range forms {
		for _, t := range winogradTiles {
			t.inputKernel(f, f.float32s())
			t.outputKernel(f, f.float32s())
		}
	}
	for _, t := range winogradTiles {
		t.inputKernel(form512, halves512)
		t.outputKernel(form512, halves512)
	}
}

// mapForm is how a kernel reads and writes a vector of values of a map.
type mapForm struct {
	name  string // at the end of the names of kernels
	bytes int    // of a vector's values in a map
	load  func(from Mem, mask Register, to VecPhysical)
	store func(from VecPhysical, mask Register, to Mem) // it may change the register
}

// float32s are values as the kernels compute with them.
func (f form) float32s() mapForm { return mapForm{f.name, f.bytes(), f.load, f.store} }

// halves512 are values of bfloat16.
var halves512 = mapForm{
	name: "BF16", bytes: 32,
	load: func(from Mem, mask Register, to VecPhysical) {
		VPMOVZXWD_Z(from, mask, to)
		VPSLLD(Imm(16), to, to)
	},
	store: func(from VecPhysical, mask Register, to Mem) {
		amx.Round(from, from)
		VMOVDQU16(from.AsY(), mask, to)
	},
}

// winogradMask returns what holds the mask of the last vector of channels.
func winogradMask(f form) Register {
	if f.wide {
		return K1
	}
	return Y15
}

// maskLast sets the mask of all channels of a vector, or that in memory if one vector is left, by CX. Labels begin with prefix.
func maskLast(f form, prefix string, bits Mem, tmp VecPhysical) {
	mask := winogradMask(f)
	last, masked := prefix+"last", prefix+"masked"
	CMPQ(RCX, Imm(1))
	JEQ(LabelRef(last))
	if f.wide {
		KXNORW(K1, K1, K1)
	} else {
		VPCMPEQD(Y15, Y15, Y15)
	}
	JMP(LabelRef(masked))
	Label(last)
	f.masks(bits, tmp, mask)
	Label(masked)
}

// inputKernel emits the transformation of one tile's input: along the rows into temporary memory, along the columns from
// there. Point (row i, column j) of the result is number j*n+i.
//
// Registers: R8 the arguments, R9 source, R10 row, R11 pixel, R14 and R15 three and five pixels, R12 distance of points, DI
// destination, SI temporary memory, CX vectors left, R13 and AX addresses.
func (t winogradTile) inputKernel(f form, m mapForm) {
	n := t.m + 2
	bytes := f.bytes()
	name := fmt.Sprintf("winograd%dInput%s", t.m, m.name)
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " transforms the input of a tile: see inputArgs.")
	Load(Param("args"), R8)
	loadArgs(argument{iSrc, R9}, argument{iRow, R10}, argument{iPixel, R11}, argument{iPoint, R12}, argument{iDst, RDI}, argument{iTemp, RSI}, argument{iVectors, RCX})
	LEAQ(Mem{Base: R11, Index: R11, Scale: 2}, R14)
	LEAQ(Mem{Base: R11, Index: R11, Scale: 4}, R15)
	pixels := []Mem{{Base: R13}, {Base: R13, Index: R11, Scale: 1}, {Base: R13, Index: R11, Scale: 2}, {Base: R13, Index: R14, Scale: 1}, {Base: R13, Index: R11, Scale: 4}, {Base: R13, Index: R15, Scale: 1}}
	d, v := f.registers(0, n), f.registers(n, n)
	tmp := f.registers(2*n, 1)[0]
	Label("vector")
	maskLast(f, "", Mem{Base: R8, Disp: iMask}, tmp)
	MOVQ(R9, R13)
	for i := range n {
		for j := range n {
			m.load(pixels[j], winogradMask(f), d[j])
		}
		t.input(f, d, v, tmp)
		for j := range n {
			VMOVUPS(v[j], Mem{Base: RSI, Disp: bytes * (j*n + i)})
		}
		if i < n-1 {
			ADDQ(R10, R13)
		}
	}
	MOVQ(RDI, R13)
	for j := range n {
		for i := range n {
			VMOVUPS(Mem{Base: RSI, Disp: bytes * (j*n + i)}, d[i])
		}
		t.input(f, d, v, tmp)
		for i := range n {
			VMOVUPS(v[i], Mem{Base: R13})
			ADDQ(R12, R13)
		}
	}
	ADDQ(Imm(uint64(m.bytes)), R9)
	ADDQ(Imm(uint64(bytes)), RDI)
	DECQ(RCX)
	JNZ(LabelRef("vector"))
	VZEROUPPER()
	RET()
}

// outputKernel emits the transformation of one tile's products to its outputs, with bias, residual and activation.
//
// Registers: R8 the arguments, R9 products, R12 distance of points, DI destination, R10 and R11 its row and pixel, R14 three
// pixels, DX residual or 0, BX its row, R15 its pixel, SI temporary memory, CX vectors left, R13 and AX addresses.
func (t winogradTile) outputKernel(f form, to mapForm) {
	n, m := t.m+2, t.m
	bytes := f.bytes()
	name := fmt.Sprintf("winograd%dOutput%s", t.m, to.name)
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " transforms the products of a tile to outputs: see outputArgs.")
	Load(Param("args"), R8)
	loadArgs(argument{oSrc, R9}, argument{oPoint, R12}, argument{oDst, RDI}, argument{oRow, R10}, argument{oPixel, R11}, argument{oRes, RDX},
		argument{oResRow, RBX}, argument{oResPixel, R15}, argument{oTemp, RSI}, argument{oVectors, RCX})
	copyArg(oBias, oBiasNext)
	in, y := f.registers(0, n), f.registers(8, m)
	spare := f.registers(12, 3)
	tmp, low, high := f.registers(6, 1)[0], spare[0], spare[1]
	bias, residual := spare[2], f.registers(7, 1)[0]
	mask := winogradMask(f)
	VBROADCASTSS(arg(oBounds), low)
	VBROADCASTSS(arg(oBounds+4), high)
	Label("vector")
	maskLast(f, "", arg(oMask), tmp)
	MOVQ(R9, R13)
	for j := range n {
		for i := range n {
			VMOVUPS(Mem{Base: R13}, in[i])
			ADDQ(R12, R13)
		}
		t.output(f, in, y, tmp)
		for i := range m {
			VMOVUPS(y[i], Mem{Base: RSI, Disp: bytes * (i*n + j)})
		}
	}
	load(oBiasNext, RAX)
	VMOVUPS(Mem{Base: RAX}, bias)
	ADDQ(Imm(uint64(bytes)), RAX)
	MOVQ(RAX, arg(oBiasNext))
	MOVQ(RDI, R13)
	MOVQ(RDX, R14) // the residual's row
	for i := range m {
		for j := range n {
			VMOVUPS(Mem{Base: RSI, Disp: bytes * (i*n + j)}, in[j])
		}
		t.output(f, in, y, tmp)
		for j := range m {
			VADDPS(bias, y[j], y[j])
		}
		l := fmt.Sprintf("row%d", i)
		TESTQ(RDX, RDX)
		JZ(LabelRef(l))
		MOVQ(R14, RAX)
		for j := range m {
			to.load(Mem{Base: RAX}, mask, residual)
			VADDPS(residual, y[j], y[j])
			if j < m-1 {
				ADDQ(R15, RAX)
			}
		}
		ADDQ(RBX, R14)
		Label(l)
		activate(f, l, arg(oActivation), low, high, y...)
		MOVQ(R13, RAX)
		pixels := func(store func(v VecPhysical)) {
			for j := range m {
				store(y[j])
				if j < m-1 {
					ADDQ(R11, RAX)
				}
			}
		}
		if !f.wide {
			// Stores under a mask of vectors are slow.
			CMPQ(RCX, Imm(1))
			JEQ(LabelRef(l + "last"))
			pixels(func(v VecPhysical) { VMOVUPS(v, Mem{Base: RAX}) })
			JMP(LabelRef(l + "stored"))
			Label(l + "last")
		}
		pixels(func(v VecPhysical) { to.store(v, mask, Mem{Base: RAX}) })
		Label(l + "stored")
		if i < m-1 {
			ADDQ(R10, R13)
		}
	}
	ADDQ(Imm(uint64(bytes)), R9)
	ADDQ(Imm(uint64(to.bytes)), RDI)
	TESTQ(RDX, RDX)
	JZ(LabelRef("next"))
	ADDQ(Imm(uint64(to.bytes)), RDX)
	Label("next")
	DECQ(RCX)
	JNZ(LabelRef("vector"))
	VZEROUPPER()
	RET()
}
