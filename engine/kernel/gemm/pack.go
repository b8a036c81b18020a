package gemm

import (
	"slices"
	"unsafe"
)

// packedAlign is the alignment of packed weights.
const packedAlign = 64

// PackedBytes is how much memory Pack makes use of.
func (c *Conv) PackedBytes() int { return c.kernel.bytes() + packedAlign }

// Pack packs the weights, in place of those that there are: weight is [Out, In/Groups, KernelH, KernelW] as PyTorch lays it out, and behind it
// [Out, Projection.In] if there is a projection; bias is [Out], or nil. Neither slice is kept. The packed weights lie in memory, whatever is there,
// or if it does not hold PackedBytes in memory of their own.
//
// each divides the work: it must call f for all numbers below n, in any order and possibly at the same time, and return when all calls have. Nil is
// one call after the other. Calls that are bound stay valid; none may run meanwhile.
func (c *Conv) Pack(each func(n int, f func(i int)), memory []byte, weight, bias []float32) error {
	if err := c.spec.check(weight, bias); err != nil {
		return err
	}
	w := oihw(&c.spec, weight)
	packInto(memory, c.kernel, each, &w, bias)
	return nil
}

// PackedBytes is how much memory Pack makes use of.
func (g *InputGradient) PackedBytes() int {
	n := 0
	for _, p := range g.phases {
		if p.kernel != nil {
			n += p.kernel.bytes() + packedAlign
		}
	}
	return n
}

// Pack is Conv.Pack, of the convolution's weights, for the gradient of its input.
func (g *InputGradient) Pack(each func(n int, f func(i int)), memory []byte, weight []float32) error {
	s := &g.spec
	if err := s.check(weight, nil); err != nil {
		return err
	}
	for _, p := range g.phases {
		if p.kernel != nil {
			w := p.weights(s, weight)
			memory = packInto(memory, p.kernel, each, &w, nil)
		}
	}
	return nil
}

// packInto packs into the beginning of memory, if it is enough, and returns the rest of it.
func packInto(memory []byte, p packed, each parallel, w *weights, bias []float32) (rest []byte) {
	if each == nil {
		each = serial
	}
	size := p.bytes()
	if len(memory) < size+packedAlign {
		memory = make([]byte, size+packedAlign)
	}
	memory = memory[-uintptr(unsafe.Pointer(unsafe.SliceData(memory)))&(packedAlign-1):]
	p.pack(each, slices.Clip(memory[:size]), w, bias)
	return memory[size:]
}

// parallel calls f(0) to f(n-1), in any order, at the same time or not, and returns when all are done.
type parallel = func(n int, f func(i int))

func serial(n int, f func(i int)) {
	for i := range n {
		f(i)
	}
}

// packBias writes the biases of bundles of so many channels, of which each begins a panel.
func packBias(to, bias []float32, bundleOut, panel int) {
	clear(to)
	width := (bundleOut + panel - 1) / panel * panel
	for i, v := range bias {
		to[i/bundleOut*width+i%bundleOut] = v
	}
}
