package gemm

import "unsafe"

// PackedBytes is how much memory Repack makes use of.
func (c *Conv) PackedBytes() int { return c.kernel.bytes() + packedAlign }

// packedAlign is the alignment of packed weights.
const packedAlign = 64

// Repack replaces the weights and biases, as training does at every step. Calls that are bound stay valid; none may run meanwhile. The packed weights
// lie in memory, if it holds PackedBytes, until the next Repack. each divides the work as for NewConvOn.
func (c *Conv) Repack(each func(n int, f func(i int)), memory []byte, weight, bias []float32) error {
	s := &c.spec
	if err := s.check(weight, bias); err != nil {
		return err
	}
	w := oihw(s, weight)
	repack(c.kernel, each, memory, &w, bias)
	return nil
}

// PackedBytes is how much memory Repack makes use of.
func (g *InputGradient) PackedBytes() int {
	n := 0
	for _, p := range g.phases {
		if p.kernel != nil {
			n += p.kernel.bytes() + packedAlign
		}
	}
	return n
}

// Repack is Conv.Repack for the gradient of the input.
func (g *InputGradient) Repack(each func(n int, f func(i int)), memory []byte, weight []float32) error {
	s := &g.spec
	if err := s.check(weight, nil); err != nil {
		return err
	}
	for _, p := range g.phases {
		if p.kernel != nil {
			w := p.weights(s, weight)
			memory = repack(p.kernel, each, memory, &w, nil)
		}
	}
	return nil
}

// repack packs into the beginning of memory and returns the rest of it.
func repack(p packed, each parallel, memory []byte, w *weights, bias []float32) []byte {
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(memory)))) & (packedAlign - 1)
	size := p.bytes()
	if skip+size > len(memory) {
		p.repack(each, nil, w, bias)
		return nil
	}
	p.repack(each, memory[skip:][:size], w, bias)
	return memory[skip+size:]
}
