package files

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestWriteThatFailsKeepsTheOld(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := Replace(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("disk full")
	err := Write(path, 0o644, func(w io.Writer) error {
		if _, err := w.Write([]byte("ne")); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("error is %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "old" {
		t.Errorf("file holds %q, %v", data, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}

func TestReplaceSetsContentAndMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for text, mode := range map[string]os.FileMode{"first": 0o600, "second": 0o640} {
		if err := Replace(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode() != mode {
			t.Errorf("%v, %v, want mode %v", info.Mode(), err, mode)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != text {
			t.Errorf("file holds %q, %v", data, err)
		}
	}
}

func TestFileWithoutEndIsNotReadToTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "card.json")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size, fits := range map[int64]bool{0: true, 1 << 20: true, 1<<20 + 1: false, 1 << 40: false} {
		if err := f.Truncate(size); err != nil {
			t.Skip(err) // the file system has no files with holes
		}
		data, err := ReadAll(path, 1<<20)
		if fits != (err == nil) || fits && int64(len(data)) != size {
			t.Errorf("%d bytes: %d read, %v", size, len(data), err)
		}
		if !fits && (!errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "1024 KiB")) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// TestFileThatOthersReadIsReplaced holds a file open again and again while it is replaced: some systems refuse to replace an open file.
func TestFileThatOthersReadIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.json")
	if err := Replace(path, []byte("0"), 0o644); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	done := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-time.After(5 * time.Millisecond):
				}
				if data, err := ReadAll(path, 1<<10); err != nil || len(data) == 0 {
					t.Errorf("read %q, %v", data, err)
					return
				}
			}
		})
	}
	for i := range 50 {
		if err := Replace(path, fmt.Append(nil, i), 0o644); err != nil {
			t.Errorf("replacement %d: %v", i, err)
			break
		}
	}
	close(done)
	readers.Wait()
	if data, err := os.ReadFile(path); err != nil || string(data) != "49" {
		t.Errorf("the file holds %q, %v", data, err)
	}
}

func TestFileThatCannotBeReplacedIsAnError(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "f", "full"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Replace(filepath.Join(dir, "f"), []byte("new"), 0o600); err == nil {
		t.Error("no error")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
}
