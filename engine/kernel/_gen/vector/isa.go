package main

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// isa is an instruction set that kernels are written for.
type isa int

const (
	avx2 isa = iota
	avx512
	bf16cvt // avx512 with VCVTNEPS2BF16
)

var isaNames = [...]string{"AVX2", "AVX512", "BF16"}

// format is kernel.Format.
type format int

const (
	f32 format = iota
	bf16
	split
)

var formatNames = [...]string{"F32", "BF16", "Split"}

// size is how many bytes a value takes in a plane.
func (f format) size() int {
	if f == f32 {
		return 4
	}
	return 2
}

// planes are the addresses of a map's planes.
type planes struct {
	format
	hi, lo reg.GPVirtual
}

// gen writes one assembly file. Vector registers are physical and handed out by get and put, because the one instruction
// that the assembler does not know is written as bytes and must know its registers; general registers are avo's.
type gen struct {
	isa
	ctx    *build.Context
	prefix string // of the constants' symbol
	free   []int
	consts []uint32
	tables [][]uint32
	labels int
	rem    reg.GPVirtual // channels in the tail
	masked bool          // the tail mask is in use: K1 or Y15
	stack  operand.Mem   // 64 bytes for 16-bit tails on AVX2
}

func newGen(i isa) *gen {
	g := &gen{isa: i, ctx: build.NewContext()}
	g.ctx.ConstraintExpr("!noasm")
	return g
}

// lanes returns how many float32 a register holds.
func (g *gen) lanes() int {
	if g.isa == avx2 {
		return 8
	}
	return 16
}

func (g *gen) wide() bool { return g.isa != avx2 }

// fn begins a function.
func (g *gen) fn(name, signature string) {
	g.ctx.Function(name)
	g.ctx.Attributes(attr.NOSPLIT)
	g.ctx.SignatureExpr(strings.ReplaceAll(signature, "unsafe.Pointer", "*byte"))
	g.free = g.free[:0]
	n := 32
	if !g.wide() {
		n = 15 // Y15 is the tail mask
	}
	for v := n - 1; v >= 0; v-- {
		g.free = append(g.free, v)
	}
	g.labels = 0
	g.stack = operand.Mem{}
}

// end finishes a function.
func (g *gen) end() {
	g.i("VZEROUPPER")
	g.i("RET")
}

// get hands out a vector register, put takes some back.
func (g *gen) get() int {
	if len(g.free) == 0 {
		panic("no vector register left")
	}
	v := g.free[len(g.free)-1]
	g.free = g.free[:len(g.free)-1]
	return v
}

func (g *gen) gets(n int) []int {
	vs := make([]int, n)
	for i := range vs {
		vs[i] = g.get()
	}
	return vs
}

func (g *gen) put(vs ...int) {
	for i := len(vs) - 1; i >= 0; i-- {
		g.free = append(g.free, vs[i])
	}
}

var (
	zmm = []reg.VecPhysical{reg.Z0, reg.Z1, reg.Z2, reg.Z3, reg.Z4, reg.Z5, reg.Z6, reg.Z7, reg.Z8, reg.Z9, reg.Z10, reg.Z11, reg.Z12, reg.Z13, reg.Z14, reg.Z15,
		reg.Z16, reg.Z17, reg.Z18, reg.Z19, reg.Z20, reg.Z21, reg.Z22, reg.Z23, reg.Z24, reg.Z25, reg.Z26, reg.Z27, reg.Z28, reg.Z29, reg.Z30, reg.Z31}
	ymm = []reg.VecPhysical{reg.Y0, reg.Y1, reg.Y2, reg.Y3, reg.Y4, reg.Y5, reg.Y6, reg.Y7, reg.Y8, reg.Y9, reg.Y10, reg.Y11, reg.Y12, reg.Y13, reg.Y14, reg.Y15,
		reg.Y16, reg.Y17, reg.Y18, reg.Y19, reg.Y20, reg.Y21, reg.Y22, reg.Y23, reg.Y24, reg.Y25, reg.Y26, reg.Y27, reg.Y28, reg.Y29, reg.Y30, reg.Y31}
	xmm = []reg.VecPhysical{reg.X0, reg.X1, reg.X2, reg.X3, reg.X4, reg.X5, reg.X6, reg.X7, reg.X8, reg.X9, reg.X10, reg.X11, reg.X12, reg.X13, reg.X14, reg.X15,
		reg.X16, reg.X17, reg.X18, reg.X19, reg.X20, reg.X21, reg.X22, reg.X23, reg.X24, reg.X25, reg.X26, reg.X27, reg.X28, reg.X29, reg.X30, reg.X31}
	tailMask = reg.Y15
)

