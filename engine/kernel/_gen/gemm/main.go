// Command gemm writes the assembly of engine/kernel/gemm for amd64.
package main

import (
	"flag"
	"log"

	"github.com/mmcloughlin/avo/build"
)

// sets are the files of assembly, each with the constants that it needs.
var sets = map[string]func(){
	"tile": func() {
		stageKernels()
		for _, t := range tiles {
			t.kernel()
		}
		winogradStripKernels()
		pairKernel("pairRound", 1)
		pairKernel("pairSplit", 2)
		transposeKernel()
	},
	"vector": func() {
		for _, p := range products {
			p.kernel()
		}
		for _, g := range groupedKernels {
			g.kernel()
		}
		stageCopy256()
		for _, n := range narrowKernels {
			n.kernel()
		}
	},
	"winograd": winogradKernels,
}

func main() {
	set := flag.String("set", "", "the kernels to write: tile, vector or winograd")
	flag.Parse()
	emit, ok := sets[*set]
	if !ok {
		log.Fatalf("gemm: there are no kernels %q", *set)
	}
	build.ConstraintExpr("amd64,!noasm")
	constants()
	emit()
	build.Generate()
}
