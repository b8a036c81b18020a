package main

import (
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/engine/kernel/_gen/poly"
	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
)

// table is a read-only table of 32-bit words that the kernels broadcast from.
type table struct {
	base operand.Mem
	at   map[string]int
}

var consts table

// named are the constants by name.
var named = []struct {
	name string
	bits uint32
}{
	{"0", 0},
	{"half", bits(0.5)},
	{"1", bits(1)},
	{"2", bits(2)},
	{"3", bits(3)},
	{"6", bits(6)},
	{"1/6", bits(1.0 / 6)},
	{"-1", bits(-1)},
	{"round16", 0x8000},    // half of the last place of a bfloat16
	{"high16", 0xffff0000}, // the bits of a bfloat16
	{"fixnan", 0x00000088}, // VFIXUPIMM: quiet and signalling not-a-number become +0, all else stays
	// Of the sigmoid: exp(-x) = 2^(-x log2(e)), and where that and its reciprocal are normal numbers.
	{"-log2e", bits(-math.Log2E)},
	{"exp2Min", bits(-126)},
	{"exp2Max", bits(125)},
	{"-phiLimit", bits(-poly.PhiLimit)},
	{"phiLimit", bits(poly.PhiLimit)},
	{"phiScale", bits(2 / (poly.PhiLimit * poly.PhiLimit))},
	// The transformations of 4×4 outputs are interpolation at 0, ±a, ±b and infinity; powers of a = 3/4 and b = 3/2 are exact.
	{"a", bits(0.75)},
	{"a²", bits(0.5625)},
	{"a³", bits(0.421875)},
	{"b", bits(1.5)},
	{"b²", bits(2.25)},
	{"b³", bits(3.375)},
	{"a²b²", bits(1.265625)},
	{"a²+b²", bits(2.8125)},
}

// polynomial is one whose coefficients are among the constants.
type polynomial struct {
	name         string
	coefficients []float64
}

func (p *polynomial) coefficient(i int) string { return fmt.Sprint(p.name, i) }

var (
	exp2Above   = &polynomial{"exp2Above", poly.Exp2Above}
	phi         = &polynomial{"phi", poly.Phi}
	polynomials = []*polynomial{exp2Above, phi}
)

func bits(v float64) uint32 { return math.Float32bits(float32(v)) }

// constants emits the tables.
func constants() {
	consts.at = map[string]int{}
	consts.base = build.GLOBL("constants", attr.RODATA|attr.NOPTR)
	add := func(name string, bits uint32) {
		build.DATA(4*len(consts.at), operand.U32(bits))
		consts.at[name] = 4 * len(consts.at)
	}
	for _, c := range named {
		add(c.name, c.bits)
	}
	for _, p := range polynomials {
		for i, c := range p.coefficients {
			add(p.coefficient(i), bits(c))
		}
	}
	// Index vectors of VPERMT2PS that turn 16 even and 16 odd channels into channels 0..15 and 16..31.
	interleave = build.GLOBL("interleave", attr.RODATA|attr.NOPTR)
	for i := range 32 {
		build.DATA(4*i, operand.U32(uint32(i/2+i%2*16)))
	}
	// The index vector of VPERMT2W that takes the upper halves of 32 words of 32 bits.
	upperWords = build.GLOBL("upperWords", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		build.DATA(4*i, operand.U32(uint32(4*i+1|(4*i+3)<<16)))
	}
	// Index vectors that take the even and the odd of 32 words.
	deinterleave = build.GLOBL("deinterleave", attr.RODATA|attr.NOPTR)
	for i := range 32 {
		build.DATA(4*i, operand.U32(uint32(i%16*2+i/16)))
	}
	// Index vector of VPERMB that spreads 16 values of 20 bits, two in five bytes, to the upper bytes of 16 words, and the shifts behind it.
	widen = build.GLOBL("widen", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		from := i/2*5 + i%2*2
		build.DATA(4*i, operand.U32(uint32(from<<8|(from+1)<<16|(from+2)<<24)))
	}
	for i := range 16 {
		build.DATA(64+4*i, operand.U32(uint32(4-i%2*4)))
	}
	// Control of VPSHUFB that takes the upper halves of words of 32 bits to the lower ones.
	upperToLower = build.GLOBL("upperToLower", attr.RODATA|attr.NOPTR)
	for i := range 4 {
		build.DATA(4*i, operand.U32(uint32(4*i+2|(4*i+3)<<8)))
	}
	// Shifts that bring bit i of a mask to the sign of lane i.
	bitShifts = build.GLOBL("bitShifts", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		build.DATA(4*i, operand.U32(uint32(31-i)))
	}
	// Shifts that bring bit 2i of a mask to the sign of lane i.
	evenBitShifts = build.GLOBL("evenBitShifts", attr.RODATA|attr.NOPTR)
	for i := range 16 {
		build.DATA(4*i, operand.U32(uint32(31-2*i)))
	}
}

var interleave, deinterleave, upperWords, upperToLower, widen, bitShifts, evenBitShifts operand.Mem

// k addresses a constant.
func k(name string) operand.Mem {
	at, ok := consts.at[name]
	if !ok {
		panic("no constant " + name)
	}
	return consts.base.Offset(at)
}
