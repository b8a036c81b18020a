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
// It says nothing about speed. Sums of products are rounded as Intel's manual says, but for intermediate sums below the normal float32 numbers.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: amxemu PROGRAM [ARGUMENT...]")
		os.Exit(2)
	}
	runtime.LockOSThread() // the tracer is a thread
	path, err := exec.LookPath(os.Args[1])
	var status int
	if err == nil {
		status, err = run(path, os.Args[1:])
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "amxemu: %s: %v\n", os.Args[1], err)
		os.Exit(2)
	}
	os.Exit(status)
}
