package train

import (
	"math/bits"
	"sync"

	"github.com/go-modelzoo/zoo/engine/internal/pages"
)

// buffers lends float32 slices and takes them back, so that a step reuses the memory of the step before. Sizes are rounded up to an
// eighth of a power of two. Safe for concurrent use.
type buffers struct {
	mu   sync.Mutex
	free map[int][][]float32
}

func newBuffers() *buffers { return &buffers{free: map[int][][]float32{}} }

func class(n int) int {
	if n <= 64 {
		return 64
	}
	step := 1 << max(bits.Len(uint(n-1))-4, 0)
	return (n + step - 1) / step * step
}

// get returns n values of any content.
func (b *buffers) get(n int) []float32 {
	c := class(n)
	b.mu.Lock()
	defer b.mu.Unlock()
	list := b.free[c]
	if len(list) == 0 {
		return pages.Huge(make([]float32, c))[:n]
	}
	s := list[len(list)-1]
	b.free[c] = list[:len(list)-1]
	return s[:n]
}

// zero returns n zeros.
func (b *buffers) zero(n int) []float32 {
	s := b.get(n)
	clear(s)
	return s
}

// put takes back what get lent. nil is allowed.
func (b *buffers) put(s []float32) {
	if cap(s) == 0 {
		return
	}
	c := cap(s)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free[c] = append(b.free[c], s[:c])
}
