package main

import (
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/graph"
)

// network is a convolution, a depthwise convolution and a linear layer.
func network(t *testing.T) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder(graph.Shape{C: 3, H: 32, W: 32}, 10)
	x := b.Conv2d("conv", b.Input(), graph.Conv{Out: 8, Kernel: graph.Square(3), Pad: graph.Square(1), Bias: true})
	x = b.ReLU(x)
	x = b.Conv2d("depthwise", x, graph.Conv{Out: 8, Kernel: graph.Square(3), Pad: graph.Square(1), Bias: true, Groups: 8})
	x = b.Features(x)
	x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: b.Classes()})
	b.Group("all", "conv", "depthwise", "fc")
	b.Classifier("fc")
	g, err := b.Finish(x)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// What the layers of network cost for one image: FLOP, parameters, and values in and out.
const (
	convFLOP, depthFLOP, fcFLOP       = 2 * 1024 * 8 * 27, 2 * 1024 * 8 * 9, 2 * 10 * 8
	convParams, depthParams, fcParams = 8*27 + 8, 8*9 + 8, 10*8 + 10
	convMaps, depthMaps               = 1024 * (3 + 8), 1024 * (8 + 8)
)

func TestDemand(t *testing.T) {
	g := network(t)
	read := func(bytes float64) map[int]float64 { return map[int]float64{smallestRead: bytes} }
	for _, c := range []struct {
		name         string
		subject      string
		batch, cache int
		want         demand
	}{
		{"all maps in cache", "zoo-high", 1, 1 << 20, demand{3 * (convFLOP + fcFLOP), depthFLOP, read(4*(convParams+depthParams) + 2.5*fcParams)}},
		{"one map beyond the cache", "zoo-high", 1, 4 * convMaps, demand{3 * (convFLOP + fcFLOP), depthFLOP, read(4*(convParams+depthParams+depthMaps) + 2.5*fcParams)}},
		{"halves", "zoo-medium", 2, 4 * convMaps, demand{2 * (convFLOP + fcFLOP), 2 * depthFLOP, read(2*(convParams+depthParams+fcParams) + 4*depthMaps)}},
		{"weights once a batch", "zoo-highest", 8, 0, demand{0, 8 * (convFLOP + depthFLOP + fcFLOP), read(4*(convParams+depthParams+fcParams) + 32*(convMaps+depthMaps+18))}},
		{"maps by their own size", "zoo-medium", 512, 0, demand{512 * (convFLOP + fcFLOP), 512 * depthFLOP, map[int]float64{
			8 << 20: 2*(convParams+depthParams+fcParams) + 1024*(convMaps+18), 16 << 20: 1024 * depthMaps,
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, ceiling := range ceilings {
				if ceiling.subject == c.subject {
					if got := ceiling.demand(g, c.batch, c.cache); !reflect.DeepEqual(got, c.want) {
						t.Errorf("got %+v, want %+v", got, c.want)
					}
				}
			}
		})
	}
}

func TestLeast(t *testing.T) {
	m := machine{tiles: 4e12, vector: 4e11, read: map[int]float64{8 << 20: 4e10, 16 << 20: 1e10, 32 << 20: 2e10}}
	for _, c := range []struct {
		name          string
		demand        demand
		units, memory float64
	}{
		{"units one after the other", demand{tiles: 8e9, vector: 8e8}, 0.004, 0},
		{"each size at its rate or that of a larger one", demand{bytes: map[int]float64{8 << 20: 4e7, 16 << 20: 6e7}}, 0, 0.004},
	} {
		units, memory := m.least(c.demand)
		if math.Abs(units-c.units) > 1e-12 || math.Abs(memory-c.memory) > 1e-12 {
			t.Errorf("%s: %g + %g s, want %g + %g", c.name, units, memory, c.units, c.memory)
		}
	}
}

func TestReadSize(t *testing.T) {
	for bytes, want := range map[float64]int{0: 8 << 20, 16<<20 - 1: 8 << 20, 16 << 20: 16 << 20, 550e6: 512 << 20, 5e9: 512 << 20} {
		if got := readSize(bytes); got != want {
			t.Errorf("%g bytes: %d, want %d", bytes, got, want)
		}
	}
}

func TestRooflineTable(t *testing.T) {
	r := newReport(config{threads: 2, models: []string{"a", "b"}, subjects: []string{"zoo-high", "zoo-highest"}, batches: []int{2}})
	r.machine = machine{threads: 2, tiles: 4e12, vector: 4e11, read: map[int]float64{8 << 20: 1e10}}
	r.macs = map[string]int64{"a": 1e9, "b": 5e8}
	bytes := map[int]float64{8 << 20: 1e7}
	r.demands = map[key]demand{
		{"zoo-high", "a", 2}: {tiles: 12e9, bytes: bytes}, {"zoo-highest", "a", 2}: {vector: 4e9, bytes: bytes},
		{"zoo-high", "b", 2}: {tiles: 6e9, bytes: bytes},
	}
	r.add("zoo-high", "a", 2, measurement{MSPerImage: 4}, nil)
	r.add("zoo-highest", "a", 2, measurement{MSPerImage: 11}, nil)
	r.add("zoo-high", "b", 2, measurement{}, errors.New("killed"))
	var w strings.Builder
	r.rooflines(&w)
	for _, want := range []string{
		"multiply-adds 400 GFLOP/s, products of tiles 4000 (for high, a third of it: 1333); reading 8 MiB 10 GB/s.",
		"| a | 2.00 | 1.50 + 0.50 | 2.00 | 5.00 + 0.50 | 2.00 |\n",
		"| b | 1.00 | 0.75 + 0.50 | | | |\n",
		"| **geometric mean** | | | **2.00** | | **2.00** |\n",
	} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, w.String())
		}
	}
}

// TestNoTiles: without the tile unit only highest has a ceiling, and without assembly there is no section.
func TestNoTiles(t *testing.T) {
	r := newReport(config{subjects: subjects})
	if c := r.reachable(); len(c) != 0 {
		t.Errorf("nothing was measured, and yet %v can be told", c)
	}
	r.machine.vector = 1
	if c := r.reachable(); len(c) != 1 || c[0].subject != "zoo-highest" {
		t.Errorf("without tiles %v can be told", c)
	}
}

func TestMachine(t *testing.T) {
	m := newMachine(1)
	m.measure()
	m.measureRead(smallestRead)
	if haveVector := cpu.Best() >= cpu.AVX2 && readLines != nil; haveVector != (m.vector > 0) || haveVector != (m.read[smallestRead] > 0) {
		t.Errorf("%v: %+v", cpu.Best(), m)
	}
	if (cpu.Best() >= cpu.AMX) != (m.tiles > 0) {
		t.Errorf("%v: %+v", cpu.Best(), m)
	}
	if m.tiles > 0 && m.tiles < 2*m.vector {
		t.Errorf("tiles compute %.0f GFLOP/s, float32 multiply-adds %.0f", m.tiles/1e9, m.vector/1e9)
	}
	t.Logf("%+v", m)
}
