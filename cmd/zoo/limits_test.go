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
	// What inference needs beyond loading depends on the processor: the first ceiling that it does not fit under is named.
	for _, ceiling := range []string{"500 MB", "450 MB", "400 MB", "360 MB", "320 MB", "300 MB", "280 MB", "270 MB", "260 MB", "250 MB", "240 MB"} {
		o := zoo(t, home, nil, "bench", "resnet50", "--batch", "64", "--runs", "1", "--duration", "1ms", "--plugin-memory", strings.ReplaceAll(ceiling, " ", ""))
		if o.code == 0 && ceiling != "240 MB" {
			continue
		}
		expectCeiling(t, o, "zoo: resnet 1.0.0 needed more than "+ceiling+" for batch 64; try --batch 16")
		break
	}
	o := zoo(t, home, nil, "train", "resnet18", "--data", data, "--batch", "16", "--size", "224", "--out", "x", "--plugin-memory", "256MiB")
	expectCeiling(t, o, "zoo: resnet 1.0.0 needed more than 256 MiB for batch 16; try --batch 4")
}

func expectCeiling(t *testing.T, o output, want string) {
	t.Helper()
	if o.code != exitFailure || !strings.HasSuffix(strings.TrimSpace(o.stderr), want) {
		t.Errorf("exit %d, %q, want %q", o.code, o.stderr, want)
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
