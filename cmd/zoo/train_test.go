package main

import (
	"bytes"
	"encoding/json"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/classifier"
)

// photos makes a folder of two classes, bright and dark pictures of 32×32 pixels.
func photos(t *testing.T, perClass int) string {
	t.Helper()
	dir := t.TempDir()
	for name, base := range map[string]int{"bright": 190, "dark": 30} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range perClass {
			img := image.NewGray(image.Rect(0, 0, 32, 32))
			for k := range img.Pix {
				img.Pix[k] = color.Gray{Y: uint8(base + (k*31+i*17)%60)}.Y
			}
			var b bytes.Buffer
			if err := png.Encode(&b, img); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name, string(rune('a'+i))+".png"), b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestTrainedModelIsAModelLikeAnyOther(t *testing.T) {
	home, data := t.TempDir(), photos(t, 10)
	var r classifier.Finetuned
	text := must(t, home, "train", "resnet20", "--data", data, "--epochs", "3", "--batch", "4", "--lr", "0.02", "--size", "32", "--out", "shades", "-o", "json")
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if r.Model != "shades" || r.Result == nil || r.Metrics.Images != 4 || len(r.History) != 3 {
		t.Fatalf("result %s", text)
	}
	must(t, home, "eval", "shades", "--data", data)
	if out := must(t, home, "predict", "shades", filepath.Join(data, "dark", "a.png")); !strings.Contains(out, "dark") || !strings.Contains(out, "bright") {
		t.Errorf("predictions lack the classes: %s", out)
	}
	// Fine-tuned from there into a folder, features frozen.
	folder := filepath.Join(t.TempDir(), "again") + string(filepath.Separator)
	must(t, home, "finetune", "shades", "--data", data, "--freeze", "features", "--cache-features", "--epochs", "2", "--out", folder)
	must(t, home, "predict", folder, filepath.Join(data, "dark", "a.png"))
	for _, name := range []string{"card.json", "model.safetensors", "report.html", "metrics.jsonl"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	refused(t, home, exitFailure, []string{"holds a run", "--resume"}, "train", "resnet20", "--data", data, "--out", "shades", "--size", "32")
	must(t, home, "finetune", "shades", "--data", data, "--freeze", "features", "--cache-features", "--epochs", "2", "--out", folder, "--resume")
	cachedFeaturesCanBeRemoved(t, home)
}

func cachedFeaturesCanBeRemoved(t *testing.T, home string) {
	t.Helper()
	list := func() (features []string) {
		t.Helper()
		var entries []cacheResult
		if err := json.Unmarshal([]byte(must(t, home, "cache", "ls", "-o", "json")), &entries); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Features {
				if e.Bytes == 0 || e.Partial || time.Since(e.Used) > time.Hour {
					t.Errorf("entry %+v", e)
				}
				features = append(features, e.Reference)
			}
		}
		return features
	}
	all := list()
	if len(all) != 2 {
		t.Fatalf("%d entries of features, want those of training and validation", len(all))
	}
	must(t, home, "cache", "prune", "--older-than", "1h")
	must(t, home, "cache", "prune", "--older-than", "1ns", "--dry-run")
	if now := list(); len(now) != 2 {
		t.Errorf("%v is left of %v although nothing was old", now, all)
	}
	must(t, home, "cache", "rm", all[0])
	refused(t, home, exitFailure, []string{"zoo cache ls"}, "cache", "rm", all[0])
	if now := list(); len(now) != 1 || now[0] != all[1] {
		t.Errorf("%v is left of %v", now, all)
	}
	must(t, home, "cache", "prune", "--older-than", "1ns")
	if now := list(); len(now) != 0 {
		t.Errorf("%v is left", now)
	}
}

func TestTrainingMistakesAreOneLine(t *testing.T) {
	home, data := imported(t), photos(t, 3)
	bad := photos(t, 4)
	if err := os.WriteFile(filepath.Join(bad, "dark", "b.png"), []byte("no picture"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code  int
		words []string
		args  []string
	}{
		{exitUsage, []string{"learning rate 0"}, []string{"mine", "--data", data, "--out", "x", "--lr", "0"}},
		{exitUsage, []string{`optimizer "sdg"`}, []string{"mine", "--data", data, "--out", "x", "--optimizer", "sdg"}},
		{exitUsage, []string{"--augment blur"}, []string{"mine", "--data", data, "--out", "x", "--augment", "blur"}},
		{exitFailure, []string{"no folder in it"}, []string{"mine", "--data", t.TempDir(), "--out", "x"}},
		{exitFailure, []string{"matches nothing", "layer1"}, []string{"mine", "--data", data, "--out", "x", "--freeze", "layer11"}},
		{exitFailure, []string{"b.png", "--skip-bad"}, []string{"mine", "--data", bad, "--out", "y", "--freeze", "features", "--batch", "2"}},
		{exitFailure, []string{"is no name for a model"}, []string{"mine", "--data", data, "--out", "No Name"}},
	} {
		o := zoo(t, home, nil, append([]string{"finetune"}, c.args...)...)
		lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
		last := lines[len(lines)-1]
		if o.code != c.code || !strings.HasPrefix(last, "zoo: ") {
			t.Errorf("%v: exit %d: %s", c.args, o.code, o.stderr)
		}
		for _, w := range c.words {
			if !strings.Contains(last, w) {
				t.Errorf("%v: %q lacks %q", c.args, last, w)
			}
		}
	}
	// What failed before is no run: the mistake mended, it begins.
	must(t, home, "finetune", "mine", "--data", bad, "--out", "y", "--freeze", "features", "--batch", "2", "--epochs", "1", "--skip-bad")
}