// i adds an instruction by name. An int operand is a vector register of full width.
func (g *gen) i(name string, ops ...any) {
	m := reflect.ValueOf(g.ctx).MethodByName(name)
	if !m.IsValid() {
		panic("no instruction " + name)
	}
	in := make([]reflect.Value, len(ops))
	for k, op := range ops {
		if v, ok := op.(int); ok {
			op = g.r(v)
		}
		in[k] = reflect.ValueOf(op)
	}
	m.Call(in)
	if _, err := g.ctx.Result(); err != nil {
		panic(fmt.Sprintf("%s %v: %v", name, ops, err))
	}
}

func (g *gen) r(v int) reg.Register {
	if g.wide() {
		return zmm[v]
	}
	return ymm[v]
}

// jump adds a branch to a label.
func (g *gen) jump(name, label string) { g.i(name, operand.LabelRef(label)) }

func (g *gen) label(name string) { g.ctx.Label(name) }

func (g *gen) newLabel(hint string) string {
	g.labels++
	return fmt.Sprintf("%s%d", hint, g.labels)
}

func imm(v int) operand.Op { return operand.U8(v) }

func num(v int) operand.Op { return operand.I32(v) }

// gp loads a parameter into a general register.
func (g *gen) gp(name string) reg.GPVirtual {
	r := g.ctx.GP64()
	g.ctx.Load(g.ctx.Param(name), r)
	return r
}

// slot returns the parameter's place in memory.
func (g *gen) slot(name string) operand.Mem {
	b, err := g.ctx.Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return b.Addr
}

// scalar returns a register with a float32 parameter in all lanes.
func (g *gen) scalar(name string) int {
	v := g.get()
	g.i("VBROADCASTSS", g.slot(name), v)
	return v
}

func mem(base, index reg.Register, scale, disp int) operand.Mem {
	m := operand.Mem{Base: base, Disp: disp}
	if index != nil {
		m.Index, m.Scale = index, uint8(scale)
	}
	return m
}

// at is the address of element index+off of a float32 plane.
func at(base, index reg.Register, off int) operand.Mem { return mem(base, index, 4, 4*off) }

// bits returns the operand of a constant, which is a float32 in one lane on AVX-512 and in all on AVX2.
func (g *gen) bits(v uint32) operand.Mem {
	i := 0
	for i < len(g.consts) && g.consts[i] != v {
		i++
	}
	if i == len(g.consts) {
		g.consts = append(g.consts, v)
	}
	size := 4
	if !g.wide() {
		size = 32
	}
	return operand.NewDataAddr(operand.NewStaticSymbol(g.prefix+"consts"), i*size)
}

// withBits adds an instruction whose first source is a constant in memory.
func (g *gen) withBits(name string, v uint32, ops ...any) {
	if g.wide() {
		name += "_BCST"
	}
	g.i(name, append([]any{g.bits(v)}, ops...)...)
}

// table returns the address of 64 bytes of data.
func (g *gen) table(words []uint32) operand.Mem {
	for i, t := range g.tables {
		if slices.Equal(t, words) {
			return operand.NewDataAddr(operand.NewStaticSymbol(g.prefix+"tables"), 64*i)
		}
	}
	g.tables = append(g.tables, words)
	return operand.NewDataAddr(operand.NewStaticSymbol(g.prefix+"tables"), 64*(len(g.tables)-1))
}

