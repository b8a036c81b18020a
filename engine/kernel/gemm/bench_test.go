package gemm

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// benchLayer is a convolution of a real network on one image.
type benchLayer struct{ h, w, in, out, k, stride, pad, groups int }

func (l benchLayer) String() string {
	return fmt.Sprintf("%dx%d_%d-%d_k%ds%dg%d", l.h, l.w, l.in, l.out, l.k, l.stride, l.groups)
}

// spec is the layer with a ReLU behind it.
func (l benchLayer) spec(tier cpu.Tier, p engine.Precision) ConvSpec {
	return ConvSpec{
		In: l.in, Out: l.out, KernelH: l.k, KernelW: l.k, StrideH: l.stride, StrideW: l.stride, Groups: l.groups,
		PadTop: l.pad, PadLeft: l.pad, PadBottom: l.pad, PadRight: l.pad, Activation: kernel.ReLU, Precision: p, Tier: tier,
	}
}

// weights are random, and as many as the layer has.
func (l benchLayer) weights(r *rand.Rand) []float32 {
	w := make([]float32, l.out*l.in/l.groups*l.k*l.k)
	for i := range w {
		w[i] = float32(r.NormFloat64())
	}
	return w
}

var benchLayers = []benchLayer{
	{56, 56, 64, 64, 3, 1, 1, 1},
	{28, 28, 128, 128, 3, 1, 1, 1},
	{14, 14, 256, 256, 3, 1, 1, 1},
	{7, 7, 512, 512, 3, 1, 1, 1},
	{28, 28, 256, 256, 3, 1, 1, 1},
	{112, 112, 128, 128, 3, 1, 1, 1},
	{56, 56, 256, 256, 3, 1, 1, 1},
	{28, 28, 512, 512, 3, 1, 1, 1},
	{14, 14, 512, 512, 3, 1, 1, 1},
	{56, 56, 128, 32, 3, 1, 1, 1},
	{14, 14, 128, 32, 3, 1, 1, 1},
	{35, 35, 96, 96, 3, 1, 1, 1},
	{55, 55, 16, 64, 3, 1, 1, 1},
	{13, 13, 64, 256, 3, 1, 1, 1},
	{56, 56, 64, 256, 1, 1, 0, 1},
	{56, 56, 256, 64, 1, 1, 0, 1},
	{28, 28, 512, 128, 1, 1, 0, 1},
	{28, 28, 128, 512, 1, 1, 0, 1},
	{14, 14, 1024, 256, 1, 1, 0, 1},
	{14, 14, 256, 1024, 1, 1, 0, 1},
	{7, 7, 2048, 512, 1, 1, 0, 1},
	{7, 7, 512, 2048, 1, 1, 0, 1},
	{224, 224, 64, 64, 3, 1, 1, 1},
	{224, 224, 3, 64, 7, 2, 3, 1},
	{224, 224, 3, 64, 3, 1, 1, 1},
	{56, 56, 256, 512, 1, 2, 0, 1},
	{56, 56, 128, 128, 3, 2, 1, 1},
	{56, 56, 128, 128, 3, 1, 1, 32},
	{14, 14, 512, 512, 3, 1, 1, 32},
	{17, 17, 160, 160, 7, 1, 3, 1},
	{56, 56, 24, 144, 1, 1, 0, 1},
	{56, 56, 144, 24, 1, 1, 0, 1},
	{14, 14, 96, 576, 1, 1, 0, 1},
	{7, 7, 960, 160, 1, 1, 0, 1},
}

