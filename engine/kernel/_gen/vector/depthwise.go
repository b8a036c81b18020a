package main

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// depthwiseTiles are how many outputs of a row are computed at a time. A tile keeps its sums and one row of weights in
// registers and loads every input once per row of the window. Seven divides the width of the maps of almost all
// networks (112, 56, 28, 14, 7), and with seven weights and an input it just fits the 16 registers of AVX2.
var depthwiseTiles = []int{7, 4, 2, 1}

// depthwise writes rows of a k x k convolution with stride 1 or 2: a block of channels at a time, down the rows, so that
// the rows of the window stay in the L1 cache for the next row. Where there are registers enough the weights of the block
// stay in them (3x3 on AVX-512).
func (g *gen) depthwise(name string, k, stride int) {
	g.fn(name, depthwiseSignature)
	t, prologue := g.tiling(k, stride)
	g.i("SHLQ", imm(2), g.slot("dstRow"))
	g.blocks(k*k, prologue, func(x, dst, pixels reg.GPVirtual, tail bool) {
		g.eachTile(pixels, depthwiseTiles, func(tile int) { g.depthwiseTile(t, tile, x, dst, tail) })
	}, g.nextFloats)
	g.end()
}

// eachTile runs body for tiles, the widest first, until no pixels are left.
func (g *gen) eachTile(pixels reg.GPVirtual, tiles []int, body func(tile int)) {
	for n, tile := range tiles {
		top, next := g.newLabel("tile"), g.newLabel("narrower")
		g.label(top)
		g.i("CMPQ", pixels, num(tile))
		g.jump("JL", next)
		body(tile)
		g.i("SUBQ", num(tile), pixels)
		if n == 0 || tiles[n-1] > 2*tile { // else it fits once at most
			g.jump("JMP", top)
		}
		g.label(next)
	}
}

// tiling is what all tiles of a convolution share.
type tiling struct {
	k, stride            int
	rowStep, step, step3 reg.GPVirtual
	limits               bool // lo and hi are in registers
	lo, hi               int
	weights              []int // all weights of the block, or nil
	bias                 int   // with weights
}

// tiling begins a function: it loads what all tiles need. prologue loads the weights of a block if they stay in registers.
func (g *gen) tiling(k, stride int) (t *tiling, prologue func()) {
	rowStep := g.gp("rowStep")
	step := g.gp("xStep")
	g.i("SHLQ", imm(2), rowStep)
	g.i("SHLQ", imm(2), step)
	step3 := g.ctx.GP64()
	g.i("LEAQ", mem(step, step, 2, 0), step3)
	t = &tiling{k: k, stride: stride, rowStep: rowStep, step: step, step3: step3}
	if g.wide() {
		t.lo, t.hi = g.scalar("lo"), g.scalar("hi")
		t.limits = true
	}
	if !g.wide() || k != 3 {
		return t, func() {}
	}
	t.weights = g.gets(9)
	t.bias = g.get()
	return t, func() {
		w, b := g.gp("weights"), g.gp("bias")
		for i, v := range t.weights {
			g.i("VMOVUPS", mem(w, nil, 0, i*4*g.lanes()), v)
		}
		g.i("VMOVUPS", mem(b, nil, 0, 0), t.bias)
	}
}

// blocks runs body for every row of every block of channels, with the addresses of x and dst where the row begins; before the rows
// of a block prologue, behind them next, which moves dst on. The other parameters it moves on itself. taps is the number of weights of
// a channel, 0 if that is kernelH*kernelW.
func (g *gen) blocks(taps int, prologue func(), body func(x, dst, pixels reg.GPVirtual, tail bool), next func()) {
	bytes := 4 * g.lanes()
	g.i("SHLQ", imm(2), g.slot("xRow"))
	rows := g.ctx.AllocLocal(24) // rows left; where the row begins: x, dst
	g.channelBlocks(func(tail bool) {
		prologue()
		t := g.gp("rows")
		g.i("MOVQ", t, rows)
		for k, p := range []string{"x", "dst"} {
			t := g.gp(p)
			g.i("MOVQ", t, rows.Offset(8+8*k))
		}
		g.loop(rows, func() {
			x, dst := g.ctx.GP64(), g.ctx.GP64()
			g.i("MOVQ", rows.Offset(8), x)
			g.i("MOVQ", rows.Offset(16), dst)
			body(x, dst, g.gp("pixels"), tail)
			for k, p := range []string{"xRow", "dstRow"} {
				t := g.gp(p)
				g.i("ADDQ", t, rows.Offset(8+8*k))
			}
		})
		g.i("ADDQ", num(bytes), g.slot("x"))
		next()
		g.i("ADDQ", num(bytes), g.slot("bias"))
		if taps > 0 {
			g.i("ADDQ", num(bytes*taps), g.slot("weights"))
			return
		}
		t = g.gp("kernelH")
		g.i("IMULQ", g.slot("kernelW"), t)
		g.i("IMUL3Q", num(bytes), t, t)
		g.i("ADDQ", t, g.slot("weights"))
	})
}