func (g *gen) withConst(name string, v float64, ops ...any) {
	g.withBits(name, math.Float32bits(float32(v)), ops...)
}

// constant returns a register that holds v in all lanes.
func (g *gen) constant(v float64) int {
	x := g.get()
	g.i("VBROADCASTSS", g.bits(math.Float32bits(float32(v))), x)
	return x
}

// data writes the constants.
func (g *gen) data() {
	if len(g.consts) > 0 {
		g.ctx.StaticGlobal(g.prefix + "consts")
		g.ctx.DataAttributes(attr.RODATA | attr.NOPTR)
		at := 0
		for _, v := range g.consts {
			n := 1
			if !g.wide() {
				n = 8
			}
			for range n {
				g.ctx.AddDatum(at, operand.U32(v))
				at += 4
			}
		}
	}
	if len(g.tables) > 0 {
		g.ctx.StaticGlobal(g.prefix + "tables")
		g.ctx.DataAttributes(attr.RODATA | attr.NOPTR)
		for i, t := range g.tables {
			for k, v := range t {
				g.ctx.AddDatum(64*i+4*k, operand.U32(v))
			}
		}
	}
	if !g.wide() {
		g.ctx.StaticGlobal(g.prefix + "masks")
		g.ctx.DataAttributes(attr.RODATA | attr.NOPTR)
		for k := range 16 {
			v := uint32(0)
			if k < 8 {
				v = math.MaxUint32
			}
			g.ctx.AddDatum(4*k, operand.U32(v))
		}
	}
}

func (g *gen) zero(v int) {
	if g.wide() {
		g.i("VPXORD", v, v, v)
	} else {
		g.i("VXORPS", v, v, v)
	}
}

func (g *gen) move(from, to int) { g.i("VMOVAPS", from, to) }

// and, or and add of integers have other names on AVX-512.
func (g *gen) int3(name string, a any, b, dst int) {
	if g.wide() {
		g.i(name+"D", a, b, dst)
	} else {
		g.i(name, a, b, dst)
	}
}

func (g *gen) intBits(name string, v uint32, b, dst int) {
	if g.wide() {
		g.withBits(name+"D", v, b, dst)
	} else {
		g.withBits(name, v, b, dst)
	}
}

// setTail makes the mask of the first rem lanes of float32.
func (g *gen) setTail(rem reg.GPVirtual) {
	g.rem = rem
	if g.wide() {
		g.setMask(rem, "KMOVW")
		return
	}
	t := g.ctx.GP64()
	g.i("LEAQ", operand.NewDataAddr(operand.NewStaticSymbol(g.prefix+"masks"), 32), t)
	u := g.ctx.GP64()
	g.i("MOVQ", rem, u)
	g.i("NEGQ", u)
	g.i("VMOVUPS", mem(t, u, 4, 0), tailMask)
}

// setMask sets the first n bits of K1, by KMOVW or, for lanes of 16 bits, by KMOVD, and returns them in a general register.
func (g *gen) setMask(n reg.GPVirtual, move string) reg.GPVirtual {
	m := g.ctx.GP64()
	g.i("MOVQ", operand.I32(-1), m)
	g.i("BZHIQ", n, m, m)
	g.i(move, m.As32(), reg.K1)
	return m
}

// loadF32 loads float32 lanes; those behind the tail become zero and are not touched in memory.
func (g *gen) loadF32(m operand.Mem, v int, tail bool) {
	switch {
	case !tail:
		g.i("VMOVUPS", m, v)
	case g.wide():
		g.i("VMOVUPS_Z", m, reg.K1, v)
	default:
		g.i("VMASKMOVPS", m, tailMask, v)
	}
}

