package host

import (
	"fmt"
	"testing"
)

// The trace of a collector without memory is long: what tells is pushed out of the lines that are kept.
func TestCollectorWithoutMemoryIsOutOfMemory(t *testing.T) {
	var r logRing
	fmt.Fprintln(&r, "SIGSEGV: segmentation violation")
	fmt.Fprintln(&r, "PC=0x43723d m=7 sigcode=1 addr=0x0")
	fmt.Fprintln(&r, "runtime.(*spanQueue).tryDrain(0x400?, 0x0?, 0x0?)")
	for i := range 3 * ringLines {
		fmt.Fprintf(&r, "runtime.gopark(%d)\n", i)
	}
	if !outOfMemory(r.last()) {
		t.Errorf("the last word is %q", telling(r.last()))
	}
	var crash logRing
	fmt.Fprintln(&crash, "SIGSEGV: segmentation violation")
	fmt.Fprintln(&crash, "main.main()")
	if outOfMemory(crash.last()) {
		t.Error("another fault is taken for it")
	}
}
