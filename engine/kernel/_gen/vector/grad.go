package main

import (
	"fmt"
	"math"

	"github.com/mmcloughlin/avo/reg"
)

// Signatures of the kernels for training, those of the function types in package grad.
const (
	axpySignature      = "func(dst, x unsafe.Pointer, dstStep, xStep, pixels, channels int, a float32)"
	fmaSignature       = "func(dst, x, w unsafe.Pointer, dstStep, pixels, channels int)"
	correlateSignature = "func(dst, x, w unsafe.Pointer, dstStep, xStep, rowStep, tapStep, wRow, wTap, rows, columns, pixels, channels int)"
	mixSignature       = "func(acc, x, factors unsafe.Pointer, xStep, factorStep, rows, columns int)"
	innerSignature     = "func(sums, w, x unsafe.Pointer, wStep, columns int)"
	dotSignature       = "func(acc, x, y unsafe.Pointer, xStep, yStep, pixels, channels int)"
	gradSumSignature   = "func(sum, x unsafe.Pointer, xStep, pixels, channels int)"
	squaresSignature   = "func(sum, rest, x, mean unsafe.Pointer, xStep, pixels, channels int)"
	pairSignature      = "func(sum, sumX, dy, x, mean unsafe.Pointer, step, pixels, channels int)"
	maxSignature       = "func(y, arg, x unsafe.Pointer, first, perRow, rows, columns, rowStep, columnStep, outStep, pixels, channels int)"
	whereSignature     = "func(dst, x, arg unsafe.Pointer, tap, dstStep, pixels, channels int)"
	blendSignature     = "func(dst, dy, x, fromDY, fromX, constant unsafe.Pointer, pixels, channels int)"
	gradNormSignature  = "func(dx, dy, x, gamma, dgamma, dbeta unsafe.Pointer, pixels, channels int, eps float32)"
	gradActSignature   = "func(dx, dy, x unsafe.Pointer, count int)"
	sgdSignature       = "func(weights, grad, velocity unsafe.Pointer, count int, lr, decay, momentum, damp, nesterov, direct float32)"
	adamSignature      = "func(weights, grad, mean, square unsafe.Pointer, count int, keep, decay, beta1, rest1, beta2, rest2, step, root, eps float32)"
)

func trainingKernels() []kernel {
	ks := []kernel{
		{"axpy", "axpyKernels", "", axpySignature, false, (*gen).axpy, false},
		{"fma", "fmaKernels", "", fmaSignature, false, (*gen).fma, false},
		{"correlate", "correlateKernels", "", correlateSignature, false, (*gen).correlate, false},
		{"dot", "dotKernels", "", dotSignature, false, (*gen).dot, false},
		{"mix", "mixKernels", "", mixSignature, false, (*gen).mix, false},
		{"inner", "innerKernels", "", innerSignature, false, (*gen).inner, false},
		{"sum", "", "", gradSumSignature, false, (*gen).gradSum, false},
		{"squares", "", "", squaresSignature, false, (*gen).squares, false},
		{"pair", "", "", pairSignature, false, (*gen).pair, false},
		{"max", "maxKernels", "", maxSignature, false, (*gen).max, false},
		{"where", "whereKernels", "", whereSignature, false, (*gen).where, false},
		{"blend", "blendKernels", "", blendSignature, false, (*gen).blend, false},
		{"layerNorm", "layerNormKernels", "", gradNormSignature, false, (*gen).gradLayerNorm, false},
		{"sgd", "sgdKernels", "", sgdSignature, false, (*gen).sgd, false},
		{"adam", "adamKernels", "", adamSignature, false, (*gen).adam, false},
	}
	for i, act := range activationGrads {
		ks = append(ks, kernel{act.name + "Grad", "activationKernels", fmt.Sprintf("[%d]", i+1), gradActSignature, false,
			func(g *gen, name string) { g.activationGrad(name, act.derivative) }, false})
	}
	return ks
}

