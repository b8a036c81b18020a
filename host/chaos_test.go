//go:build linux

package host

import (
	"context"
	"encoding/json"
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
	"syscall"
	"testing"
	"time"
)

// soak reports whether the long versions of tests are asked for (make soak).
func soak() bool { return os.Getenv("ZOO_SOAK") != "" }

// known are the kinds of error that a user may see when plugins are killed, stopped and starved.
var known = []error{ErrCrashed, ErrTimeout, ErrMemory, ErrFailed, ErrStart, context.Canceled, context.DeadlineExceeded}

// TestChaosSoak hits plugins at random moments while they classify, load and train: kills, stops and crashes them from outside, and has
// them panic, exit, exhaust memory and flood logs from inside.
func TestChaosSoak(t *testing.T) {
	if !soak() {
		t.Skip("hits plugins at random moments for minutes: set ZOO_SOAK=1")
	}
	const moments = 500
	const deadline = 2 * time.Second // of calls
	sockets := shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", sockets)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	h := newHost(t, func(o *Options) {
		o.CallTimeout = deadline
		o.Memory = 384 << 20
		o.IdleAfter = 100 * time.Millisecond
	})
	reference := open(t, newHost(t, nil), nil)
	wants := make([][]float32, 4)
	for n := range wants {
		out, err := reference.Infer(t.Context(), images(n+1, 0.5))
		if err != nil {
			t.Fatal(err)
		}
		wants[n] = out[0].Data
	}
	if err := reference.host.Close(); err != nil {
		t.Fatal(err)
	}

	var hits atomic.Int64
	var outcomes sync.Map
	stop := make(chan struct{})
	var all sync.WaitGroup
	faults := []string{"", "", "", "", "slow", "slow", "flood", "panic", "exit", "goroutine panic", "memory"}
	if raceEnabled { // which has its own way to run out of memory
		faults = faults[:len(faults)-1]
	}
	for worker := range 4 {
		r := rand.New(rand.NewPCG(seed, uint64(worker)))
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				fault := faults[r.IntN(len(faults))]
				n := 1 + r.IntN(len(wants))
				begin := time.Now()
				out, err := once(t, h, fault, n)
				// Two attempts, each with a start, a load, a call and what a process may take to end.
				if d := time.Since(begin); d > 2*(20*time.Second+2*deadline+lag) {
					t.Errorf("fault %q: returned after %v", fault, d)
				}
				kind := "right"
				switch {
				case err != nil:
					i := slices.IndexFunc(known, func(k error) bool { return errors.Is(err, k) })
					if i < 0 {
						t.Errorf("fault %q: error of no kind: %v", fault, err)
						continue
					}
					kind = known[i].Error()
					if text := err.Error(); strings.Contains(text, "\n") || len(text) > 1200 || i < 5 && !strings.HasPrefix(text, "tiny 1.0.0 ") {
						t.Errorf("fault %q: the error is not one line that names the plugin: %q", fault, text)
					}
				case !slices.Equal(out, wants[n-1]):
					t.Errorf("fault %q: logits %v, want %v", fault, out, wants[n-1])
				}
				if fault != "" {
					hits.Add(1)
				}
				count, _ := outcomes.LoadOrStore(kind, new(atomic.Int64))
				count.(*atomic.Int64).Add(1)
			}
		})
	}
	// One more trains, and continues its run as often as it is interrupted.
	data := photographs(t, 40)
	undisturbed := trainSpec(t, data, 12)
	if _, err := newHost(t, nil).Train(t.Context(), undisturbed, func(json.RawMessage) {}); err != nil {
		t.Fatal(err)
	}
	var trained, interrupted int
	all.Go(func() {
		for {
			spec := trainSpec(t, data, 12)
			for {
				_, err := h.Train(t.Context(), spec, func(json.RawMessage) {})
				if err == nil {
					break
				}
				if !slices.ContainsFunc(known, func(k error) bool { return errors.Is(err, k) }) {
					t.Errorf("training: error of no kind: %v", err)
					return
				}
				interrupted++
				spec.Resume = true
			}
			sameProduct(t, spec.RunDir, undisturbed.RunDir)
			trained++
			select {
			case <-stop:
				return
			default:
			}
		}
	})
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGSEGV}
	r := rand.New(rand.NewPCG(seed, 99))
	limit := time.After(moments * 3 * time.Second)
chaos:
	for hits.Load() < moments {
		select {
		case <-time.After(time.Duration(r.IntN(500)) * time.Millisecond):
		case <-limit:
			t.Errorf("only %d of %d moments came about", hits.Load(), moments)
			break chaos
		}
		if pids := descendants(t, os.Getpid()); len(pids) > 0 {
			if err := syscall.Kill(pids[r.IntN(len(pids))], signals[r.IntN(len(signals))]); err == nil {
				hits.Add(1)
			}
		}
	}
	close(stop)
	all.Wait()
	pids := descendants(t, os.Getpid())
	if err := h.Close(); err != nil {
		t.Error(err)
	}
	gone(t, pids, 10*time.Second)
	if left := descendants(t, os.Getpid()); len(running(t, left)) > 0 {
		t.Errorf("processes %v are left", left)
	}
	entries, err := os.ReadDir(sockets)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	var summary []string
	outcomes.Range(func(k, v any) bool {
		summary = append(summary, fmt.Sprintf("%v: %d", k, v.(*atomic.Int64).Load()))
		return true
	})
	t.Logf("%d moments; outcomes: %s; %d trainings, interrupted %d times beyond recovery", hits.Load(), strings.Join(summary, ", "), trained, interrupted)
}

// once opens a session, classifies and closes.
func once(t *testing.T, h *Host, fault string, n int) (logits []float32, err error) {
	s, err := h.Open(t.Context(), tinySpec(map[string]string{"fault": fault}))
	if err != nil {
		return nil, err
	}
	defer func() {
		// Closing may find that the process hangs or was ended.
		if closeErr := s.Close(); closeErr != nil && !slices.ContainsFunc(known, func(k error) bool { return errors.Is(closeErr, k) }) {
			t.Errorf("closing: %v", closeErr)
		}
	}()
	out, err := s.Infer(t.Context(), images(n, 0.5))
	if err != nil {
		return nil, err
	}
	return out[0].Data, nil
}

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
