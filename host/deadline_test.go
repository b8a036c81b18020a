package host

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/rss"
)

// TestMistakeShortlyBeforeTheCallersDeadlineCostsNoProcess has callers in a hurry ask for what the plugin refuses at once.
func TestMistakeShortlyBeforeTheCallersDeadlineCostsNoProcess(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, nil)
	pid := s.proc.child.pid()
	for name, ask := range map[string]func(context.Context) error{
		"build": func(ctx context.Context) error {
			_, err := h.Build(ctx, Network{Family: "tiny", Model: "tiny", Options: map[string]string{"size": "large"}})
			return err
		},
		"open": func(ctx context.Context) error {
			_, err := h.Open(ctx, tinySpec(map[string]string{"size": "large"}))
			return err
		},
		"infer": func(ctx context.Context) error {
			small := &Tensor{N: 1, Shape: graph.Shape{C: 3, H: 2, W: 2}, Data: make([]float32, 12)}
			_, err := s.Infer(ctx, small)
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), early*9/10)
		err := ask(ctx)
		cancel()
		if err == nil || errors.Is(err, ErrTimeout) || errors.Is(err, ErrCrashed) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	time.Sleep(50 * time.Millisecond)
	if !s.proc.alive() || s.proc.child.pid() != pid {
		t.Error("the mistakes cost the process that all share")
	}
}

// TestOpeningsThatAreGivenUpStayInThePlugin gives up at moments all over an opening: the weights must not stay behind.
func TestOpeningsThatAreGivenUpStayInThePlugin(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector keeps several bytes about each address that was ever touched")
	}
	h := newHost(t, nil)
	pid := strconv.Itoa(open(t, h, nil).proc.child.pid())
	spec := tinySpec(nil)
	spec.Classes = 60000 // 2 MB of weights
	whole := func() {
		s, err := h.Open(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil { // the plugin gives free memory back to the system
			t.Fatal(err)
		}
	}
	whole()
	begin := time.Now()
	whole()
	took := time.Since(begin)
	before, err := rss.Current(pid)
	if err != nil {
		t.Skip(err)
	}
	const times = 100
	const limit = 40 << 20
	for i := range times {
		ctx, cancel := context.WithTimeout(t.Context(), took*time.Duration(i)/times)
		s, err := h.Open(ctx, spec)
		cancel()
		if err == nil {
			err = s.Close()
		}
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		whole()
		after, err := rss.Current(pid)
		if err != nil {
			t.Fatal(err)
		}
		if after-before < limit {
			return
		}
		if time.Since(begin) > 3*time.Second {
			t.Fatalf("the plugin has %d MiB more than before", (after-before)>>20)
		}
	}
}

// TestCallersInAHurryNeverGetTheirSessionBack has every caller's deadline end before the session is open in a new process.
func TestCallersInAHurryNeverGetTheirSessionBack(t *testing.T) {
	s := open(t, newHost(t, nil), map[string]string{"fault": "build slow"})
	first := s.proc.child
	first.kill("the test")
	<-first.exited
	for begin := time.Now(); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := s.Infer(ctx, images(1, 0))
		cancel()
		if err == nil {
			return
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if time.Since(begin) > 5*time.Second {
			t.Fatal("the session was never opened")
		}
	}
}

// A plugin whose folder does not tell its version is asked before it is chosen, if the lock asks for one.
func TestSilentPluginHoldsUpWhoeverLooksForAVersion(t *testing.T) {
	dirs := withPlugins(t, "silent")
	h := newHost(t, func(o *Options) { dirs(o); o.Versions = map[string]string{"silent": "1.0.0"} })
	for what, ask := range map[string]func(context.Context) error{
		"describing": func(ctx context.Context) error { _, err := h.Describe(ctx, "silent"); return err },
		"listing":    func(ctx context.Context) error { _, err := h.Plugins(ctx); return err },
		"opening": func(ctx context.Context) error {
			_, err := h.Open(ctx, Spec{Network: Network{Family: "silent", Model: "silent"}})
			return err
		},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		start := time.Now()
		if err := ask(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 5*time.Second {
			t.Errorf("%s took %v: %v", what, time.Since(start), err)
		}
	}
}
