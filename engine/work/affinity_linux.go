package work

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// affinity keeps each thread of a pool on a core of its own. Threads that wake after a pause are often put on one core and stay there
// for a millisecond, a few inferences of a small network, while the other core idles.
type affinity struct {
	all unix.CPUSet
	one []unix.CPUSet // by worker
}

// newAffinity returns nil unless there are exactly as many threads as cores that this process may use: with fewer threads the system
// has room to move them, with more it has to.
func newAffinity(threads int) *affinity {
	a := &affinity{}
	if err := unix.SchedGetaffinity(0, &a.all); err != nil || threads < 2 || a.all.Count() != threads {
		return nil
	}
	for cpu := 0; len(a.one) < threads; cpu++ {
		if a.all.IsSet(cpu) {
			var s unix.CPUSet
			s.Set(cpu)
			a.one = append(a.one, s)
		}
	}
	return a
}

// pin binds the calling goroutine to a thread and that to a worker's core. The system may refuse, which costs speed alone.
func (a *affinity) pin(worker int) {
	runtime.LockOSThread()
	_ = unix.SchedSetaffinity(0, &a.one[worker])
}

// unpin undoes pin.
func (a *affinity) unpin() {
	_ = unix.SchedSetaffinity(0, &a.all)
	runtime.UnlockOSThread()
}
