package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/graph"
)

// ceiling is what a precision of zoo can reach at most.
type ceiling struct {
	subject  string
	tiles    bool    // its products are the tile unit's, otherwise float32 multiply-adds
	products float64 // that make up one multiplication
	value    float64 // bytes of a value in a feature map, and of a weight
	single   float64 // bytes of a weight in a layer with an output of one pixel
}

// ceilings follow engine.Precision; the bytes are those of kernel.Format and of gemm's packed weights.
var ceilings = []ceiling{
	{"zoo-high", true, 3, 4, 3},
	{"zoo-medium", true, 1, 2, 2},
	{"zoo-highest", false, 1, 4, 4},
}

// demand is what a batch costs at least: arithmetic in each of the units, and bytes to and from memory.
type demand struct{ tiles, vector, bytes float64 }

// demand adds up the layers that multiply, as `zoo summary` lists them; all others are taken to be done in passing. A layer reads its
// weights once for the batch. Its operands and its result count where they are together more than the cache holds. A depthwise
// convolution is no matrix product, so its multiply-adds are float32 at every precision.
func (c ceiling) demand(g *graph.Graph, batch, cache int) demand {
	var d demand
	for _, row := range g.Summary() {
		if row.MACs == 0 || row.Training {
			continue
		}
		flop := 2 * float64(batch) * float64(row.MACs)
		if op, ok := row.Node.Op.(graph.Conv2d); c.tiles && !(ok && op.Depthwise()) {
			d.tiles += c.products * flop
		} else {
			d.vector += flop
		}
		weight := c.value
		if row.Node.Shape.IsVector() {
			weight = c.single
		}
		d.bytes += weight * float64(row.Params)
		elements := row.Node.Shape.Elements()
		for _, in := range row.Node.InputShapes() {
			elements += in.Elements()
		}
		if maps := c.value * float64(batch*elements); maps > float64(cache) {
			d.bytes += maps
		}
	}
	return d
}

// least returns the seconds that the units and the memory need, one after the other.
func (m machine) least(d demand) (units, memory float64) {
	if d.tiles > 0 {
		units += d.tiles / m.tiles
	}
	if d.vector > 0 {
		units += d.vector / m.vector
	}
	return units, d.bytes / m.read[readSize(d.bytes)]
}

// reachable returns the ceilings of the timed precisions that can be told on this machine.
func (r *report) reachable() []ceiling {
	var out []ceiling
	for _, c := range ceilings {
		if slices.Contains(r.config.subjects, c.subject) && r.machine.vector > 0 && (!c.tiles || r.machine.tiles > 0) {
			out = append(out, c)
		}
	}
	return out
}

// prepare measures the machine right before a network is timed, and notes what the network costs.
func (r *report) prepare(model string, g *graph.Graph, batch int) {
	r.macs[model] = g.MACs()
	r.machine.measure()
	cache := r.machine.threads * max(cpu.Describe().L2, 0)
	for _, c := range r.reachable() {
		d := c.demand(g, batch, cache)
		r.demands[key{c.subject, model, batch}] = d
		r.machine.measureRead(d.bytes)
	}
}

func (r *report) rooflines(w io.Writer) {
	columns := r.reachable()
	if len(columns) == 0 {
		return
	}
	m := r.machine
	fmt.Fprint(w, `
## Roofline

What is left. The least time of an image is its arithmetic at the peak of the unit that the precision uses (high is three products of the tile unit, medium one, highest a
float32 multiply-add; depthwise convolutions are float32 multiply-adds at all three) plus its bytes at the speed at which these cores read as many again and again: the weights of
each layer as they are packed, once a batch, and its input and output where they exceed the second-level caches together. All else is taken to cost nothing, and the measured time is given as a multiple of this.

`)
	fmt.Fprintf(w, "Measured on %d threads at once with random operands, right before each network; the fastest of the run, in GFLOP/s: float32 multiply-adds %.0f", m.threads, m.vector/1e9)
	if m.tiles > 0 {
		fmt.Fprintf(w, ", products of tiles %.0f (a third of it for high: %.0f)", m.tiles/1e9, m.tiles/3e9)
	}
	fmt.Fprint(w, "; in GB/s, reading")
	for size := smallestRead; size <= largestRead; size *= 2 {
		if rate, ok := m.read[size]; ok {
			fmt.Fprintf(w, " %d MiB %.0f,", size>>20, rate/1e9)
		}
	}
	fmt.Fprintf(w, ` where a network's bytes count as the size below.
Winograd's method, which highest uses, needs a quarter to a half of the multiplications that are counted here, so that highest may come below 1.

`)
	for _, batch := range r.config.batches {
		r.roofline(w, columns, batch)
	}
}

func (r *report) roofline(w io.Writer, columns []ceiling, batch int) {
	fmt.Fprintf(w, "| batch %d | GFLOP |", batch)
	for _, c := range columns {
		p := strings.TrimPrefix(c.subject, "zoo-")
		fmt.Fprintf(w, " %s: arithmetic + memory, ms | measured |", p)
	}
	fmt.Fprintf(w, "\n| --- | ---: |%s\n", strings.Repeat(" ---: | ---: |", len(columns)))
	sums, counts := make([]float64, len(columns)), make([]int, len(columns))
	for _, model := range r.config.models {
		fmt.Fprintf(w, "| %s | %.2f |", model, 2*float64(r.macs[model])/1e9)
		for i, c := range columns {
			k := key{c.subject, model, batch}
			d, ok := r.demands[k]
			if !ok {
				fmt.Fprint(w, " | |")
				continue
			}
			units, memory := r.machine.least(d)
			perImage := 1000 / float64(batch)
			fmt.Fprintf(w, " %.2f + %.2f |", units*perImage, memory*perImage)
			if v, ok := r.best[k]; ok {
				times := v.MSPerImage / ((units + memory) * perImage)
				sums[i] += math.Log(times)
				counts[i]++
				fmt.Fprintf(w, " %.2f |", times)
			} else {
				fmt.Fprint(w, " |")
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "| **geometric mean** | |")
	for i := range columns {
		if counts[i] == 0 {
			fmt.Fprint(w, " | |")
			continue
		}
		fmt.Fprintf(w, " | **%.2f** |", math.Exp(sums[i]/float64(counts[i])))
	}
	fmt.Fprint(w, "\n\n")
}
