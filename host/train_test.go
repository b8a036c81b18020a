//go:build unix

package host

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/vision"
)

// Files of a run, as package finetune names them.
const (
	checkpoint = "last.safetensors"
	product    = "model.safetensors"
)

// photographs makes a data set of two classes: bright and dark squares.
func photographs(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	for class, base := range map[string]int{"bright": 150, "dark": 20} {
		if err := os.Mkdir(filepath.Join(dir, class), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			img := image.NewRGBA(image.Rect(0, 0, 8, 8))
			for p := range 64 {
				img.Set(p%8, p/8, color.RGBA{uint8(base + (p*i)%90), uint8(base + (p+i)%60), uint8(base + i%100), 255})
			}
			f, err := os.Create(filepath.Join(dir, class, fmt.Sprintf("%03d.png", i)))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(png.Encode(f, img), f.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func trainSpec(t *testing.T, data string, epochs int) TrainSpec {
	t.Helper()
	config, err := json.Marshal(map[string]any{
		"config": map[string]any{
			"data": data, "strategy": "scratch", "epochs": epochs, "batch_size": 4, "lr": 0.01, "checkpoint_seconds": 0.05,
			"val_fraction": 0.25, "schedule": map[string]any{"name": "constant"},
		},
		"preprocess": map[string]any{"resize": 8, "crop": 8, "mean": []float64{0.5, 0.5, 0.5}, "std": []float64{0.5, 0.5, 0.5}},
	})
	if err != nil {
		t.Fatal(err)
	}
	spec := TrainSpec{Spec: tinySpec(nil), Config: config, RunDir: t.TempDir(), Read: []string{data}}
	spec.Classes = 2
	return spec
}

func TestTrainingReportsEventsAndAResult(t *testing.T) {
	h := newHost(t, nil)
	events := 0
	spec := trainSpec(t, photographs(t, 40), 2)
	result, err := h.Train(t.Context(), spec, func(e json.RawMessage) {
		if !json.Valid(e) {
			t.Errorf("event %q", e)
		}
		events++
	})
	if err != nil {
		t.Fatal(err)
	}
	if events == 0 || !json.Valid(result) {
		t.Errorf("%d events, result %q", events, result)
	}
	entries, err := os.ReadDir(spec.RunDir)
	if err != nil || len(entries) == 0 {
		t.Errorf("the run folder holds %v, %v", entries, err)
	}
}

// whenTraining calls f at the n-th event.
func whenTraining(n int, f func()) func(json.RawMessage) {
	return func(json.RawMessage) {
		if n--; n == 0 {
			f()
		}
	}
}

func TestCancelledTrainingSavesACheckpoint(t *testing.T) {
	const pulse = 1500 * time.Millisecond
	h := newHost(t, func(o *Options) { o.StartTimeout = pulse })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	spec := trainSpec(t, photographs(t, 40), 1_000_000)
	begin := time.Now()
	_, err := h.Train(ctx, spec, whenTraining(10, func() { time.AfterFunc(pulse+pulse/3, cancel) })) // one that answers is not ended
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v", err)
	}
	if d := time.Since(begin); d > 15*time.Second {
		t.Errorf("stopped after %v", d)
	}
	if _, err := os.Stat(filepath.Join(spec.RunDir, checkpoint)); err != nil {
		t.Errorf("there is no checkpoint: %v", err)
	}
}

// trainingPID returns the process that may write a run's folder.
func trainingPID(t *testing.T, h *Host, spec TrainSpec) int {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.pools {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, pr := range p.list {
			if slices.Contains(pr.grants.write, spec.RunDir) && pr.alive() {
				return pr.child.pid()
			}
		}
	}
	t.Error("no plugin trains")
	return 0
}

func TestKilledTrainingContinuesFromItsCheckpoint(t *testing.T) {
	h := newHost(t, nil)
	data := photographs(t, 40)
	whole := trainSpec(t, data, 12)
	if _, err := h.Train(t.Context(), whole, nil); err != nil {
		t.Fatal(err)
	}
	spec := trainSpec(t, data, 12)
	var pid int
	result, err := h.Train(t.Context(), spec, whenTraining(7, func() {
		pid = trainingPID(t, h, spec)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if again := trainingPID(t, h, spec); pid == 0 || again == pid {
		t.Errorf("trained in process %d, then %d", pid, again)
	}
	if !json.Valid(result) {
		t.Errorf("result %q", result)
	}
	sameProduct(t, spec.RunDir, whole.RunDir)
}

// sameProduct checks that two runs ended with the same weights, bit by bit.
func sameProduct(t *testing.T, a, b string) {
	t.Helper()
	x, errA := os.ReadFile(filepath.Join(a, product))
	y, errB := os.ReadFile(filepath.Join(b, product))
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Error("an interrupted training ended with other weights than one that was not")
	}
}

func TestStoppedTrainingIsEnded(t *testing.T) {
	h := newHost(t, func(o *Options) { o.StartTimeout = 1500 * time.Millisecond })
	spec := trainSpec(t, photographs(t, 40), 1_000_000)
	_, err := h.Train(t.Context(), spec, whenTraining(5, func() {
		halt(t, trainingPID(t, h, spec))
	}))
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "tiny 1.0.0", "training tiny")
}

func TestTrainingThatDoesNotStopIsEnded(t *testing.T) {
	h := newHost(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	spec := trainSpec(t, photographs(t, 40), 1_000_000)
	spec.Grace = 300 * time.Millisecond
	_, err := h.Train(ctx, spec, whenTraining(5, func() {
		halt(t, trainingPID(t, h, spec))
		cancel()
	}))
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "did not stop within 300ms", "checkpoint")
}

// A training that is told to cache features in a folder that it was not granted writes nothing there; without the sandbox it does.
func TestTrainingCannotWriteOutsideTheRunFolder(t *testing.T) {
	for name, isolation := range map[string]Isolation{"confined": IsolateRequired, "unconfined": IsolateOff} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, func(o *Options) { o.Isolation = isolation })
			spec := trainSpec(t, photographs(t, 40), 1)
			elsewhere := t.TempDir()
			config := strings.Replace(string(spec.Config), `"config":{`, `"config":{"cache_features":"on","cache_dir":"`+elsewhere+`",`, 1)
			spec.Config = json.RawMessage(strings.Replace(config, `"scratch"`, `"feature-extract"`, 1))
			_, err := h.Train(t.Context(), spec, func(json.RawMessage) {})
			if err != nil && strings.Contains(err.Error(), "cannot be isolated") {
				t.Skip(err)
			}
			entries, readErr := os.ReadDir(elsewhere)
			if wrote := len(entries) > 0; readErr != nil || wrote != (isolation == IsolateOff) {
				t.Errorf("wrote %v, %v; training said %v", entries, readErr, err)
			}
		})
	}
}

func TestErrorsOfATrainingAreToldApart(t *testing.T) {
	h := newHost(t, nil)
	for text, want := range map[string]error{"no picture": vision.ErrFormat, "": vision.ErrEmpty} {
		data := photographs(t, 8)
		if err := os.WriteFile(filepath.Join(data, "dark", "000.png"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Train(t.Context(), trainSpec(t, data, 1), nil); !errors.Is(err, want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	spec := trainSpec(t, photographs(t, 8), 1)
	if err := os.WriteFile(filepath.Join(spec.RunDir, product), []byte("hours of work"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Train(t.Context(), spec, nil); !errors.Is(err, finetune.ErrRunExists) {
		t.Error(err)
	}
}
