//go:build !noasm

package main

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

//go:generate go -C ../engine/kernel/_gen/peak run . -out ../../../../bench/machine_amd64.s -pkg main

//go:noescape
func tileProducts(config *[64]byte, operands *[2048]uint16, rounds int)

//go:noescape
func fma512(operands *[64]float32, rounds int)

//go:noescape
func fma256(operands *[64]float32, rounds int)

//go:noescape
func readAVX2(memory *byte, lines int)

// A call of the assembly takes some 50 µs, in which a goroutine cannot be preempted.
const (
	tileRounds = 2000  // of 4 products, each of 16 cycles
	fmaRounds  = 20000 // of 12 multiply-adds, two of them in a cycle
)

// vectorUnit returns a function that multiplies and adds for a while, or nil.
func vectorUnit(tier cpu.Tier, operands *[64]float32) func() (flop float64) {
	switch {
	case tier >= cpu.AVX512:
		return func() float64 {
			fma512(operands, fmaRounds)
			return fmaRounds * 12 * 16 * 2
		}
	case tier >= cpu.AVX2:
		return func() float64 {
			fma256(operands, fmaRounds)
			return fmaRounds * 12 * 8 * 2
		}
	}
	return nil
}

// tileUnit returns a function that computes products of tiles for a while, or nil.
func tileUnit(tier cpu.Tier, operands *[2048]uint16) func() (flop float64) {
	if tier < cpu.AMX {
		return nil
	}
	config := [64]byte{1} // the palette; then columns in bytes and rows of the eight tiles
	for t := range 8 {
		config[16+2*t], config[48+t] = 64, 16
	}
	return func() float64 {
		tileProducts(&config, operands, tileRounds)
		return tileRounds * 4 * 16 * 16 * 32 * 2
	}
}

// readLines reads readBlock bytes; nil where there is no assembly for it.
var readLines = func() func(block []byte) {
	if cpu.Best() < cpu.AVX2 {
		return nil
	}
	return func(block []byte) { readAVX2(unsafe.SliceData(block), len(block)/64) }
}()
