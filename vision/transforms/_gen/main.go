// Command _gen writes the AVX2 kernels of package transforms: the two passes of resizing. Each computes what the Go
// function it stands for computes, bit for bit.
//
// A weight of 22 bits is cut into a signed upper part and 8 lower bits, which are non-negative, so that VPMADDWD multiplies
// and adds two taps at a time; the sums are put together at the end: upper<<8 + lower.
package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// precision is the number of fraction bits of a weight, lowBits those of its lower part.
const precision, lowBits = 22, 8

func main() {
	ConstraintExpr("!noasm")
	half := GLOBL("half", RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(1<<(precision-1)))
	}
	along(half)
	across(half)
	Generate()
}

// sum rounds upper<<8 + lower to whole samples.
func sum(lower, upper VecVirtual, half Mem) VecVirtual {
	VPSLLD(Imm(lowBits), upper, upper)
	VPADDD(upper, lower, lower)
	VPADDD(half, lower, lower)
	VPSRAD(Imm(precision), lower, lower)
	return lower
}

func along(half Mem) {
	TEXT("alongAVX2", NOSPLIT, "func(dst, src *uint8, first *int32, weights *uint8, outputs, groups int)")
	Doc("alongAVX2 makes pixels of groups of four taps. A group of weights is 32 bytes of lower parts, the pairs of taps 0, 1 for three",
		"channels and of taps 2, 3, and 32 bytes of upper parts. Each group reads 16 bytes.")
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	first, weights := Load(Param("first"), GP64()), Load(Param("weights"), GP64())
	outputs, groups := Load(Param("outputs"), GP64()), Load(Param("groups"), GP64())
	table := GLOBL("spread", RODATA|NOPTR)
	for lane := range 2 {
		for word := range 8 {
			from := 0x80
			if word < 6 {
				from = (2*lane+word%2)*3 + word/2
			}
			DATA(16*lane+2*word, U8(from))
			DATA(16*lane+2*word+1, U8(0x80))
		}
	}
	spread := YMM()
	VMOVDQU(table, spread)
	Label("output")
	at, n := GP64(), GP64()
	MOVLQSX(Mem{Base: first}, at)
	ADDQ(Imm(4), first)
	LEAQ(Mem{Base: at, Index: at, Scale: 2}, at)
	ADDQ(src, at)
	MOVQ(groups, n)
	lower, upper := YMM(), YMM()
	VPXOR(lower, lower, lower)
	VPXOR(upper, upper, upper)
	Label("group")
	taps, low, high := YMM(), YMM(), YMM()
	VBROADCASTI128(Mem{Base: at}, taps)
	VPSHUFB(spread, taps, taps)
	VPMADDWD(Mem{Base: weights}, taps, low)
	VPMADDWD(Mem{Base: weights, Disp: 32}, taps, high)
	VPADDD(low, lower, lower)
	VPADDD(high, upper, upper)
	ADDQ(Imm(12), at)
	ADDQ(Imm(64), weights)
	DECQ(n)
	JNZ(LabelRef("group"))
	VPSLLD(Imm(lowBits), upper, upper)
	VPADDD(upper, lower, lower)
	other := YMM()
	VEXTRACTI128(Imm(1), lower, other.AsX())
	x := lower.AsX()
	VPADDD(other.AsX(), x, x)
	VPADDD(half, x, x)
	VPSRAD(Imm(precision), x, x)
	VPACKSSDW(x, x, x)
	VPACKUSWB(x, x, x)
	VPEXTRW(Imm(0), x, Mem{Base: dst})
	VPEXTRB(Imm(2), x, Mem{Base: dst, Disp: 2})
	ADDQ(Imm(3), dst)
	DECQ(outputs)
	JNZ(LabelRef("output"))
	VZEROUPPER()
	RET()
}

func across(half Mem) {
	TEXT("acrossAVX2", NOSPLIT, "func(dst, src *uint8, n, stride int, weights *uint32, pairs, odd int)")
	Doc("acrossAVX2 makes n samples, a multiple of 16, of 2*pairs+odd rows. weights holds, for each pair of rows, the lower parts",
		"of both weights and the upper parts; a last single row has zeros for its second.")
	dst, src := Load(Param("dst"), GP64()), Load(Param("src"), GP64())
	n, stride := Load(Param("n"), GP64()), Load(Param("stride"), GP64())
	weights, pairs, odd := Load(Param("weights"), GP64()), Load(Param("pairs"), GP64()), Load(Param("odd"), GP64())
	Label("block")
	row, weight, left := GP64(), GP64(), GP64()
	MOVQ(src, row)
	MOVQ(weights, weight)
	MOVQ(pairs, left)
	var lower, upper [2]VecVirtual
	for i := range lower {
		lower[i], upper[i] = YMM(), YMM()
		VPXOR(lower[i], lower[i], lower[i])
		VPXOR(upper[i], upper[i], upper[i])
	}
	// tap adds two rows; the second is zeros where there is one only.
	tap := func(second bool) {
		a, b := YMM(), YMM()
		VPMOVZXBW(Mem{Base: row}, a)
		if second {
			VPMOVZXBW(Mem{Base: row, Index: stride, Scale: 1}, b)
		} else {
			VPXOR(b, b, b)
		}
		low, high := YMM(), YMM()
		VPBROADCASTD(Mem{Base: weight}, low)
		VPBROADCASTD(Mem{Base: weight, Disp: 4}, high)
		taps := [2]VecVirtual{YMM(), YMM()}
		VPUNPCKLWD(b, a, taps[0])
		VPUNPCKHWD(b, a, taps[1])
		for i, t := range taps {
			p := YMM()
			VPMADDWD(low, t, p)
			VPADDD(p, lower[i], lower[i])
			VPMADDWD(high, t, p)
			VPADDD(p, upper[i], upper[i])
		}
	}
	TESTQ(left, left)
	JZ(LabelRef("single"))
	Label("pair")
	tap(true)
	LEAQ(Mem{Base: row, Index: stride, Scale: 2}, row)
	ADDQ(Imm(8), weight)
	DECQ(left)
	JNZ(LabelRef("pair"))
	Label("single")
	TESTQ(odd, odd)
	JZ(LabelRef("store"))
	tap(false)
	Label("store")
	a, b := sum(lower[0], upper[0], half), sum(lower[1], upper[1], half)
	VPACKSSDW(b, a, a)
	VEXTRACTI128(Imm(1), a, b.AsX())
	VPACKUSWB(b.AsX(), a.AsX(), a.AsX())
	VMOVDQU(a.AsX(), Mem{Base: dst})
	ADDQ(Imm(16), dst)
	ADDQ(Imm(16), src)
	SUBQ(Imm(16), n)
	JG(LabelRef("block"))
	VZEROUPPER()
	RET()
}
