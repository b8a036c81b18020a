package work

import (
	"errors"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestHoldGivesTheCoresBack(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		t.Fatal(err)
	}
	if before.Count() < 2 {
		t.Skip("one core")
	}
	cores := func() int {
		var s unix.CPUSet
		if err := unix.SchedGetaffinity(0, &s); err != nil {
			t.Fatal(err)
		}
		return s.Count()
	}
	p := New(before.Count())
	defer p.Close()
	fault := errors.New("fault")
	err := p.Hold(func() error {
		if n := cores(); n != 1 {
			t.Errorf("%d cores within Hold", n)
		}
		if err := p.Hold(func() error { return nil }); err != nil { // the second of two at once
			t.Error(err)
		}
		return fault
	})
	if err != fault {
		t.Errorf("Hold returned %v", err)
	}
	if n := cores(); n != before.Count() {
		t.Errorf("%d cores after Hold, %d before", n, before.Count())
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		_ = p.Hold(func() error { panic("fault") })
	}()
	if n := cores(); n != before.Count() {
		t.Errorf("%d cores after a panic, %d before", n, before.Count())
	}
}
