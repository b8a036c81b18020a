package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// depthwiseTiles are how many outputs of a row are computed at a time. A tile keeps its sums and one row of weights in
// registers and loads every input once per row of the window. Seven divides the width of the maps of almost all
// networks (112, 56, 28, 14, 7), and with seven weights and an input it just fits the 16 registers of AVX2.
var depthwiseTiles = []int{7, 4, 2, 1}

// depthwise writes one row of a k x k convolution with stride 1 or 2: a block of channels at a time, along the row.
func (g *gen) depthwise(name string, k, stride int) {
	g.fn(name, depthwiseSignature)
	rowStep := g.gp("rowStep")
	step := g.gp("xStep")
	g.i("SHLQ", imm(2), rowStep)
	g.i("SHLQ", imm(2), step)
	step3 := g.ctx.GP64()
	g.i("LEAQ", mem(step, step, 2, 0), step3)
	bytes := 4 * g.lanes()
	block := func(tail bool) {
		x, dst := g.gp("x"), g.gp("dst")
		pixels := g.gp("pixels")
		for n, tile := range depthwiseTiles {
			top, next := g.newLabel("tile"), g.newLabel("narrower")
			g.label(top)
			g.i("CMPQ", pixels, num(tile))
			g.jump("JL", next)
			g.depthwiseTile(k, stride, tile, x, dst, rowStep, step, step3, tail)
			g.i("SUBQ", num(tile), pixels)
			if n == 0 || n == len(depthwiseTiles)-1 {
				g.jump("JMP", top)
			}
			g.label(next)
		}
		g.i("ADDQ", num(bytes), g.slot("x"))
		g.i("ADDQ", num(bytes), g.slot("dst"))
		g.i("ADDQ", num(bytes), g.slot("bias"))
		g.i("ADDQ", num(bytes*k*k), g.slot("weights"))
	}
	top, rest, done := g.newLabel("block"), g.newLabel("rest"), g.newLabel("done")
	g.label(top)
	g.i("CMPQ", g.slot("channels"), num(g.lanes()))
	g.jump("JL", rest)
	block(false)
	g.i("SUBQ", num(g.lanes()), g.slot("channels"))
	g.jump("JMP", top)
	g.label(rest)
	rem := g.gp("channels")
	g.i("TESTQ", rem, rem)
	g.jump("JE", done)
	g.setTail(rem)
	block(true)
	g.label(done)
	g.end()
}

// depthwiseTile computes tile outputs of one block of channels and moves x and dst on.
func (g *gen) depthwiseTile(k, stride, tile int, x, dst, rowStep, step, step3 reg.GPVirtual, tail bool) {
	acc := g.gets(tile)
	t := g.gp("bias")
	g.i("VMOVUPS", mem(t, nil, 0, 0), acc[0])
	for _, a := range acc[1:] {
		g.move(acc[0], a)
	}
	weights, row, q, ky := g.gp("weights"), g.ctx.GP64(), g.ctx.GP64(), g.ctx.GP64()
	g.i("MOVQ", x, row)
	g.i("MOVQ", num(k), ky)
	g.loop(ky, func() {
		w := g.gets(k)
		for kx := range w {
			g.i("VMOVUPS", mem(weights, nil, 0, kx*4*g.lanes()), w[kx])
		}
		g.i("ADDQ", num(k*4*g.lanes()), weights)
		g.i("MOVQ", row, q)
		g.i("ADDQ", rowStep, row)
		in := g.get()
		inputs := (tile-1)*stride + k
		for j := range inputs {
			g.loadF32(g.strided(q, step, step3, j), in, tail)
			for kx := range w {
				if p := (j - kx) / stride; j >= kx && (j-kx)%stride == 0 && p < tile {
					g.i("VFMADD231PS", w[kx], in, acc[p])
				}
			}
			if j%4 == 3 && j+1 < inputs {
				g.i("LEAQ", mem(q, step, 4, 0), q)
			}
		}
		g.put(in)
		g.put(w...)
	})
	lo, hi := g.scalar("lo"), g.scalar("hi")
	d, d3 := g.gp("dstStep"), g.ctx.GP64()
	g.i("SHLQ", imm(2), d)
	g.i("LEAQ", mem(d, d, 2, 0), d3)
	for j, a := range acc {
		g.clip(a, lo, hi)
		g.storeF32(a, g.strided(dst, d, d3, j), tail)
		if j%4 == 3 && j+1 < tile {
			g.i("LEAQ", mem(dst, d, 4, 0), dst)
		}
	}
	g.put(lo, hi)
	// Move on by what the last group of four has not.
	rest := (tile-1)%4 + 1
	for range rest {
		g.i("ADDQ", d, dst)
	}
	u := g.ctx.GP64()
	g.i("IMUL3Q", num(tile*stride), step, u)
	g.i("ADDQ", u, x)
	g.put(acc...)
}