func (g *gen) storeF32(v int, m operand.Mem, tail bool) {
	switch {
	case !tail:
		g.i("VMOVUPS", v, m)
	case g.wide():
		g.i("VMOVUPS", v, reg.K1, m)
	default:
		g.i("VMASKMOVPS", v, tailMask, m)
	}
}

// clearTail sets the lanes behind the tail to zero.
func (g *gen) clearTail(v int) {
	if g.wide() {
		g.i("VMOVAPS_Z", v, reg.K1, v)
	} else {
		g.i("VANDPS", tailMask, v, v)
	}
}

// fmaF32 adds w times lanes of memory to acc.
func (g *gen) fmaF32(w int, m operand.Mem, acc int, tail bool) {
	if !tail {
		g.i("VFMADD231PS", m, w, acc)
		return
	}
	v := g.get()
	g.loadF32(m, v, true)
	g.i("VFMADD231PS", w, v, acc)
	g.put(v)
}

// widen loads bfloat16 lanes as float32.
func (g *gen) widen(base, index reg.Register, off, v int, tail bool) {
	m := mem(base, index, 2, 2*off)
	switch {
	case !tail:
		g.i("VPMOVZXWD", m, v)
	case g.wide():
		g.i("VPMOVZXWD_Z", m, reg.K1, v)
	default:
		s := g.local()
		z := g.ctx.GP64()
		g.i("XORQ", z, z)
		g.i("MOVQ", z, s)
		g.i("MOVQ", z, s.Offset(8))
		g.words(func(j, t reg.GPVirtual) {
			a := g.ctx.GP64()
			g.i("LEAQ", m, a)
			g.i("MOVW", mem(a, j, 2, 0), t.As16())
			g.i("MOVW", t.As16(), s.Idx(j, 2))
		})
		g.i("VPMOVZXWD", s, v)
	}
	g.i("VPSLLD", imm(16), v, v)
}

// words runs f for j from 0 to the length of the tail.
func (g *gen) words(f func(j, t reg.GPVirtual)) {
	j, t := g.ctx.GP64(), g.ctx.GP64()
	top := g.newLabel("word")
	g.i("XORQ", j, j)
	g.label(top)
	f(j, t)
	g.i("INCQ", j)
	g.i("CMPQ", j, g.rem)
	g.jump("JL", top)
}

func (g *gen) local() operand.Mem {
	if g.stack.Base == nil {
		g.stack = g.ctx.AllocLocal(64)
	}
	return g.stack
}

// load loads lanes of a map at element index+off into a new register.
func (g *gen) load(p planes, index reg.Register, off int, tail bool) int {
	v := g.get()
	switch p.format {
	case f32:
		g.loadF32(at(p.hi, index, off), v, tail)
	case bf16:
		g.widen(p.hi, index, off, v, tail)
	case split:
		lo := g.get()
		g.widen(p.hi, index, off, v, tail)
		g.widen(p.lo, index, off, lo, tail)
		g.i("VADDPS", lo, v, v)
		g.put(lo)
	}
	return v
}

// store rounds a register to the format of the map and stores it. The register is lost.
func (g *gen) store(v int, p planes, index reg.Register, off int, tail bool) {
	switch p.format {
	case f32:
		g.storeF32(v, at(p.hi, index, off), tail)
	case bf16:
		b := g.round(v, nil)
		g.storeWords(b, p.hi, index, off, tail)
		g.put(b)
	case split:
		hi := g.get()
		b := g.round(v, &hi)
		g.storeWords(b, p.hi, index, off, tail)
		g.put(b)
		g.i("VSUBPS", hi, v, v) // the rest
		// Where hi is an infinity or not a number the rest is not finite; it must be zero.
		if g.isa == bf16cvt {
			g.i("VFPCLASSPSZ", imm(0x99), v, reg.K2)
			g.i("KNOTW", reg.K2, reg.K2)
			g.convert(v, hi, 2)
			g.storeWords(hi, p.lo, index, off, tail)
			g.put(hi)
			return
		}
		if g.wide() {
			g.i("VFPCLASSPSZ", imm(0x99), v, reg.K2)
			g.i("KNOTW", reg.K2, reg.K2)
			g.i("VMOVAPS_Z", v, reg.K2, v)
		} else {
			g.i("VSUBPS", v, v, hi)
			g.i("VCMPPS", imm(7), hi, hi, hi) // ordered
			g.i("VANDPS", hi, v, v)
		}
		g.put(hi)
		b = g.round(v, nil)
		g.storeWords(b, p.lo, index, off, tail)
		g.put(b)
	}
}

