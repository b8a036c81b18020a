// Command _gen writes the AVX2 kernels of package jpeg: the inverse transform and the conversion from YCbCr. Each
// computes what the Go function it stands for computes, bit for bit, as long as no sum overflows 32 bits.
package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("!noasm")
	inverse()
	fromYCC()
	Generate()
}

// dwords returns a table of eight equal 32-bit values.
func dwords(name string, v int32) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i := range 8 {
		DATA(4*i, U32(uint32(v)))
	}
	return m
}

// pairs returns a table of eight equal pairs of 16-bit values.
func pairs(name string, lo, hi int16) Mem {
	return dwords(name, int32(uint32(uint16(lo))|uint32(uint16(hi))<<16))
}

func bytes16(name string, v []uint8) Mem {
	m := GLOBL(name, RODATA|NOPTR)
	for i, b := range v {
		DATA(i, U8(b))
	}
	return m
}

const constBits, passBits = 13, 2

var factors = map[string]Mem{}

// times returns x * c.
func times(x VecVirtual, c int32) VecVirtual {
	name := fmt.Sprintf("factor%d", c)
	if c < 0 {
		name = fmt.Sprintf("factorMinus%d", -c)
	}
	m, ok := factors[name]
	if !ok {
		m = dwords(name, c)
		factors[name] = m
	}
	out := YMM()
	VPMULLD(m, x, out)
	return out
}

func add(a, b Op) VecVirtual {
	out := YMM()
	VPADDD(b, a, out)
	return out
}

func sub(a, b Op) VecVirtual {
	out := YMM()
	VPSUBD(b, a, out)
	return out
}

// pass is the one-dimensional transform of eight vectors of 32-bit values: the function transform, without its scaling.
func pass(s [8]VecVirtual) [8]VecVirtual {
	z1 := times(add(s[2], s[6]), 4433)
	t2 := add(z1, times(s[6], -15137))
	t3 := add(z1, times(s[2], 6270))
	t0, t1 := add(s[0], s[4]), sub(s[0], s[4])
	VPSLLD(Imm(constBits), t0, t0)
	VPSLLD(Imm(constBits), t1, t1)
	e0, e3 := add(t0, t3), sub(t0, t3)
	e1, e2 := add(t1, t2), sub(t1, t2)

	z3, z4 := add(s[7], s[3]), add(s[5], s[1])
	z5 := times(add(z3, z4), 9633)
	z3 = add(z5, times(z3, -16069))
	z4 = add(z5, times(z4, -3196))
	z1 = times(add(s[7], s[1]), -7373)
	t0 = add(add(times(s[7], 2446), z1), z3)
	t3 = add(add(times(s[1], 12299), z1), z4)
	z2 := times(add(s[5], s[3]), -20995)
	t1 = add(add(times(s[5], 16819), z2), z4)
	t2 = add(add(times(s[3], 25172), z2), z3)
	return [8]VecVirtual{add(e0, t3), add(e1, t2), add(e2, t1), add(e3, t0), sub(e3, t0), sub(e2, t1), sub(e1, t2), sub(e0, t3)}
}

// transpose transposes eight vectors of eight 32-bit values.
func transpose(r [8]VecVirtual) (out [8]VecVirtual) {
	var p, q [8]VecVirtual
	for i := 0; i < 8; i += 2 {
		p[i], p[i+1] = YMM(), YMM()
		VPUNPCKLDQ(r[i+1], r[i], p[i])
		VPUNPCKHDQ(r[i+1], r[i], p[i+1])
	}
	for i := 0; i < 8; i += 4 {
		for j := range 2 {
			q[i+2*j], q[i+2*j+1] = YMM(), YMM()
			VPUNPCKLQDQ(p[i+2+j], p[i+j], q[i+2*j])
			VPUNPCKHQDQ(p[i+2+j], p[i+j], q[i+2*j+1])
		}
	}
	for i := range 4 {
		out[i], out[i+4] = YMM(), YMM()
		VPERM2I128(Imm(0x20), q[i+4], q[i], out[i])
		VPERM2I128(Imm(0x31), q[i+4], q[i], out[i+4])
	}
	return out
}

