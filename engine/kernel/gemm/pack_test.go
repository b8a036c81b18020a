package gemm

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// newPacked is NewConv and Pack, into memory in which everything is no number.
func newPacked(spec ConvSpec, weight, bias []float32) (*Conv, error) {
	c, err := NewConv(spec)
	if err != nil {
		return nil, err
	}
	return c, c.Pack(nil, noNumbers(c.PackedBytes()), weight, bias)
}

// newPackedGradient is newPacked for the gradient of the input.
func newPackedGradient(spec ConvSpec, weight []float32) (*InputGradient, error) {
	g, err := NewInputGradient(spec)
	if err != nil {
		return nil, err
	}
	return g, g.Pack(nil, noNumbers(g.PackedBytes()), weight)
}

func noNumbers(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }

// TestPackingAgainEqualsPackingOnce compares a convolution and a gradient whose weights were replaced with new ones made of those weights.
func TestPackingAgainEqualsPackingOnce(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 1))
	for _, tier := range tiers() {
		for _, p := range precisions {
			for _, s := range []ConvSpec{
				{In: 64, Out: 96, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1},
				{In: 96, Out: 64, KernelH: 3, KernelW: 2, StrideH: 2, StrideW: 2},
				{In: 64, Out: 40, KernelH: 1, KernelW: 1}, {In: 6, Out: 9, KernelH: 3, KernelW: 3, Groups: 3}, {In: 32, Out: 64, KernelH: 5, KernelW: 5},
			} {
				s.Tier, s.Precision = tier, p
				t.Run(fmt.Sprintf("%v/%v/%d-%d/%dx%d", tier, p, s.In, s.Out, s.KernelH, s.KernelW), func(t *testing.T) { checkPackingAgain(t, s, r) })
			}
		}
	}
}

func checkPackingAgain(t *testing.T, s ConvSpec, r *rand.Rand) {
	draw := func(n int) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}
	n := s.Out * (s.In / max(s.Groups, 1)) * s.KernelH * s.KernelW
	old, weight, bias := draw(n), draw(n), draw(s.Out)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	h, w := s.OutputSize(9, 8)
	x, y := kernel.NewMap(kernel.F32, 2, 9, 8, s.In, 0), kernel.NewMap(kernel.F32, 2, h, w, s.Out, 0)
	fill(x, r)
	forward := func(c *Conv) []float32 {
		call, err := c.Bind(x, y, nil, 2)
		must(err)
		runAll(call, x, y, nil)
		return append([]float32(nil), y.F32...)
	}
	conv, err := newPacked(s, old, nil)
	must(err)
	for _, bias := range [][]float32{bias, nil} {
		fresh, err := newPacked(s, weight, bias)
		must(err)
		want := forward(fresh)
		for _, n := range []int{conv.PackedBytes(), 0} { // in memory that is given, or of its own
			must(conv.Pack(serial, noNumbers(n), weight, bias))
			for i, v := range forward(conv) {
				if v != want[i] {
					t.Fatalf("output %d is %g, want %g", i, v, want[i])
				}
			}
		}
	}
	fill(y, r)
	backward := func(g *InputGradient) []float32 {
		call, err := g.Bind(y, x, 2)
		must(err)
		scratch := make([]byte, call.Scratch())
		for task := range call.Tasks() {
			call.Run(task, y, x, scratch)
		}
		return append([]float32(nil), x.F32...)
	}
	freshGradient, err := newPackedGradient(s, weight)
	must(err)
	gradient, err := newPackedGradient(s, old)
	must(err)
	want := backward(freshGradient)
	for _, n := range []int{gradient.PackedBytes(), 0} {
		must(gradient.Pack(serial, noNumbers(n), weight))
		for i, v := range backward(gradient) {
			if v != want[i] {
				t.Fatalf("gradient %d is %g, want %g", i, v, want[i])
			}
		}
	}
	if conv.Pack(serial, nil, weight[1:], nil) == nil || gradient.Pack(serial, nil, weight[1:]) == nil {
		t.Error("too few weights accepted")
	}
}

// BenchmarkPackAgain replaces the weights of a large layer, for the convolution and for the gradient of its input.
func BenchmarkPackAgain(b *testing.B) {
	s := ConvSpec{In: 256, Out: 256, KernelH: 3, KernelW: 3, PadTop: 1, PadLeft: 1, PadBottom: 1, PadRight: 1, Precision: engine.High, Tier: cpu.Best()}
	weight := make([]float32, s.In*s.Out*9)
	for i := range weight {
		weight[i] = float32(i%17) - 8
	}
	conv, err := newPacked(s, weight, nil)
	if err != nil {
		b.Fatal(err)
	}
	gradient, err := newPackedGradient(s, weight)
	if err != nil {
		b.Fatal(err)
	}
	for name, pack := range map[string]func(memory []byte) error{
		"forward":  func(memory []byte) error { return conv.Pack(serial, memory, weight, nil) },
		"backward": func(memory []byte) error { return gradient.Pack(serial, memory, weight) },
	} {
		b.Run(name, func(b *testing.B) {
			memory := make([]byte, conv.PackedBytes())
			b.SetBytes(int64(4 * len(weight)))
			for b.Loop() {
				if err := pack(memory); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