var trainingTables = map[string]string{
	"axpyKernels":       "[levels]axpyFunc",
	"fmaKernels":        "[levels]fmaFunc",
	"correlateKernels":  "[levels]correlateFunc",
	"dotKernels":        "[levels]dotFunc",
	"mixKernels":        "[levels]mixFunc",
	"innerKernels":      "[levels]innerFunc",
	"maxKernels":        "[levels]maxFunc",
	"whereKernels":      "[levels]whereFunc",
	"blendKernels":      "[levels]blendFunc",
	"layerNormKernels":  "[levels]layerNormFunc",
	"activationKernels": "[levels][9]activationFunc",
	"sgdKernels":        "[levels]sgdFunc",
	"adamKernels":       "[levels]adamFunc",
}

// float returns the plane of float32 that a parameter points to.
func (g *gen) float(name string) planes { return planes{format: f32, hi: g.gp(name)} }

// lane loads lanes of float32 into a new register.
func (g *gen) lane(p planes, i reg.Register, off int, tail bool) int { return g.load(p, i, off, tail) }

// perPixel walks pixels x channels, and moves dst on by dstStep and x by the parameter xStep.
func (g *gen) perPixel(dst, x planes, xStep string, body func(i reg.GPVirtual, off int, tail bool)) {
	g.loop(g.slot("pixels"), func() {
		g.channels(g.slot("channels"), []int{4, 1}, func(i reg.GPVirtual, unit int, tail bool) {
			for k := range unit {
				body(i, k*g.lanes(), tail)
			}
		})
		g.step("dstStep", dst)
		g.step(xStep, x)
	})
}

// axpy: dst += a*x.
func (g *gen) axpy(name string) {
	g.fn(name, axpySignature)
	dst, x := g.float("dst"), g.float("x")
	a := g.scalar("a")
	g.perPixel(dst, x, "xStep", func(i reg.GPVirtual, off int, tail bool) {
		v, w := g.lane(dst, i, off, tail), g.lane(x, i, off, tail)
		g.i("VFMADD231PS", a, w, v)
		g.storeF32(v, at(dst.hi, i, off), tail)
		g.put(v, w)
	})
	g.end()
}

// fma: dst += x*w, w per channel.
func (g *gen) fma(name string) {
	g.fn(name, fmaSignature)
	dst, x, w := g.float("dst"), g.float("x"), g.float("w")
	g.perPixel(dst, x, "channels", func(i reg.GPVirtual, off int, tail bool) {
		v, a, b := g.lane(dst, i, off, tail), g.lane(x, i, off, tail), g.lane(w, i, off, tail)
		g.i("VFMADD231PS", a, b, v)
		g.storeF32(v, at(dst.hi, i, off), tail)
		g.put(v, a, b)
	})
	g.end()
}

// correlateTiles are how many pixels are computed at a time.
var correlateTiles = []int{8, 4, 2, 1}

// correlate writes pixels of the sum over rows x columns taps of x*w, a block of channels at a time: the gradient of a
// depthwise convolution with respect to its input, see Depthwise.Data in package grad. Steps may be negative.
func (g *gen) correlate(name string) {
	g.fn(name, correlateSignature)
	for _, p := range []string{"dstStep", "rowStep", "wRow", "wTap"} {
		g.i("SHLQ", imm(2), g.slot(p))
	}
	step, tapStep := g.bytes("xStep"), g.bytes("tapStep")
	step3 := g.ctx.GP64()
	g.i("LEAQ", mem(step, step, 2, 0), step3)
	tile := func(n int, x, dst reg.GPVirtual, tail bool) {
		acc := g.gets(n)
		for _, a := range acc {
			g.zero(a)
		}
		row, wRow := g.ctx.GP64(), g.gp("w")
		g.i("MOVQ", x, row)
		rows := g.gp("rows")
		g.loop(rows, func() {
			q, w, columns := g.ctx.GP64(), g.ctx.GP64(), g.gp("columns")
			g.i("MOVQ", row, q)
			g.i("MOVQ", wRow, w)
			g.loop(columns, func() {
				tap := g.get()
				g.loadF32(mem(w, nil, 0, 0), tap, tail)
				g.i("ADDQ", g.slot("wTap"), w)
				p := g.ctx.GP64()
				g.i("MOVQ", q, p)
				for j, a := range acc {
					g.fmaF32(tap, g.strided(p, step, step3, j), a, tail)
					if j%4 == 3 && j+1 < n {
						g.i("LEAQ", mem(p, step, 4, 0), p)
					}
				}
				g.i("ADDQ", tapStep, q)
				g.put(tap)
			})
			g.i("ADDQ", g.slot("rowStep"), row)
			g.i("ADDQ", g.slot("wRow"), wRow)
		})
		for _, a := range acc {
			g.storeF32(a, mem(dst, nil, 0, 0), tail)
			g.i("ADDQ", g.slot("dstStep"), dst)
			g.i("ADDQ", step, x)
		}
		g.put(acc...)
	}
	block := func(tail bool) {
		x, dst, pixels := g.gp("x"), g.gp("dst"), g.gp("pixels")
		g.eachTile(pixels, correlateTiles, func(n int) { tile(n, x, dst, tail) })
		for _, p := range []string{"x", "dst", "w"} {
			g.i("ADDQ", num(4*g.lanes()), g.slot(p))
		}
	}
	g.channelBlocks(block)
	g.end()
}

