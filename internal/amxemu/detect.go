//go:build linux && amd64

package main

import (
	"debug/elf"
	"debug/gosym"
	"errors"
	"fmt"
	"strings"
)

// native executes CPUID, and nativeXGETBV XGETBV, on this processor.
func native(eax, ecx uint32) (a, b, c, d uint32)

func nativeXGETBV(ecx uint32) (a, d uint32)

// cpuid is what CPUID answers: this processor's word, but of a Xeon of the generation that brought AMX.
func cpuid(eax, ecx uint32) (a, b, c, d uint32) {
	a, b, c, d = native(eax, ecx)
	const l1, l2 = 1 << 5, 2 << 5
	caches := [][4]uint32{ // data, data and instructions: kind and level, ways and bytes of a line, sets
		{1 | l1, 11<<22 | 63, 63},
		{3 | l2, 15<<22 | 63, 2047},
		{},
	}
	switch {
	case eax == 0:
		b, d, c = 0x756e6547, 0x49656e69, 0x6c65746e // GenuineIntel
	case eax == 1:
		a = 0x806f8
	case eax == 4:
		way := caches[min(int(ecx), len(caches)-1)]
		a, b, c, d = way[0], way[1], way[2], 0
	case eax == 7 && ecx == 0:
		d |= 1<<22 | 1<<24 // AMX-BF16, AMX-TILE
	}
	return a, b, c, d
}

// xgetbv is what XGETBV answers: the system saves the tiles too.
func xgetbv(ecx uint32) (a, d uint32) {
	a, d = nativeXGETBV(ecx)
	if ecx == 0 {
		a |= 3 << 17
	}
	return a, d
}

// Instructions that detection uses, and the undefined one that takes their place.
const (
	codeCPUID  = "\x0f\xa2"
	codeXGETBV = "\x0f\x01\xd0"
	codeUD2    = "\x0f\x0b"
)

// detection finds where a Go program detects the processor: the addresses of CPUID and XGETBV in the functions of package
// github.com/klauspost/cpuid, with the length of the instruction. A program that is none, or does not detect it so, has none.
func detection(path string) (map[uint64]int, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, nil // a script
	}
	defer f.Close() // only read
	text, table := f.Section(".text"), f.Section(".gopclntab")
	if text == nil || table == nil {
		return nil, nil
	}
	if f.Type != elf.ET_EXEC {
		return nil, errors.New("it is position-independent: build it without -buildmode=pie")
	}
	code, err := text.Data()
	if err != nil {
		return nil, err
	}
	lines, err := table.Data()
	if err != nil {
		return nil, err
	}
	symbols, err := gosym.NewTable(nil, gosym.NewLineTable(lines, text.Addr))
	if err != nil {
		return nil, fmt.Errorf("its table of functions: %w", err)
	}
	found := make(map[uint64]int)
	for _, fn := range symbols.Funcs {
		if !strings.HasPrefix(fn.Name, "github.com/klauspost/cpuid/v2.asm") || fn.Entry < text.Addr || fn.End > text.Addr+text.Size {
			continue
		}
		body := string(code[fn.Entry-text.Addr : fn.End-text.Addr])
		for _, instruction := range []string{codeCPUID, codeXGETBV} {
			if at := strings.Index(body, instruction); at >= 0 {
				found[fn.Entry+uint64(at)] = len(instruction)
			}
		}
	}
	return found, nil
}