// round returns a register whose lower half holds the lanes of v as bfloat16, and if hi is given, their values.
func (g *gen) round(v int, hi *int) int {
	b := g.get()
	if g.isa == bf16cvt {
		g.convert(v, b, 0)
		if hi != nil {
			g.i("VPMOVZXWD", ymm[b], *hi)
			g.i("VPSLLD", imm(16), *hi, *hi)
		}
		return b
	}
	g.i("VPSRLD", imm(16), v, b)
	g.intBits("VPAND", 1, b, b)
	g.i("VPADDD", v, b, b)
	g.withBits("VPADDD", 0x7fff, b, b)
	if g.wide() {
		g.i("VCMPPS", imm(3), v, v, reg.K2)
		g.i("VPORD_BCST", g.bits(0x400000), v, reg.K2, b)
	} else {
		nan, quiet := g.get(), g.get()
		g.i("VCMPPS", imm(3), v, v, nan)
		g.intBits("VPOR", 0x400000, v, quiet)
		g.i("VBLENDVPS", nan, quiet, b, b)
		g.put(nan, quiet)
	}
	if hi != nil {
		g.intBits("VPAND", 0xffff0000, b, *hi)
	}
	g.i("VPSRLD", imm(16), b, b)
	if g.wide() {
		g.i("VPMOVDW", b, ymm[b])
	} else {
		g.i("VPACKUSDW", b, b, b)
		g.i("VPERMQ", imm(8), b, b)
	}
	return b
}

// convert writes VCVTNEPS2BF16 zmm(src) to ymm(dst), with mask register k and zeroing if k is not 0. Go's assembler does
// not know the instruction (EVEX.512.F3.0F38.W0 72 /r).
func (g *gen) convert(src, dst, k int) {
	not := func(v, bit int) int { return 1 - v>>bit&1 }
	p0 := not(dst, 3)<<7 | not(src, 4)<<6 | not(src, 3)<<5 | not(dst, 4)<<4 | 2
	p2 := 0x48
	if k != 0 {
		p2 |= 0x80 | k
	}
	g.ctx.Commentf("VCVTNEPS2BF16 Z%d, K%d, Y%d", src, k, dst)
	for _, b := range []int{0x62, p0, 0x7e, p2, 0x72, 0xc0 | dst&7<<3 | src&7} {
		g.ctx.Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []operand.Op{operand.U8(b)}})
	}
}

// convertPair writes VCVTNE2PS2BF16 to zmm(dst): low in the lower half, high in the upper (EVEX.512.F2.0F38.W0 72 /r).
func (g *gen) convertPair(low, high, dst int) {
	not := func(v, bit int) int { return 1 - v>>bit&1 }
	p0 := not(dst, 3)<<7 | not(low, 4)<<6 | not(low, 3)<<5 | not(dst, 4)<<4 | 2
	p1 := (^high&15)<<3 | 7
	p2 := 0x40 | not(high, 4)<<3
	g.ctx.Commentf("VCVTNE2PS2BF16 Z%d, Z%d, Z%d", low, high, dst)
	for _, b := range []int{0x62, p0, p1, p2, 0x72, 0xc0 | dst&7<<3 | low&7} {
		g.ctx.Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []operand.Op{operand.U8(b)}})
	}
}

