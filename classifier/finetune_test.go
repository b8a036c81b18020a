package classifier

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gofrs/flock"

	"github.com/go-modelzoo/zoo/finetune"
)

func TestResultOutsideTheRunFolderRefused(t *testing.T) {
	folder, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), finetune.FileModel)
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(folder, finetune.FileModel)
	for _, path := range []string{secret, filepath.Join(folder, "..", filepath.Base(filepath.Dir(secret)), finetune.FileModel), "", folder + "/../" + finetune.FileModel} {
		if err := ownResult(folder, &finetune.Result{Path: path}); err == nil || !strings.Contains(err.Error(), "not read") {
			t.Errorf("%q: error %v", path, err)
		}
	}
	if err := ownResult(folder, &finetune.Result{Path: model}); err == nil {
		t.Error("a result that is not there passes")
	}
	if err := os.Symlink(secret, model); err != nil {
		t.Skip(err)
	}
	if err := ownResult(folder, &finetune.Result{Path: model}); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a link out of the folder: error %v", err)
	}
	if err := os.Remove(model); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(model, []byte("weights"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ownResult(folder, &finetune.Result{Path: model}); err != nil {
		t.Error(err)
	}
}

// The history and the configuration of a training went while it went on, and with them what --resume compares.
func TestRunThatIsUnderWayIsNotThrownAway(t *testing.T) {
	folder := t.TempDir()
	metrics := filepath.Join(folder, finetune.FileMetrics)
	if err := os.WriteFile(metrics, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	run := flock.New(filepath.Join(folder, finetune.FileLock))
	if ok, err := run.TryLock(); err != nil || !ok {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := throwAway(ctx, folder); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(metrics); err != nil {
		t.Error(err)
	}
	if err := run.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := throwAway(t.Context(), folder); err != nil || !slices.Equal(left, []string{finetune.FileLock}) {
		t.Errorf("%v is left, %v", left, err)
	}
}

// The data's own val folder was taken for a fifth of the data, and, beside --val, for images of training.
func TestEstimateCountsTheImagesThatAreValidated(t *testing.T) {
	data, val, plain := t.TempDir(), t.TempDir(), t.TempDir()
	for dir, n := range map[string]int{filepath.Join(data, "train"): 2, filepath.Join(data, "val"): 6, val: 4, plain: 3} {
		for _, class := range []string{"a", "b"} {
			if err := os.MkdirAll(filepath.Join(dir, class), 0o755); err != nil {
				t.Fatal(err)
			}
			for i := range n {
				if err := os.WriteFile(filepath.Join(dir, class, string(rune('a'+i))+".png"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, c := range []struct {
		data, val string
		want      float64
	}{{data, "", 3}, {data, val, 2}, {plain, val, 4.0 / 3}, {plain, "", 0.25}, {filepath.Join(plain, "nothing"), "", 0}} {
		if share := validationShare(finetune.Config{Data: c.data, Val: c.val, ValFraction: 0.2}); share != c.want {
			t.Errorf("%s, %q: %v for each image of training, want %v", filepath.Base(c.data), c.val, share, c.want)
		}
	}
}

// Checkpoints of a large network stayed for good.
func TestTrialThatWasKilledIsRemovedByALaterOne(t *testing.T) {
	runs := t.TempDir()
	for name, age := range map[string]time.Duration{trialPrefix + "killed": 2 * time.Hour, trialPrefix + "running": 0, "mine": 2 * time.Hour} {
		dir, at := filepath.Join(runs, name), time.Now().Add(-age)
		if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, finetune.FileLast), nil, 0o644), os.Chtimes(dir, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeTrials(runs, time.Now().Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	if left, err := filesOf(runs); err != nil || !slices.Equal(left, []string{trialPrefix + "running", "mine"}) {
		t.Errorf("%v is left, %v", left, err)
	}
}

func TestEstimateTellsTheTimeOfAllEpochs(t *testing.T) {
	at := func(kind finetune.Kind, seconds float64, epoch, done int) finetune.Event {
		return finetune.Event{Kind: kind, Time: time.Unix(0, int64(seconds*1e9)), Epoch: epoch, Done: done, Total: 100}
	}
	for name, c := range map[string]struct {
		events   []finetune.Event
		seconds  float64
		features bool
		enough   bool
	}{
		// 80 images in 4 s, ten epochs of 100, and for each image of training the forward pass of a quarter: 1/12 more.
		"steps":           {[]finetune.Event{at(finetune.KindStep, 1, 1, 10), at(finetune.KindStep, 5, 1, 90)}, 10 * 100 / 20 * 13. / 12, false, true},
		"over two epochs": {[]finetune.Event{at(finetune.KindStep, 1, 1, 10), at(finetune.KindStep, 6, 2, 10)}, 10 * 100 / 20 * 13. / 12, false, true},
		// Whole epochs hold their validation.
		"epochs":     {[]finetune.Event{at(finetune.KindEpoch, 1, 1, 100), at(finetune.KindEpoch, 3, 2, 100)}, 10 * 100 / 50, false, false},
		"features":   {[]finetune.Event{at(finetune.KindFeatures, 1, 0, 0), at(finetune.KindFeatures, 3, 0, 50)}, 100 / 25, true, false},
		"one step":   {[]finetune.Event{at(finetune.KindStep, 1, 1, 10)}, 0, true, false},
		"no seconds": {[]finetune.Event{at(finetune.KindFeatures, 1, 0, 0), at(finetune.KindFeatures, 1, 0, 50)}, 0, true, false},
	} {
		enough := false
		v := trialView{enough: func() { enough = true }}
		for _, e := range c.events {
			v.event(e)
		}
		v.setup = 7 * time.Second
		e := Estimate{Epochs: 10}
		err := v.complete(&e, 0.25)
		switch {
		case c.seconds == 0:
			if err == nil {
				t.Errorf("%s: %+v", name, e)
			}
		case err != nil || math.Abs(e.Seconds-7-c.seconds) > 1e-9 || e.Images != 100 || e.Features != c.features || enough != c.enough:
			t.Errorf("%s: %+v, %v, enough %v", name, e, err, enough)
		}
	}
}
