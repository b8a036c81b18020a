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
	g.i("SHLQ", imm(2), g.slot("sumRow"))
	t, load := g.tiling(k, stride)
	sum, sums := g.get(), g.ctx.AllocLocal(8)
	ifThere := func(p operand.Mem, body func(at reg.GPVirtual)) {
		at, none := g.ctx.GP64(), g.newLabel("none")
		g.i("MOVQ", p, at)
		g.i("TESTQ", at, at)
		g.jump("JE", none)
		body(at)
		g.label(none)
	}
	prologue := func() {
		load()
		s := g.gp("sums")
		g.i("MOVQ", s, sums)
	}
	g.blocks(k*k, prologue, func(x, dst, pixels reg.GPVirtual, tail bool) {
		g.zero(sum)
		g.eachTile(pixels, depthwiseTiles, func(tile int) { g.depthwiseIntoTile(t, tile, sum, x, dst, tail) })
		ifThere(sums, func(at reg.GPVirtual) {
			g.storeF32(sum, mem(at, nil, 0, 0), tail)
			g.i("ADDQ", g.slot("sumRow"), at)
			g.i("MOVQ", at, sums)
		})
	}, func() {
		halves := g.newLabel("halves")
		g.i("ADDQ", num(2*g.lanes()), g.slot("dst"))
		g.i("CMPQ", g.slot("format"), num(int(f32)))
		g.jump("JNE", halves)
		g.i("ADDQ", num(2*g.lanes()), g.slot("dst"))
		g.label(halves)
		ifThere(g.slot("sums"), func(reg.GPVirtual) { g.i("ADDQ", num(4*g.lanes()), g.slot("sums")) })
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
	pairs := g.pairs(p, tail) && len(acc) > 1
	var rests *rests
	if pairs && p.format == split {
		rests = g.rests()
	}
	for j := 0; j < len(acc); j++ {
		if !pairs || j+1 == len(acc) {
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
			rests.pair(a, b, h)
			g.convertPair(a, b, h)
			halves(h, first.lo, second.lo)
		}
		g.put(h)
		j++
	}
	g.free = free
}
