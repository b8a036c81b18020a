package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/go-modelzoo/zoo/vision"
)

func TestExplainDrawsEachImage(t *testing.T) {
	home, dir, out := imported(t), t.TempDir(), t.TempDir()
	for _, name := range []string{"a/x.png", "b/x.png"} { // of one name
		if err := os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), picture(t, 50, 40), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var list []explanation
	text := must(t, home, "explain", "mine", dir, "--out", filepath.Join(out, "why"), "-o", "json")
	if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 2 {
		t.Fatalf("%v: %s", err, text)
	}
	for i, name := range []string{"x.jpg", "x-2.jpg"} {
		if file := filepath.Join(out, "why", name); list[i].File != file {
			t.Errorf("picture %d is %s, want %s", i, list[i].File, file)
		}
		if img, err := vision.DecodeFile(list[i].File, vision.Limits{}); err != nil || img.Width != 50 || img.Height != 40 {
			t.Errorf("%s: %+v, %v", name, img, err)
		}
	}
	photo, maps := filepath.Join(dir, "a", "x.png"), filepath.Join(out, "maps.npy")
	must(t, home, "explain", "mine", dir, "--out", maps, "--features", "stage1")
	if shape, _ := array(t, maps); !slices.Equal(shape, []int{2, 16, 16}) {
		t.Errorf("maps of shape %v", shape)
	}
	most, least := filepath.Join(out, "most.png"), filepath.Join(out, "least.png")
	must(t, home, "explain", "mine", photo, "--out", most)
	var top []imageResult
	if err := json.Unmarshal([]byte(must(t, home, "predict", "mine", photo, "--top", "10", "-o", "json")), &top); err != nil {
		t.Fatal(err)
	}
	if best := top[0].Top[0]; list[0].Index != best.Index || list[0].Prob != best.Prob {
		t.Errorf("%+v is explained where %+v is predicted", *list[0].Prediction, best)
	}
	must(t, home, "explain", "mine", photo, "--out", least, "--class", strconv.Itoa(top[0].Top[9].Index))
	a, err := os.ReadFile(most)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(least)
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(a, b) {
		t.Error("two classes are explained alike")
	}
	if r := zoo(t, home, a, "explain", "mine", "-", "--out", filepath.Join(out, "piped.png")); r.code != 0 {
		t.Errorf("standard input: %+v", r)
	}
}

func TestExplainMistakesAreNamed(t *testing.T) {
	home, out := imported(t), t.TempDir()
	photo := write(t, "a.png", picture(t, 32, 32))
	refused(t, home, exitUsage, []string{"one.png", "2 images"}, "explain", "mine", photo, photo, "--out", filepath.Join(out, "one.png"))
	refused(t, home, exitFailure, []string{"embedding has one pixel"}, "explain", "mine", photo, "--out", filepath.Join(out, "x.png"), "--features", "embedding")
	refused(t, home, exitFailure, []string{"stage9"}, "explain", "mine", photo, "--out", filepath.Join(out, "x.png"), "--features", "stage9")
	refused(t, home, exitFailure, []string{"zebra"}, "explain", "mine", photo, "--out", filepath.Join(out, "x.png"), "--class", "zebra")
	refused(t, home, exitFailure, []string{"bad.png"}, "explain", "mine", write(t, "bad.png", []byte("no picture")), "--out", filepath.Join(out, "x.png"))
	if left, err := os.ReadDir(out); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
