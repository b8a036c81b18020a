//go:build !noasm

package gemm

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// TestWinogradDivisionsHaveOneResult divides a layer as only layers are that would take long to test: more tiles in a task than a call of the
// products may have, and products of several panels kept together. Each tile and panel by itself is what random shapes test.
func TestWinogradDivisionsHaveOneResult(t *testing.T) {
	for tier := cpu.AVX2; tier <= min(cpu.Best(), cpu.AVX512); tier++ {
		for _, m := range winogradTiles {
			s := ConvSpec{In: 1000, Out: 72, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Winograd: m, Precision: engine.Highest, Tier: tier}
			r := rand.New(rand.NewPCG(uint64(tier), uint64(m)))
			weight := make([]float32, s.Out*s.In*9)
			for i := range weight {
				weight[i] = float32(r.NormFloat64())
			}
			conv, err := newPacked(s, weight, nil)
			if err != nil {
				t.Fatal(err)
			}
			c := conv.kernel.(*winogradConv)
			w := (c.size.callRows(tier, c.groups) + 1) * m
			src := kernel.NewMap(kernel.F32, 1, m, w, s.In, 0)
			fill(src, r)
			call, err := conv.Bind(src, kernel.Layout(kernel.F32, 1, m, w, s.Out, 0), nil, 1)
			if err != nil {
				t.Fatal(err)
			}
			v := call.runner.(*winogradCall)
			divided := func(bands, parts, group int) []float32 {
				v.bands, v.parts, v.group = bands, parts, group
				v.layOut()
				dst := kernel.NewMap(kernel.F32, 1, m, w, s.Out, 0)
				runAll(call, src, dst, nil)
				return dst.F32
			}
			want := divided(v.all, v.panels, 1)
			for _, d := range [][3]int{{1, 1, 1}, {1, 1, v.panels}, {3, 1, 2}} {
				if !slices.Equal(divided(d[0], d[1], d[2]), want) {
					t.Errorf("%v, tiles of %d: %d bands, %d parts, groups of %d panels differ from tiles and panels by themselves", tier, m, d[0], d[1], d[2])
				}
			}
		}
	}
}
