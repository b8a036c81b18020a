package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// unary writes dst = act(x) from one format to another.
func (g *gen) unary(name string, class int, from, to format) {
	g.fn(name, unarySignature)
	dst, x := g.planes(to, "dst"), g.planes(from, "x")
	pixels := g.gp("pixels")
	act := g.activation(class)
	units := []int{4, 1}
	if class != clipOnly {
		units = []int{2, 1}
		if !g.wide() {
			units = []int{1}
		}
	} else if !g.wide() {
		units = []int{2, 1}
	}
	g.loop(pixels, func() {
		g.channels(g.slot("channels"), units, func(i reg.GPVirtual, unit int, tail bool) {
			vs := make([]int, unit)
			for k := range vs {
				vs[k] = g.load(x, i, k*g.lanes(), tail)
			}
			for _, v := range vs {
				act(v)
			}
			g.storeAll(vs, dst, i, 0, tail)
			g.put(vs...)
		})
		g.step("dstStep", dst)
		g.step("xStep", x)
	})
	g.end()
}

// add writes dst = clip(x + y).
func (g *gen) add(name string, f format) {
	g.fn(name, addSignature)
	dst, x, y := g.planes(f, "dst"), g.planes(f, "x"), g.planes(f, "y")
	pixels := g.gp("pixels")
	clip := g.activation(clipOnly)
	g.loop(pixels, func() {
		g.channels(g.slot("channels"), g.simpleUnits(f), func(i reg.GPVirtual, unit int, tail bool) {
			vs := make([]int, unit)
			for k := range vs {
				vs[k] = g.load(x, i, k*g.lanes(), tail)
				g.addLoaded(vs[k], y, i, k*g.lanes(), tail)
				clip(vs[k])
			}
			g.storeAll(vs, dst, i, 0, tail)
			g.put(vs...)
		})
		g.step("dstStep", dst)
		g.step("xStep", x)
		g.step("yStep", y)
	})
	g.end()
}

// simpleUnits is how many registers kernels of a few instructions take at a time.
func (g *gen) simpleUnits(f format) []int {
	if g.wide() {
		return []int{4, 1}
	}
	if f == f32 {
		return []int{2, 1}
	}
	return []int{1}
}

// addLoaded adds lanes in memory to v.
func (g *gen) addLoaded(v int, p planes, i reg.Register, off int, tail bool) {
	if p.format == f32 && !tail {
		g.i("VADDPS", at(p.hi, i, off), v, v)
		return
	}
	y := g.load(p, i, off, tail)
	g.i("VADDPS", y, v, v)
	g.put(y)
}

// affine writes dst = clip(x*scale + shift + y), the last two if asked for. y has the format of dst.
func (g *gen) affine(name string, from, to format, shift, residual bool) {
	g.fn(name, affineSignature)
	dst, x := g.planes(to, "dst"), g.planes(from, "x")
	var y planes
	if residual {
		y = g.planes(to, "y")
	}
	scales := g.gp("scale")
	var shifts reg.GPVirtual
	if shift {
		shifts = g.gp("shift")
	}
	clip := g.activation(clipOnly)
	pixels := g.slot("pixels")
	g.loop(pixels, func() {
		g.channels(g.slot("channels"), g.simpleUnits(to), func(i reg.GPVirtual, unit int, tail bool) {
			vs := make([]int, unit)
			for k := range vs {
				off := k * g.lanes()
				v := g.load(x, i, off, tail)
				s := g.get()
				g.loadF32(at(scales, i, off), s, tail)
				switch {
				case shift:
					t := g.get()
					g.loadF32(at(shifts, i, off), t, tail)
					g.i("VFMADD213PS", t, s, v)
					g.put(t)
					if residual {
						g.addLoaded(v, y, i, off, tail)
					}
				case residual:
					t := g.load(y, i, off, tail)
					g.i("VFMADD213PS", t, s, v)
					g.put(t)
				default:
					g.i("VMULPS", s, v, v)
				}
				g.put(s)
				clip(v)
				vs[k] = v
			}
			g.storeAll(vs, dst, i, 0, tail)
			g.put(vs...)
		})
		g.step("dstStep", dst)
		g.step("xStep", x)
		if residual {
			g.step("yStep", y)
		}
	})
	g.end()
}

