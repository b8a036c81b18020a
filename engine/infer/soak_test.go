//go:build linux

package infer_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/rss"
)

// soaked are the networks of the soak: every kind of kernel occurs in one of them.
var soaked = []string{
	"alexnet", "squeezenet1_1", "googlenet", "resnet18", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_large", "densenet121", "efficientnet_b0",
	"shufflenet_v2_x1_0", "convnext_tiny", "seresnet50",
}

// soakCase is one input of one open network, with what it must give.
type soakCase struct {
	name      string
	build     func(graph.Shape) (*graph.Graph, error)
	params    engine.Params
	precision engine.Precision
	in        infer.Input

	mu   sync.RWMutex // write: the model is being opened again
	net  *infer.Model
	want []float32
}

func (c *soakCase) open(pool *work.Pool) (err error) {
	c.net, err = infer.New(c.build, c.params, infer.Options{Precision: c.precision, Pool: pool})
	return err
}

// warm runs the network on as many goroutines as there are callers, so that it has all the buffers that it will ever keep: these are as many
// as were ever in use at once.
func (c *soakCase) warm(t *testing.T) {
	var all sync.WaitGroup
	for range soakCallers {
		all.Go(func() {
			for range 10 {
				if _, err := c.net.Run(context.Background(), c.in); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

const soakCallers = 2

// TestMixedModelsSoak runs networks of all families at all precisions, several at once on two threads, for ZOO_SOAK_TIME (an hour unless set):
// every output must be that of the first run to the last bit, and the process must not grow. Now and then a network is closed and opened again.
func TestMixedModelsSoak(t *testing.T) {
	if os.Getenv("ZOO_SOAK") == "" {
		t.Skip("set ZOO_SOAK=1: it takes an hour")
	}
	duration := time.Hour
	if text := os.Getenv("ZOO_SOAK_TIME"); text != "" {
		var err error
		if duration, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	pool := work.New(2)
	defer pool.Close()
	var cases []*soakCase
	for i, name := range soaked {
		m := model(t, name)
		build := func(s graph.Shape) (*graph.Graph, error) { return m.Graph(s, 1000, nil) }
		g, err := build(m.Input)
		if err != nil {
			t.Fatal(err)
		}
		params := engine.ParamMap(g.Initialise(uint64(i)))
		for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
			side, n := m.Input.H, 1+(i+int(precision))%3
			if i%2 == 1 {
				side = max(m.MinSize, side*2/3)
			}
			in := infer.Input{Data: make([]float32, n*3*side*side), N: n, H: side, W: side, C: 3}
			rng := rand.New(rand.NewPCG(uint64(i), uint64(precision)))
			for k := range in.Data {
				in.Data[k] = float32(rng.NormFloat64())
			}
			c := &soakCase{name: fmt.Sprintf("%s %v %dx%d", name, precision, n, side), build: build, params: params, precision: precision, in: in}
			if err := c.open(pool); err != nil {
				t.Fatal(err)
			}
			out, err := c.net.Run(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			c.want = slices.Clone(out[0].Data)
			c.warm(t)
			cases = append(cases, c)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), duration)
	defer cancel()
	var runs, opened [soakCallers]int
	var opening sync.RWMutex // held for writing while memory is measured: opening a network takes up to 1 GB for a moment
	var callers sync.WaitGroup
	for caller := range runs {
		callers.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(caller), 1))
			for ctx.Err() == nil {
				c := cases[rng.IntN(len(cases))]
				if rng.IntN(100) == 0 {
					opening.RLock()
					c.mu.Lock()
					c.net.Close()
					err := c.open(pool)
					if err == nil {
						c.warm(t)
					}
					c.mu.Unlock()
					opening.RUnlock()
					if err != nil {
						t.Error(err)
						return
					}
					opened[caller]++
				}
				c.mu.RLock()
				out, err := c.net.Run(context.Background(), c.in)
				c.mu.RUnlock()
				if err != nil {
					t.Errorf("%s: %v", c.name, err)
					return
				}
				for k, v := range out[0].Data {
					if v != c.want[k] {
						t.Errorf("%s: logit %d is %v, was %v", c.name, k, v, c.want[k])
						return
					}
				}
				runs[caller]++
			}
		})
	}
	var resident, live []int64
	var heap runtime.MemStats
	each := time.NewTicker(duration / 60)
	defer each.Stop()
	for tick := 1; ctx.Err() == nil; tick++ {
		select {
		case <-each.C:
		case <-ctx.Done():
		}
		opening.Lock()
		debug.FreeOSMemory() // what is left is in use
		r, err := rss.Current("self")
		runtime.ReadMemStats(&heap)
		opening.Unlock()
		if err != nil {
			t.Error(err)
		}
		resident, live = append(resident, r), append(live, int64(heap.HeapAlloc))
		t.Logf("%d/60: resident %d MB, heap %d MB", tick, r>>20, heap.HeapAlloc>>20)
	}
	callers.Wait()
	t.Logf("%v runs, %v times opened again", runs, opened)
	// Medians, as memory goes up and down a little: with the buffers that two callers in one network need, and with the kernel's large pages.
	fifth := len(resident) / 5
	for _, c := range []struct {
		what   string
		series []int64
	}{{"memory in use", live}, {"resident memory", resident}} {
		first, last := median(c.series[:fifth]), median(c.series[len(c.series)-fifth:])
		t.Logf("%s: %d to %d MB, median %d MB in the first fifth, %d MB in the last", c.what, slices.Min(c.series)>>20, slices.Max(c.series)>>20, first>>20, last>>20)
		if last > first+first/50 {
			t.Errorf("%s grew from %d to %d MB", c.what, first>>20, last>>20)
		}
	}
	for _, c := range cases {
		c.net.Close()
	}
}

func median(v []int64) int64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
