// Package amx emits the instructions that Go's assembler does not know, those of AMX and of AVX-512 BF16, as bytes into an avo
// function.
//
// The encodings are those of the Intel Architecture Instruction Set Extensions Programming Reference, those of AMX
// VEX-coded in the map 0F38 with opcode 49, 4B or 5C. The registers named here are physical: a function that uses this
// package assigns its general registers itself.
package amx

import (
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// Tile is one of the eight tile registers.
type Tile uint8

// Mandatory prefixes as the VEX field pp.
const (
	ppNone = iota
	pp66
	ppF3
	ppF2
)

// vex returns the three-byte VEX prefix of the map 0F38 with W=0 and L=0. r, x and b are the high bits of the three
// register fields, v the register in vvvv.
func vex(r, x, b, v, pp uint8) []byte {
	return []byte{0xc4, (1-r)<<7 | (1-x)<<6 | (1-b)<<5 | 2, (^v&15)<<3 | pp}
}

// memory encodes the memory operand [base + index*1 + disp32] for the register field field.
func memory(pp, opcode, field, base, index uint8, disp int32) []byte {
	code := append(vex(0, index>>3, base>>3, 0, pp), opcode)
	d := uint32(disp)
	switch {
	case disp == 0 && base&7 != 5:
		return append(code, field<<3|4, index&7<<3|base&7)
	case disp >= -128 && disp < 128:
		return append(code, 0x40|field<<3|4, index&7<<3|base&7, byte(disp))
	}
	return append(code, 0x80|field<<3|4, index&7<<3|base&7, byte(d), byte(d>>8), byte(d>>16), byte(d>>24))
}

// Code of the instructions. Registers are numbered as the processor numbers them.

// LoadConfigCode is LDTILECFG [base].
func LoadConfigCode(base uint8) []byte {
	code := append(vex(0, 0, base>>3, 0, ppNone), 0x49)
	switch base & 7 {
	case 4:
		return append(code, 0x04, 0x24)
	case 5:
		return append(code, 0x45, 0)
	}
	return append(code, base&7)
}

// ReleaseCode is TILERELEASE.
func ReleaseCode() []byte { return append(vex(0, 0, 0, 0, ppNone), 0x49, 0xc0) }

// ZeroCode is TILEZERO t.
func ZeroCode(t Tile) []byte { return append(vex(0, 0, 0, 0, ppF2), 0x49, 0xc0|byte(t)<<3) }

// LoadCode is TILELOADD t, [base + stride + disp]: row i comes from base + disp + i*stride.
func LoadCode(t Tile, base, stride uint8, disp int32) []byte {
	return memory(ppF2, 0x4b, byte(t), base, stride, disp)
}

// StoreCode is TILESTORED [base + stride + disp], t.
func StoreCode(t Tile, base, stride uint8, disp int32) []byte {
	return memory(ppF3, 0x4b, byte(t), base, stride, disp)
}

// DotCode is TDPBF16PS sum, a, b.
func DotCode(sum, a, b Tile) []byte {
	return append(vex(0, 0, 0, byte(b), ppF3), 0x5c, 0xc0|byte(sum)<<3|byte(a))
}

// number returns the processor's number of a 64-bit general register.
func number(r reg.Register) uint8 { return uint8(r.(reg.Physical).PhysicalIndex()) }

// bytes emits code as BYTE directives behind a comment.
func bytes(code []byte, format string, args ...any) {
	build.Commentf(format, args...)
	for _, b := range code {
		build.Instruction(&ir.Instruction{Opcode: "BYTE", Operands: []operand.Op{operand.Imm(uint64(b))}})
	}
}

// LoadConfig emits LDTILECFG.
func LoadConfig(base reg.Register) { bytes(LoadConfigCode(number(base)), "LDTILECFG (%s)", base.Asm()) }

// Release emits TILERELEASE.
func Release() { bytes(ReleaseCode(), "TILERELEASE") }

// Zero emits TILEZERO.
func Zero(t Tile) { bytes(ZeroCode(t), "TILEZERO TMM%d", t) }

// Load emits TILELOADD.
func Load(t Tile, base, stride reg.Register, disp int32) {
	bytes(LoadCode(t, number(base), number(stride), disp), "TILELOADD %d(%s)(%s*1), TMM%d", disp, base.Asm(), stride.Asm(), t)
}

// Store emits TILESTORED.
func Store(t Tile, base, stride reg.Register, disp int32) {
	bytes(StoreCode(t, number(base), number(stride), disp), "TILESTORED TMM%d, %d(%s)(%s*1)", t, disp, base.Asm(), stride.Asm())
}

// Dot emits TDPBF16PS: sum += a * b.
func Dot(sum, a, b Tile) {
	bytes(DotCode(sum, a, b), "TDPBF16PS TMM%d, TMM%d, TMM%d", b, a, sum)
}

// bf16 encodes an instruction of AVX-512 BF16 for 512-bit registers: EVEX-coded in the map 0F38. k is a mask with which lanes are zeroed,
// or 0.
func bf16(pp, opcode, dst, a, b, k uint8) []byte {
	bit := func(v uint8, n int) byte { return ^v >> n & 1 } // inverted, as the prefix wants it
	mask := k
	if k != 0 {
		mask |= 0x80
	}
	return []byte{
		0x62,
		bit(dst, 3)<<7 | bit(b, 4)<<6 | bit(b, 3)<<5 | bit(dst, 4)<<4 | 2,
		(^a&15)<<3 | 4 | pp,
		2<<5 | bit(a, 4)<<3 | mask,
		opcode,
		0xc0 | dst&7<<3 | b&7,
	}
}

// DotPairsCode is VDPBF16PS sum, a, b.
func DotPairsCode(sum, a, b uint8) []byte { return bf16(ppF3, 0x52, sum, a, b, 0) }

// RoundCode is VCVTNEPS2BF16 dst, src: 16 float32 to bfloat16, with mask register k and zeroing if k is not 0.
func RoundCode(dst, src, k uint8) []byte { return bf16(ppF3, 0x72, dst, 0, src, k) }

// RoundPairCode is VCVTNE2PS2BF16 dst, high, low: 32 float32 to bfloat16.
func RoundPairCode(dst, high, low uint8) []byte { return bf16(ppF2, 0x72, dst, high, low, 0) }

// DotPairs emits VDPBF16PS: sum += a.lo*b.lo + a.hi*b.hi in each lane.
func DotPairs(sum, a, b reg.Register) {
	bytes(DotPairsCode(number(sum), number(a), number(b)), "VDPBF16PS %s, %s, %s", b.Asm(), a.Asm(), sum.Asm())
}

// Round emits VCVTNEPS2BF16: the lower half of dst is src rounded.
func Round(dst, src reg.Register) {
	bytes(RoundCode(number(dst), number(src), 0), "VCVTNEPS2BF16 %s, %s", src.Asm(), dst.Asm())
}

// RoundPair emits VCVTNE2PS2BF16: dst is low, rounded, and in its upper half high.
func RoundPair(dst, high, low reg.Register) {
	bytes(RoundPairCode(number(dst), number(high), number(low)), "VCVTNE2PS2BF16 %s, %s, %s", low.Asm(), high.Asm(), dst.Asm())
}
