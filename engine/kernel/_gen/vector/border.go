package main

import (
	"github.com/mmcloughlin/avo/reg"
)

// triple walks pixels of three channels, a register of pixels and so three registers of values at a time. values returns
// the three registers for the pixels from index i on; in the tail only g.rem pixels exist. They are stored as far as
// there are pixels.
func (g *gen) triple(dst planes, values func(i reg.GPVirtual, tail bool) []int) {
	g.channels(g.slot("pixels"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
		vs := values(i, tail)
		at := g.ctx.GP64()
		g.i("LEAQ", mem(i, i, 2, 0), at)
		if !tail {
			for k, v := range vs {
				g.store(v, dst, at, k*g.lanes(), false)
			}
			g.put(vs...)
			return
		}
		left, done := g.ctx.GP64(), g.newLabel("stored")
		g.i("LEAQ", mem(g.rem, g.rem, 2, 0), left)
		for k, v := range vs {
			part, next := g.newLabel("part"), g.newLabel("next")
			g.i("CMPQ", left, num(g.lanes()))
			g.jump("JL", part)
			spare := g.get()
			g.move(v, spare) // store loses its register on one of two paths
			g.store(spare, dst, at, k*g.lanes(), false)
			g.put(spare)
			g.i("SUBQ", num(g.lanes()), left)
			g.jump("JMP", next)
			g.label(part)
			g.i("TESTQ", left, left)
			g.jump("JE", done)
			g.setTail(left)
			g.store(v, dst, at, k*g.lanes(), true)
			g.jump("JMP", done)
			g.label(next)
		}
		g.label(done)
		g.put(vs...)
	})
}

// planes3 writes dense pixels of three channels from three planes of float32: each of the three registers takes from
// all planes the pixels that it shows, by one permutation, and keeps every third lane of each.
func (g *gen) planes3(name string, f format) {
	g.fn(name, planesSignature)
	dst := g.planes(f, "dst")
	sources := []reg.GPVirtual{g.gp("red"), g.gp("green"), g.gp("blue")}
	index := make([]int, 3)
	for k := range index {
		words := make([]uint32, 16)
		for i := range g.lanes() {
			words[i] = uint32((k*g.lanes() + i) / 3)
		}
		index[k] = g.get()
		g.i("VMOVUPS", g.table(words), index[k])
	}
	lanesOf := func(k, source int) (mask int) { // lanes of register k that come from a plane
		for i := range g.lanes() {
			if (k*g.lanes()+i)%3 == source {
				mask |= 1 << i
			}
		}
		return mask
	}
	g.triple(dst, func(i reg.GPVirtual, tail bool) []int {
		in := make([]int, 3)
		for s := range in {
			in[s] = g.get()
			g.loadF32(at(sources[s], i, 0), in[s], tail)
		}
		out := g.gets(3)
		for k, v := range out {
			g.i("VPERMPS", in[0], index[k], v)
			for s := 1; s < 3; s++ {
				if g.wide() {
					m := g.ctx.GP64()
					g.i("MOVQ", num(lanesOf(k, s)), m)
					g.i("KMOVW", m.As32(), reg.K3)
					g.i("VPERMPS", in[s], index[k], reg.K3, v)
					continue
				}
				t := g.get()
				g.i("VPERMPS", in[s], index[k], t)
				g.i("VBLENDPS", imm(lanesOf(k, s)), t, v, v)
				g.put(t)
			}
		}
		g.put(in...)
		return out
	})
	g.end()
}

// bytes3 writes dense pixels of three channels from bytes: scale and shift repeat every three registers.
func (g *gen) bytes3(name string, f format) {
	g.fn(name, bytesSignature)
	dst, x := g.planes(f, "dst"), g.gp("x")
	pattern := func(param string) []int {
		p, t, u := g.gp(param), g.ctx.GP64(), g.get()
		three := g.get()
		// Three floats into the lowest lanes, without touching the fourth.
		g.i("VMOVSD", mem(p, nil, 0, 0), xmm[three])
		g.i("MOVL", mem(p, nil, 0, 8), t.As32())
		g.i("VPINSRD", imm(2), t.As32(), xmm[three], xmm[three])
		out := make([]int, 3)
		for k := range out {
			words := make([]uint32, 16)
			for i := range g.lanes() {
				words[i] = uint32((k*g.lanes() + i) % 3)
			}
			out[k] = g.get()
			g.i("VMOVUPS", g.table(words), u)
			g.i("VPERMPS", three, u, out[k])
		}
		g.put(three, u)
		return out
	}
	scale, shift := pattern("scale"), pattern("shift")
	g.triple(dst, func(i reg.GPVirtual, tail bool) []int {
		p := g.ctx.GP64()
		g.i("LEAQ", mem(i, i, 2, 0), p)
		g.i("ADDQ", x, p)
		out := g.gets(3)
		if tail {
			// Byte by byte through the stack: at most 47 bytes a row.
			s := g.local()
			j, t, n := g.ctx.GP64(), g.ctx.GP64(), g.ctx.GP64()
			g.i("LEAQ", mem(g.rem, g.rem, 2, 0), n)
			g.i("XORQ", j, j)
			top := g.newLabel("byte")
			g.label(top)
			g.i("MOVB", mem(p, j, 1, 0), t.As8())
			g.i("MOVB", t.As8(), s.Idx(j, 1))
			g.i("INCQ", j)
			g.i("CMPQ", j, n)
			g.jump("JL", top)
			for k, v := range out {
				g.i("VPMOVZXBD", s.Offset(k*g.lanes()), v)
			}
		} else {
			for k, v := range out {
				g.i("VPMOVZXBD", mem(p, nil, 0, k*g.lanes()), v)
			}
		}
		for k, v := range out {
			g.i("VCVTDQ2PS", v, v)
			g.i("VFMADD213PS", shift[k], scale[k], v)
		}
		return out
	})
	g.end()
}
