//go:build !noasm

package gemm

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/cpuid/v2"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// TestNarrowWeightsAreRightToHalfAStep has channels whose weights are alike, of very different sizes, all zero, and no numbers: each has a scale of its
// own. The kernel uses no tiles, so that it runs without AMX too. Some of the maps are read themselves, and end within a block of positions.
func TestNarrowWeightsAreRightToHalfAStep(t *testing.T) {
	if cpu.Best() < cpu.AVX512 || !cpuid.CPU.Supports(cpuid.AVX512VBMI) {
		t.Skip("the processor, or ZOO_CPU, lacks AVX-512 or VBMI")
	}
	r := rand.New(rand.NewPCG(3, 4))
	direct := 0
	for _, out := range []int{1, 2, 31, 33, 70} {
		for n, in := range map[int]int{1: 3, 3: 256, positionsFew: 1032, positionsFew + 1: 1, positionsNarrow: 255, positionsNarrow + 1: 256, 20: 1, 2*positionsNarrow + 5: 260} {
			weight := make([]float32, out*in)
			for i := range weight {
				weight[i] = float32(r.NormFloat64() * math.Pow(10, float64(i/in%9-4)))
			}
			row := func(o int) []float32 { return weight[o%out*in:][:in] }
			row(1)[in/2] *= 1000
			clear(row(2))
			bad := 3 % out
			row(bad)[in-1] = []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))}[in%3]
			s, err := ConvSpec{In: in, Out: out, KernelH: 1, KernelW: 1, Linear: true, Precision: engine.High, Tier: cpu.AVX512}.normal()
			if err != nil {
				t.Fatal(err)
			}
			s.Tier = cpu.AMX
			conv := &Conv{spec: s, kernel: choose(s)}
			if err := conv.Pack(nil, noNumbers(conv.PackedBytes()), weight, nil); err != nil {
				t.Fatal(err)
			}
			if v, ok := conv.kernel.(*vectorConv); !ok || v.form != narrow {
				t.Fatalf("the weights are packed in another form: %+v", conv.kernel)
			}
			src, dst := kernel.NewMap(kernel.F32, n, 1, 1, in, 0), kernel.NewMap(kernel.F32, n, 1, 1, out, 0)
			fill(src, r)
			fill(dst, r)
			added := append([]float32(nil), dst.F32...)
			call, err := conv.Bind(src, dst, &dst, 2)
			if err != nil {
				t.Fatal(err)
			}
			if call.runner.(*vectorCall).direct {
				direct++
			}
			runAll(call, src, dst, &dst)
			for i := range n {
				for o := range out {
					got := float64(dst.At(i, 0, 0, o))
					if o == bad {
						if !math.IsNaN(got) {
							t.Errorf("%d to %d, channel %d has a weight that is no number: %v", in, out, o, got)
						}
						continue
					}
					want := float64(added[i*out+o])
					var sum, most float64
					for k, w := range row(o) {
						x := float64(src.At(i, 0, 0, k))
						want += x * float64(w)
						sum += math.Abs(x)
						most = max(most, math.Abs(float64(w)))
					}
					// Half a step of each weight, and float32 sums.
					if tolerance := sum*most*(0.5/narrowMost+1e-6) + 1e-6; !(math.Abs(got-want) <= tolerance) {
						t.Fatalf("%d to %d, image %d of %d, channel %d: %v, want %v to %v", in, out, i, n, o, got, want, tolerance)
					}
				}
			}
		}
	}
	if direct == 0 {
		t.Error("no map is read itself: the test has lost its point")
	}
}
