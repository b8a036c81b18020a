package main

import (
	"slices"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// depthwiseInto writes rows of a k x k convolution with stride 1 or 2 into a map of any format, with one of the activations that
// networks have behind a depthwise convolution and the sums of rows: all while the outputs are in registers. It is for AVX-512 alone,
// as no other set has registers enough. Steps and rows of the destination are in bytes.
func (g *gen) depthwiseInto(name string, k, stride int) {
	g.fn(name, depthwiseIntoSignature)
	low := g.gp("dst2") // from plane to plane
	g.i("SUBQ", g.slot("dst"), low)
	g.i("MOVQ", low, g.slot("dst2"))
	for _, p := range []string{"xRow", "sumRow"} {
		g.i("SHLQ", imm(2), g.slot(p))
	}
	t, prologue := g.tiling(k, stride)
	sum := g.get()
	rows := g.ctx.AllocLocal(32) // rows left; where the row begins: x, dst, sums
	pointers := []struct {
		name, row string
		at        operand.Mem
	}{{"x", "xRow", rows.Offset(8)}, {"dst", "dstRow", rows.Offset(16)}, {"sums", "sumRow", rows.Offset(24)}}
	g.channelBlocks(func(tail bool) {
		prologue()
		u := g.gp("rows")
		g.i("MOVQ", u, rows)
		for _, p := range pointers {
			u := g.gp(p.name)
			g.i("MOVQ", u, p.at)
		}
		g.loop(rows, func() {
			x, dst := g.ctx.GP64(), g.ctx.GP64()
			g.i("MOVQ", pointers[0].at, x)
			g.i("MOVQ", pointers[1].at, dst)
			g.zero(sum)
			pixels := g.gp("pixels")
			g.eachTile(pixels, func(tile int) { g.depthwiseIntoTile(t, tile, sum, x, dst, tail) })
			for _, p := range pointers[:2] {
				u := g.gp(p.row)
				g.i("ADDQ", u, p.at)
			}
			none := g.newLabel("none")
			s := g.ctx.GP64()
			g.i("MOVQ", pointers[2].at, s)
			g.i("TESTQ", s, s)
			g.jump("JE", none)
			g.storeF32(sum, mem(s, nil, 0, 0), tail)
			g.i("ADDQ", g.slot("sumRow"), s)
			g.i("MOVQ", s, pointers[2].at)
			g.label(none)
		})
		for _, p := range []string{"x", "bias"} {
			g.i("ADDQ", num(4*g.lanes()), g.slot(p))
		}
		g.i("ADDQ", num(4*g.lanes()*k*k), g.slot("weights"))
		halves, none := g.newLabel("halves"), g.newLabel("nosums")
		g.i("ADDQ", num(2*g.lanes()), g.slot("dst"))
		g.i("CMPQ", g.slot("format"), num(int(f32)))
		g.jump("JNE", halves)
		g.i("ADDQ", num(2*g.lanes()), g.slot("dst"))
		g.label(halves)
		g.i("CMPQ", g.slot("sums"), num(0))
		g.jump("JE", none)
		g.i("ADDQ", num(4*g.lanes()), g.slot("sums"))
		g.label(none)
	})
	g.end()
}

// depthwiseIntoTile computes tile outputs of one block of channels, adds them to sum, stores them, and moves x and dst on.
func (g *gen) depthwiseIntoTile(t *tiling, tile, sum int, x, dst reg.GPVirtual, tail bool) {
	acc := g.depthwiseSums(t, tile, x, tail)
	activated := g.newLabel("activated")
	for _, class := range []int{hardSwish, silu} {
		other := g.newLabel("other")
		g.i("CMPQ", g.slot("class"), num(class))
		g.jump("JNE", other)
		free := slices.Clone(g.free)
		act := g.activation(class)
		for _, a := range acc {
			act(a)
		}
		g.free = free
		g.jump("JMP", activated)
		g.label(other)
	}
	for _, a := range acc {
		g.clip(a, t.lo, t.hi)
	}
	g.label(activated)
	for _, a := range acc {
		g.i("VADDPS", a, sum, sum)
	}
	step, step3 := g.gp("dstStep"), g.ctx.GP64()
	g.i("LEAQ", mem(step, step, 2, 0), step3)
	stored := g.newLabel("stored")
	for _, f := range []format{split, bf16, f32} {
		other := g.newLabel("other")
		if f != f32 {
			g.i("CMPQ", g.slot("format"), num(int(f)))
			g.jump("JNE", other)
		}
		p := planes{format: f, hi: dst}
		if f == split {
			p.lo = g.gp("dst2")
			g.i("ADDQ", dst, p.lo)
		}
		g.storeTile(acc, p, step, step3, tail)
		g.moveOn(tile, step, step3, dst)
		g.jump("JMP", stored)
		g.label(other)
	}
	g.label(stored)
	g.put(acc...)
}

// storeTile stores the pixels of a tile and moves the planes on by whole groups of four.
func (g *gen) storeTile(acc []int, p planes, step, step3 reg.GPVirtual, tail bool) {
	free := slices.Clone(g.free)
	pixel := func(j int) planes {
		if j > 0 && j%4 == 0 {
			g.i("LEAQ", mem(p.hi, step, 4, 0), p.hi)
			if p.format == split {
				g.i("LEAQ", mem(p.lo, step, 4, 0), p.lo)
			}
		}
		q := planes{format: p.format, hi: g.ctx.GP64()}
		g.i("LEAQ", g.strided(p.hi, step, step3, j), q.hi)
		if p.format == split {
			q.lo = g.ctx.GP64()
			g.i("LEAQ", g.strided(p.lo, step, step3, j), q.lo)
		}
		return q
	}
	for j := 0; j < len(acc); j++ {
		if g.isa != bf16cvt || p.format == f32 || tail || j+1 == len(acc) {
			g.store(acc[j], pixel(j), nil, 0, tail)
			continue
		}
		// Two pixels are rounded at a time.
		a, b := acc[j], acc[j+1]
		halves := func(v int, low, high reg.GPVirtual) {
			g.i("VMOVDQU16", ymm[v], mem(low, nil, 0, 0))
			g.i("VEXTRACTI64X4", imm(1), v, mem(high, nil, 0, 0))
		}
		first := pixel(j)
		second := pixel(j + 1)
		h := g.get()
		g.convertPair(a, b, h)
		halves(h, first.hi, second.hi)
		if p.format == split {
			g.restPair(a, b, h)
			g.convertPair(a, b, h)
			halves(h, first.lo, second.lo)
		}
		g.put(h)
		j++
	}
	g.free = free
}
