//go:build linux && amd64

// Command amxemu runs a program on a processor that has AVX-512 but no AMX as if it had AMX, many times slower:
//
//	go build -o bin/amxemu ./internal/amxemu
//	go test -exec $PWD/bin/amxemu ./engine/kernel/gemm
//
// It traces the program, and the processes that this starts. To such a processor the instructions of AMX are undefined: the kernel stops the
// thread with SIGILL, and amxemu does what the instruction says to tiles that it keeps for the thread (tiles.go, decode.go). So that the program
// asks for them at all, CPUID and XGETBV in package github.com/klauspost/cpuid answer as on a Xeon with AMX (detect.go), and so does the system
// call that asks for the tiles.
//
// It says nothing about speed.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	processor "github.com/klauspost/cpuid/v2"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: amxemu PROGRAM [ARGUMENT...]")
		os.Exit(2)
	}
	runtime.LockOSThread() // the tracer is a thread
	status, err := 0, capable()
	if err == nil {
		status, err = run(os.Args[1], os.Args[1:])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "amxemu: %s: %v\n", os.Args[1], err)
		os.Exit(2)
	}
	os.Exit(status)
}

// capable returns an error if the processor lacks what every one with AMX has and this program does not emulate.
func capable() error {
	if !processor.CPU.Supports(processor.AVX512F, processor.AVX512BW, processor.AVX512DQ, processor.AVX512VL, processor.AVX512BF16, processor.AVX512VBMI) {
		return errors.New("the processor lacks AVX-512 F, BW, DQ, VL, BF16 or VBMI, which are not emulated")
	}
	return nil
}
