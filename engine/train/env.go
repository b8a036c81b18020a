package train

import (
	"sync"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
	"github.com/go-modelzoo/zoo/engine/work"
)

// env is what all operators of a trainer share. But for pool, precision, tier and buffers it belongs to the operator that computes.
type env struct {
	pool      *work.Pool
	precision engine.Precision
	tier      cpu.Tier
	buffers   *buffers
	lock      sync.Mutex // held by the operator that computes
	random    *random    // of the current step
	dropout   bool
	scratch   [][]byte    // by worker
	floats    [][]float32 // by worker
	sums      []float64
	moments   map[int][]*grad.Moments // by channels
	products  map[product]*gemm.Multiplication
	zeros     []float32
}

// product is the key of a prepared multiplication.
type product struct {
	gemm.Product
	workers int
}

// parts is how many pieces a reduction is cut into: a constant, so that the order of summation does not depend on threads.
const parts = 16

// split calls f for consecutive ranges of 0..n on the pool, each of at least grain.
func (e *env) split(n, grain int, f func(from, to int)) {
	e.splitWorkers(n, grain, func(_, from, to int) { f(from, to) })
}

// splitWorkers is split with the number of the worker, for scratch memory.
func (e *env) splitWorkers(n, grain int, f func(worker, from, to int)) {
	tasks := min(max(n/max(grain, 1), 1), 4*e.pool.Threads())
	if tasks == 1 {
		f(0, 0, n)
		return
	}
	e.pool.Run(tasks, func(worker, task int) { f(worker, task*n/tasks, (task+1)*n/tasks) })
}

// reduce calls f for parts fixed ranges of 0..n, each with an accumulator of its own of the given width, and returns the sum of the
// accumulators in order. The result is valid until the next reduction.
func (e *env) reduce(n, width int, f func(acc []float64, from, to int)) []float64 {
	if len(e.sums) < parts*width {
		e.sums = make([]float64, parts*width)
	}
	acc := e.sums[:parts*width]
	clear(acc)
	e.pool.Run(parts, func(_, task int) {
		f(acc[task*width:(task+1)*width], task*n/parts, (task+1)*n/parts)
	})
	for t := 1; t < parts; t++ {
		for i, v := range acc[t*width : (t+1)*width] {
			acc[i] += v
		}
	}
	return acc[:width]
}

// statistics returns the moments of each channel of a batch of pixels. The result is valid until the next call.
func (e *env) statistics(x []float32, pixels, ch int) *grad.Moments {
	list := e.moments[ch]
	if list == nil {
		for range parts {
			list = append(list, grad.NewMoments(ch))
		}
		e.moments[ch] = list
	}
	e.pool.Run(parts, func(_, task int) {
		m := list[task]
		m.Reset()
		m.Add(e.tier, x[task*pixels/parts*ch:(task+1)*pixels/parts*ch])
	})
	for _, m := range list[1:] {
		list[0].Merge(m)
	}
	return list[0]
}

// scratchFor returns bytes of scratch memory for each worker.
func (e *env) scratchFor(bytes int) [][]byte {
	if len(e.scratch) == 0 {
		e.scratch = make([][]byte, e.pool.Threads())
	}
	for w, s := range e.scratch {
		if len(s) < bytes {
			e.scratch[w] = make([]byte, bytes)
		}
	}
	return e.scratch
}

// floatsFor is scratchFor in float32. It is other memory.
func (e *env) floatsFor(n int) [][]float32 {
	if len(e.floats) == 0 {
		e.floats = make([][]float32, e.pool.Threads())
	}
	for w, s := range e.floats {
		if len(s) < n {
			e.floats[w] = make([]float32, n)
		}
	}
	return e.floats
}

// zeroVector returns n zeros that nobody writes to.
func (e *env) zeroVector(n int) []float32 {
	if len(e.zeros) < n {
		e.zeros = make([]float32, n)
	}
	return e.zeros[:n]
}

// prepare returns the multiplication for a product that so many workers share.
func (e *env) prepare(p gemm.Product, workers int) *gemm.Multiplication {
	p.Precision, p.Tier = e.precision, e.tier
	key := product{p, workers}
	if m := e.products[key]; m != nil {
		return m
	}
	m, err := gemm.NewMultiplication(p, workers)
	if err != nil {
		panic(err) // the shapes come from a checked graph
	}
	e.products[key] = m
	return m
}

// multiply computes dst = op(a)·op(b), or adds it, on the pool.
func (e *env) multiply(p gemm.Product, dst, a, b []float32) {
	m := e.prepare(p, e.pool.Threads())
	scratch := e.scratchFor(m.Scratch())
	e.pool.Run(m.Tasks(), func(worker, task int) { m.Run(task, dst, a, b, scratch[worker]) })
}

// each calls f for 0 to n-1 on the pool.
func (e *env) each(n int, f func(i int)) { e.pool.Run(n, func(_, i int) { f(i) }) }

// multiplyAlone runs a multiplication that was prepared for one worker.
func multiplyAlone(m *gemm.Multiplication, dst, a, b []float32, scratch []byte) {
	for task := range m.Tasks() {
		m.Run(task, dst, a, b, scratch)
	}
}

// add adds src to dst.
func (e *env) add(dst, src []float32) {
	e.split(len(dst), 1<<14, func(from, to int) { grad.Sum(e.tier, dst[from:to], src[from:to]) })
}

// asBytes views float32 values as memory for other uses.
func asBytes(s []float32) []byte {
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&s[0])), 4*len(s))
}
