package main

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/weights"
)

// array reads a NumPy file.
func array(t *testing.T, path string) ([]int, []float32) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	shape, values, err := weights.ReadNPY(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return shape, values
}

func TestRunWritesFeatureMaps(t *testing.T) {
	home := imported(t)
	x := make([]float32, 2*3*32*32)
	for i := range x {
		x[i] = float32(i%11)/5 - 1
	}
	var in bytes.Buffer
	if err := weights.WriteNPY(&in, []int{2, 3, 32, 32}, x); err != nil {
		t.Fatal(err)
	}
	input, out := write(t, "x.npy", in.Bytes()), filepath.Join(t.TempDir(), "y.npy")
	values := map[string][]float32{}
	for name, want := range map[string][]int{
		"stage1": {2, 32, 16, 16}, "features": {2, 64, 8, 8}, "embedding": {2, 64},
	} {
		must(t, home, "run", "mine", "--input", input, "--output", out, "--features", name)
		shape, v := array(t, out)
		if !slices.Equal(shape, want) {
			t.Errorf("%s has shape %v, want %v", name, shape, want)
		}
		values[name] = v
	}
	// The embedding is the mean of each channel of the features, which are NCHW.
	for i, got := range values["embedding"] {
		sum := 0.0
		for _, v := range values["features"][64*i : 64*(i+1)] {
			sum += float64(v)
		}
		if math.Abs(sum/64-float64(got)) > 1e-3*(1+math.Abs(float64(got))) {
			t.Fatalf("channel %d has mean %v and embedding %v", i, sum/64, got)
		}
	}
	refused(t, home, exitFailure, []string{"stage9"}, "run", "mine", "--input", input, "--output", out, "--features", "stage9")
}

func TestEmbedWritesARowAnImage(t *testing.T) {
	home := imported(t)
	dir := t.TempDir()
	for i := range 9 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.png", i)), picture(t, 32, 32+i), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(t.TempDir(), "emb.npy")
	must(t, home, "embed", "mine", dir, "--out", out)
	shape, v := array(t, out)
	if !slices.Equal(shape, []int{9, 64}) {
		t.Fatalf("shape %v", shape)
	}
	if slices.Equal(v[:64], v[8*64:]) {
		t.Error("different images have one embedding")
	}
	list, err := os.Open(filepath.Join(filepath.Dir(out), "emb.csv"))
	if err != nil {
		t.Fatal(err)
	}
	defer list.Close()
	rows, err := csv.NewReader(list).ReadAll()
	if err != nil || len(rows) != 9 || filepath.Base(rows[3][0]) != "3.png" {
		t.Errorf("rows %v (%v)", rows, err)
	}
	tap := filepath.Join(t.TempDir(), "tap.npy")
	must(t, home, "embed", "mine", filepath.Join(dir, "0.png"), "--out", tap, "--features", "features")
	if shape, _ := array(t, tap); !slices.Equal(shape, []int{1, 8 * 8 * 64}) {
		t.Errorf("a flattened map has shape %v", shape)
	}
}

func TestEmbedRefusesWhatItCannotWrite(t *testing.T) {
	home := imported(t)
	img := write(t, "a.png", picture(t, 32, 32))
	for _, name := range []string{"emb.parquet", "emb", "emb.csv"} {
		refused(t, home, exitUsage, []string{name, ".npy"}, "embed", "mine", img, "--out", filepath.Join(t.TempDir(), name))
	}
	out := filepath.Join(t.TempDir(), "emb.npy")
	refused(t, home, exitFailure, []string{"bad.png"}, "embed", "mine", img, write(t, "bad.png", []byte("no picture")), "--out", out)
	if _, err := os.Stat(out); err == nil {
		t.Error("a file was written all the same")
	}
}