// storeAll stores registers of consecutive lanes from element index+off on; the registers are lost. With the instruction
// that rounds two registers at a time a whole cache line of bfloat16 is written at once.
func (g *gen) storeAll(vs []int, p planes, index reg.Register, off int, tail bool) {
	if !g.pairs(p, tail) {
		for k, v := range vs {
			g.store(v, p, index, off+k*g.lanes(), tail)
		}
		return
	}
	var rests *rests
	if p.format == split && len(vs) > 1 {
		rests = g.rests()
	}
	for ; len(vs) > 1; vs, off = vs[2:], off+2*g.lanes() {
		h := g.get()
		g.convertPair(vs[0], vs[1], h)
		g.i("VMOVDQU16", h, mem(p.hi, index, 2, 2*off))
		if p.format == split {
			rests.pair(vs[0], vs[1], h)
			g.convertPair(vs[0], vs[1], h)
			g.i("VMOVDQU16", h, mem(p.lo, index, 2, 2*off))
		}
		g.put(h)
	}
	if rests != nil {
		rests.put()
	}
	if len(vs) == 1 {
		g.store(vs[0], p, index, off, false)
	}
}

// pairs reports whether two registers are rounded at a time.
func (g *gen) pairs(p planes, tail bool) bool { return g.isa == bf16cvt && p.format != f32 && !tail }

// rests subtracts rounded values. It keeps what it needs in registers, since a table of a whole cache line may lie across two.
type rests struct {
	g     *gen
	index [2]int
}

func (g *gen) rests() *rests {
	r := &rests{g: g}
	m := g.ctx.GP64()
	g.i("MOVQ", operand.U32(0xaaaaaaaa), m)
	g.i("KMOVD", m.As32(), reg.K3)
	for half := range r.index {
		words := make([]uint32, 16)
		for i := range words {
			words[i] = uint32(16*half+i) << 16
		}
		r.index[half] = g.get()
		g.i("VMOVUPS", g.table(words), r.index[half])
	}
	return r
}

func (r *rests) put() { r.g.put(r.index[:]...) }

// pair subtracts from a and b the values in h, their rounded form. Where those are infinite or not a number the rest
// becomes a finite number, which changes nothing in the sum.
func (r *rests) pair(a, b, h int) {
	g := r.g
	v := g.get()
	for half, x := range []int{a, b} {
		g.i("VPERMW_Z", h, r.index[half], reg.K3, v) // each word to the upper half of a lane
		g.i("VSUBPS", v, x, x)
	}
	for _, limit := range []struct {
		name  string
		value float64
	}{{"VMINPS_BCST", 1e36}, {"VMAXPS_BCST", -1e36}} {
		for _, x := range []int{a, b} {
			// The second source, the limit, is the result where the first is not a number.
			g.i(limit.name, g.bits(math.Float32bits(float32(limit.value))), x, x)
		}
	}
	g.put(v)
}

// storeWords stores the 16-bit lanes in the lower half of v.
func (g *gen) storeWords(v int, base, index reg.Register, off int, tail bool) {
	m := mem(base, index, 2, 2*off)
	switch {
	case g.wide() && tail:
		g.i("VMOVDQU16", ymm[v], reg.K1, m)
	case g.wide():
		g.i("VMOVDQU16", ymm[v], m)
	case tail:
		s := g.local()
		g.i("VMOVDQU", xmm[v], s)
		g.words(func(j, t reg.GPVirtual) {
			a := g.ctx.GP64()
			g.i("LEAQ", m, a)
			g.i("MOVW", s.Idx(j, 2), t.As16())
			g.i("MOVW", t.As16(), mem(a, j, 2, 0))
		})
	default:
		g.i("VMOVDQU", xmm[v], m)
	}
}

// channels walks count channels: steps of units[k] registers while they fit, then the tail.
func (g *gen) channels(count operand.Op, units []int, body func(i reg.GPVirtual, unit int, tail bool)) {
	g.strips(count, g.lanes(), units, g.setTail, body)
}

