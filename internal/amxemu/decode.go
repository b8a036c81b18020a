//go:build linux && amd64

package main

import "encoding/binary"

// operation is an instruction of AMX.
type operation uint8

const (
	loadConfig  operation = iota // LDTILECFG
	storeConfig                  // STTILECFG
	release                      // TILERELEASE
	zero                         // TILEZERO
	load                         // TILELOADD, TILELOADDT1
	store                        // TILESTORED
	dot                          // TDPBF16PS
)

// instruction is a decoded one. Registers have the processor's numbers.
type instruction struct {
	op        operation
	length    int   // bytes of code
	tile      uint8 // that is written, or stored
	a, b      uint8 // the factors of dot
	base      uint8
	index     uint8 // none: no register
	shift     uint8 // of the index
	displaced int64
}

const none = 0xff

// decode reads the instruction at the beginning of code and reports whether it is one of AMX, as in the Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 2: VEX in the map 0F38 with W=0 and L=0.
func decode(code []byte) (i instruction, ok bool) {
	if len(code) < 5 || code[0] != 0xc4 || code[1]&31 != 2 || code[2]&0x84 != 0 {
		return i, false
	}
	high := ^code[1] >> 5 // of the fields reg, index and base: 4, 2, 1
	v, prefix, opcode, modrm := ^code[2]>>3&15, code[2]&3, code[3], code[4]
	register := modrm>>6 == 3
	i.tile, i.length = modrm>>3&7, 5
	switch key := uint16(prefix)<<8 | uint16(opcode); { // prefixes: 1 is 66, 2 is F3, 3 is F2
	case key == 0x349 && register && modrm&7 == 0:
		i.op = zero
	case key == 0x049 && modrm == 0xc0:
		i.op = release
	case key == 0x25c && register:
		i.op, i.a, i.b = dot, modrm&7, v&7
	case register:
		return i, false
	case key == 0x049:
		i.op = loadConfig
	case key == 0x149:
		i.op = storeConfig
	case key == 0x34b, key == 0x14b:
		i.op = load
	case key == 0x24b:
		i.op = store
	default:
		return i, false
	}
	if register {
		return i, true
	}
	return i, i.address(code, high)
}

// address decodes the memory operand.
func (i *instruction) address(code []byte, high uint8) bool {
	modrm := code[4]
	i.base, i.index = modrm&7|high&1<<3, none
	at := 5
	if modrm&7 == 4 {
		if len(code) < 6 {
			return false
		}
		sib := code[5]
		i.base, i.index, i.shift = sib&7|high&1<<3, sib>>3&7|high&2<<2, sib>>6
		if i.index == 4 {
			i.index = none
		}
		at = 6
	} else if i.op == load || i.op == store {
		return false // undefined: they need a SIB byte
	}
	switch mode := modrm >> 6; {
	case mode == 0 && i.base&7 == 5:
		return false // without a base, or relative to the instruction
	case mode == 1 && len(code) > at:
		i.displaced = int64(int8(code[at]))
		at++
	case mode == 2 && len(code) >= at+4:
		i.displaced = int64(int32(binary.LittleEndian.Uint32(code[at:])))
		at += 4
	case mode != 0:
		return false
	}
	i.length = at
	return true
}