// strided is the address of element j%4 of a group of four, step bytes apart.
func (g *gen) strided(base, step, step3 reg.GPVirtual, j int) operand.Mem {
	switch j % 4 {
	case 0:
		return mem(base, nil, 0, 0)
	case 1:
		return mem(base, step, 1, 0)
	case 2:
		return mem(base, step, 2, 0)
	default:
		return mem(base, step3, 1, 0)
	}
}

// depthwiseAny writes one row of a convolution with any window, four outputs at a time; loops over the window take the
// place of unrolled code.
func (g *gen) depthwiseAny(name string) {
	g.fn(name, depthwiseAnySignature)
	for _, p := range []string{"xStep", "rowStep", "tapStep", "dstStep"} {
		g.i("SHLQ", imm(2), g.slot(p))
	}
	step, tapStep := g.gp("xStep"), g.gp("tapStep")
	step3 := g.ctx.GP64()
	g.i("LEAQ", mem(step, step, 2, 0), step3)
	bytes := 4 * g.lanes()
	tile := func(n int, x, dst reg.GPVirtual, tail bool) {
		acc := g.gets(n)
		t := g.gp("bias")
		g.i("VMOVUPS", mem(t, nil, 0, 0), acc[0])
		for _, a := range acc[1:] {
			g.move(acc[0], a)
		}
		weights, row := g.gp("weights"), g.ctx.GP64()
		g.i("MOVQ", x, row)
		ky := g.gp("kernelH")
		g.loop(ky, func() {
			q, kx := g.ctx.GP64(), g.gp("kernelW")
			g.i("MOVQ", row, q)
			g.loop(kx, func() {
				w, in := g.get(), g.get()
				g.i("VMOVUPS", mem(weights, nil, 0, 0), w)
				g.i("ADDQ", num(bytes), weights)
				for j := range acc {
					if m := g.strided(q, step, step3, j); tail {
						g.loadF32(m, in, true)
						g.i("VFMADD231PS", w, in, acc[j])
					} else {
						g.i("VFMADD231PS", m, w, acc[j])
					}
				}
				g.i("ADDQ", tapStep, q)
				g.put(w, in)
			})
			g.i("ADDQ", g.slot("rowStep"), row)
		})
		lo, hi := g.scalar("lo"), g.scalar("hi")
		for _, a := range acc {
			g.clip(a, lo, hi)
			g.storeF32(a, mem(dst, nil, 0, 0), tail)
			g.i("ADDQ", g.slot("dstStep"), dst)
			g.i("ADDQ", step, x)
		}
		g.put(lo, hi)
		g.put(acc...)
	}
	block := func(tail bool) {
		x, dst := g.gp("x"), g.gp("dst")
		pixels := g.gp("pixels")
		for _, n := range []int{4, 1} {
			top, next := g.newLabel("tile"), g.newLabel("narrower")
			g.label(top)
			g.i("CMPQ", pixels, num(n))
			g.jump("JL", next)
			tile(n, x, dst, tail)
			g.i("SUBQ", num(n), pixels)
			g.jump("JMP", top)
			g.label(next)
		}
		t := g.gp("kernelH")
		g.i("IMULQ", g.slot("kernelW"), t)
		g.i("IMUL3Q", num(bytes), t, t)
		g.i("ADDQ", t, g.slot("weights"))
		g.i("ADDQ", num(bytes), g.slot("x"))
		g.i("ADDQ", num(bytes), g.slot("dst"))
		g.i("ADDQ", num(bytes), g.slot("bias"))
	}
	top, rest, done := g.newLabel("block"), g.newLabel("rest"), g.newLabel("done")
	g.label(top)
	g.i("CMPQ", g.slot("channels"), num(g.lanes()))
	g.jump("JL", rest)
	block(false)
	g.i("SUBQ", num(g.lanes()), g.slot("channels"))
	g.jump("JMP", top)
	g.label(rest)
	rem := g.gp("channels")
	g.i("TESTQ", rem, rem)
	g.jump("JE", done)
	g.setTail(rem)
	block(true)
	g.label(done)
	g.end()
}

// indices returns a register with the permutation that takes elements of two registers in turns, from element first on.
func (g *gen) indices(_ string, size, first int) int {
	v := g.get()
	n := 64 / size
	words := make([]uint32, 16)
	for k := range n {
		from := uint32(first + k/2)
		if k%2 == 1 {
			from += uint32(n)
		}
		words[k*size/4] |= from << (8 * (k * size % 4))
	}
	g.i("VMOVUPS", g.table(words), v)
	return v
}
