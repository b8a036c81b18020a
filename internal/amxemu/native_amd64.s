//go:build linux && amd64

#include "textflag.h"

// func native(eax, ecx uint32) (a, b, c, d uint32)
TEXT ·native(SB), NOSPLIT, $0-24
	MOVL eax+0(FP), AX
	MOVL ecx+4(FP), CX
	CPUID
	MOVL AX, a+8(FP)
	MOVL BX, b+12(FP)
	MOVL CX, c+16(FP)
	MOVL DX, d+20(FP)
	RET

// func nativeXGETBV(ecx uint32) (a, d uint32)
TEXT ·nativeXGETBV(SB), NOSPLIT, $0-16
	MOVL ecx+0(FP), CX
	XGETBV
	MOVL AX, a+8(FP)
	MOVL DX, d+12(FP)
	RET

// func multiply(sum, a, b *[tileRows][rowBytes]byte, rows, pairs int, columns uint16, scratch *[tileRows][2 * rowBytes]byte)
//
// The even and the odd values of b's pairs are widened first, then summed apart, a row of a at a time. Subnormal numbers are zeros.
TEXT ·multiply(SB), NOSPLIT, $8-56
	MOVQ     sum+0(FP), DI
	MOVQ     a+8(FP), SI
	MOVQ     b+16(FP), DX
	MOVQ     rows+24(FP), R8
	MOVQ     pairs+32(FP), R9
	MOVWLZX  columns+40(FP), AX
	KMOVW    AX, K1
	MOVQ     scratch+48(FP), BX
	STMXCSR  before-8(SP)
	MOVL     $0x9fc0, after-4(SP)
	LDMXCSR  after-4(SP)
	MOVL     $0xffff0000, AX
	VPBROADCASTD AX, Z31
	MOVQ     BX, R10
	MOVQ     R9, CX

widen:
	VMOVDQU64 (DX), Z0
	VPSLLD    $16, Z0, Z1
	VPANDD    Z31, Z0, Z2
	VMOVDQU64 Z1, (R10)
	VMOVDQU64 Z2, 64(R10)
	ADDQ      $64, DX
	ADDQ      $128, R10
	DECQ      CX
	JNZ       widen

row:
	VPXORD Z4, Z4, Z4
	VPXORD Z5, Z5, Z5
	MOVQ   BX, R10
	XORQ   CX, CX

pair:
	VPBROADCASTD (SI)(CX*4), Z0
	VPSLLD       $16, Z0, Z1
	VPANDD       Z31, Z0, Z2
	VFMADD231PS  (R10), Z1, Z4
	VFMADD231PS  64(R10), Z2, Z5
	ADDQ         $128, R10
	INCQ         CX
	CMPQ         CX, R9
	JLT          pair
	VADDPS       Z5, Z4, Z4
	VMOVUPS      (DI), Z6
	VADDPS       Z4, Z6, Z6
	VMOVUPS      Z6, K1, (DI)
	ADDQ         $64, DI
	ADDQ         $64, SI
	DECQ         R8
	JNZ          row
	LDMXCSR      before-8(SP)
	VZEROUPPER
	RET
