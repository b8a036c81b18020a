package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The maximum of bfloat16 values is taken on keys, 16-bit integers in the order of the values: 32 at a time, with no
// widening. The key of bits b is, modulo 2^16, b (with the lower bits inverted if b is negative) plus keyBias, such that
// -infinity is 0, and numbers that are none, of either sign, lie above +infinity and so win every maximum.
const keyBias = 0x7f81

// keyed is what the conversions need in registers.
type keyed struct{ bias, mask int }

func (g *gen) keyed() keyed {
	k := keyed{g.get(), g.get()}
	g.i("VPBROADCASTD", g.bits(keyBias<<16|keyBias), k.bias)
	g.i("VPBROADCASTD", g.bits(0x7fff7fff), k.mask)
	return k
}

// flip inverts the lower bits of negative numbers in v.
func (g *gen) flip(k keyed, v int) {
	sign := g.get()
	g.i("VPSRAW", imm(15), v, sign)
	g.i("VPTERNLOGD", imm(0x78), k.mask, sign, v) // v ^ (sign & mask)
	g.put(sign)
}

// wordChannels is channels for registers of 32 words.
func (g *gen) wordChannels(units []int, body func(i reg.GPVirtual, unit int, tail bool)) {
	const lanes = 32
	i, t := g.ctx.GP64(), g.ctx.GP64()
	g.i("XORQ", i, i)
	for _, u := range units {
		top, next := g.newLabel("chan"), g.newLabel("less")
		g.label(top)
		g.i("LEAQ", mem(i, nil, 0, u*lanes), t)
		g.i("CMPQ", t, g.slot("channels"))
		g.jump("JGT", next)
		body(i, u, false)
		g.i("ADDQ", num(u*lanes), i)
		g.jump("JMP", top)
		g.label(next)
	}
	done := g.newLabel("done")
	rem := g.gp("channels")
	g.i("SUBQ", i, rem)
	g.jump("JE", done)
	m := g.ctx.GP64()
	g.i("MOVQ", operand.I32(-1), m)
	g.i("BZHIQ", rem, m, m)
	g.i("KMOVD", m.As32(), reg.K1)
	body(i, 1, true)
	g.label(done)
}

func (g *gen) loadWords(m operand.Mem, tail bool) int {
	v := g.get()
	if tail {
		g.i("VMOVDQU16_Z", m, reg.K1, v)
	} else {
		g.i("VMOVDQU16", m, v)
	}
	return v
}

func (g *gen) storeKeys(v int, m operand.Mem, tail bool) {
	if tail {
		g.i("VMOVDQU16", v, reg.K1, m)
	} else {
		g.i("VMOVDQU16", v, m)
	}
}

// downKeys writes a dense row of keys, each the greatest over rows rows of bfloat16.
func (g *gen) downKeys(name string) {
	g.fn(name, downSignature)
	dst, x := g.gp("dst"), planes{format: bf16, hi: g.gp("x")}
	step := g.gp("rowStep")
	g.i("ADDQ", step, step)
	k := g.keyed()
	g.loop(g.slot("pixels"), func() {
		g.wordChannels([]int{4, 1}, func(i reg.GPVirtual, unit int, tail bool) {
			p := g.ctx.GP64()
			g.i("LEAQ", mem(x.hi, i, 2, 0), p)
			load := func(u int) int {
				v := g.loadWords(mem(p, nil, 0, 64*u), tail)
				g.flip(k, v)
				g.i("VPADDW", k.bias, v, v)
				return v
			}
			acc := make([]int, unit)
			for u := range acc {
				acc[u] = load(u)
			}
			n := g.gp("rows")
			done := g.newLabel("rows")
			g.i("DECQ", n)
			g.jump("JE", done)
			g.loop(n, func() {
				g.i("ADDQ", step, p)
				for u := range acc {
					v := load(u)
					g.i("VPMAXUW", v, acc[u], acc[u])
					g.put(v)
				}
			})
			g.label(done)
			for u := range acc {
				g.storeKeys(acc[u], mem(dst, i, 2, 64*u), tail)
			}
			g.put(acc...)
		})
		t := g.gp("channels")
		g.i("LEAQ", mem(dst, t, 2, 0), dst)
		g.step("xStep", x)
	})
	g.end()
}

// alongKeys writes for each pixel the greatest of taps pixels of keys, as bfloat16.
func (g *gen) alongKeys(name string) {
	g.fn(name, alongSignature)
	dst, x := planes{format: bf16, hi: g.gp("dst")}, planes{format: bf16, hi: g.gp("x")}
	step := g.gp("tapStep")
	g.i("ADDQ", step, step)
	k := g.keyed()
	g.loop(g.slot("pixels"), func() {
		g.wordChannels([]int{2, 1}, func(i reg.GPVirtual, unit int, tail bool) {
			p := g.ctx.GP64()
			g.i("LEAQ", mem(x.hi, i, 2, 0), p)
			acc := make([]int, unit)
			for u := range acc {
				acc[u] = g.loadWords(mem(p, nil, 0, 64*u), tail)
			}
			n := g.gp("taps")
			done := g.newLabel("taps")
			g.i("DECQ", n)
			g.jump("JE", done)
			g.loop(n, func() {
				g.i("ADDQ", step, p)
				for u := range acc {
					v := g.loadWords(mem(p, nil, 0, 64*u), tail)
					g.i("VPMAXUW", v, acc[u], acc[u])
					g.put(v)
				}
			})
			g.label(done)
			for u, v := range acc {
				g.i("VPSUBW", k.bias, v, v)
				g.flip(k, v)
				g.storeKeys(v, mem(dst.hi, i, 2, 64*u), tail)
			}
			g.put(acc...)
		})
		g.step("dstStep", dst)
		g.step("outStep", x)
	})
	g.end()
}