// columns walks blocks of channels, and the pixels of each with sums in registers. sums are read before and written
// after; steps are bytes.
func (g *gen) columns(sums []planes, maps []planes, steps []reg.GPVirtual, before func(i reg.GPVirtual, off int, tail bool) []int, body func(at []planes, k, off int, acc, kept []int, tail bool)) {
	units := []int{4, 1}
	if !g.wide() {
		units = []int{2, 1}
	}
	g.channels(g.slot("channels"), units, func(i reg.GPVirtual, unit int, tail bool) {
		acc, kept := make([][]int, unit), make([][]int, unit)
		for k := range unit {
			for _, s := range sums {
				acc[k] = append(acc[k], g.lane(s, i, k*g.lanes(), tail))
			}
			if before != nil {
				kept[k] = before(i, k*g.lanes(), tail)
			}
		}
		ps := make([]planes, len(maps))
		for j, m := range maps {
			ps[j] = planes{format: f32, hi: g.ctx.GP64()}
			g.i("LEAQ", at(m.hi, i, 0), ps[j].hi)
		}
		n := g.gp("pixels")
		g.loop(n, func() {
			for k := range unit {
				body(ps, k, k*g.lanes(), acc[k], kept[k], tail)
			}
			for j, p := range ps {
				g.i("ADDQ", steps[j], p.hi)
			}
		})
		for k := range unit {
			for j, s := range sums {
				g.storeF32(acc[k][j], at(s.hi, i, k*g.lanes()), tail)
			}
			g.put(acc[k]...)
			g.put(kept[k]...)
		}
	})
}

func (g *gen) bytes(name string) reg.GPVirtual {
	s := g.gp(name)
	g.i("SHLQ", imm(2), s)
	return s
}

// dot: acc += sum of x*y over the pixels.
func (g *gen) dot(name string) {
	g.fn(name, dotSignature)
	acc, x, y := g.float("acc"), g.float("x"), g.float("y")
	steps := []reg.GPVirtual{g.bytes("xStep"), g.bytes("yStep")}
	g.columns([]planes{acc}, []planes{x, y}, steps, nil, func(at []planes, k, off int, acc, _ []int, tail bool) {
		a, b := g.lane(at[0], nil, off, tail), g.lane(at[1], nil, off, tail)
		g.i("VFMADD231PS", a, b, acc[0])
		g.put(a, b)
	})
	g.end()
}

// mix: acc += sum of factor*x over the rows of x, one factor a row. The sums of a block of columns stay in registers.
func (g *gen) mix(name string) {
	g.fn(name, mixSignature)
	acc, x := g.float("acc"), g.float("x")
	xStep, factorStep := g.bytes("xStep"), g.bytes("factorStep")
	g.channels(g.slot("columns"), []int{4, 1}, func(i reg.GPVirtual, unit int, tail bool) {
		sums := make([]int, unit)
		for k := range sums {
			sums[k] = g.lane(acc, i, k*g.lanes(), tail)
		}
		row, factor, n := g.ctx.GP64(), g.gp("factors"), g.gp("rows")
		g.i("LEAQ", at(x.hi, i, 0), row)
		f := g.get()
		g.loop(n, func() {
			g.i("VBROADCASTSS", mem(factor, nil, 0, 0), f)
			for k, sum := range sums {
				g.fmaF32(f, at(row, nil, k*g.lanes()), sum, tail)
			}
			g.i("ADDQ", xStep, row)
			g.i("ADDQ", factorStep, factor)
		})
		for k, sum := range sums {
			g.storeF32(sum, at(acc.hi, i, k*g.lanes()), tail)
		}
		g.put(f)
		g.put(sums...)
	})
	g.end()
}