// nextFloats moves dst on by a block of float32.
func (g *gen) nextFloats() { g.i("ADDQ", num(4*g.lanes()), g.slot("dst")) }

// channelBlocks runs block for every register of channels and for the tail; it counts the parameter channels down.
func (g *gen) channelBlocks(block func(tail bool)) {
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
}

// gather widens rows of pixels of at most one register of channels, or of exactly two, into whole registers.
func (g *gen) gather(name string, f format, registers int) {
	g.fn(name, gatherSignature)
	g.i("SHLQ", imm(2), g.slot("dstStep"))
	g.group(registers, func(tail bool) {
		dst, x := g.gp("dst"), g.planes(f, "x")
		step := g.gp("dstStep")
		g.loop(g.slot("rows"), func() {
			d, p := g.ctx.GP64(), g.element(x, nil)
			g.i("MOVQ", dst, d)
			n := g.gp("pixels")
			g.loop(n, func() {
				for k := range registers {
					v := g.load(p, nil, k*g.lanes(), tail)
					g.i("VMOVUPS", v, at(d, nil, k*g.lanes()))
					g.put(v)
				}
				g.i("ADDQ", step, d)
				g.step("xStep", p)
			})
			g.step("xRow", x)
			g.step("dstRow", planes{format: f32, hi: dst})
		})
	})
}

// scatter rounds rows of pixels of one or two registers into at most as many channels, and adds up each row.
func (g *gen) scatter(name string, f format, registers int) {
	g.fn(name, scatterSignature)
	g.i("SHLQ", imm(2), g.slot("xStep"))
	g.group(registers, func(tail bool) {
		dst, x, sums := g.planes(f, "dst"), g.gp("x"), g.gp("sums")
		step := g.gp("xStep")
		g.loop(g.slot("rows"), func() {
			p := g.element(dst, nil)
			sum := g.gets(registers)
			for _, s := range sum {
				g.zero(s)
			}
			n := g.gp("pixels")
			g.loop(n, func() {
				vs := g.gets(registers)
				for k, v := range vs {
					g.i("VMOVUPS", at(x, nil, k*g.lanes()), v)
					g.i("VADDPS", v, sum[k], sum[k])
				}
				g.storeAll(vs, p, nil, 0, tail)
				g.put(vs...)
				g.i("ADDQ", step, x)
				g.step("dstStep", p)
			})
			none := g.newLabel("none")
			g.i("TESTQ", sums, sums)
			g.jump("JE", none)
			for k, s := range sum {
				g.storeF32(s, at(sums, nil, k*g.lanes()), tail)
			}
			g.step("sumRow", planes{format: f32, hi: sums})
			g.label(none)
			g.put(sum...)
			g.step("dstRow", dst)
		})
	})
}

// prefetch asks for every cache line of a range.
func (g *gen) prefetch(name string) {
	g.fn(name, prefetchSignature)
	x, end := g.gp("x"), g.gp("bytes")
	g.i("ADDQ", x, end)
	top, done := g.newLabel("line"), g.newLabel("done")
	g.label(top)
	g.i("CMPQ", x, end)
	g.jump("JAE", done)
	g.i("PREFETCHT1", mem(x, nil, 0, 0))
	g.i("ADDQ", num(64), x)
	g.jump("JMP", top)
	g.label(done)
	g.i("RET")
}

