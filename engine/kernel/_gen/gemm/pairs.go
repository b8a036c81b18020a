package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of pairArgs in engine/kernel/gemm/matmul_amd64.go, each 8 bytes.
const (
	pDst = 8 * iota
	pSrc
	pStride
	pRows
	pMask
)

// pairKernel emits the packing of up to 32 rows of 32 float32 into the two tiles of a step (one more of each for lo): row
// i of the tile of even columns holds, for each of its 16 columns, the bfloat16 of rows 2i and 2i+1.
func pairKernel(name string, planes int) {
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " packs pairs of rows of float32 into tiles of weights.")
	Load(Param("args"), R8)
	load(pDst, RDI)
	load(pSrc, RSI)
	load(pStride, R9)
	load(pRows, RCX)
	load(pMask, RAX)
	KMOVW(EAX, K1)
	SHRQ(Imm(16), RAX)
	KMOVW(EAX, K3)
	planeConstants()
	VMOVUPS(deinterleave, Z24)
	VMOVUPS(deinterleave.Offset(64), Z23)
	Label("pair")
	VMOVUPS_Z(Mem{Base: RSI}, K1, Z0)
	VMOVUPS_Z(Mem{Base: RSI, Disp: 64}, K3, Z1)
	ADDQ(R9, RSI)
	VPXORD(Z2, Z2, Z2)
	VPXORD(Z3, Z3, Z3)
	CMPQ(RCX, Imm(1))
	JE(LabelRef("single"))
	VMOVUPS_Z(Mem{Base: RSI}, K1, Z2)
	VMOVUPS_Z(Mem{Base: RSI, Disp: 64}, K3, Z3)
	ADDQ(R9, RSI)
	Label("single")
	VMOVAPS(Z24, Z4)
	VPERMI2PS(Z1, Z0, Z4) // even columns of the first row
	VPERMT2PS(Z1, Z23, Z0)
	VMOVAPS(Z24, Z5)
	VPERMI2PS(Z3, Z2, Z5)
	VPERMT2PS(Z3, Z23, Z2)
	for parity, v := range [][2]VecPhysical{{Z4, Z5}, {Z0, Z2}} {
		x, y := v[0], v[1]
		packHigh(x, y, Z6, Z7, Z8)
		VMOVDQU64(Z8, Mem{Base: RDI, Disp: 1024 * parity})
		if planes == 2 {
			packLow(x, y, Z6, Z7)
			VMOVDQU64(y, Mem{Base: RDI, Disp: 2048 + 1024*parity})
		}
	}
	ADDQ(Imm(64), RDI)
	SUBQ(Imm(2), RCX)
	JG(LabelRef("pair"))
	VZEROUPPER()
	RET()
}

// transposeKernel emits the transposition of 16×16 words of 32 bits.
func transposeKernel() {
	TEXT("transpose16", NOSPLIT, "func(dst *byte, dstStride int, src *byte, srcStride int)")
	Pragma("noescape")
	Doc("transpose16 transposes 16 rows of 16 words of 32 bits.")
	Load(Param("dst"), RDI)
	Load(Param("dstStride"), R9)
	Load(Param("src"), RSI)
	Load(Param("srcStride"), R8)
	a := []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15}
	b := []VecPhysical{Z16, Z17, Z18, Z19, Z20, Z21, Z22, Z23, Z24, Z25, Z26, Z27, Z28, Z29, Z30, Z31}
	for i := range 16 {
		VMOVDQU32(Mem{Base: RSI}, a[i])
		if i < 15 {
			ADDQ(R8, RSI)
		}
	}
	// Words, then pairs of words within 128-bit lanes, then lanes.
	for i := 0; i < 16; i += 2 {
		VPUNPCKLDQ(a[i+1], a[i], b[i])
		VPUNPCKHDQ(a[i+1], a[i], b[i+1])
	}
	for i := 0; i < 16; i += 4 {
		VPUNPCKLQDQ(b[i+2], b[i], a[i])
		VPUNPCKHQDQ(b[i+2], b[i], a[i+1])
		VPUNPCKLQDQ(b[i+3], b[i+1], a[i+2])
		VPUNPCKHQDQ(b[i+3], b[i+1], a[i+3])
	}
	for i := range 4 {
		VSHUFI32X4(Imm(0x88), a[4+i], a[i], b[i])
		VSHUFI32X4(Imm(0xdd), a[4+i], a[i], b[4+i])
		VSHUFI32X4(Imm(0x88), a[12+i], a[8+i], b[8+i])
		VSHUFI32X4(Imm(0xdd), a[12+i], a[8+i], b[12+i])
	}
	for i := range 4 {
		VSHUFI32X4(Imm(0x88), b[8+i], b[i], a[i])
		VSHUFI32X4(Imm(0xdd), b[8+i], b[i], a[8+i])
		VSHUFI32X4(Imm(0x88), b[12+i], b[4+i], a[4+i])
		VSHUFI32X4(Imm(0xdd), b[12+i], b[4+i], a[12+i])
	}
	for i := range 16 {
		VMOVDQU32(a[i], Mem{Base: RDI})
		if i < 15 {
			ADDQ(R9, RDI)
		}
	}
	VZEROUPPER()
	RET()
}
