// Command vector writes the assembly of the memory-bound kernels: engine/kernel for inference, engine/kernel/grad for
// training. Each kernel is written once here, for every instruction set and map format.
//
//	go run ./vector -out ../
package main

import (
	"bytes"
	"flag"
	"fmt"
	gofmt "go/format"
	"log"
	"os"
	"path/filepath"
	"strings"

	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
)

// Signatures of the kernels, those of the function types in package kernel.
const (
	unarySignature         = "func(dst, dst2, x, x2 unsafe.Pointer, dstStep, xStep, pixels, channels int, lo, hi float32)"
	addSignature           = "func(dst, dst2, x, x2, y, y2 unsafe.Pointer, dstStep, xStep, yStep, pixels, channels int, lo, hi float32)"
	affineSignature        = "func(dst, dst2, x, x2, y, y2, scale, shift unsafe.Pointer, dstStep, xStep, yStep, pixels, channels int, lo, hi float32)"
	sumSignature           = "func(sum, x, x2 unsafe.Pointer, xStep, pixels, channels int)"
	downSignature          = "func(dst, x, x2 unsafe.Pointer, xStep, rowStep, rows, pixels, channels int)"
	alongSignature         = "func(dst, x unsafe.Pointer, dstStep, tapStep, outStep, taps, pixels, channels int, scale float32)"
	depthwiseSignature     = "func(dst, x, weights, bias unsafe.Pointer, dstStep, dstRow, xStep, rowStep, xRow, rows, pixels, channels int, lo, hi float32)"
	depthwiseIntoSignature = "func(dst, dst2, x, weights, bias, sums unsafe.Pointer, dstStep, dstRow, xStep, rowStep, xRow, sumRow, rows, pixels, channels, format, class int, lo, hi float32)"
	gatherSignature        = "func(dst, x, x2 unsafe.Pointer, xStep, xRow, dstStep, dstRow, rows, pixels, channels int)"
	scatterSignature       = "func(dst, dst2, x, sums unsafe.Pointer, dstStep, dstRow, xStep, sumRow, rows, pixels, channels int)"
	depthwiseAnySignature  = "func(dst, x, weights, bias unsafe.Pointer, dstStep, dstRow, xStep, rowStep, xRow, tapStep, kernelH, kernelW, rows, pixels, channels int, lo, hi float32)"
	prefetchSignature      = "func(x unsafe.Pointer, bytes int)"
	lrnSignature           = "func(x, squares unsafe.Pointer, channels, before, size int, alpha, k float32)"
	normSignature          = "func(dst, dst2, x, x2, gamma, beta unsafe.Pointer, dstStep, xStep, pixels, channels int, eps float32)"
	interleaveSignature    = "func(dst, x, y unsafe.Pointer, dstStep, xStep, yStep, pixels, channels int)"
)

// kernel is one function: its place in a table, and how to write it for an instruction set.
type kernel struct {
	name      string // without the instruction set
	table     string // "unaryKernels", or "" if it is called by its name
	index     string // after the level: "[classClip][F32][BF16]"
	signature string
	rounds    bool // stores bfloat16: differs between AVX512 and BF16
	write     func(g *gen, name string)
	wide      bool // only for AVX-512
}

