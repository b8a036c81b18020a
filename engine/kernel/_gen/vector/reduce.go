package main

import (
	"github.com/mmcloughlin/avo/reg"
)

// sum writes sum[c] += sum over the pixels of x.
func (g *gen) sum(name string, f format) {
	g.fn(name, sumSignature)
	sums, x := g.gp("sum"), g.planes(f, "x")
	step := g.gp("xStep")
	g.i("SHLQ", imm(f.size()/2), step)
	units := []int{8, 4, 1}
	if !g.wide() {
		units = []int{4, 1}
	}
	g.channels(g.slot("channels"), units, func(i reg.GPVirtual, unit int, tail bool) {
		acc := make([]int, unit)
		for k := range acc {
			acc[k] = g.get()
			g.loadF32(at(sums, i, k*g.lanes()), acc[k], tail)
		}
		p := g.element(x, i)
		n := g.gp("pixels")
		g.loop(n, func() {
			for k := range acc {
				g.addLoaded(acc[k], p, nil, k*g.lanes(), tail)
			}
			g.advance(p, step)
		})
		for k := range acc {
			g.storeF32(acc[k], at(sums, i, k*g.lanes()), tail)
		}
		g.put(acc...)
	})
	g.end()
}

// fold loads unit registers and reduces them over the count of places, step bytes apart, from p on. load loads register k.
func (g *gen) fold(unit int, count string, p planes, step reg.GPVirtual, load func(k int) int, reduce func(acc, x int)) []int {
	acc := make([]int, unit)
	for k := range acc {
		acc[k] = load(k)
	}
	n, done := g.gp(count), g.newLabel(count)
	g.i("DECQ", n)
	g.jump("JE", done)
	g.loop(n, func() {
		g.advance(p, step)
		for k := range acc {
			v := load(k)
			reduce(acc[k], v)
			g.put(v)
		}
	})
	g.label(done)
	return acc
}

// reduceMax replaces acc by the greater of acc and x, or not-a-number if one of them is: VMAXPS returns its second
// source in that case, so both orders are taken, and their union has all bits of the exponent.
func (g *gen) reduceMax(acc, x int) {
	t := g.get()
	g.i("VMAXPS", acc, x, t)
	g.i("VMAXPS", x, acc, acc)
	g.i("VORPS", t, acc, acc)
	g.put(t)
}

func (g *gen) reduceSum(acc, x int) { g.i("VADDPS", x, acc, acc) }

// down writes a dense row of float32, each value reduced over rows rows.
func (g *gen) down(name string, f format, reduce func(acc, x int)) {
	g.fn(name, downSignature)
	dst, x := planes{format: f32, hi: g.gp("dst")}, g.planes(f, "x")
	step := g.gp("rowStep")
	g.i("SHLQ", imm(f.size()/2), step)
	g.loop(g.slot("pixels"), func() {
		g.channels(g.slot("channels"), g.simpleUnits(f), func(i reg.GPVirtual, unit int, tail bool) {
			p := g.element(x, i)
			acc := g.fold(unit, "rows", p, step, func(k int) int { return g.load(p, nil, k*g.lanes(), tail) }, reduce)
			for k := range acc {
				g.storeF32(acc[k], at(dst.hi, i, k*g.lanes()), tail)
			}
			g.put(acc...)
		})
		t := g.gp("channels")
		g.i("LEAQ", mem(dst.hi, t, 4, 0), dst.hi)
		g.step("xStep", x)
	})
	g.end()
}

// along writes for each pixel the reduction of taps pixels of float32, times scale if it is a sum.
func (g *gen) along(name string, reduce func(acc, x int), scaled bool) {
	g.fn(name, alongSignature)
	dst, x := planes{format: f32, hi: g.gp("dst")}, planes{format: f32, hi: g.gp("x")}
	step := g.gp("tapStep")
	g.i("SHLQ", imm(2), step)
	var scale int
	if scaled {
		scale = g.scalar("scale")
	}
	g.loop(g.slot("pixels"), func() {
		g.channels(g.slot("channels"), []int{4, 1}, func(i reg.GPVirtual, unit int, tail bool) {
			p := g.element(x, i)
			acc := g.fold(unit, "taps", p, step, func(k int) int { return g.load(p, nil, k*g.lanes(), tail) }, reduce)
			for k := range acc {
				if scaled {
					g.i("VMULPS", scale, acc[k], acc[k])
				}
				g.storeF32(acc[k], at(dst.hi, i, k*g.lanes()), tail)
			}
			g.put(acc...)
		})
		g.step("dstStep", dst)
		g.step("outStep", x)
	})
	g.end()
}