// group writes body for whole registers of channels and, if it is one, for a tail.
func (g *gen) group(registers int, body func(tail bool)) {
	if registers > 1 {
		body(false)
		g.end()
		return
	}
	part, done := g.newLabel("part"), g.newLabel("done")
	n := g.gp("channels")
	g.i("CMPQ", n, num(g.lanes()))
	g.jump("JL", part)
	body(false)
	g.jump("JMP", done)
	g.label(part)
	g.setTail(n)
	body(true)
	g.label(done)
	g.end()
}

// depthwiseSums computes tile sums of one block of channels in registers and moves x on.
func (g *gen) depthwiseSums(t *tiling, tile int, x reg.GPVirtual, tail bool) []int {
	acc := g.gets(tile)
	inputs := (tile-1)*t.stride + t.k
	row := g.ctx.GP64()
	g.i("MOVQ", x, row)
	// taps adds one row of the window, whose weights are w.
	taps := func(w []int) {
		q := g.ctx.GP64()
		g.i("MOVQ", row, q)
		g.i("ADDQ", t.rowStep, row)
		in := g.get()
		for j := range inputs {
			g.loadF32(g.strided(q, t.step, t.step3, j), in, tail)
			for kx := range w {
				if p := (j - kx) / t.stride; j >= kx && (j-kx)%t.stride == 0 && p < tile {
					g.i("VFMADD231PS", w[kx], in, acc[p])
				}
			}
			if j%4 == 3 && j+1 < inputs {
				g.i("LEAQ", mem(q, t.step, 4, 0), q)
			}
		}
		g.put(in)
	}
	if t.weights != nil {
		for _, a := range acc {
			g.move(t.bias, a)
		}
		for ky := range t.k {
			taps(t.weights[ky*t.k : (ky+1)*t.k])
		}
	} else {
		b := g.gp("bias")
		g.i("VMOVUPS", mem(b, nil, 0, 0), acc[0])
		for _, a := range acc[1:] {
			g.move(acc[0], a)
		}
		weights, ky := g.gp("weights"), g.ctx.GP64()
		g.i("MOVQ", num(t.k), ky)
		g.loop(ky, func() {
			w := g.gets(t.k)
			for kx := range w {
				g.i("VMOVUPS", mem(weights, nil, 0, kx*4*g.lanes()), w[kx])
			}
			g.i("ADDQ", num(t.k*4*g.lanes()), weights)
			taps(w)
			g.put(w...)
		})
	}
	u := g.ctx.GP64()
	g.i("IMUL3Q", num(tile*t.stride), t.step, u)
	g.i("ADDQ", u, x)
	return acc
}

// depthwiseTile computes tile outputs of one block of channels and moves x and dst on.
func (g *gen) depthwiseTile(t *tiling, tile int, x, dst reg.GPVirtual, tail bool) {
	acc := g.depthwiseSums(t, tile, x, tail)
	lo, hi := t.lo, t.hi
	if !t.limits {
		lo, hi = g.scalar("lo"), g.scalar("hi")
	}
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
	if !t.limits {
		g.put(lo, hi)
	}
	g.moveOn(tile, d, d3, dst)
	g.put(acc...)
}

// moveOn adds to the address what is left of tile steps when whole groups of four were added between groups.
func (g *gen) moveOn(tile int, step, step3, dst reg.GPVirtual) {
	switch (tile-1)%4 + 1 {
	case 1:
		g.i("ADDQ", step, dst)
	case 2:
		g.i("LEAQ", mem(dst, step, 2, 0), dst)
	case 3:
		g.i("ADDQ", step3, dst)
	case 4:
		g.i("LEAQ", mem(dst, step, 4, 0), dst)
	}
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

// depthwiseAny writes rows of a convolution with any window, four outputs at a time; loops over the window take the
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
				w := g.get()
				g.i("VMOVUPS", mem(weights, nil, 0, 0), w)
				g.i("ADDQ", num(bytes), weights)
				for j, a := range acc {
					g.fmaF32(w, g.strided(q, step, step3, j), a, tail)
				}
				g.i("ADDQ", tapStep, q)
				g.put(w)
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
	g.i("SHLQ", imm(2), g.slot("dstRow"))
	g.blocks(0, func() {}, func(x, dst, pixels reg.GPVirtual, tail bool) {
		g.eachTile(pixels, []int{4, 1}, func(n int) { tile(n, x, dst, tail) })
	}, g.nextFloats)
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
