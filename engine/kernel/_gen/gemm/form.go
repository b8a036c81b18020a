package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

// form is a width of vectors, with temporary registers of its own: AVX-512, or AVX2 with half of the lanes and of the registers.
type form struct {
	name string // at the end of the names of kernels
	wide bool
	t    [4]VecPhysical
}

var (
	form512 = form{"512", true, [4]VecPhysical{Z2, Z3, Z4, Z5}}
	form256 = form{"256", false, [4]VecPhysical{Y2, Y3, Y4, Y5}}
	forms   = []form{form512, form256}
)

// bytes is the size of a vector.
func (f form) bytes() int {
	if f.wide {
		return 64
	}
	return 32
}

// count is the number of vector registers.
func (f form) count() int {
	if f.wide {
		return 32
	}
	return 16
}

// registers returns count vector registers from the given one on.
func (f form) registers(from, count int) []VecPhysical {
	if f.wide {
		return registers(from, count)
	}
	all := []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15}
	return all[from : from+count]
}

// constant loads a constant into all lanes of v.
func (f form) constant(name string, v VecPhysical) { VBROADCASTSS(k(name), v) }

// with emits an operation whose first operand is a constant: from memory, or through the temporary register tmp where the
// processor cannot broadcast in the operation.
func (f form) with(bcst, plain func(...Op), name string, tmp VecPhysical, ops ...Op) {
	if f.wide {
		bcst(append([]Op{k(name)}, ops...)...)
		return
	}
	f.constant(name, tmp)
	plain(append([]Op{tmp}, ops...)...)
}

func (f form) move(from, to VecPhysical) { VMOVAPS(from, to) }

func (f form) zero(v VecPhysical) {
	if f.wide {
		VPXORD(v, v, v)
	} else {
		VXORPS(v, v, v)
	}
}

// masks makes masks, K registers or vectors, of the bits in memory: each has a vector's lanes. It uses AX or the vector tmp.
func (f form) masks(bits Mem, tmp VecPhysical, masks ...Register) {
	if f.wide {
		MOVQ(bits, RAX)
		for i, m := range masks {
			if i > 0 {
				SHRQ(Imm(16), RAX)
			}
			KMOVW(EAX, m)
		}
		return
	}
	VPBROADCASTD(bits, tmp)
	for i, m := range masks {
		VPSLLVD(bitShifts.Offset(32*i), tmp, m)
	}
}

// load loads the lanes of a mask, and zeros into the others.
func (f form) load(from Mem, mask Register, to VecPhysical) {
	if f.wide {
		VMOVUPS_Z(from, mask, to)
	} else {
		VMASKMOVPS(from, mask, to)
	}
}

// store stores the lanes of a mask.
func (f form) store(from VecPhysical, mask Register, to Mem) {
	if f.wide {
		VMOVUPS(from, mask, to)
	} else {
		VMASKMOVPS(from, mask, to)
	}
}
