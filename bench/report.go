package main

import (
	"fmt"
	"io"
	"log"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// key names a cell of the tables.
type key struct {
	subject, model string
	batch          int
}

// report collects measurements.
type report struct {
	config   config
	best     map[key]measurement
	versions map[string]bool
	missing  map[string]string // cell -> why
	macs     map[string]int64
	machine  machine
	demands  map[key]demand // of zoo's precisions
}

func newReport(c config) *report {
	return &report{
		config: c, best: map[key]measurement{}, versions: map[string]bool{}, missing: map[string]string{},
		macs: map[string]int64{}, machine: newMachine(c.threads), demands: map[key]demand{},
	}
}

func (r *report) add(subject, model string, batch int, m measurement, err error) {
	k, cell := key{subject, model, batch}, fmt.Sprintf("%s %s batch %d", subject, model, batch)
	old, measured := r.best[k] // in another round
	if err != nil {
		log.Printf("%s: %v", cell, err)
		if !measured {
			r.missing[cell] = err.Error()
		}
		return
	}
	log.Printf("%s: %.3f ms", cell, m.MSPerImage)
	delete(r.missing, cell)
	if m.Version != "" {
		r.versions[m.Version] = true
	}
	if !measured || m.MSPerImage < old.MSPerImage {
		r.best[k] = m
	}
}

// versus are the comparisons that the report draws: zoo's precision, and the peer of like precision.
var versus = [][2]string{
	{"zoo-high", "onnxruntime"}, {"zoo-highest", "onnxruntime"}, {"zoo-high", "openvino-f32"}, {"zoo-highest", "openvino-f32"}, {"zoo-medium", "openvino-bf16"}, {"zoo-medium", "torch-bf16"},
	{"zoo-highest-avx2", "onnxruntime-avx2"},
}

func (r *report) write(w io.Writer) {
	c := r.config
	info, withoutTiles := cpu.Describe(), ""
	if cpu.Best() < cpu.AMX {
		withoutTiles = " Without AMX: high is computed as highest is."
	}
	fmt.Fprintf(w, `# Benchmarks

Milliseconds an image, all on %d threads of one machine, each subject a process of its own, in turns. zoo is timed through the host
(tensors in, logits out); the peers in their own process. Medians over at least 5 runs and %g s; the best of %d rounds. Weights are random:
speed does not depend on them. Training steps are in [benchmarks-training.md](benchmarks-training.md).

Machine: %s, %d cores, %s; L2 %d KiB a core.%s Peers: %s.

Made by:

    make build && %s

`, c.threads, c.seconds, c.rounds, info.Model, info.Cores, strings.Join(info.Features, " "), info.L2>>10, withoutTiles, strings.Join(slices.Sorted(maps.Keys(r.versions)), ", "), c.command)
	for _, batch := range c.batches {
		r.table(w, batch)
	}
	r.ratios(w)
	r.rooflines(w)
	if len(r.missing) > 0 {
		fmt.Fprintf(w, "\n## Not measured\n\n")
		for _, k := range slices.Sorted(maps.Keys(r.missing)) {
			fmt.Fprintf(w, "- %s: %s\n", k, r.missing[k])
		}
	}
}

func (r *report) table(w io.Writer, batch int) {
	fmt.Fprintf(w, "## Batch %d\n\n| ms per image |", batch)
	for _, s := range r.config.subjects {
		fmt.Fprintf(w, " %s |", s)
	}
	rates := slices.Contains(r.config.subjects, "zoo-high")
	columns := len(r.config.subjects)
	if rates {
		fmt.Fprint(w, " GFLOP/s at high (of peak) |")
		columns++
	}
	fmt.Fprintf(w, "\n| --- |%s\n", strings.Repeat(" ---: |", columns))
	for _, m := range r.config.models {
		fmt.Fprintf(w, "| %s |", m)
		for _, s := range r.config.subjects {
			if v, ok := r.best[key{s, m, batch}]; ok {
				fmt.Fprintf(w, " %.2f |", v.MSPerImage)
			} else {
				fmt.Fprint(w, " |")
			}
		}
		if v, ok := r.best[key{"zoo-high", m, batch}]; ok {
			rate := 2 * float64(r.macs[m]) / 1e6 / v.MSPerImage
			fmt.Fprintf(w, " %.0f", rate)
			if peak := r.machine.tiles / 3e9; peak > 0 {
				fmt.Fprintf(w, " (%.0f %%)", 100*rate/peak)
			}
			fmt.Fprint(w, " |")
		} else if rates {
			fmt.Fprint(w, " |")
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w)
}

// ratios prints peer's time over zoo's, by model and in the geometric mean.
func (r *report) ratios(w io.Writer) {
	type column struct {
		zoo, peer string
		batch     int
	}
	var columns []column
	for _, v := range versus {
		if !slices.Contains(r.config.subjects, v[0]) || !slices.Contains(r.config.subjects, v[1]) {
			continue
		}
		for _, b := range r.config.batches {
			columns = append(columns, column{v[0], v[1], b})
		}
	}
	if len(columns) == 0 {
		return
	}
	fmt.Fprint(w, "## Ratios\n\nThe peer's time over zoo's: above 1, zoo is faster.\n\n| |")
	for _, c := range columns {
		fmt.Fprintf(w, " %s over %s, b%d |", strings.TrimPrefix(c.zoo, "zoo-"), c.peer, c.batch)
	}
	fmt.Fprintf(w, "\n| --- |%s\n", strings.Repeat(" ---: |", len(columns)))
	means := make([]geometric, len(columns))
	for _, m := range r.config.models {
		fmt.Fprintf(w, "| %s |", m)
		for i, c := range columns {
			z, ok1 := r.best[key{c.zoo, m, c.batch}]
			p, ok2 := r.best[key{c.peer, m, c.batch}]
			if !ok1 || !ok2 {
				fmt.Fprint(w, " |")
				continue
			}
			ratio := p.MSPerImage / z.MSPerImage
			means[i].add(ratio)
			fmt.Fprintf(w, " %.2f |", ratio)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "| **geometric mean** |")
	for i := range columns {
		if means[i].n == 0 {
			fmt.Fprint(w, " |")
			continue
		}
		fmt.Fprintf(w, " **%.2f** |", means[i].mean())
	}
	fmt.Fprintln(w)
}

// geometric is a geometric mean in the making.
type geometric struct {
	logs float64
	n    int
}

func (g *geometric) add(x float64) {
	g.logs += math.Log(x)
	g.n++
}

// mean is of at least one number.
func (g geometric) mean() float64 { return math.Exp(g.logs / float64(g.n)) }
