//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestManyConcurrentCallersSoak has 64 callers of one plugin, some of whom give up at random moments: right answers, and memory stays flat. Two
// seconds; ten minutes under soak.
func TestManyConcurrentCallersSoak(t *testing.T) {
	length := 2 * time.Second
	if soak() {
		length = 10 * time.Minute
	}
	h := newHost(t, nil)
	s := open(t, h, nil)
	wants := make([][]float32, 8)
	for n := range wants {
		out, err := s.Infer(t.Context(), images(n+1, float32(n)))
		if err != nil {
			t.Fatal(err)
		}
		wants[n] = out[0].Data
	}
	pid := s.proc.child.pid()
	run := func(d time.Duration) (done, given int64) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		var right, gaveUp atomic.Int64
		var all sync.WaitGroup
		for caller := range 64 {
			r := rand.New(rand.NewPCG(1, uint64(caller)))
			all.Go(func() {
				for ctx.Err() == nil {
					n := r.IntN(len(wants))
					patience := time.Hour
					if r.IntN(3) == 0 {
						patience = time.Duration(r.IntN(3000)) * time.Microsecond
					}
					callCtx, cancel := context.WithTimeout(t.Context(), patience)
					out, err := s.Infer(callCtx, images(n+1, float32(n)))
					cancel()
					switch {
					case errors.Is(err, context.DeadlineExceeded):
						gaveUp.Add(1)
					case err != nil:
						t.Errorf("caller %d: %v", caller, err)
						return
					case !slices.Equal(out[0].Data, wants[n]):
						t.Errorf("caller %d: logits %v, want %v", caller, out[0].Data, wants[n])
						return
					default:
						right.Add(1)
					}
				}
			})
		}
		all.Wait()
		return right.Load(), gaveUp.Load()
	}
	run(length / 2)
	before, beforePlugin := residentBytes(t, os.Getpid()), residentBytes(t, pid)
	right, gaveUp := run(length / 2)
	after, afterPlugin := residentBytes(t, os.Getpid()), residentBytes(t, pid)
	t.Logf("%d right answers, %d given up; host %d to %d MB, plugin %d to %d MB", right, gaveUp, before>>20, after>>20, beforePlugin>>20, afterPlugin>>20)
	if right == 0 || gaveUp == 0 {
		t.Errorf("%d right answers, %d given up", right, gaveUp)
	}
	if s.proc.child.pid() != pid {
		t.Error("the process was replaced")
	}
	if after > before+before/4+16<<20 || afterPlugin > beforePlugin+beforePlugin/4+16<<20 {
		t.Errorf("memory grew: host %d to %d MB, plugin %d to %d MB", before>>20, after>>20, beforePlugin>>20, afterPlugin>>20)
	}
}

// residentBytes is the memory of a process that is in use. Of this process it is taken after a garbage collection, and under the race detector, whose
// own records grow with time, it is the heap alone.
func residentBytes(t *testing.T, pid int) int64 {
	t.Helper()
	if pid == os.Getpid() {
		runtime.GC()
		runtime.GC() // what finalizers and pools let go
		if raceEnabled {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			return int64(stats.HeapAlloc)
		}
	}
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(statm))[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}
