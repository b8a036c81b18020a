package main

import (
	"errors"
	"strings"
	"testing"
)

func TestReportTellsAnotherNumber(t *testing.T) {
	r := newReport(config{models: []string{"a", "b", "c"}, subjects: []string{"zoo-high", "onnxruntime"}, batches: []int{1, 8}, command: "go run ./bench -rounds 2"})
	r.machine.tiles = 3e12
	r.macs = map[string]int64{"a": 1e9, "b": 2e9}
	for _, m := range []struct {
		subject, model string
		batch          int
		ms             float64 // 0: it failed
	}{
		{"zoo-high", "a", 1, 5}, {"zoo-high", "a", 1, 4}, {"zoo-high", "a", 1, 6}, {"onnxruntime", "a", 1, 8},
		{"zoo-high", "b", 1, 0}, {"zoo-high", "b", 1, 10}, {"onnxruntime", "b", 1, 5}, {"onnxruntime", "b", 1, 0},
		{"zoo-high", "a", 8, 2}, {"onnxruntime", "a", 8, 9}, {"zoo-high", "b", 8, 3}, {"onnxruntime", "b", 8, 0}, {"onnxruntime", "c", 1, 7},
	} {
		var err error
		if m.ms == 0 {
			err = errors.New("killed")
		}
		r.add(m.subject, m.model, m.batch, measurement{MSPerImage: m.ms}, err)
	}
	var w strings.Builder
	r.write(&w)
	for _, want := range []string{
		"    make build && go run ./bench -rounds 2\n",
		"## Batch 1\n\n| ms per image | zoo-high | onnxruntime | GFLOP/s at high (of peak) |\n",
		"| a | 4.00 | 8.00 | 500 (50 %) |\n| b | 10.00 | 5.00 | 400 (40 %) |\n| c | | 7.00 | |\n",
		"| a | 2.00 | 9.00 | 1000 (100 %) |\n| b | 3.00 | | 1333 (133 %) |\n",
		"| | high over onnxruntime, b1 | high over onnxruntime, b8 |\n",
		"| a | 2.00 | 4.50 |\n| b | 0.50 | |\n| c | | |\n| **geometric mean** | **1.00** | **4.50** |\n",
		"\n## Not measured\n\n- onnxruntime b batch 8: killed\n",
	} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, w.String())
		}
	}
	if n := strings.Count(w.String(), "killed"); n != 1 {
		t.Errorf("%d figures are said to be missing, not one:\n%s", n, w.String())
	}
}

func TestTrainingReportTellsAnotherNumber(t *testing.T) {
	rounds := func(memory float64, ms ...float64) (list []measurement) {
		for i, v := range ms {
			list = append(list, measurement{MSPerImage: v, PeakRSSMB: memory - float64(i)})
		}
		return list
	}
	pairs := []*pair{
		{step{"a", 16, false}, rounds(900, 30, 10, 20), rounds(800, 90, 80, 70)},
		{step{"b", 8, true}, rounds(700, 10, 14), rounds(600, 15, 9)},
	}
	var w strings.Builder
	config{precision: "high", command: "ZOO_CPU=avx2 go run ./bench -train -threads 4"}.trainingReport(&w, pairs, "torch 1", 3)
	for _, want := range []string{
		"    make build && ZOO_CPU=avx2 go run ./bench -train -threads 4\n",
		"| a | 16 | everything | 20.0 | 80.0 | 4.00 | 900 | 800 |\n| b | 8 | classifier | 12.0 | 12.0 | 1.00 | 700 | 600 |\n",
		"Mean of the ratios: 2.50 arithmetic, 2.00 geometric.\n",
	} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, w.String())
		}
	}
}