// strips is channels for registers of so many lanes; mask makes the mask of a tail.
func (g *gen) strips(count operand.Op, lanes int, units []int, mask func(rem reg.GPVirtual), body func(i reg.GPVirtual, unit int, tail bool)) {
	i, t := g.ctx.GP64(), g.ctx.GP64()
	g.i("XORQ", i, i)
	for _, u := range units {
		top, next := g.newLabel("chan"), g.newLabel("less")
		g.label(top)
		g.i("LEAQ", mem(i, nil, 0, u*lanes), t)
		g.i("CMPQ", t, count)
		g.jump("JGT", next)
		body(i, u, false)
		g.i("ADDQ", num(u*lanes), i)
		g.jump("JMP", top)
		g.label(next)
	}
	done := g.newLabel("done")
	rem := g.ctx.GP64()
	g.i("MOVQ", count, rem)
	g.i("SUBQ", i, rem)
	g.jump("JE", done)
	mask(rem)
	body(i, 1, true)
	g.label(done)
}

// loop runs body n times, n above zero; the register or memory counts down.
func (g *gen) loop(n operand.Op, body func()) {
	top := g.newLabel("loop")
	g.label(top)
	body()
	g.i("DECQ", n)
	g.jump("JNE", top)
}

// step adds a parameter, in elements of a format, to the addresses of planes.
func (g *gen) step(name string, ps ...planes) {
	t := g.ctx.GP64()
	for _, p := range ps {
		g.i("MOVQ", g.slot(name), t)
		g.i("LEAQ", mem(p.hi, t, p.size(), 0), p.hi)
		if p.format == split {
			g.i("LEAQ", mem(p.lo, t, p.size(), 0), p.lo)
		}
	}
}

// advance adds bytes to the addresses of planes.
func (g *gen) advance(p planes, bytes reg.GPVirtual) {
	g.i("ADDQ", bytes, p.hi)
	if p.format == split {
		g.i("ADDQ", bytes, p.lo)
	}
}

// element returns the addresses of element index, nil for the first, in registers of their own.
func (g *gen) element(p planes, index reg.Register) planes {
	address := func(base reg.GPVirtual) reg.GPVirtual {
		r := g.ctx.GP64()
		if index == nil {
			g.i("MOVQ", base, r)
		} else {
			g.i("LEAQ", mem(base, index, p.size(), 0), r)
		}
		return r
	}
	q := planes{format: p.format, hi: address(p.hi)}
	if p.format == split {
		q.lo = address(p.lo)
	}
	return q
}

// planes loads the addresses of a map.
func (g *gen) planes(f format, name string) planes {
	p := planes{format: f, hi: g.gp(name)}
	if f == split {
		p.lo = g.gp(name + "2")
	}
	return p
}

// clip limits v; not-a-number stays.
func (g *gen) clip(v, lo, hi int) {
	g.i("VMAXPS", v, lo, v)
	g.i("VMINPS", v, hi, v)
}

// sumLanes adds all lanes of v and leaves the sum in every lane.
func (g *gen) sumLanes(v int) {
	t := g.get()
	if g.wide() {
		g.i("VEXTRACTF64X4", imm(1), v, ymm[t])
		g.i("VADDPS", ymm[t], ymm[v], ymm[v])
		g.i("VEXTRACTF32X4", imm(1), ymm[v], xmm[t])
	} else {
		g.i("VEXTRACTF128", imm(1), ymm[v], xmm[t])
	}
	g.i("VADDPS", xmm[t], xmm[v], xmm[v])
	g.i("VPERMILPS", imm(0x4e), xmm[v], xmm[t])
	g.i("VADDPS", xmm[t], xmm[v], xmm[v])
	g.i("VPERMILPS", imm(0xb1), xmm[v], xmm[t])
	g.i("VADDPS", xmm[t], xmm[v], xmm[v])
	g.i("VBROADCASTSS", xmm[v], v)
	g.put(t)
}