// innerRows is how many rows inner takes at a time; package grad has the same number.
const innerRows = 4

// inner: sums[r] += sum of w[r]*x over the columns, for four rows of w.
func (g *gen) inner(name string) {
	g.fn(name, innerSignature)
	w, x, step, sums := g.float("w"), g.float("x"), g.bytes("wStep"), g.gp("sums")
	rows := []reg.GPVirtual{w.hi}
	for range innerRows - 1 {
		next := g.ctx.GP64()
		g.i("LEAQ", mem(rows[len(rows)-1], step, 1, 0), next)
		rows = append(rows, next)
	}
	acc := g.gets(2 * innerRows) // two of each: a sum waits for its last addition
	for _, a := range acc {
		g.zero(a)
	}
	g.channels(g.slot("columns"), []int{2, 1}, func(i reg.GPVirtual, unit int, tail bool) {
		for k := range unit {
			v := g.lane(x, i, k*g.lanes(), tail)
			for r, row := range rows {
				g.fmaF32(v, at(row, i, k*g.lanes()), acc[k*innerRows+r], tail)
			}
			g.put(v)
		}
	})
	for r := range rows {
		a := acc[r]
		g.i("VADDPS", acc[innerRows+r], a, a)
		g.sumLanes(a)
		g.i("VADDSS", mem(sums, nil, 0, 4*r), xmm[a], xmm[a])
		g.i("VMOVSS", xmm[a], mem(sums, nil, 0, 4*r))
	}
	g.end()
}

func (g *gen) gradSum(name string) {
	g.fn(name, gradSumSignature)
	sum, x := g.float("sum"), g.float("x")
	g.columns([]planes{sum}, []planes{x}, []reg.GPVirtual{g.bytes("xStep")}, nil, func(at []planes, k, off int, acc, _ []int, tail bool) {
		a := g.lane(at[0], nil, off, tail)
		g.i("VADDPS", a, acc[0], acc[0])
		g.put(a)
	})
	g.end()
}

// squares: sum += (x-mean)^2 and rest += x-mean.
func (g *gen) squares(name string) {
	g.fn(name, squaresSignature)
	sum, rest, x, mean := g.float("sum"), g.float("rest"), g.float("x"), g.float("mean")
	g.columns([]planes{sum, rest}, []planes{x}, []reg.GPVirtual{g.bytes("xStep")},
		func(i reg.GPVirtual, off int, tail bool) []int { return []int{g.lane(mean, i, off, tail)} },
		func(at []planes, k, off int, acc, mean []int, tail bool) {
			a := g.lane(at[0], nil, off, tail)
			g.i("VSUBPS", mean[0], a, a)
			g.i("VFMADD231PS", a, a, acc[0])
			g.i("VADDPS", a, acc[1], acc[1])
			g.put(a)
		})
	g.end()
}

// pair: sum += dy and sumX += dy*(x-mean).
func (g *gen) pair(name string) {
	g.fn(name, pairSignature)
	sum, sumX, dy, x, mean := g.float("sum"), g.float("sumX"), g.float("dy"), g.float("x"), g.float("mean")
	step := g.bytes("step")
	g.columns([]planes{sum, sumX}, []planes{dy, x}, []reg.GPVirtual{step, step},
		func(i reg.GPVirtual, off int, tail bool) []int { return []int{g.lane(mean, i, off, tail)} },
		func(at []planes, k, off int, acc, mean []int, tail bool) {
			a, b := g.lane(at[0], nil, off, tail), g.lane(at[1], nil, off, tail)
			g.i("VADDPS", a, acc[0], acc[0])
			g.i("VSUBPS", mean[0], b, b)
			g.i("VFMADD231PS", a, b, acc[1])
			g.put(a, b)
		})
	g.end()
}

