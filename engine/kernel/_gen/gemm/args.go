package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// Every kernel has the address of its arguments, a struct whose fields are at known offsets, in R8.

// arg is the field at an offset.
func arg(offset int) Mem { return Mem{Base: R8, Disp: offset} }

// load loads a field.
func load(offset int, to GPPhysical) { MOVQ(arg(offset), to) }

// argument is a field and where it belongs.
type argument struct {
	offset int
	to     GPPhysical
}

func loadArgs(list ...argument) {
	for _, a := range list {
		load(a.offset, a.to)
	}
}

// copyArg sets a field to another. It uses AX.
func copyArg(from, to int) {
	load(from, RAX)
	MOVQ(RAX, arg(to))
}

// numbered is the label of one of several copies of some code.
func numbered(label string, n int) string { return fmt.Sprint(label, n) }