// BenchmarkConv runs every layer on one core and on two. Weights and maps are warm, as they are not in a network whose
// weights exceed the caches.
func BenchmarkConv(b *testing.B) {
	for _, tier := range tiers() {
		if tier == cpu.Generic {
			continue
		}
		for _, p := range precisions {
			if p != engine.Highest && tier < cpu.AMX && FormatOf(p, tier) == kernel.F32 || p == engine.Highest && tier == cpu.AMX {
				continue
			}
			for _, l := range benchLayers {
				for _, n := range []int{1, 8} {
					for _, workers := range []int{1, 2} {
						b.Run(fmt.Sprintf("%v/%v/%v/n%d/w%d", tier, p, l, n, workers), func(b *testing.B) { benchConv(b, l, tier, p, n, workers, 0) })
					}
				}
			}
		}
	}
}

// BenchmarkWinograd runs the 3×3 layers by Winograd's method; BenchmarkConv computes them directly.
func BenchmarkWinograd(b *testing.B) {
	for _, p := range precisions {
		for _, l := range benchLayers {
			s := l.spec(cpu.Best(), p)
			if !winogradKernels || !s.transformable() {
				continue
			}
			for _, m := range winogradTiles {
				for _, n := range []int{1, 8} {
					for _, workers := range []int{1, 2} {
						b.Run(fmt.Sprintf("%v/%v/n%d/w%d/%d", p, l, n, workers, m), func(b *testing.B) { benchConv(b, l, s.Tier, p, n, workers, m) })
					}
				}
			}
		}
	}
}

func benchConv(b *testing.B, l benchLayer, tier cpu.Tier, p engine.Precision, n, workers, winograd int) {
	s := l.spec(tier, p)
	s.Winograd = winograd
	r := rand.New(rand.NewPCG(1, 2))
	conv, err := newPacked(s, l.weights(r), make([]float32, l.out))
	if err != nil {
		b.Fatal(err)
	}
	f := FormatOf(p, tier)
	srcFormat := f
	if l.in == 3 {
		srcFormat = kernel.F32
	}
	src := kernel.NewMap(srcFormat, n, l.h, l.w, l.in, 0)
	fill(src.Images(0, 1), r)
	oh, ow := s.OutputSize(l.h, l.w)
	dst := kernel.NewMap(f, n, oh, ow, l.out, 0)
	call, err := conv.Bind(src, dst, nil, workers)
	if err != nil {
		b.Fatal(err)
	}
	scratch := make([][]byte, workers)
	for i := range scratch {
		scratch[i] = make([]byte, call.Scratch())
	}
	tasks := call.Tasks()
	b.ResetTimer()
	// Every worker keeps to its own tasks for the whole benchmark, so that no time is lost in handing them out.
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range b.N {
				for task := w; task < tasks; task += workers {
					call.Run(task, src, dst, nil, scratch[w])
				}
			}
		}()
	}
	wg.Wait()
	b.StopTimer()
	perOp := b.Elapsed().Seconds() / float64(b.N)
	b.ReportMetric(2*float64(n)*float64(s.MACs(oh, ow))/perOp*1e-9, "GFLOP/s")
	b.ReportMetric(float64(tasks), "tasks")
}

// BenchmarkPack packs the weights of a linear layer, and of a 1×1 and a 3×3 convolution.
func BenchmarkPack(b *testing.B) {
	for _, tier := range tiers()[1:] {
		for _, p := range precisions {
			for name, s := range map[string]ConvSpec{
				"linear": {In: 4096, Out: 512, KernelH: 1, KernelW: 1, Linear: true},
				"1x1":    {In: 512, Out: 512, KernelH: 1, KernelW: 1},
				"3x3":    {In: 512, Out: 512, KernelH: 3, KernelW: 3},
			} {
				b.Run(fmt.Sprintf("%v/%v/%v", tier, p, name), func(b *testing.B) {
					s.Precision, s.Tier = p, tier
					weight := make([]float32, s.Out*s.In*s.KernelH*s.KernelW)
					b.SetBytes(int64(4 * len(weight)))
					conv, err := NewConv(s)
					if err != nil {
						b.Fatal(err)
					}
					for b.Loop() { // into fresh memory, as when a model is opened
						if err := conv.Pack(nil, nil, weight, nil); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}
