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
	p    Product
	rows int // rows of dst in a task
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
	return &Multiplication{p: p, rows: (p.M + 4*workers - 1) / (4 * workers)}, nil
}

// Tasks returns how many tasks make up the product. They write disjoint parts of dst.
func (m *Multiplication) Tasks() int { return (m.p.M + m.rows - 1) / m.rows }

// Scratch returns how many bytes of scratch memory a worker must bring.
func (m *Multiplication) Scratch() int { return 64 }

// Run computes one task. The matrices must not overlap.
func (m *Multiplication) Run(task int, dst, a, b []float32, scratch []byte) {
	p := &m.p
	if len(dst) < p.M*p.N || len(a) < p.M*p.K || len(b) < p.K*p.N {
		panic(fmt.Sprintf("gemm: matrices of %d, %d and %d values given to a product of %dx%d and %dx%d", len(dst), len(a), len(b), p.M, p.K, p.K, p.N))
	}
	for i := task * m.rows; i < min(p.M, (task+1)*m.rows); i++ {
		row := dst[i*p.N:][:p.N]
		if !p.Accumulate {
			clear(row)
		}
		if p.TransB {
			for j := range row {
				var sum float32
				for k := range p.K {
					sum += m.at(a, i, k) * b[j*p.K+k]
				}
				row[j] += sum
			}
			continue
		}
		for k := range p.K {
			axpy(row, m.at(a, i, k), b[k*p.N:][:p.N])
		}
	}
}

// at returns op(a)[i][k].
func (m *Multiplication) at(a []float32, i, k int) float32 {
	if m.p.TransA {
		return a[k*m.p.M+i]
	}
	return a[i*m.p.K+k]
}