func inferenceKernels() []kernel {
	var ks []kernel
	all := []format{f32, bf16, split}
	for class := clipOnly; class <= tanh; class++ {
		for _, from := range all {
			for _, to := range all {
				if from != to && (class != clipOnly || from != f32 && to != f32) {
					continue // no network has them
				}
				ks = append(ks, kernel{classNames[class] + formatNames[from] + "To" + formatNames[to], "unaryKernels",
					fmt.Sprintf("[%d][%s][%s]", class, formatNames[from], formatNames[to]), unarySignature, to != f32,
					func(g *gen, name string) { g.unary(name, class, from, to) }, false})
			}
		}
	}
	ks = append(ks, kernel{"exp", "expKernels", "", unarySignature, false, func(g *gen, name string) { g.unary(name, expOnly, f32, f32) }, false})
	for _, f := range all {
		ks = append(ks, kernel{"add" + formatNames[f], "addKernels", "[" + formatNames[f] + "]", addSignature, f != f32,
			func(g *gen, name string) { g.add(name, f) }, false})
		for v, variant := range []string{"scale", "scaleShift", "scaleAdd", "scaleShiftAdd"} {
			ks = append(ks, kernel{variant + formatNames[f], "affineKernels", fmt.Sprintf("[%d][%s]", v, formatNames[f]), affineSignature, f != f32,
				func(g *gen, name string) { g.affine(name, f, f, v&1 != 0, v&2 != 0) }, false})
		}
		if f != f32 {
			ks = append(ks, kernel{"scaleF32To" + formatNames[f], "scaleIntoKernels", "[" + formatNames[f] + "]", affineSignature, true,
				func(g *gen, name string) { g.affine(name, f32, f, false, false) }, false})
		}
		for n, registers := range []string{"One", "Two"} {
			ks = append(ks,
				kernel{"gather" + registers + formatNames[f], "gatherKernels", fmt.Sprintf("[%s][%d]", formatNames[f], n), gatherSignature, false,
					func(g *gen, name string) { g.gather(name, f, n+1) }, false},
				kernel{"scatter" + registers + formatNames[f], "scatterKernels", fmt.Sprintf("[%s][%d]", formatNames[f], n), scatterSignature, f != f32,
					func(g *gen, name string) { g.scatter(name, f, n+1) }, false})
		}
		ks = append(ks,
			kernel{"sum" + formatNames[f], "sumKernels", "[" + formatNames[f] + "]", sumSignature, false, func(g *gen, name string) { g.sum(name, f) }, false},
			kernel{"downMax" + formatNames[f], "downMaxKernels", "[" + formatNames[f] + "]", downSignature, false, func(g *gen, name string) { g.down(name, f, g.reduceMax) }, false},
			kernel{"downSum" + formatNames[f], "downSumKernels", "[" + formatNames[f] + "]", downSignature, false, func(g *gen, name string) { g.down(name, f, g.reduceSum) }, false},
			kernel{"layerNorm" + formatNames[f], "normKernels", "[" + formatNames[f] + "]", normSignature, f != f32, func(g *gen, name string) { g.layerNorm(name, f) }, false})
	}
	ks = append(ks,
		kernel{"downKeys", "downKeysKernels", "", downSignature, false, (*gen).downKeys, true},
		kernel{"alongKeys", "alongKeysKernels", "", alongSignature, false, (*gen).alongKeys, true},
		kernel{"alongMax", "alongMaxKernels", "", alongSignature, false, func(g *gen, name string) { g.along(name, g.reduceMax, false) }, false},
		kernel{"alongSum", "alongSumKernels", "", alongSignature, false, func(g *gen, name string) { g.along(name, g.reduceSum, true) }, false},
		kernel{"interleave32", "interleaveKernels", "[0]", interleaveSignature, false, func(g *gen, name string) { g.interleave(name, 4) }, false},
		kernel{"interleave16", "interleaveKernels", "[1]", interleaveSignature, false, func(g *gen, name string) { g.interleave(name, 2) }, false},
		kernel{"lrn", "lrnKernels", "", lrnSignature, false, (*gen).lrn, false},
		kernel{"prefetch", "prefetchKernels", "", prefetchSignature, false, (*gen).prefetch, false},
		kernel{"depthwiseAny", "depthwiseAnyKernels", "", depthwiseAnySignature, false, func(g *gen, name string) { g.depthwiseAny(name) }, false})
	for _, w := range []struct{ k, stride int }{{3, 1}, {3, 2}, {5, 1}, {5, 2}, {7, 1}} {
		name := fmt.Sprintf("depthwise%dx%ds%d", w.k, w.k, w.stride)
		ks = append(ks,
			kernel{name, "depthwiseKernels", "[" + name + "]", depthwiseSignature, false, func(g *gen, name string) { g.depthwise(name, w.k, w.stride) }, false},
			kernel{name + "Into", "depthwiseIntoKernels", "[" + name + "]", depthwiseIntoSignature, true, func(g *gen, name string) { g.depthwiseInto(name, w.k, w.stride) }, true})
	}
	return ks
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("vector: ")
	flags := flag.NewFlagSet("vector", flag.ExitOnError) // avo has taken -out of the default set
	out := flags.String("out", "..", "folder of package kernel")
	_ = flags.Parse(os.Args[1:]) // it exits by itself
	if err := emit(*out, "kernel", inferenceKernels(), tableTypes, []isa{avx2, avx512, bf16cvt}); err != nil {
		log.Fatal(err)
	}
	if err := emit(filepath.Join(*out, "grad"), "grad", trainingKernels(), trainingTables, []isa{avx2, avx512}); err != nil {
		log.Fatal(err)
	}
}

