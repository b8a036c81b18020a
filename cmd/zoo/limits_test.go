package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/classifier"
)

func TestMemoryCeilingIsNamedWithASmallerBatch(t *testing.T) {
	if runtime.GOOS != "linux" || raceEnabled {
		t.Skip("the ceiling binds on Linux, and the race detector runs out of memory in its own way")
	}
	home, data := imported(t), photos(t, 10)
	for want, args := range map[string][]string{
		"zoo: resnet 1.0.0 needed more than 300 MB for batch 256; try --batch 64": {
			"bench", "resnet50", "--batch", "256", "--runs", "1", "--plugin-memory", "300MB",
		},
		"zoo: resnet 1.0.0 needed more than 256 MiB for batch 16; try --batch 4": {
			"train", "resnet18", "--data", data, "--batch", "16", "--size", "224", "--out", "x", "--plugin-memory", "256MiB",
		},
	} {
		o := zoo(t, home, nil, args...)
		if o.code != exitFailure || !strings.HasSuffix(strings.TrimSpace(o.stderr), want) {
			t.Errorf("zoo %s: exit %d, %q, want %q", strings.Join(args, " "), o.code, o.stderr, want)
		}
	}
}

func TestDryRunSaysMemoryAndTimeAndKeepsNothing(t *testing.T) {
	home, data := imported(t), photos(t, 10)
	for command, args := range map[string][]string{
		"finetune": {"finetune", "mine", "--freeze", "features"},
		"train":    {"train", "resnet20", "--size", "32"},
	} {
		var e classifier.Estimate
		text := must(t, home, append(args, "--data", data, "--batch", "4", "--epochs", "100000", "--lr", "0.001", "--dry-run", "-o", "json")...)
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatalf("%s: %v: %s", command, err, text)
		}
		if e.Images != 16 || e.Epochs != 100_000 || e.Batch != 4 || e.ImagesPerSecond <= 0 || e.Seconds < e.Tried || e.Tried > 30 {
			t.Errorf("%s: estimate %+v", command, e)
		}
		if runtime.GOOS == "linux" && (e.Memory < 1<<20 || e.Memory > 1<<32) {
			t.Errorf("%s: %d bytes of memory", command, e.Memory)
		}
		left, err := os.ReadDir(filepath.Join(home, "runs"))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: left behind: %v, %v", command, left, err)
		}
	}
	// One that is over before its pace is known, as text.
	text := must(t, home, "train", "resnet20", "--size", "32", "--data", data, "--epochs", "1", "--lr", "0.001", "--dry-run")
	for _, word := range []string{"memory", "time", "images/s"} {
		if !strings.Contains(text, word) {
			t.Errorf("%q does not say %q", text, word)
		}
	}
}