// max: see maxWindow in package grad. Value and number of the greatest tap so far stay in registers; numbers are 32-bit
// lanes until they are stored as bytes.
func (g *gen) max(name string) {
	g.fn(name, maxSignature)
	y, x, arg := g.float("y"), g.float("x"), g.gp("arg")
	rowStep, columnStep := g.bytes("rowStep"), g.bytes("columnStep")
	lanes := func(param string) int {
		v := g.get()
		g.i("VPBROADCASTD", g.slot(param), v)
		return v
	}
	first, perRow, one := lanes("first"), lanes("perRow"), g.get()
	g.i("VPBROADCASTD", g.bits(1), one)
	g.loop(g.slot("pixels"), func() {
		g.channels(g.slot("channels"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
			p := g.ctx.GP64()
			g.i("LEAQ", at(x.hi, i, 0), p)
			best := g.lane(planes{format: f32, hi: p}, nil, 0, tail)
			number, row, tap := g.get(), g.get(), g.get()
			g.move(first, number)
			g.move(first, row)
			rows := g.gp("rows")
			g.loop(rows, func() {
				q := g.ctx.GP64()
				g.i("MOVQ", p, q)
				g.move(row, tap)
				columns := g.gp("columns")
				g.loop(columns, func() {
					v := g.lane(planes{format: f32, hi: q}, nil, 0, tail)
					if g.wide() {
						g.i("VCMPPS", imm(14), best, v, reg.K2) // greater
						g.i("VCMPPS", imm(3), v, v, reg.K3)     // or not a number
						g.i("KORW", reg.K2, reg.K3, reg.K2)
						g.i("VMOVAPS", v, reg.K2, best)
						g.i("VMOVDQA32", tap, reg.K2, number)
					} else {
						m, n := g.get(), g.get()
						g.i("VCMPPS", imm(14), best, v, m)
						g.i("VCMPPS", imm(3), v, v, n)
						g.i("VORPS", n, m, m)
						g.i("VBLENDVPS", m, v, best, best)
						g.i("VBLENDVPS", m, tap, number, number)
						g.put(m, n)
					}
					g.put(v)
					g.i("VPADDD", one, tap, tap)
					g.i("ADDQ", columnStep, q)
				})
				g.i("VPADDD", perRow, row, row)
				g.i("ADDQ", rowStep, p)
			})
			g.storeF32(best, at(y.hi, i, 0), tail)
			m := mem(arg, i, 1, 0)
			switch {
			case g.wide() && tail:
				g.i("VPMOVDB", number, reg.K1, m)
			case g.wide():
				g.i("VPMOVDB", number, m)
			default:
				g.i("VPACKUSDW", number, number, number)
				g.i("VPERMQ", imm(8), number, number)
				g.i("VPACKUSWB", xmm[number], xmm[number], xmm[number])
				if !tail {
					g.i("VMOVQ", xmm[number], m)
					break
				}
				s := g.local()
				g.i("VMOVQ", xmm[number], s)
				g.words(func(j, t reg.GPVirtual) {
					a := g.ctx.GP64()
					g.i("LEAQ", m, a)
					g.i("MOVB", s.Idx(j, 1), t.As8())
					g.i("MOVB", t.As8(), mem(a, j, 1, 0))
				})
			}
			g.put(best, number, row, tap)
		})
		t := g.gp("channels")
		g.i("LEAQ", mem(y.hi, t, 4, 0), y.hi)
		g.i("ADDQ", t, arg)
		g.step("outStep", x)
	})
	g.end()
}

// broadcastTap returns a register with the tap in every byte (AVX-512) or every 32-bit lane (AVX2).
func (g *gen) broadcastTap() int {
	v := g.get()
	t := g.gp("tap")
	if g.wide() {
		g.i("VPBROADCASTB", t.As32(), xmm[v])
	} else {
		g.i("VMOVD", t.As32(), xmm[v])
		g.i("VPBROADCASTD", xmm[v], v)
	}
	return v
}

