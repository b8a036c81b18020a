package classifier_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/classifier"
)

// Opening a pipe that nobody writes to waits for ever, as a disk that is gone does.
func TestImageThatNeverComesHoldsUpWhoGivesUp(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{})
	pipe := filepath.Join(t.TempDir(), "photo.jpg")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	let := time.AfterFunc(10*time.Second, func() { unblock(t, pipe) })
	err := m.Stream(ctx, slices.Values([]classifier.Item{{Name: pipe}}), func(classifier.Result) error { return nil })
	if !errors.Is(err, context.DeadlineExceeded) || !let.Stop() {
		t.Error(err)
	}
	unblock(t, pipe)
}

// unblock lets whoever opens the pipe for reading go on.
func unblock(t *testing.T, pipe string) {
	f, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Error(err)
		return
	}
	time.Sleep(10 * time.Millisecond)
	f.Close()
}

// A reader of a pipe that takes its time held up whoever gave up the export until it had all.
func TestExportEndsWithTheContext(t *testing.T) {
	c := open(t)
	ck, err := c.Find(t.Context(), classifier.EmbeddedModel)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, format := range []classifier.ExportFormat{classifier.ExportSafetensors, classifier.ExportPTH, classifier.ExportONNX} {
		dir := t.TempDir()
		if _, err := c.Export(ctx, ck, format, filepath.Join(dir, "file")); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", format, err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("%s left %v, %v", format, left, err)
		}
	}
}
