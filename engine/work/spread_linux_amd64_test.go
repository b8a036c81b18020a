//go:build !noasm

package work

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pinned runs f on a thread that may use the given processors alone, and frees the thread afterwards.
func pinned(t *testing.T, cpus []int, f func()) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var all, some unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		t.Fatal(err)
	}
	for _, cpu := range cpus {
		some.Set(cpu)
	}
	if err := unix.SchedSetaffinity(0, &some); err != nil {
		t.Skip("threads cannot be moved here:", err)
	}
	defer func() {
		if err := unix.SchedSetaffinity(0, &all); err != nil {
			t.Error(err)
		}
	}()
	f()
	var now unix.CPUSet
	if err := unix.SchedGetaffinity(0, &now); err != nil {
		t.Error(err)
	}
	if now != some {
		t.Error("the processors that the thread may use are others than before")
	}
}

// allowed lists the processors that this process may use.
func allowed(t *testing.T) (cpus []int) {
	t.Helper()
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		t.Fatal(err)
	}
	for cpu := range len(set) * 64 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

func TestCurrentCPU(t *testing.T) {
	for _, cpu := range allowed(t) {
		pinned(t, []int{cpu}, func() {
			if got := currentCPU(); int(got) != cpu {
				t.Errorf("processor %d, want %d", got, cpu)
			}
		})
	}
}

func TestLeaveCPU(t *testing.T) {
	cpus := allowed(t)
	if len(cpus) < 2 {
		t.Skip("needs two processors")
	}
	pinned(t, cpus[:2], func() {
		left := 0
		for range 100 { // the kernel may move it back at once
			from := currentCPU()
			if leaveCPU(from, 2); currentCPU() != from {
				left++
			}
		}
		if left < 50 {
			t.Errorf("left the processor %d times of 100", left)
		}
		leaveCPU(currentCPU(), 3) // more threads than processors: to share one is right; pinned checks that the mask stays
	})
	pinned(t, cpus[:1], func() {
		leaveCPU(int32(cpus[0]), 1)
		if got := currentCPU(); int(got) != cpus[0] {
			t.Errorf("on processor %d, where %d alone is allowed", got, cpus[0])
		}
	})
}

// TestSpread has a worker find another on its processor.
func TestSpread(t *testing.T) {
	cpus := allowed(t)
	if len(cpus) < 2 {
		t.Skip("needs two processors")
	}
	p := New(2)
	defer p.Close()
	j := &job{shares: make([]share, 2)}
	pinned(t, cpus[:2], func() {
		apart := 0
		for range 100 {
			p.moved[1] = time.Time{}
			j.shares[0].cpu.Store(currentCPU())
			p.spread(j, 1)
			if j.shares[0].cpu.Load() != j.shares[1].cpu.Load() {
				apart++
			}
		}
		if apart < 50 {
			t.Errorf("apart %d times of 100", apart)
		}
	})
}
