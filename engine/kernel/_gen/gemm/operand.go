package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// operandRows addresses the rows of A that a kernel of vectors sums at a time: the first is in R10, R9 is the distance of rows, and R11 to
// R13 and BX are for rows 3, 6, 9 and 12.
type operandRows []struct {
	base, scale int // the row whose address a register has, and by how many distances this one is behind it
}

var rowRegisters = []GPPhysical{R10, R11, R12, R13, RBX}

// newRows finds for each of n rows a base at a multiple of three distances and a scale the processor has.
func newRows(n int) operandRows {
	rows := make(operandRows, n)
	for r := range rows {
		rows[r].base = -1
	}
	for base := 0; base < n; base += 3 {
		for _, scale := range []int{0, 1, 2, 4, 8} {
			if r := base + scale; r < n && rows[r].base < 0 {
				rows[r].base, rows[r].scale = base, scale
			}
		}
	}
	return rows
}

// point sets the registers from that of the first row. It uses AX.
func (a operandRows) point() {
	if len(a) > 3 {
		LEAQ(Mem{Base: R9, Index: R9, Scale: 2}, RAX)
	}
	for i := 1; 3*i < len(a); i++ {
		LEAQ(Mem{Base: rowRegisters[i-1], Index: RAX, Scale: 1}, rowRegisters[i])
	}
}

// advance moves all rows on by so many bytes.
func (a operandRows) advance(bytes uint64) {
	for i := 0; 3*i < len(a); i++ {
		ADDQ(Imm(bytes), rowRegisters[i])
	}
}

// at is the operand disp bytes behind the beginning of a row.
func (a operandRows) at(row, disp int) Mem {
	m := Mem{Base: rowRegisters[a[row].base/3], Disp: disp}
	if scale := a[row].scale; scale > 0 {
		m.Index, m.Scale = R9, uint8(scale)
	}
	return m
}
