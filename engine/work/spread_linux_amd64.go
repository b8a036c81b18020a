//go:build !noasm

package work

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// currentCPU returns the number of the processor that this thread runs on (RDTSCP; Linux keeps it in TSC_AUX). It takes some
// ten nanoseconds.
func currentCPU() int32

// leaveCPU moves this thread to another of the processors that it may use, if these are at least threads, and leaves it free
// to go where it wants from there.
func leaveCPU(cpu int32, threads int) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil || all.Count() < max(threads, 2) {
		return
	}
	others := all
	others.Clear(int(cpu))
	if err := unix.SchedSetaffinity(0, &others); err != nil {
		return // it may be forbidden here: then threads share the processor until the kernel parts them
	}
	_ = unix.SchedSetaffinity(0, &all) // as it was: cannot fail where narrowing did not
}
