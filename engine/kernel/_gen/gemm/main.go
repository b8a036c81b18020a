// Command gemm writes the assembly of engine/kernel/gemm for amd64.
package main

import (
	"github.com/mmcloughlin/avo/build"
)

func main() {
	build.ConstraintExpr("amd64,!noasm")
	constants()
	stageKernels()
	tileKernel("amxMedium", 1)
	tileKernel("amxHigh", 2)
	vectorKernel("fma512", 16, 14, plain)
	vectorKernel("dot512", 16, 14, pairs)
	vectorKernel("fmaNarrow", 16, 8, narrow)
	vectorKernel("fma256", 8, 6, plain)
	pairKernel("pairRound", 1)
	pairKernel("pairSplit", 2)
	transposeKernel()
	build.Generate()
}
