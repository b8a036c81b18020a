package main

import (
	"fmt"
	"io"
	"maps"
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
	{"zoo-high", true, 3, 4, 2.5},
	{"zoo-medium", true, 1, 2, 2},
	{"zoo-highest", false, 1, 4, 4},
}

// demand is what a batch costs at least: arithmetic in each of the units, and bytes to and from memory.
type demand struct {
	tiles, vector float64         // FLOP
	bytes         map[int]float64 // by the size, as readSize gives it, of all that is touched before they are again
}

// demand adds up the layers that multiply, as `zoo summary` lists them; all others are taken to be done in passing. The weights are
// read once for the batch, and by the next time all of them have been. The operands and the result of a layer count where they are
// together more than the cache holds. A depthwise convolution is no matrix product: its multiply-adds are float32 at every precision.
func (c ceiling) demand(g *graph.Graph, batch, cache int) demand {
	d := demand{bytes: map[int]float64{}}
	weights := 0.0
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
		if row.Node.Shape.IsVector() {
			weights += c.single * float64(row.Params)
		} else {
			weights += c.value * float64(row.Params)
		}
		elements := row.Node.Shape.Elements()
		for _, in := range row.Node.InputShapes() {
			elements += in.Elements()
		}
		if moved := c.value * float64(batch*elements); moved > float64(cache) {
			d.bytes[readSize(moved)] += moved
		}
	}
	d.bytes[readSize(weights)] += weights
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
	for size, bytes := range d.bytes {
		memory += bytes / m.bandwidth(size)
	}
	return units, memory
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
	if !slices.ContainsFunc(ceilings, func(c ceiling) bool { return slices.Contains(r.config.subjects, c.subject) }) {
		return
	}
	r.machine.measure()
	cache := r.machine.threads * max(cpu.Describe().L2, 0)
	sizes := map[int]bool{}
	for _, c := range r.reachable() {
		d := c.demand(g, batch, cache)
		r.demands[key{c.subject, model, batch}] = d
		for size := range d.bytes {
			sizes[size] = true
		}
	}
	for size := range sizes {
		r.machine.measureRead(size)
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

What is left. The least time of an image is its arithmetic at the peak of the unit that the precision uses (high takes three products of the
tile unit, medium one, highest and all depthwise convolutions a float32 multiply-add) plus its bytes at the speed of reading as many again and
again. The bytes are the weights, once a batch, and the input and output of each convolution and linear layer, where these are together more
than the second-level caches hold: 4 a value at high and highest, 2 at medium, and 2.5 for weights of linear layers at high.

Columns are the two parts of the least time, and the measured time as a multiple of their sum. All that is neither a convolution nor a linear
layer counts as nothing; Winograd's method needs a quarter to a half of the multiplications that are counted, so highest may come below 1.

`)
	fmt.Fprintf(w, "Measured on %d threads at once with random operands right before each network, the fastest of the run: float32 multiply-adds %.0f GFLOP/s", m.threads, m.vector/1e9)
	if m.tiles > 0 {
		fmt.Fprintf(w, ", products of tiles %.0f (for high, a third of it: %.0f)", m.tiles/1e9, m.tiles/3e9)
	}
	var rates []string
	for _, size := range slices.Sorted(maps.Keys(m.read)) {
		rates = append(rates, fmt.Sprintf("%d MiB %.0f GB/s", size>>20, m.bandwidth(size)/1e9))
	}
	fmt.Fprintf(w, "; reading %s.\n\n", strings.Join(rates, ", "))
	for _, batch := range r.config.batches {
		r.roofline(w, columns, batch)
	}
}

func (r *report) roofline(w io.Writer, columns []ceiling, batch int) {
	fmt.Fprintf(w, "| batch %d | GFLOP |", batch)
	for _, c := range columns {
		p := strings.TrimPrefix(c.subject, "zoo-")
		fmt.Fprintf(w, " %s: arithmetic + memory, ms | times |", p)
	}
	fmt.Fprintf(w, "\n| --- | ---: |%s\n", strings.Repeat(" ---: | ---: |", len(columns)))
	means := make([]geometric, len(columns))
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
				means[i].add(times)
				fmt.Fprintf(w, " %.2f |", times)
			} else {
				fmt.Fprint(w, " |")
			}
		}
		fmt.Fprintln(w)
	}
	fmt.Fprint(w, "| **geometric mean** | |")
	for i := range columns {
		if means[i].n == 0 {
			fmt.Fprint(w, " | |")
			continue
		}
		fmt.Fprintf(w, " | **%.2f** |", means[i].mean())
	}
	fmt.Fprint(w, "\n\n")
}
