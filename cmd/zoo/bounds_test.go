package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// endless makes a file of so many bytes that takes no room.
func endless(t *testing.T, path string, bytes int64) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err == nil {
		err = errors.Join(f.Truncate(bytes), f.Close())
	}
	if err != nil {
		t.Skipf("the file system has no files with holes: %v", err)
	}
	return path
}

func TestSmallFilesThatDoNotEndAreNotReadToTheEnd(t *testing.T) {
	file := checkpoint(t, nil)
	home := imported(t)
	elsewhere := t.TempDir()
	large := endless(t, filepath.Join(elsewhere, "large"), 1<<40)
	folder := filepath.Join(elsewhere, "model")
	endless(t, filepath.Join(folder, "card.json"), 1<<40)
	for _, args := range [][]string{
		{"predict", folder, file},
		{"info", folder},
		{"import", file, "--as", "labelled", "--model", "resnet20", "--labels", large},
		{"push", "mine", "--to", elsewhere, "--key", large},
		{"registry", "pin", large},
		{"eval", "mine", "--labels", large},
	} {
		refused(t, home, exitFailure, []string{elsewhere, "large"}, args...)
	}
	for _, name := range []string{"config.json", "zoo.lock", "store/index.json"} {
		home := t.TempDir()
		endless(t, filepath.Join(home, name), 1<<26) // the test itself reads the index
		refused(t, home, exitFailure, []string{filepath.Base(name), "large"}, "pull", "resnet20")
	}
	home = t.TempDir()
	t.Setenv("ZOO_CA_FILE", large)
	refused(t, home, exitFailure, []string{large, "large"}, "pull", "resnet18")
}
