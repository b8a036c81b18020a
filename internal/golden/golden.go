// Package golden reads reference outputs that were computed with PyTorch and makes the numbers they were computed from.
//
// No golden file holds weights or images: every parameter and every input is a function of its name, as
// testdata/goldens/README.md defines. Fill and Input compute them.
//
// All functions are pure or only read files; they are safe for concurrent use.
package golden

import (
	"math"
	"strings"
	"sync"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
)

// stream is SplitMix64 seeded by the FNV-1a hash of a name.
type stream uint64

func newStream(name string) stream {
	h := uint64(0xcbf29ce484222325)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 0x100000001b3
	}
	return stream(h)
}

// at returns the i-th number, uniform in [0, 1) in steps of 2^-24.
func (s stream) at(i int) float64 {
	z := uint64(s) + 0x9E3779B97F4A7C15*(uint64(i)+1)
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	z ^= z >> 31
	return float64(z>>40) / (1 << 24)
}

// Input returns the tensor of the given name: n images of the given shape, NCHW, values in [-2, 2).
func Input(name string, n int, shape graph.Shape) []float32 {
	s := newStream(name)
	x := make([]float32, n*shape.Elements())
	for i := range x {
		x[i] = float32(4*s.at(i) - 2)
	}
	return x
}

// Fill returns values for all parameters and buffers of a graph. gain is that of the golden file.
func Fill(g *graph.Graph, gain float64) engine.ParamMap {
	values := make(engine.ParamMap, len(g.Params))
	var wg sync.WaitGroup
	for _, p := range g.Params {
		v := make([]float32, p.Elements())
		values[p.Name] = v
		value := rule(p, gain)
		if value == nil {
			continue
		}
		names := newStream(p.Name)
		const chunk = 1 << 20
		for from := 0; from < len(v); from += chunk {
			wg.Go(func() {
				for i := from; i < min(from+chunk, len(v)); i++ {
					v[i] = float32(value(names.at(i)))
				}
			})
		}
	}
	wg.Wait()
	return values
}

// rule returns the first rule that fits the parameter: what becomes of a uniform number. Nil leaves zeros. Explicit conversions keep
// compilers from fusing, so that every machine rounds alike.
func rule(p *graph.Param, gain float64) func(u float64) float64 {
	_, norm := p.Node.Op.(graph.BatchNorm)
	attribute := p.Name[strings.LastIndexByte(p.Name, '.')+1:]
	bias := func(u float64) float64 { return float64(0.2*u) - 0.1 }
	factor := func(u float64) float64 { return gain * (0.8 + float64(0.4*u)) }
	within := func(bound float64) func(float64) float64 {
		return func(u float64) float64 { return (float64(2*u) - 1) * bound }
	}
	value := bias
	switch {
	case p.Role == graph.NumBatchesTracked:
		return nil
	case p.Role == graph.RunningVar:
		value = func(u float64) float64 { return 0.5 + u }
	case p.Role == graph.RunningMean, norm && p.Role == graph.Bias:
	case norm:
		value = factor
	case len(p.Shape) == 4:
		value = within(math.Sqrt(6 / float64(p.Shape[1]*p.Shape[2]*p.Shape[3])))
	case len(p.Shape) == 2:
		value = within(math.Sqrt(3 / float64(p.Shape[1])))
	case attribute == "layer_scale":
		value = func(u float64) float64 { return gain * (0.1 + float64(0.2*u)) }
	case attribute == "weight":
		value = factor
	}
	return value
}

// RelL2 returns the Euclidean distance of got from want, relative to the length of want. It is infinite when the lengths differ
// or a value is not finite.
func RelL2(got, want []float32) float64 {
	if len(got) != len(want) {
		return math.Inf(1)
	}
	var diff, norm float64
	for i, w := range want {
		d := float64(got[i]) - float64(w)
		diff += d * d
		norm += float64(w) * float64(w)
	}
	if e := math.Sqrt(diff / norm); !math.IsNaN(e) {
		return e
	}
	return math.Inf(1)
}
