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
