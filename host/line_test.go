//go:build linux

package host

import (
	"context"
	"errors"
	"slices"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// withLine opens a session whose process attends to a line, and takes the other way away: its inferences go through the line or fail.
func withLine(t *testing.T, h *Host, options map[string]string) *Session {
	t.Helper()
	sound := open(t, h, nil)
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		if _, err := sound.Infer(t.Context(), images(1, 0)); err != nil {
			t.Fatal(err)
		}
		if l := sound.proc.takeLine(); l != nil {
			sound.proc.giveLine(l)
			break
		}
		if time.Since(begin) > 10*time.Second {
			t.Fatal("the plugin attends to no line")
		}
	}
	s := open(t, h, options)
	if s.proc != sound.proc {
		t.Fatal("another process")
	}
	s.proc.engine = noInfer{s.proc.engine}
	return s
}

// noInfer is an engine without inference through gRPC.
type noInfer struct{ zoov1.EngineClient }

func (noInfer) Infer(context.Context, *zoov1.InferRequest, ...grpc.CallOption) (*zoov1.InferResponse, error) {
	return nil, errors.New("went through gRPC")
}

func TestLineGivesTheSameLogits(t *testing.T) {
	h := newHost(t, nil)
	want, err := open(t, h, nil).Infer(t.Context(), images(3, 0.5))
	if err != nil {
		t.Fatal(err)
	}
	s := withLine(t, h, nil)
	for range 100 {
		got, err := s.Infer(t.Context(), images(3, 0.5))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got[0].Data, want[0].Data) {
			t.Fatalf("logits %v, want %v", got[0].Data, want[0].Data)
		}
	}
}

func TestPanicInACallThroughALine(t *testing.T) {
	s := withLine(t, newHost(t, nil), map[string]string{"fault": "panic"})
	for range 2 {
		_, err := s.Infer(within5s(t), images(1, 0))
		if !errors.Is(err, ErrFailed) {
			t.Errorf("error %v", err)
		}
		oneLine(t, err, "tiny 1.0.0", "classifying with tiny", "index out of range")
	}
}

func TestCrashInACallThroughALine(t *testing.T) {
	s := withLine(t, newHost(t, nil), map[string]string{"fault": "exit"})
	_, err := s.Infer(within5s(t), images(1, 0))
	if !errors.Is(err, ErrCrashed) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "tiny 1.0.0", "crashed while classifying with tiny", "giving up")
}

func TestKilledDuringACallThroughALineIsComputedAgain(t *testing.T) {
	s := withLine(t, newHost(t, nil), map[string]string{"fault": "slow"})
	want, err := s.Infer(t.Context(), images(2, 0.5))
	if err != nil {
		t.Fatal(err)
	}
	pid := s.proc.child.pid()
	time.AfterFunc(100*time.Millisecond, func() {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	})
	got, err := s.Infer(within5s(t), images(2, 0.5))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(got[0].Data, want[0].Data) || s.proc.child.pid() == pid {
		t.Errorf("logits %v, want %v of another process", got[0].Data, want[0].Data)
	}
}

func TestHangInACallThroughALineMeetsTheDeadline(t *testing.T) {
	h := newHost(t, func(o *Options) { o.CallTimeout = 500 * time.Millisecond })
	s := withLine(t, h, map[string]string{"fault": "hang"})
	begin := time.Now()
	_, err := s.Infer(t.Context(), images(1, 0))
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "did not answer within 500ms", "classifying with tiny")
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestCancelledCallThroughALineReturnsAtOnceAndThePluginLives(t *testing.T) {
	s := withLine(t, newHost(t, nil), map[string]string{"fault": "slow"})
	pid := s.proc.child.pid()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err := s.Infer(ctx, images(1, 0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if d := time.Since(begin); d > 200*time.Millisecond {
		t.Errorf("returned after %v", d)
	}
	lineIsFree(t, s)
	if _, err := s.Infer(t.Context(), images(1, 0)); err != nil {
		t.Fatal(err)
	}
	if s.proc.child.pid() != pid {
		t.Error("the cancellation cost the process")
	}
}

// lineIsFree waits until no call has the line: one that was given up has it until it ends.
func lineIsFree(t *testing.T, s *Session) {
	t.Helper()
	for begin := time.Now(); ; time.Sleep(time.Millisecond) {
		if l := s.proc.takeLine(); l != nil {
			s.proc.giveLine(l)
			return
		}
		if time.Since(begin) > 5*time.Second {
			t.Fatal("the line was not given back")
		}
	}
}

func TestErrorThroughALineWhenTheCallerGivesUpIsTakenForNoAnswer(t *testing.T) {
	s := withLine(t, newHost(t, nil), map[string]string{"fault": "panic"})
	begin := time.Now()
	if _, err := s.Infer(t.Context(), images(1, 0)); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	took := time.Since(begin)
	for i := range 300 {
		ctx, cancel := context.WithTimeout(t.Context(), took*time.Duration(i)/200)
		_, err := s.Infer(ctx, images(1, 0))
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrFailed) {
			t.Fatal(err)
		}
		lineIsFree(t, s)
	}
}
