package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Offsets of the fields of stageArgs in engine/kernel/gemm/stage.go, each 8 bytes.
const (
	sDst = 8 * iota
	sSrc
	sPixels
	sSrcStep
	sDstStep
	sChunks
	sDstChunk
	sLoadMask
	sStoreMask
	sLow
)

// stageCopy256 emits stageCopy of float32 for AVX2.
func stageCopy256() {
	masks := []Register{Y14, Y15}
	prepare := func() {
		// Every second bit of the masks of words.
		VPBROADCASTD(Mem{Base: R8, Disp: sStoreMask}, Y13)
		for i, m := range masks {
			VPSLLVD(evenBitShifts.Offset(32*i), Y13, m)
		}
	}
	stageKernel("stageCopy256", "copies chunks of 16 float32.", 64, prepare, func(last bool) {
		for i, v := range []VecPhysical{Y0, Y1} {
			from, to := Mem{Base: RSI, Disp: 32 * i}, Mem{Base: RDI, Disp: 32 * i}
			if last {
				form256.load(from, masks[i], v)
				form256.store(v, masks[i], to)
			} else {
				VMOVUPS(from, v)
				VMOVUPS(v, to)
			}
		}
	})
}

// stageKernels emits the copies of input rows to scratch memory. A chunk is 64 bytes at the destination.
func stageKernels() {
	stageKernel("stageCopy", "copies chunks of 64 bytes.", 64, wideMasks, func(last bool) {
		if last {
			VMOVDQU16_Z(Mem{Base: RSI}, K1, Z0)
			VMOVDQU16(Z0, K2, Mem{Base: RDI})
			return
		}
		VMOVDQU64(Mem{Base: RSI}, Z0)
		VMOVDQU64(Z0, Mem{Base: RDI})
	})
	stageKernel("stageWiden", "widens chunks of 16 bfloat16 to float32.", 32, wideMasks, func(last bool) {
		from, to := Mem{Base: RSI}, Mem{Base: RDI}
		if last {
			VPMOVZXWD_Z(from, K1, Z0)
		} else {
			VPMOVZXWD(from, Z0)
		}
		VPSLLD(Imm(16), Z0, Z0)
		if last {
			VMOVUPS(Z0, K1, to)
		} else {
			VMOVUPS(Z0, to)
		}
	})
	constants := func() {
		wideMasks()
		VPBROADCASTD(k("round16"), Z27)
		VPBROADCASTD(k("high16"), Z26)
		VPBROADCASTD(k("fixnan"), Z25)
		VMOVDQU64(upperWords, Z24)
	}
	load := func(last bool) {
		if last {
			VMOVUPS_Z(Mem{Base: RSI}, K1, Z0)
			VMOVUPS_Z(Mem{Base: RSI, Disp: 64}, K3, Z1)
		} else {
			VMOVUPS(Mem{Base: RSI}, Z0)
			VMOVUPS(Mem{Base: RSI, Disp: 64}, Z1)
		}
	}
	store := func(z VecPhysical, to Mem, last bool) {
		if last {
			VMOVDQU16(z, K2, to)
		} else {
			VMOVDQU64(z, to)
		}
	}
	stageKernel("stageRound", "rounds chunks of 32 float32 to bfloat16.", 128, constants, func(last bool) {
		load(last)
		VPADDD(Z27, Z0, Z0)
		VPADDD(Z27, Z1, Z1)
		VPERMT2W(Z1, Z24, Z0)
		store(Z0, Mem{Base: RDI}, last)
	})
	stageKernel("stageSplit", "splits chunks of 32 float32 into two planes of bfloat16.", 128, constants, func(last bool) {
		load(last)
		VPADDD(Z27, Z0, Z2)
		VPADDD(Z27, Z1, Z3)
		VPANDD(Z26, Z2, Z4)
		VPANDD(Z26, Z3, Z5)
		VPERMT2W(Z3, Z24, Z2)
		store(Z2, Mem{Base: RDI}, last)
		VSUBPS(Z4, Z0, Z0)
		VSUBPS(Z5, Z1, Z1)
		VFIXUPIMMPS(Imm(0), Z25, Z0, Z0)
		VFIXUPIMMPS(Imm(0), Z25, Z1, Z1)
		VPADDD(Z27, Z0, Z0)
		VPADDD(Z27, Z1, Z1)
		VPERMT2W(Z1, Z24, Z0)
		store(Z0, Mem{Base: RDI, Index: R13, Scale: 1}, last)
	})
}

// wideMasks sets the masks of the last chunk: K1 and, for its second 16 values, K3 to load, K2 to store.
func wideMasks() {
	MOVQ(Mem{Base: R8, Disp: sLoadMask}, RAX)
	KMOVD(EAX, K1)
	SHRQ(Imm(16), RAX)
	KMOVD(EAX, K3)
	MOVQ(Mem{Base: R8, Disp: sStoreMask}, RAX)
	KMOVD(EAX, K2)
}

// stageKernel emits the loops over pixels and chunks.
func stageKernel(name, doc string, srcChunk int, prepare func(), chunk func(last bool)) {
	TEXT(name, NOSPLIT, "func(args *byte)")
	Pragma("noescape")
	Doc(name + " " + doc)
	Load(Param("args"), R8)
	load(sDst, R9)
	load(sSrc, R10)
	load(sPixels, RCX)
	load(sSrcStep, R11)
	load(sDstStep, R12)
	load(sLow, R13)
	load(sDstChunk, R15)
	prepare()
	Label("pixel")
	MOVQ(R10, RSI)
	MOVQ(R9, RDI)
	load(sChunks, RDX)
	DECQ(RDX)
	JZ(LabelRef("last"))
	Label("chunk")
	chunk(false)
	ADDQ(U32(uint32(srcChunk)), RSI)
	ADDQ(R15, RDI)
	DECQ(RDX)
	JNZ(LabelRef("chunk"))
	Label("last")
	chunk(true)
	ADDQ(R11, R10)
	ADDQ(R12, R9)
	DECQ(RCX)
	JNZ(LabelRef("pixel"))
	VZEROUPPER()
	RET()
}
