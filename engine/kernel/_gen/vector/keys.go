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
	g.strips(g.slot("channels"), 32, units, func(rem reg.GPVirtual) { g.setMask(rem, "KMOVD") }, body)
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

func (g *gen) greaterKey(acc, v int) { g.i("VPMAXUW", v, acc, acc) }

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
			p := g.element(x, i)
			acc := g.fold(unit, "rows", p, step, func(u int) int {
				v := g.loadWords(mem(p.hi, nil, 0, 64*u), tail)
				g.flip(k, v)
				g.i("VPADDW", k.bias, v, v)
				return v
			}, g.greaterKey)
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
			p := g.element(x, i)
			acc := g.fold(unit, "taps", p, step, func(u int) int { return g.loadWords(mem(p.hi, nil, 0, 64*u), tail) }, g.greaterKey)
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
