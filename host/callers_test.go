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

	"github.com/go-modelzoo/zoo/internal/rss"
)

// TestManyConcurrentCallersSoak has 64 callers of one plugin, some of whom give up at random moments: right answers, and
// memory stays flat. Two seconds; ten minutes under soak.
func TestManyConcurrentCallersSoak(t *testing.T) {
	length := 2 * time.Second
	if soak() {
		length = 10 * time.Minute
	}
	if text := os.Getenv("ZOO_SOAK_TIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
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
	before := memoryInUse(t, h, pid)
	right, gaveUp := run(length / 2)
	after := memoryInUse(t, h, pid)
	t.Logf("%d right answers, %d given up; before %v, after %v", right, gaveUp, before, after)
	if right == 0 || gaveUp == 0 {
		t.Errorf("%d right answers, %d given up", right, gaveUp)
	}
	if s.proc.child.pid() != pid {
		t.Error("the process was replaced")
	}
	// Segments are as many as were ever in use at once, which differs from one half to the other; a leak would be one for
	// each call given up.
	const spare = 16 << 20
	if after.host > before.host+before.host/4+spare || after.plugin > before.plugin+before.plugin/4+spare ||
		after.goroutines > before.goroutines+8 || after.segments > before.segments+before.segments/4+8 {
		t.Errorf("memory grew: before %v, after %v", before, after)
	}
}

// inUse is what host and plugin hold while nobody calls.
type inUse struct {
	host, plugin         int64 // bytes
	goroutines, segments int   // of the host
}

func (u inUse) String() string {
	return fmt.Sprintf("host %.1f MB, %d goroutines, %d segments, plugin %.1f MB", float64(u.host)/1e6, u.goroutines, u.segments, float64(u.plugin)/1e6)
}

// memoryInUse measures host and plugin. Under the race detector, whose own records grow with time, memory is the Go heap.
func memoryInUse(t *testing.T, h *Host, plugin int) inUse {
	t.Helper()
	time.Sleep(200 * time.Millisecond) // calls that were given up end
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	u := inUse{host: residentBytes(t, os.Getpid()), goroutines: runtime.NumGoroutine(), segments: strings.Count(string(maps), "memfd:zoo-tensors")}
	if !raceEnabled {
		u.plugin = residentBytes(t, plugin)
		return u
	}
	s := open(t, h, map[string]string{"fault": "heap"})
	told := func() []string {
		return slices.DeleteFunc(s.proc.ring.last(), func(l string) bool { return !strings.HasPrefix(l, heapLine) })
	}
	known := len(told())
	if _, err := s.Infer(t.Context(), images(1, 0)); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); len(told()) == known; time.Sleep(10 * time.Millisecond) { // logs come when they come
		if time.Now().After(deadline) {
			t.Fatalf("the plugin did not tell: %v", s.proc.ring.last())
		}
	}
	if _, err := fmt.Sscan(strings.TrimPrefix(told()[known], heapLine), &u.plugin); err != nil {
		t.Fatal(err)
	}
	return u
}

// residentBytes is the memory of a process that is in use. Of this process it is taken after a garbage collection, and under
// the race detector, whose own records grow with time, it is the heap alone.
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
	resident, err := rss.Current(strconv.Itoa(pid))
	if err != nil {
		t.Fatal(err)
	}
	return resident
}
