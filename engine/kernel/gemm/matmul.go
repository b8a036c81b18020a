package gemm

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// Product describes dst = op(a) · op(b), or dst += with Accumulate, on row-major float32 matrices: op(a) is M×K,
// op(b) is K×N, dst is M×N. op transposes where TransA or TransB says so, so that a is then stored as K×M, b as N×K.
type Product struct {
	M, N, K        int
	TransA, TransB bool
	Accumulate     bool
	Precision      engine.Precision // Default is resolved for the tier
	Tier           cpu.Tier         // at most cpu.Best()
}

// check returns an error if the product cannot be computed.
func (p Product) check() error {
	if p.M < 1 || p.N < 1 || p.K < 1 {
		return fmt.Errorf("gemm: product of %dx%d and %dx%d matrices", p.M, p.K, p.K, p.N)
	}
	if p.Tier > cpu.Best() {
		return fmt.Errorf("gemm: tier %v asked for, but this process can use %v at most", p.Tier, cpu.Best())
	}
	return nil
}

// Multiplication is a Product divided into tasks. It is read-only and safe for concurrent use.
type Multiplication struct {
	p          Product
	rows, cols int // of dst in a task
	rowTasks   int
	depth      int // values of K that are packed at a time
	m          multiplier
}

// multiplier computes products for one tier and precision.
type multiplier interface {
	// grain returns the multiples in which rows and columns are computed.
	grain() (rows, cols int)
	// scratch returns the bytes of scratch memory for tasks of so many columns and so much depth.
	scratch(cols, depth int) int
	// run computes rows [i0, i1) and columns [j0, j1).
	run(p *Product, depth, i0, i1, j0, j1 int, dst, a, b []float32, scratch []byte)
}

// NewMultiplication prepares a product for the given number of workers.
func NewMultiplication(p Product, workers int) (*Multiplication, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	p.Precision = Resolve(p.Precision, p.Tier)
	if workers < 1 {
		return nil, fmt.Errorf("gemm: %d workers", workers)
	}
	m := &Multiplication{p: p, m: newMultiplier(&p)}
	m.divide(workers)
	return m, nil
}

// divide chooses the tasks. Each packs its rows of a and its columns of b, so the division is the one that packs least
// and keeps all workers busy.
func (m *Multiplication) divide(workers int) {
	const (
		perWorker = 3 // tasks, so that a worker that was held up delays the others little
	)
	p := &m.p
	rows, cols := m.m.grain()
	blocks, panels := (p.M+rows-1)/rows, (p.N+cols-1)/cols
	// All tasks are of one size in whole blocks and panels; the cost counts values packed and values computed.
	best := -1.0
	for nj := 1; nj <= min(panels, perWorker*workers); nj++ {
		for ni := 1; ni <= min(blocks, max(1, perWorker*workers/nj)); ni++ {
			bi, bj := (blocks+ni-1)/ni, (panels+nj-1)/nj
			tasks := ((blocks + bi - 1) / bi) * ((panels + bj - 1) / bj)
			rounds := float64((tasks + workers - 1) / workers)
			work := float64(bi*rows) * float64(bj*cols)
			packing := 40 * float64(bi*rows+bj*cols) // packing a value costs as much as so many products
			cost := rounds*(work+packing) + 0.1*work
			if best < 0 || cost < best {
				best = cost
				m.rows, m.cols = bi*rows, bj*cols
			}
		}
	}
	m.rowTasks = (p.M + m.rows - 1) / m.rows
	// The packed columns of b stay in L2 while the rows of a go by.
	const packed = 1 << 20
	m.depth = min(max(packed/(4*m.cols)/64*64, 64), 512)
	if p.K <= m.depth+m.depth/2 {
		m.depth = (p.K + 31) / 32 * 32
	}
}

// Tasks returns how many tasks make up the product. They write disjoint parts of dst.
func (m *Multiplication) Tasks() int { return m.rowTasks * ((m.p.N + m.cols - 1) / m.cols) }

// Scratch returns how many bytes of scratch memory a worker must bring.
func (m *Multiplication) Scratch() int { return m.m.scratch(m.cols, m.depth) }

// Run computes one task. dst must not overlap a or b; it panics if a matrix is too small. Run allocates nothing.
func (m *Multiplication) Run(task int, dst, a, b []float32, scratch []byte) {
	p := &m.p
	if len(dst) < p.M*p.N || len(a) < p.M*p.K || len(b) < p.K*p.N {
		panic(fmt.Sprintf("gemm: matrices of %d, %d and %d values given to a product of %dx%d and %dx%d", len(dst), len(a), len(b), p.M, p.K, p.K, p.N))
	}
	if len(scratch) < m.Scratch() {
		panic(fmt.Sprintf("gemm: %d bytes of scratch given, %d are needed", len(scratch), m.Scratch()))
	}
	i, j := task%m.rowTasks*m.rows, task/m.rowTasks*m.cols
	m.m.run(p, m.depth, i, min(i+m.rows, p.M), j, min(j+m.cols, p.N), dst, a, b, scratch)
}

// plainMultiplier is the product in plain Go: the reference, and the tier cpu.Generic.
type plainMultiplier struct{}

func (plainMultiplier) grain() (int, int) { return 4, 16 }

func (plainMultiplier) scratch(cols, depth int) int { return 0 }

func (plainMultiplier) run(p *Product, _, i0, i1, j0, j1 int, dst, a, b []float32, _ []byte) {
	for i := i0; i < i1; i++ {
		row := dst[i*p.N+j0 : i*p.N+j1]
		if !p.Accumulate {
			clear(row)
		}
		if p.TransB {
			for j := range row {
				var sum float32
				for k := range p.K {
					sum += p.valueA(a, i, k) * b[(j0+j)*p.K+k]
				}
				row[j] += sum
			}
			continue
		}
		for k := range p.K {
			axpy(row, p.valueA(a, i, k), b[k*p.N+j0:])
		}
	}
}

// valueA returns op(a)[i][k].
func (p *Product) valueA(a []float32, i, k int) float32 {
	if p.TransA {
		return a[k*p.M+i]
	}
	return a[i*p.K+k]
}