func inverse() {
	TEXT("inverseAVX2", NOSPLIT, "func(dst *uint8, stride int, b *[64]int32)")
	Doc("inverseAVX2 is (*block).inverse: columns in the lanes of a vector, then rows.")
	dst, stride, b := Load(Param("dst"), GP64()), Load(Param("stride"), GP64()), Load(Param("b"), GP64())
	var r [8]VecVirtual
	for i := range r {
		r[i] = YMM()
		VMOVDQU(Mem{Base: b.(GPVirtual), Disp: 32 * i}, r[i])
	}
	const columnShift, rowShift = constBits - passBits, constBits + passBits + 3
	roundColumn, roundRow := dwords("roundColumn", 1<<(columnShift-1)), dwords("roundRow", 1<<(rowShift-1))
	r = pass(r)
	for _, v := range r {
		VPADDD(roundColumn, v, v)
		VPSRAD(Imm(columnShift), v, v)
	}
	r = pass(transpose(r))
	for _, v := range r {
		VPADDD(roundRow, v, v)
		// The sample is taken modulo 1024, as rangeLimit's index is.
		VPSLLD(Imm(32-10-rowShift), v, v)
		VPSRAD(Imm(32-10), v, v)
	}
	// Columns to bytes: four columns of four rows a lane, which a shuffle turns into four rows.
	offset := pairs("level", 128, 128)
	turn := GLOBL("turnBytes", RODATA|NOPTR)
	for i := range 32 {
		DATA(i, U8(i%4*4+i%16/4))
	}
	half := func(c int) VecVirtual {
		p, q := YMM(), YMM()
		VPACKSSDW(r[c+1], r[c], p)
		VPACKSSDW(r[c+3], r[c+2], q)
		VPADDW(offset, p, p)
		VPADDW(offset, q, q)
		VPACKUSWB(q, p, p)
		VPSHUFB(turn, p, p)
		return p
	}
	left, right := half(0), half(4)
	rows01, rows23 := YMM(), YMM() // and rows 4, 5 and 6, 7 in the upper halves
	VPUNPCKLDQ(right, left, rows01)
	VPUNPCKHDQ(right, left, rows23)
	step := func() { ADDQ(stride, dst) }
	store := func(x VecVirtual) {
		VMOVQ(x.AsX(), Mem{Base: dst.(GPVirtual)})
		step()
		VPEXTRQ(Imm(1), x.AsX(), Mem{Base: dst.(GPVirtual)})
	}
	store(rows01)
	step()
	store(rows23)
	step()
	upper := YMM()
	VEXTRACTI128(Imm(1), rows01, upper.AsX())
	store(upper)
	step()
	VEXTRACTI128(Imm(1), rows23, upper.AsX())
	store(upper)
	VZEROUPPER()
	RET()
}

func fromYCC() {
	TEXT("fromYCCAVX2", NOSPLIT, "func(dst, y, cb, cr *uint8, n int)")
	Doc("fromYCCAVX2 is fromYCC for n samples, a multiple of 16.")
	dst, y, cb, cr := Load(Param("dst"), GP64()), Load(Param("y"), GP64()), Load(Param("cb"), GP64()), Load(Param("cr"), GP64())
	n := Load(Param("n"), GP64())
	at := GP64()
	XORQ(at, at)
	two, centre := YMM(), YMM()
	VMOVDQU(pairs("two", 2, 2), two)
	VMOVDQU(pairs("centre", 128, 128), centre)
	// 91881 = 65536 + 26345, 116130 = 131072 - 14942, -46802 = -65536 + 18734: factors of 16 bits and whole multiples.
	red, blue, green := YMM(), YMM(), YMM()
	VMOVDQU(pairs("redFactor", 26345, 1<<14), red)
	VMOVDQU(pairs("blueFactor", -14942, 1<<14), blue)
	VMOVDQU(pairs("greenFactor", -22554, 18734), green)
	round := dwords("roundGreen", 1<<15)
	var masks [3][3]Mem
	for block := range masks {
		for channel := range masks[block] {
			v := make([]uint8, 16)
			for i := range v {
				v[i] = 0x80
				if t := 16*block + i; t%3 == channel {
					v[i] = uint8(t / 3)
				}
			}
			masks[block][channel] = bytes16(fmt.Sprintf("interleave%d%d", block, channel), v)
		}
	}
	// product returns the upper halves of the sums of products of the pairs (a, b) with factor, rounded where b is not two.
	product := func(a, b, factor VecVirtual, rounded bool) VecVirtual {
		lo, hi := YMM(), YMM()
		VPUNPCKLWD(b, a, lo)
		VPUNPCKHWD(b, a, hi)
		for _, v := range []VecVirtual{lo, hi} {
			VPMADDWD(factor, v, v)
			if rounded {
				VPADDD(round, v, v)
			}
			VPSRAD(Imm(16), v, v)
		}
		VPACKSSDW(hi, lo, lo)
		return lo
	}

	Label("loop")
	luma, u, v := YMM(), YMM(), YMM()
	index := func(base Register) Mem { return Mem{Base: base, Index: at, Scale: 1} }
	VPMOVZXBW(index(y), luma)
	VPMOVZXBW(index(cb), u)
	VPMOVZXBW(index(cr), v)
	VPSUBW(centre, u, u)
	VPSUBW(centre, v, v)
	r, g, b := product(v, two, red, false), product(u, v, green, true), product(u, two, blue, false)
	VPADDW(v, r, r)
	VPSUBW(v, g, g)
	VPADDW(u, b, b)
	VPADDW(u, b, b)
	for _, c := range []VecVirtual{r, g, b} {
		VPADDW(luma, c, c)
		upper := YMM()
		VEXTRACTI128(Imm(1), c, upper.AsX())
		VPACKUSWB(upper.AsX(), c.AsX(), c.AsX())
	}
	for block := range masks {
		out := XMM()
		VPSHUFB(masks[block][0], r.AsX(), out)
		for channel, c := range []VecVirtual{g, b} {
			part := XMM()
			VPSHUFB(masks[block][channel+1], c.AsX(), part)
			VPOR(part, out, out)
		}
		VMOVDQU(out, Mem{Base: dst, Disp: 16 * block})
	}
	ADDQ(Imm(48), dst)
	ADDQ(Imm(16), at)
	CMPQ(at, n)
	JLT(LabelRef("loop"))
	VZEROUPPER()
	RET()
}