// lrn normalises one pixel of float32 in place: x / (k + alpha*sum)^(3/4), the sum over a window of squares.
func (g *gen) lrn(name string) {
	g.fn(name, lrnSignature)
	x, squares := g.gp("x"), g.gp("squares")
	alpha, k, one := g.scalar("alpha"), g.scalar("k"), g.constant(1)
	to := g.gp("before")
	g.i("LEAQ", mem(squares, to, 4, 0), to)
	g.channels(g.slot("channels"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
		v := g.get()
		g.loadF32(at(x, i, 0), v, tail)
		g.i("VMULPS", v, v, v)
		g.storeF32(v, at(to, i, 0), tail)
		g.put(v)
	})
	g.channels(g.slot("channels"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
		sum, q := g.get(), g.ctx.GP64()
		g.zero(sum)
		g.i("LEAQ", at(squares, i, 0), q)
		n := g.gp("size")
		g.loop(n, func() {
			v := g.get()
			g.loadF32(mem(q, nil, 0, 0), v, tail)
			g.i("VADDPS", v, sum, sum)
			g.put(v)
			g.i("ADDQ", num(4), q)
		})
		root, v := g.get(), g.get()
		g.i("VFMADD213PS", k, alpha, sum)
		g.i("VSQRTPS", sum, sum)
		g.i("VSQRTPS", sum, root)
		g.i("VMULPS", root, sum, sum)
		g.i("VDIVPS", sum, one, sum)
		g.loadF32(at(x, i, 0), v, tail)
		g.i("VMULPS", v, sum, v)
		g.storeF32(v, at(x, i, 0), tail)
		g.put(sum, root, v)
	})
	g.end()
}

// layerNorm writes each pixel normalised over its channels.
func (g *gen) layerNorm(name string, f format) {
	g.fn(name, normSignature)
	dst, x := g.planes(f, "dst"), g.planes(f, "x")
	gamma, beta := g.gp("gamma"), g.gp("beta")
	inverseCount := g.inverseCount()
	g.loop(g.slot("pixels"), func() {
		mean, inverse := g.statistics(x, inverseCount)
		g.channels(g.slot("channels"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
			v := g.load(x, i, 0, tail)
			s, t := g.get(), g.get()
			g.loadF32(at(gamma, i, 0), s, tail)
			g.loadF32(at(beta, i, 0), t, tail)
			g.i("VSUBPS", mean, v, v)
			g.i("VMULPS", inverse, v, v)
			g.i("VFMADD213PS", t, s, v)
			g.put(s, t)
			g.store(v, dst, i, 0, tail)
			g.put(v)
		})
		g.put(mean, inverse)
		g.step("dstStep", dst)
		g.step("xStep", x)
	})
	g.end()
}

// inverseCount returns a register with 1/channels.
func (g *gen) inverseCount() int {
	v := g.get()
	g.i("VCVTSI2SSQ", g.slot("channels"), xmm[v], xmm[v])
	one := g.constant(1)
	g.i("VDIVSS", xmm[v], xmm[one], xmm[v])
	g.put(one)
	g.i("VBROADCASTSS", xmm[v], v)
	return v
}

// statistics returns registers with the mean of a pixel's channels and 1/sqrt(variance + eps).
func (g *gen) statistics(x planes, inverseCount int) (mean, inverse int) {
	mean = g.over(x, func(acc, v int, _ bool) { g.i("VADDPS", v, acc, acc) })
	g.sumLanes(mean)
	g.i("VMULPS", inverseCount, mean, mean)
	inverse = g.over(x, func(acc, v int, tail bool) {
		g.i("VSUBPS", mean, v, v)
		if tail {
			g.clearTail(v)
		}
		g.i("VFMADD231PS", v, v, acc)
	})
	g.sumLanes(inverse)
	g.inverseRoot(inverse, inverseCount)
	return mean, inverse
}

// inverseRoot replaces the sum of squares in all lanes of v by 1/sqrt(sum*inverseCount + eps).
func (g *gen) inverseRoot(v, inverseCount int) {
	t := g.get()
	g.i("VMULSS", xmm[inverseCount], xmm[v], xmm[v])
	g.i("VADDSS", g.slot("eps"), xmm[v], xmm[v])
	g.i("VSQRTSS", xmm[v], xmm[v], xmm[v])
	g.i("VBROADCASTSS", g.bits(0x3f800000), t)
	g.i("VDIVSS", xmm[v], xmm[t], xmm[v])
	g.i("VBROADCASTSS", xmm[v], v)
	g.put(t)
}

// over accumulates all channels of a pixel in four registers and adds these up.
func (g *gen) over(x planes, body func(acc, v int, tail bool)) int {
	acc := g.gets(4)
	for _, a := range acc {
		g.zero(a)
	}
	units := []int{4, 1}
	g.channels(g.slot("channels"), units, func(i reg.GPVirtual, unit int, tail bool) {
		for k := range unit {
			v := g.load(x, i, k*g.lanes(), tail)
			body(acc[k], v, tail)
			g.put(v)
		}
	})
	g.i("VADDPS", acc[1], acc[0], acc[0])
	g.i("VADDPS", acc[3], acc[2], acc[2])
	g.i("VADDPS", acc[2], acc[0], acc[0])
	g.put(acc[1], acc[2], acc[3])
	return acc[0]
}
