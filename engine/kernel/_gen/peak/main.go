// Command peak writes the assembly with which bench measures what a processor can do at most.
package main

import (
	"github.com/go-modelzoo/zoo/engine/kernel/_gen/amx"
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	. "github.com/mmcloughlin/avo/reg"
)

func main() {
	ConstraintExpr("amd64,!noasm")
	tiles()
	multiplyAdds("fma512", 64, []VecPhysical{Z0, Z1, Z2, Z3, Z4, Z5, Z6, Z7, Z8, Z9, Z10, Z11, Z12, Z13, Z14, Z15})
	multiplyAdds("fma256", 32, []VecPhysical{Y0, Y1, Y2, Y3, Y4, Y5, Y6, Y7, Y8, Y9, Y10, Y11, Y12, Y13, Y14, Y15})
	read()
	Generate()
}

// tiles emits rounds of 2×2 products of tiles that stay in the registers, so that nothing but the tile unit limits them. Four sums
// hide the latency of a product.
func tiles() {
	TEXT("tileProducts", NOSPLIT, "func(config *[64]byte, operands *[2048]uint16, rounds int)")
	Load(Param("config"), RAX)
	Load(Param("operands"), RBX)
	Load(Param("rounds"), RCX)
	amx.LoadConfig(RAX)
	MOVQ(U32(64), RDX)
	for t := range amx.Tile(4) {
		amx.Zero(t)
		amx.Load(4+t, RBX, RDX, 1024*int32(t))
	}
	Label("products")
	for a := range amx.Tile(2) {
		for b := range amx.Tile(2) {
			amx.Dot(2*a+b, 4+a, 6+b)
		}
	}
	DECQ(RCX)
	JNZ(LabelRef("products"))
	amx.Release()
	RET()
}

// multiplyAdds emits rounds of float32 multiply-adds on registers of so many bytes. Twelve sums are more than two units with a latency
// of four cycles need.
func multiplyAdds(name string, width int, vector []VecPhysical) {
	sums, operands := vector[:12], vector[12:]
	TEXT(name, NOSPLIT, "func(operands *[64]float32, rounds int)")
	Load(Param("operands"), RAX)
	Load(Param("rounds"), RCX)
	for _, v := range sums {
		VXORPS(v, v, v)
	}
	for i, v := range operands {
		VMOVUPS(Mem{Base: RAX, Disp: i * width}, v)
	}
	Label("sums")
	for i, v := range sums {
		VFMADD231PS(operands[i%2], operands[2+i/2%2], v)
	}
	DECQ(RCX)
	JNZ(LabelRef("sums"))
	VZEROUPPER()
	RET()
}

// read emits loads of lines of 64 bytes in the order of memory, eight in a round.
func read() {
	TEXT("readAVX2", NOSPLIT, "func(memory *byte, lines int)")
	Load(Param("memory"), RAX)
	Load(Param("lines"), RCX)
	Label("lines")
	for i := range 8 {
		VMOVUPS(Mem{Base: RAX, Disp: 64 * i}, Y0)
		VMOVUPS(Mem{Base: RAX, Disp: 64*i + 32}, Y1)
	}
	ADDQ(U32(512), RAX)
	SUBQ(U32(8), RCX)
	JNZ(LabelRef("lines"))
	VZEROUPPER()
	RET()
}