// emit writes vector_ISA_amd64.s for each instruction set, and tables_amd64.go with declarations and tables.
func emit(dir, pkg string, kernels []kernel, types map[string]string, sets []isa) error {
	var stubs, fill bytes.Buffer
	tables := map[string][]string{}
	var order []string
	for _, set := range sets {
		g := newGen(set)
		for _, k := range kernels {
			if set == avx2 && k.wide {
				continue
			}
			name := k.name + isaNames[set]
			if set == bf16cvt && !k.rounds {
				name = k.name + isaNames[avx512]
			} else {
				k.write(g, name)
				fmt.Fprintf(&stubs, "//go:noescape\nfunc %s%s\n\n", name, strings.TrimPrefix(k.signature, "func"))
			}
			if k.table == "" {
				continue
			}
			if tables[k.table] == nil {
				order = append(order, k.table)
			}
			tables[k.table] = append(tables[k.table], fmt.Sprintf("\tt[level%s]%s = %s\n", isaNames[set], k.index, name))
		}
		g.data()
		file, err := g.ctx.Result()
		if err != nil {
			return fmt.Errorf("%s: %w", isaNames[set], err)
		}
		if err := pass.Compile.Execute(file); err != nil {
			return fmt.Errorf("%s: %w", isaNames[set], err)
		}
		text, err := printer.NewGoAsm(printer.Config{Name: "_gen/vector", Argv: []string{"_gen/vector"}, Pkg: pkg}).Print(file)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "vector_"+strings.ToLower(isaNames[set])+"_amd64.s"), text, 0o644); err != nil {
			return err
		}
	}
	for _, t := range order {
		fmt.Fprintf(&fill, "var %s = func() (t %s) {\n%s\treturn t\n}()\n\n", t, types[t], strings.Join(tables[t], ""))
	}
	src := fmt.Sprintf(`// Code generated by _gen/vector. DO NOT EDIT.

//go:build !noasm

package %s

import "unsafe"

// haveAssembly says that the tables below are filled.
const haveAssembly = true

%s%s`, pkg, fill.String(), stubs.String())
	text, err := gofmt.Source([]byte(src))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "tables_amd64.go"), text, 0o644)
}

// tableTypes are the types of the tables, those in tables_none.go.
var tableTypes = map[string]string{
	"unaryKernels":         "[levels][classes][3][3]unaryFunc",
	"addKernels":           "[levels][3]addFunc",
	"affineKernels":        "[levels][4][3]affineFunc",
	"scaleIntoKernels":     "[levels][3]affineFunc",
	"sumKernels":           "[levels][3]sumFunc",
	"downMaxKernels":       "[levels][3]downFunc",
	"downSumKernels":       "[levels][3]downFunc",
	"downKeysKernels":      "[levels]downFunc",
	"alongKeysKernels":     "[levels]alongFunc",
	"alongMaxKernels":      "[levels]alongFunc",
	"alongSumKernels":      "[levels]alongFunc",
	"depthwiseKernels":     "[levels][depthwiseShapes]depthwiseFunc",
	"depthwiseIntoKernels": "[levels][depthwiseShapes]depthwiseIntoFunc",
	"depthwiseAnyKernels":  "[levels]depthwiseAnyFunc",
	"gatherKernels":        "[levels][3][2]gatherFunc",
	"scatterKernels":       "[levels][3][2]scatterFunc",
	"prefetchKernels":      "[levels]prefetchFunc",
	"lrnKernels":           "[levels]lrnFunc",
	"normKernels":          "[levels][3]normFunc",
	"interleaveKernels":    "[levels][2]interleaveFunc",
	"expKernels":           "[levels]unaryFunc",
}
