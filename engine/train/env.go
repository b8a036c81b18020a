package train

import (
	"sync"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/engine/work"
)

// env is what all operators of a trainer share.
type env struct {
	pool      *work.Pool
	precision engine.Precision
	tier      cpu.Tier
	buffers   *buffers
	lock      sync.Mutex // held by the operator that computes
	random    *random    // of the current step
	dropout   bool
	scratch   [][]byte // by worker
}

// parts is how many pieces a reduction is cut into: a constant, so that the order of summation does not depend on threads.
const parts = 16

// split calls f for consecutive ranges of 0..n on the pool, each of at least grain.
func (e *env) split(n, grain int, f func(from, to int)) {
	tasks := min(max(n/max(grain, 1), 1), 4*e.pool.Threads())
	if tasks == 1 {
		f(0, n)
		return
	}
	e.pool.Run(tasks, func(_, task int) { f(task*n/tasks, (task+1)*n/tasks) })
}

// reduce calls f for parts fixed ranges of 0..n, each with an accumulator of its own of the given width, and returns the sum of the
// accumulators in order.
func (e *env) reduce(n, width int, f func(acc []float64, from, to int)) []float64 {
	acc := make([]float64, parts*width)
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

// multiply computes dst = op(a)·op(b), or adds it.
func (e *env) multiply(p gemm.Product, dst, a, b []float32) {
	p.Precision, p.Tier = e.precision, e.tier
	m, err := gemm.NewMultiplication(p, e.pool.Threads())
	if err != nil {
		panic(err) // the shapes come from a checked graph
	}
	scratch := e.scratchFor(m.Scratch())
	e.pool.Run(m.Tasks(), func(worker, task int) { m.Run(task, dst, a, b, scratch[worker]) })
}