// where: dst += x where arg is tap.
func (g *gen) where(name string) {
	g.fn(name, whereSignature)
	dst, x, arg := g.float("dst"), g.float("x"), g.gp("arg")
	tap := g.broadcastTap()
	g.loop(g.slot("pixels"), func() {
		g.channels(g.slot("channels"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
			d, v := g.lane(dst, i, 0, tail), g.lane(x, i, 0, tail)
			if g.wide() {
				b := g.get()
				if tail {
					g.i("VMOVDQU8_Z", mem(arg, i, 1, 0), reg.K1, xmm[b])
				} else {
					g.i("VMOVDQU8", mem(arg, i, 1, 0), xmm[b])
				}
				g.i("VPCMPEQB", xmm[b], xmm[tap], reg.K2)
				g.i("VADDPS", v, d, reg.K2, d)
				g.put(b)
			} else {
				b := g.get()
				if tail {
					s := g.local()
					z := g.ctx.GP64()
					g.i("XORQ", z, z)
					g.i("MOVQ", z, s)
					g.words(func(j, t reg.GPVirtual) {
						p := g.ctx.GP64()
						g.i("LEAQ", mem(arg, i, 1, 0), p)
						g.i("MOVB", mem(p, j, 1, 0), t.As8())
						g.i("MOVB", t.As8(), s.Idx(j, 1))
					})
					g.i("VPMOVZXBD", s, b)
				} else {
					g.i("VPMOVZXBD", mem(arg, i, 1, 0), b)
				}
				g.i("VPCMPEQD", b, tap, b)
				g.i("VANDPS", b, v, v)
				g.i("VADDPS", v, d, d)
				g.put(b)
			}
			g.storeF32(d, at(dst.hi, i, 0), tail)
			g.put(d, v)
		})
		t := g.gp("channels")
		g.i("LEAQ", mem(x.hi, t, 4, 0), x.hi)
		g.i("ADDQ", t, arg)
		g.step("dstStep", dst)
	})
	g.end()
}

// blend: dst = fromDY*dy + fromX*x + constant.
func (g *gen) blend(name string) {
	g.fn(name, blendSignature)
	dst, dy, x := g.float("dst"), g.float("dy"), g.float("x")
	a, b, c := g.float("fromDY"), g.float("fromX"), g.float("constant")
	g.loop(g.slot("pixels"), func() {
		g.channels(g.slot("channels"), []int{2, 1}, func(i reg.GPVirtual, unit int, tail bool) {
			for k := range unit {
				off := k * g.lanes()
				v := g.lane(c, i, off, tail)
				for _, p := range [][2]planes{{dy, a}, {x, b}} {
					s, t := g.lane(p[0], i, off, tail), g.lane(p[1], i, off, tail)
					g.i("VFMADD231PS", s, t, v)
					g.put(s, t)
				}
				g.storeF32(v, at(dst.hi, i, off), tail)
				g.put(v)
			}
		})
		g.step("channels", dst, dy, x)
	})
	g.end()
}

// gradLayerNorm: see LayerNorm in package grad.
func (g *gen) gradLayerNorm(name string) {
	g.fn(name, gradNormSignature)
	dx, dy, x, gamma := g.float("dx"), g.float("dy"), g.float("x"), g.float("gamma")
	inverseCount := g.inverseCount()
	g.loop(g.slot("pixels"), func() {
		mean, inverse := g.statistics(x, inverseCount)
		sumG, sumGX := g.get(), g.get()
		g.zero(sumG)
		g.zero(sumGX)
		dgamma, dbeta := g.float("dgamma"), g.float("dbeta")
		g.channels(g.slot("channels"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
			hat, d := g.lane(x, i, 0, tail), g.lane(dy, i, 0, tail)
			g.i("VSUBPS", mean, hat, hat)
			g.i("VMULPS", inverse, hat, hat)
			s := g.lane(dbeta, i, 0, tail)
			g.i("VADDPS", d, s, s)
			g.storeF32(s, at(dbeta.hi, i, 0), tail)
			g.put(s)
			s = g.lane(dgamma, i, 0, tail)
			g.i("VFMADD231PS", hat, d, s)
			g.storeF32(s, at(dgamma.hi, i, 0), tail)
			g.put(s)
			w := g.lane(gamma, i, 0, tail) // zero behind the tail, as is d
			g.i("VMULPS", w, d, d)
			g.put(w)
			g.i("VADDPS", d, sumG, sumG)
			g.i("VFMADD231PS", hat, d, sumGX)
			g.put(hat, d)
		})
		for _, s := range []int{sumG, sumGX} {
			g.sumLanes(s)
			g.i("VMULPS", inverseCount, s, s)
		}
		g.channels(g.slot("channels"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
			hat, d, w := g.lane(x, i, 0, tail), g.lane(dy, i, 0, tail), g.lane(gamma, i, 0, tail)
			g.i("VSUBPS", mean, hat, hat)
			g.i("VMULPS", inverse, hat, hat)
			g.i("VFMSUB213PS", sumG, w, d) // dy*gamma - mean of it
			g.i("VFNMADD231PS", hat, sumGX, d)
			g.i("VMULPS", inverse, d, d)
			g.storeF32(d, at(dx.hi, i, 0), tail)
			g.put(hat, d, w)
		})
		g.put(mean, inverse, sumG, sumGX)
		g.step("channels", dx, dy, x)
	})
	g.end()
}

