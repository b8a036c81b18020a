//go:build linux

package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/weights"
)

// soak reports whether the long versions of tests are asked for (make soak).
func soak() bool { return os.Getenv("ZOO_SOAK") != "" }

// known are the kinds of error that a user may see when plugins are killed, stopped and starved.
var known = []error{ErrCrashed, ErrTimeout, ErrMemory, ErrFailed, ErrStart}

// kindOf returns which of the known errors err is, or nil.
func kindOf(err error) error {
	if i := slices.IndexFunc(known, func(k error) bool { return errors.Is(err, k) }); i >= 0 {
		return known[i]
	}
	return nil
}

// TestChaosSoak hits plugins at random moments while they start, load, classify and train: kills, stops and crashes them
// from outside, and has them panic, exit, exhaust memory and flood logs from inside. Forty moments; 500 under soak. ZOO_SEED
// repeats the dice of a run, though not the machine's.
func TestChaosSoak(t *testing.T) {
	c := newChaos(t, 40)
	if soak() {
		c.moments = 500
	}
	data := photographs(t, 40)
	whole := trainSpec(t, data, 12)
	undisturbed := newHost(t, nil)
	if _, err := undisturbed.Train(t.Context(), whole, func(json.RawMessage) {}); err != nil {
		t.Fatal(err)
	}
	if err := undisturbed.Close(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * drain)
	before := openFiles(t)
	h := newHost(t, func(o *Options) {
		o.CallTimeout, o.StartTimeout, o.IdleAfter = c.patience, c.patience, 100*time.Millisecond
		if !raceEnabled { // whose own records are larger than any sensible ceiling
			o.Memory = 384 << 20
		}
	})
	var all sync.WaitGroup
	for worker := range 4 {
		r := c.dice(uint64(worker))
		all.Go(func() { c.classify(h, r) })
	}
	all.Go(func() { c.train(h, data, whole.RunDir) })
	c.strike()
	all.Wait()
	pids := descendants(t, os.Getpid())
	c.within(gentle+lag+c.patience, "closing the host", func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	gone(t, append(pids, descendants(t, os.Getpid())...), 5*time.Second)
	entries, err := os.ReadDir(c.sockets)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	time.Sleep(2 * drain) // pipes of the dead are read for a while
	for kind, n := range openFiles(t) {
		if n > before[kind] {
			t.Errorf("%d files %s are open, %d before", n, kind, before[kind])
		}
	}
	t.Logf("%d moments; answers: %v; %d trainings, interrupted %d times beyond recovery", c.hits.Load(), c.outcomes, c.trained, c.interrupted)
}

// chaos is the state of a test under fault. Its context ends when a deadline is missed, so that the test does.
type chaos struct {
	*testing.T
	ctx      context.Context
	missed   context.CancelFunc
	seed     uint64
	moments  int64
	patience time.Duration // of the host: for a start and for a call
	sockets  string
	wants    [][]float32 // logits by batch size - 1

	over chan struct{} // closed after the last moment
	hits atomic.Int64

	mu       sync.Mutex
	outcomes map[string]int

	trained, interrupted int // of the goroutine that trains
}

func newChaos(t *testing.T, moments int64) *chaos {
	t.Helper()
	c := &chaos{T: t, seed: uint64(time.Now().UnixNano()), moments: moments, patience: 3 * time.Second, sockets: shortDir(t), over: make(chan struct{}), outcomes: map[string]int{}}
	if raceEnabled { // all is several times slower
		c.patience = 6 * time.Second
	}
	if text := os.Getenv("ZOO_SEED"); text != "" {
		var err error
		if c.seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ZOO_SEED=%d", c.seed)
	t.Setenv("XDG_RUNTIME_DIR", c.sockets)
	c.ctx, c.missed = context.WithCancel(t.Context())
	t.Cleanup(c.missed)
	reference := newHost(t, nil)
	s := open(t, reference, nil)
	for n := range 4 {
		out, err := s.Infer(t.Context(), images(n+1, 0.5))
		if err != nil {
			t.Fatal(err)
		}
		c.wants = append(c.wants, out[0].Data)
	}
	if err := reference.Close(); err != nil {
		t.Fatal(err)
	}
	return c
}

// dice are random numbers for one goroutine.
func (c *chaos) dice(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(c.seed, stream)) }

// within runs f. If that takes longer than d, the test fails, saying where every goroutine and process is.
func (c *chaos) within(d time.Duration, what string, f func()) {
	alarm := time.AfterFunc(d, func() {
		if c.ctx.Err() != nil {
			return // the first deadline that was missed tells most
		}
		c.missed()
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		var states []string
		for _, pid := range descendants(c.T, os.Getpid()) {
			states = append(states, describe(pid))
		}
		c.Errorf("%s takes longer than %v\n%s\n%s", what, d, strings.Join(states, "\n"), stacks)
	})
	defer alarm.Stop()
	f()
}

// done reports whether the moments are over.
func (c *chaos) done() bool {
	select {
	case <-c.over:
		return true
	case <-c.ctx.Done():
		return true
	default:
		return false
	}
}

// judge counts an error, and checks that it is one line that names the plugin and what happened. It reports whether it is
// one that faults may cause.
func (c *chaos) judge(what string, err error) bool {
	if c.ctx.Err() != nil {
		return false
	}
	kind := kindOf(err)
	text := err.Error()
	switch {
	case kind == nil:
		c.Errorf("%s: error of no kind: %v", what, err)
	case strings.Contains(text, "\n") || len(text) > 1200 || !strings.HasPrefix(text, "tiny 1.0.0 "):
		c.Errorf("%s: the error is not one line that names the plugin: %q", what, text)
	}
	c.count(fmt.Sprint(kind))
	return kind != nil
}

func (c *chaos) count(outcome string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.outcomes[outcome]++
}

// classify opens, classifies and closes until the moments are over, and has the plugin misbehave in between.
func (c *chaos) classify(h *Host, r *rand.Rand) {
	faults := []string{"", "", "", "", "slow", "slow", "flood", "panic", "exit", "goroutine panic", "memory"}
	if raceEnabled {
		faults = faults[:len(faults)-1]
	}
	for !c.done() {
		fault, n := faults[r.IntN(len(faults))], 1+r.IntN(len(c.wants))
		var out []float32
		var err error
		// Two attempts, each with a start, a load, a call and what a process may take to end; then the closing.
		c.within(2*(3*c.patience+lag)+c.patience, "classifying with fault "+strconv.Quote(fault), func() { out, err = c.once(h, fault, n) })
		switch {
		case err != nil:
			c.judge("fault "+strconv.Quote(fault), err)
		case !slices.Equal(out, c.wants[n-1]):
			c.Errorf("fault %q: logits %v, want %v", fault, out, c.wants[n-1])
		default:
			c.count("right")
		}
		if fault != "" && fault != "slow" {
			c.hits.Add(1)
		}
	}
}

func (c *chaos) once(h *Host, fault string, n int) (logits []float32, err error) {
	s, err := h.Open(c.ctx, tinySpec(map[string]string{"fault": fault}))
	if err != nil {
		return nil, err
	}
	defer func() {
		// Closing may find that the process hangs.
		if closeErr := s.Close(); closeErr != nil {
			c.judge("closing", closeErr)
		}
	}()
	out, err := s.Infer(c.ctx, images(n, 0.5))
	if err != nil {
		return nil, err
	}
	return out[0].Data, nil
}

// train trains in the processes that are hit, continuing each run as often as it is interrupted, and compares the result with the run in
// the folder whole.
func (c *chaos) train(h *Host, data, whole string) {
	for {
		spec := trainSpec(c.T, data, 12)
		for calm := 0; ; {
			if c.done() {
				calm++
			}
			var err error
			// Two attempts, each with a start, two pulses and the end, and the work itself.
			c.within(2*(3*c.patience+lag)+30*time.Second, "training", func() { _, err = h.Train(c.ctx, spec, func(json.RawMessage) {}) })
			if err == nil {
				break
			}
			if !c.judge("training", err) {
				return
			}
			if calm > 2 { // the last moment's effects are over
				c.Errorf("training still fails though nothing is hit any more: %v", err)
				return
			}
			c.interrupted++
			spec.Resume = true
			checkpointsReadable(c.T, spec.RunDir)
		}
		sameProduct(c.T, spec.RunDir, whole)
		c.trained++
		if c.done() {
			return
		}
	}
}

// checkpointsReadable checks that whatever safetensors files an interrupted run left are whole.
func checkpointsReadable(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	if err != nil {
		t.Error(err)
	}
	for _, file := range files {
		f, err := weights.Open(file)
		if err != nil {
			t.Errorf("after an interruption: %v", err)
			continue
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// strike sends signals to random plugins at random moments until there were enough.
func (c *chaos) strike() {
	defer close(c.over)
	signals := []syscall.Signal{syscall.SIGKILL, syscall.SIGSTOP, syscall.SIGSEGV}
	r := c.dice(99)
	limit := time.After(time.Duration(c.moments) * 3 * time.Second)
	for c.hits.Load() < c.moments {
		select {
		case <-time.After(time.Duration(r.IntN(300)) * time.Millisecond):
		case <-limit:
			c.Errorf("only %d of %d moments came about", c.hits.Load(), c.moments)
			return
		case <-c.ctx.Done():
			return
		}
		pids := plugins(c.T)
		if len(pids) == 0 {
			continue
		}
		if err := syscall.Kill(pids[r.IntN(len(pids))], signals[r.IntN(len(signals))]); err == nil {
			c.hits.Add(1)
		}
	}
}

// plugins lists the processes below this one that have begun to run a plugin.
func plugins(t *testing.T) []int {
	t.Helper()
	return slices.DeleteFunc(descendants(t, os.Getpid()), func(pid int) bool {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err != nil || !bytes.HasPrefix(line, []byte("zoo-"))
	})
}

// openFiles counts this process's descriptors by what they are: shared memory, sockets, pipes, files.
func openFiles(t *testing.T) map[string]int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, e := range entries {
		target, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err != nil {
			continue // the folder's own descriptor
		}
		kind, _, _ := strings.Cut(target, ":")
		count[kind]++
	}
	return count
}
