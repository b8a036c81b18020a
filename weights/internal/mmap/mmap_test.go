package mmap

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestContentIsMapped(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(m.Bytes()); got != "content" {
		t.Errorf("mapped %q", got)
	}
	for range 2 {
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if m.Bytes() != nil {
		t.Error("bytes are still there after Close")
	}
}

func TestEmptyFileMapsToNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if len(m.Bytes()) != 0 {
		t.Errorf("%d bytes from an empty file", len(m.Bytes()))
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFolderRefused(t *testing.T) {
	if _, err := Open(t.TempDir()); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a folder gave %v", err)
	}
}