// interleave writes the elements of x and y in turns, 32 or 16 bits each. On AVX2, what is left over after the last whole
// register goes one element at a time.
func (g *gen) interleave(name string, size int) {
	g.fn(name, interleaveSignature)
	dst, x, y := g.gp("dst"), g.gp("x"), g.gp("y")
	pixels := g.gp("pixels")
	perRegister := 4 * g.lanes() / size
	var lo, hi int
	if g.wide() {
		lo, hi = g.indices("lo", size, 0), g.indices("hi", size, perRegister/2)
	}
	g.loop(pixels, func() {
		i, t := g.ctx.GP64(), g.ctx.GP64()
		g.i("XORQ", i, i)
		top, rest, done := g.newLabel("whole"), g.newLabel("rest"), g.newLabel("done")
		g.label(top)
		g.i("LEAQ", mem(i, nil, 0, perRegister), t)
		g.i("CMPQ", t, g.slot("channels"))
		g.jump("JGT", rest)
		a, b, c := g.get(), g.get(), g.get()
		g.i("VMOVUPS", mem(x, i, size, 0), a)
		g.i("VMOVUPS", mem(y, i, size, 0), b)
		// dst moves on by 2*size bytes for each element, so that one index serves the sources alone.
		if g.wide() {
			name := "VPERMT2D"
			if size == 2 {
				name = "VPERMT2W"
			}
			g.move(a, c)
			g.i(name, b, lo, c)
			g.i(name, b, hi, a)
			g.i("VMOVUPS", c, mem(dst, i, 2*size, 0))
			g.i("VMOVUPS", a, mem(dst, i, 2*size, 64))
		} else {
			low, high := "VPUNPCKLDQ", "VPUNPCKHDQ"
			if size == 2 {
				low, high = "VPUNPCKLWD", "VPUNPCKHWD"
			}
			g.i(low, b, a, c)
			g.i(high, b, a, a)
			g.i("VPERM2I128", imm(0x20), a, c, b)
			g.i("VPERM2I128", imm(0x31), a, c, c)
			g.i("VMOVUPS", b, mem(dst, i, 2*size, 0))
			g.i("VMOVUPS", c, mem(dst, i, 2*size, 32))
		}
		g.put(a, b, c)
		g.i("ADDQ", num(perRegister), i)
		g.jump("JMP", top)
		g.label(rest)
		if g.wide() {
			g.interleaveTail(size, dst, x, y, i, lo, hi, done)
		} else {
			g.i("CMPQ", i, g.slot("channels"))
			g.jump("JGE", done)
			move, part := "MOVL", func(r reg.GPVirtual) operand.Op { return r.As32() }
			if size == 2 {
				move, part = "MOVW", func(r reg.GPVirtual) operand.Op { return r.As16() }
			}
			g.i(move, mem(x, i, size, 0), part(t))
			g.i(move, part(t), mem(dst, i, 2*size, 0))
			g.i(move, mem(y, i, size, 0), part(t))
			g.i(move, part(t), mem(dst, i, 2*size, size))
			g.i("INCQ", i)
			g.jump("JMP", rest)
		}
		g.label(done)
		for _, s := range []struct {
			name string
			base reg.GPVirtual
		}{{"dstStep", dst}, {"xStep", x}, {"yStep", y}} {
			g.i("MOVQ", g.slot(s.name), t)
			g.i("LEAQ", mem(s.base, t, size, 0), s.base)
		}
	})
	g.end()
}

// interleaveTail interleaves the elements from i on, fewer than a register, with masks.
func (g *gen) interleaveTail(size int, dst, x, y, i reg.GPVirtual, lo, hi int, done string) {
	load, store, kmov := "VMOVDQU32_Z", "VMOVDQU32", "KMOVW"
	permute := "VPERMT2D"
	if size == 2 {
		load, store, kmov, permute = "VMOVDQU16_Z", "VMOVDQU16", "KMOVD", "VPERMT2W"
	}
	n := g.gp("channels")
	g.i("SUBQ", i, n)
	g.jump("JE", done)
	g.setMask(n, kmov)
	a, b, c := g.get(), g.get(), g.get()
	g.i(load, mem(x, i, size, 0), reg.K1, a)
	g.i(load, mem(y, i, size, 0), reg.K1, b)
	g.move(a, c)
	g.i(permute, b, lo, c)
	g.i(permute, b, hi, a)
	// Twice as many elements go out, at most two registers less two elements.
	g.i("ADDQ", n, n)
	m := g.setMask(n, kmov)
	g.i(store, c, reg.K1, mem(dst, i, 2*size, 0))
	g.i("SHRQ", imm(64/size), m)
	g.i(kmov, m.As32(), reg.K1)
	g.i(store, a, reg.K1, mem(dst, i, 2*size, 64))
	g.put(a, b, c)
}