// activationGrads are derivatives in the order of kernel.Activation without None. A derivative replaces x by act'(x);
// what it needs is loaded before the loop.
var activationGrads = []struct {
	name       string
	derivative func(g *gen) func(x int)
}{
	{"relu", func(g *gen) func(int) { return g.insideOf(0, math.Inf(1), 1) }},
	{"relu6", func(g *gen) func(int) { return g.insideOf(0, 6, 1) }},
	{"hardSwish", func(g *gen) func(int) {
		return func(x int) {
			// x/3 + 1/2 between -3 and 3, 0 below and 1 above.
			t := g.get()
			g.move(x, t)
			third := g.constant(1.0 / 3)
			g.withConst("VFMADD213PS", 0.5, third, t)
			g.put(third)
			g.selectLess(x, -3, 0, t)
			g.selectGreater(x, 3, 1, t)
			g.move(t, x)
			g.put(t)
		}
	}},
	{"hardSigmoid", func(g *gen) func(int) { return g.insideOf(-3, 3, 1.0/6) }},
	{"silu", func(g *gen) func(int) {
		lim := g.sigmoidLimits()
		return func(x int) { // s*(1 + x*(1-s))
			s, t := g.get(), g.constant(1)
			g.move(x, s)
			g.sigmoid(s, lim)
			g.i("VSUBPS", s, t, t)
			g.withConst("VFMADD213PS", 1, t, x)
			g.i("VMULPS", s, x, x)
			g.put(s, t)
		}
	}},
	{"sigmoid", func(g *gen) func(int) {
		lim := g.sigmoidLimits()
		return func(x int) { // s - s^2
			g.sigmoid(x, lim)
			t := g.get()
			g.move(x, t)
			g.i("VFNMADD231PS", x, x, t)
			g.move(t, x)
			g.put(t)
		}
	}},
	{"gelu", func(g *gen) func(int) {
		lim, lowest := g.phiLimits(), g.constant(-87)
		return func(x int) { // Phi(x) + x*exp(-x^2/2)/sqrt(2*pi)
			p, e := g.get(), g.get()
			g.move(x, p)
			g.phi(p, lim)
			g.i("VMULPS", x, x, e)
			g.withConst("VMULPS", -0.5, e, e)
			g.exp(e, lowest)
			g.withConst("VMULPS", 1/math.Sqrt(2*math.Pi), e, e)
			g.i("VFMADD213PS", p, e, x)
			g.put(p, e)
		}
	}},
	{"tanh", func(g *gen) func(int) {
		lim := g.sigmoidLimits()
		return func(x int) { // 4*s*(1-s) with s = sigmoid(2x)
			g.i("VADDPS", x, x, x)
			g.sigmoid(x, lim)
			t := g.get()
			g.move(x, t)
			g.i("VFNMADD231PS", x, x, t)
			g.withConst("VMULPS", 4, t, x)
			g.put(t)
		}
	}},
}

// insideOf is value between lo and hi, both excluded, else 0.
func (g *gen) insideOf(lo, hi, value float64) func(x int) {
	v := g.constant(value)
	return func(x int) {
		a := g.constant(lo)
		b := g.constant(hi)
		if g.wide() {
			g.i("VCMPPS", imm(14), a, x, reg.K2) // x > lo
			if !math.IsInf(hi, 1) {
				g.i("VCMPPS", imm(1), b, x, reg.K2, reg.K2) // and x < hi
			}
			g.i("VMOVAPS_Z", v, reg.K2, x)
		} else {
			g.i("VCMPPS", imm(14), a, x, a)
			if !math.IsInf(hi, 1) {
				g.i("VCMPPS", imm(1), b, x, b)
				g.i("VANDPS", b, a, a)
			}
			g.i("VANDPS", v, a, x)
		}
		g.put(a, b)
	}
}

