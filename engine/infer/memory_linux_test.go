package infer

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// wide is a network with megabytes of weights and of maps.
func wide(s graph.Shape) (*graph.Graph, error) {
	b := graph.NewBuilder(s, 10)
	x := b.ReLU(b.Conv2d("stem", b.Input(), graph.Conv{Out: 256, Kernel: graph.Square(3), Pad: graph.Square(1)}))
	x = b.ReLU(b.Conv2d("conv", x, graph.Conv{Out: 512, Kernel: graph.Square(3), Pad: graph.Square(1)}))
	b.Features(x)
	x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: 10})
	b.Classifier("fc")
	b.Group("all", "stem", "conv", "fc")
	return b.Finish(x)
}

// Memory that Go has given back comes back to the process, zeroed, where the system was left with the advice to use large pages there.
func TestNoAdviceIsLeftOnFreedMemory(t *testing.T) {
	if mode, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled"); err != nil || bytes.Contains(mode, []byte("[never]")) {
		t.Skip("the system has no large pages")
	}
	g, err := wide(graph.Shape{C: 3, H: 64, W: 64})
	if err != nil {
		t.Fatal(err)
	}
	params := randomParams(rand.New(rand.NewPCG(1, 2)), g)
	pool := work.New(2)
	defer pool.Close()
	before := advised(t)
	m, err := New(wide, params, Options{Pool: pool, Plans: 2})
	if err != nil {
		t.Fatal(err)
	}
	var most int
	for _, side := range []int{64, 60, 56, 52} { // the first two are forgotten
		if _, err := m.Run(context.Background(), images(1, 2, side, side)); err != nil {
			t.Fatal(err)
		}
		most = max(most, advised(t))
	}
	if most <= before {
		t.Fatalf("%d KiB were advised about before, %d with an open network", before, most)
	}
	plan, err := m.Plan(graph.Shape{C: 3, H: 48, W: 48}, 1)
	if err != nil {
		t.Fatal(err)
	}
	running := plan.acquire()
	m.Close()
	plan.release(running) // of a run that was under way when the plan was forgotten
	if after := advised(t); after > before {
		t.Errorf("%d KiB were advised about before, %d after the network was closed", before, after)
	}
}

// advised returns how many KiB of this process's mappings the system is to back with large pages.
func advised(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	total, size := 0, 0
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("Size:")); ok {
			if size, err = strconv.Atoi(string(bytes.Fields(rest)[0])); err != nil {
				t.Fatal(err)
			}
		}
		if flags, ok := bytes.CutPrefix(line, []byte("VmFlags:")); ok && bytes.Contains(flags, []byte(" hg")) {
			total += size
		}
	}
	return total
}
