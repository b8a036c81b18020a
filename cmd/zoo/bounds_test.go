package main

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/weights"
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

func TestConfigurationThatGoesOnBehindItsObjectRefused(t *testing.T) {
	home := t.TempDir()
	if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(`{} {"require_licenses": ["MIT"]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, home, exitFailure, []string{"config.json", "behind the object"}, "list")
}

func TestHomeThatCannotBeMadeSaysWhatToDo(t *testing.T) {
	file := write(t, "store", nil)
	for _, home := range []string{file, filepath.Join(file, "below"), filepath.Dir(file)} {
		if o := zoo(t, home, nil, "list"); o.code != exitFailure || !strings.Contains(o.stderr, "set ZOO_HOME to a folder of yours") {
			t.Errorf("%s: exit %d, %s", home, o.code, o.stderr)
		}
	}
}

// One byte is another number, and the file reads as before: an export wrote it out as the model.
func TestDamagedWeightsAreNotUsed(t *testing.T) {
	home, data := imported(t), photos(t, 3)
	var in bytes.Buffer
	if err := weights.WriteNPY(&in, []int{1, 3, 32, 32}, make([]float32, 3*32*32)); err != nil {
		t.Fatal(err)
	}
	damage(t, decode[modelInfo](t, home, "info", "mine").Path)
	out := t.TempDir()
	for _, args := range [][]string{
		{"predict", "mine", filepath.Join(data, "dark", "a.png")},
		{"run", "mine", "--input", write(t, "x.npy", in.Bytes()), "--output", filepath.Join(out, "y.npy")},
		{"finetune", "mine", "--data", data, "--epochs", "1", "--out", "x"},
		{"export", "mine", filepath.Join(out, "x.safetensors")},
		{"export", "mine", filepath.Join(out, "x.onnx")},
	} {
		refused(t, home, exitFailure, []string{"SHA-256", "changed or damaged"}, args...)
	}
	for _, args := range [][]string{
		{"push", "mine", "--to", t.TempDir()}, {"push", "mine", "--to", t.TempDir(), "--dtype", "f16"}, {"mirror", "sync", "mine", "--to", t.TempDir()},
		{"mirror", "export", filepath.Join(out, "x.tar"), "mine"},
	} {
		refused(t, home, exitFailure, []string{"damaged", "zoo verify --repair"}, args...)
	}
	if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