func (g *gen) selectLess(x int, bound, value float64, into int) {
	g.selectWhere(1, x, bound, value, into)
}
func (g *gen) selectGreater(x int, bound, value float64, into int) {
	g.selectWhere(14, x, bound, value, into)
}

// selectWhere replaces the lanes of into by value where x compares with bound.
func (g *gen) selectWhere(predicate, x int, bound, value float64, into int) {
	b, v := g.constant(bound), g.constant(value)
	if g.wide() {
		g.i("VCMPPS", imm(predicate), b, x, reg.K2)
		g.i("VMOVAPS", v, reg.K2, into)
	} else {
		g.i("VCMPPS", imm(predicate), b, x, b)
		g.i("VBLENDVPS", b, v, into, into)
	}
	g.put(b, v)
}

// activationGrad: dx = dy*act'(x).
func (g *gen) activationGrad(name string, derivative func(g *gen) func(x int)) {
	g.fn(name, gradActSignature)
	dx, dy, x := g.float("dx"), g.float("dy"), g.float("x")
	f := derivative(g)
	g.channels(g.slot("count"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
		v := g.lane(x, i, 0, tail)
		f(v)
		d := g.lane(dy, i, 0, tail)
		g.i("VMULPS", d, v, v)
		g.storeF32(v, at(dx.hi, i, 0), tail)
		g.put(v, d)
	})
	g.end()
}

// sgd: see SGD in package grad. nesterov and direct are the factors of the decayed gradient and of the velocity in the
// step: 0 and 1 without Nesterov's momentum, 1 and momentum with it.
func (g *gen) sgd(name string) {
	g.fn(name, sgdSignature)
	w, d, v := g.float("weights"), g.float("grad"), g.float("velocity")
	lr, decay, momentum, damp, nesterov, direct := g.scalar("lr"), g.scalar("decay"), g.scalar("momentum"), g.scalar("damp"), g.scalar("nesterov"), g.scalar("direct")
	g.channels(g.slot("count"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
		a, b, c := g.lane(w, i, 0, tail), g.lane(d, i, 0, tail), g.lane(v, i, 0, tail)
		g.i("VFMADD231PS", decay, a, b) // gradient with weight decay
		g.i("VMULPS", momentum, c, c)
		g.i("VFMADD231PS", damp, b, c)
		g.storeF32(c, at(v.hi, i, 0), tail)
		g.i("VMULPS", nesterov, b, b)
		g.i("VFMADD231PS", direct, c, b)
		g.i("VFNMADD231PS", lr, b, a)
		g.storeF32(a, at(w.hi, i, 0), tail)
		g.put(a, b, c)
	})
	g.end()
}

// adam: see Adam in package grad.
func (g *gen) adam(name string) {
	g.fn(name, adamSignature)
	w, d, m, q := g.float("weights"), g.float("grad"), g.float("mean"), g.float("square")
	s := map[string]int{}
	for _, p := range []string{"keep", "decay", "beta1", "rest1", "beta2", "rest2", "step", "root", "eps"} {
		s[p] = g.scalar(p)
	}
	g.channels(g.slot("count"), []int{1}, func(i reg.GPVirtual, _ int, tail bool) {
		a, b := g.lane(w, i, 0, tail), g.lane(d, i, 0, tail)
		g.i("VFMADD231PS", s["decay"], a, b)
		x := g.lane(m, i, 0, tail)
		g.i("VMULPS", s["beta1"], x, x)
		g.i("VFMADD231PS", s["rest1"], b, x)
		g.storeF32(x, at(m.hi, i, 0), tail)
		y := g.lane(q, i, 0, tail)
		g.i("VMULPS", s["beta2"], y, y)
		g.i("VMULPS", b, b, b)
		g.i("VFMADD231PS", s["rest2"], b, y)
		g.storeF32(y, at(q.hi, i, 0), tail)
		g.i("VSQRTPS", y, y)
		g.i("VFMADD213PS", s["eps"], s["root"], y)
		g.i("VMULPS", s["step"], x, x)
		g.i("VDIVPS", y, x, x)
		g.i("VFMSUB132PS", s["keep"], x, a) // a*keep - x
		g.storeF32(a, at(w.hi, i, 0), tail)
		g.put(a, b, x, y)
	})
	g.end()
}
