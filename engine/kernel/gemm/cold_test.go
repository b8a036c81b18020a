package gemm

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/work"
)

// coldBytes is how many packed weights BenchmarkConvCold goes through before it uses the first again: as many as a network has.
const coldBytes = 100 << 20

// coldLayers are late layers of networks, whose weights outweigh their maps.
var coldLayers = []benchLayer{
	{7, 7, 512, 512, 3, 1, 1, 1},
	{14, 14, 512, 512, 3, 2, 1, 1},
	{7, 7, 2048, 512, 1, 1, 0, 1},
	{7, 7, 512, 2048, 1, 1, 0, 1},
	{14, 14, 256, 256, 3, 1, 1, 1},
	{14, 14, 1024, 256, 1, 1, 0, 1},
	{14, 14, 256, 1024, 1, 1, 0, 1},
	{14, 14, 1024, 512, 1, 1, 0, 1},
	{14, 14, 1024, 2048, 1, 2, 0, 1},
	{14, 14, 512, 512, 3, 1, 1, 1},
	{8, 8, 1280, 320, 1, 1, 0, 1},
	{28, 28, 256, 256, 3, 1, 1, 1},
	{28, 28, 512, 512, 3, 1, 1, 1},
}

// BenchmarkConvCold runs late layers of networks on one image with weights that come from memory, as they do in a network.
func BenchmarkConvCold(b *testing.B) {
	for _, p := range []engine.Precision{engine.High, engine.Medium} {
		for _, l := range coldLayers {
			for _, n := range []int{1, 8} {
				b.Run(fmt.Sprintf("%v/%v/n%d", p, l, n), func(b *testing.B) { benchCold(b, l, l.spec(cpu.Best(), p), n) })
			}
		}
	}
}

// BenchmarkLinearCold is BenchmarkConvCold for linear layers.
func BenchmarkLinearCold(b *testing.B) {
	for _, p := range precisions {
		for _, size := range [][2]int{{2048, 1000}, {4096, 4096}, {25088, 4096}} {
			for _, n := range []int{1, 8} {
				b.Run(fmt.Sprintf("%v/%dx%d/n%d", p, size[0], size[1], n), func(b *testing.B) {
					l := benchLayer{1, 1, size[0], size[1], 1, 1, 0, 1}
					s := l.spec(cpu.Best(), p)
					s.Linear = true
					benchCold(b, l, s, n)
				})
			}
		}
	}
}

func benchCold(b *testing.B, l benchLayer, s ConvSpec, n int) {
	const workers = 2
	pool := work.New(workers)
	defer pool.Close()
	r := rand.New(rand.NewPCG(1, 2))
	weight := l.weights(r)
	f := FormatOf(s.Precision, s.Tier)
	if s.Linear {
		f = kernel.F32
	}
	src := kernel.NewMap(f, n, l.h, l.w, l.in, 0)
	fill(src.Images(0, 1), r)
	oh, ow := s.OutputSize(l.h, l.w)
	dst := kernel.NewMap(f, n, oh, ow, l.out, 0)
	var calls []*Call
	var bytes int
	for total := 0; total < coldBytes; total += bytes {
		conv, err := newPacked(s, weight, nil)
		if err != nil {
			b.Fatal(err)
		}
		call, err := conv.Bind(src, dst, nil, workers)
		if err != nil {
			b.Fatal(err)
		}
		calls, bytes = append(calls, call), conv.PackedBytes()
	}
	scratch := make([][]byte, workers)
	for i := range scratch {
		scratch[i] = make([]byte, calls[0].Scratch())
	}
	next := 0
	var times []float64
	for b.Loop() {
		begin := time.Now()
		pool.Run(calls[next].Tasks(), func(worker, task int) { calls[next].Run(task, src, dst, nil, scratch[worker]) })
		next = (next + 1) % len(calls)
		times = append(times, time.Since(begin).Seconds())
	}
	// The tenth of the runs that were fastest: the machine may be shared.
	slices.Sort(times)
	perOp := times[len(times)/10]
	b.ReportMetric(perOp*1e3, "ms")
	b.ReportMetric(2*float64(n)*float64(s.MACs(oh, ow))/perOp*1e-9, "GFLOP/s")
	b.ReportMetric(float64(bytes)/perOp*1e-9, "GB/s")
}
