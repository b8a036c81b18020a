package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/internal/guard"
)

// checkProduct computes a product with guards around all matrices and compares it with sums in float64.
func checkProduct(t testing.TB, p Product, workers int, r *rand.Rand) {
	t.Helper()
	const guard = 40
	random := func(n int) []float32 {
		v := make([]float32, n+2*guard)
		for i := range v {
			v[i] = float32(math.NaN()) // guards: reading one into a sum would show
		}
		for i := range n {
			v[guard+i] = float32(r.NormFloat64())
		}
		return v
	}
	a, b, dst := random(p.M*p.K), random(p.K*p.N), random(p.M*p.N)
	before := append([]float32(nil), dst...)
	m, err := NewMultiplication(p, workers)
	if err != nil {
		t.Fatal(err)
	}
	scratch := make([]byte, m.Scratch()+64)
	for i := range scratch {
		scratch[i] = 0xff
	}
	for task := range m.Tasks() {
		m.Run(task, dst[guard:guard+p.M*p.N], a[guard:guard+p.M*p.K], b[guard:guard+p.K*p.N], scratch[1:m.Scratch()+1])
	}
	for i := m.Scratch() + 1; i < len(scratch); i++ {
		if scratch[i] != 0xff {
			t.Fatalf("%+v: byte behind the scratch memory was written", p)
		}
	}
	for i := range guard {
		if !math.IsNaN(float64(dst[i])) || !math.IsNaN(float64(dst[len(dst)-1-i])) {
			t.Fatalf("%+v: written outside the destination", p)
		}
	}
	for i := range p.M {
		for j := range p.N {
			var want, size float64
			for k := range p.K {
				x, y := a[guard+i*p.K+k%p.K], 0.0
				if p.TransA {
					x = a[guard+k*p.M+i]
				}
				if p.TransB {
					y = float64(b[guard+j*p.K+k])
				} else {
					y = float64(b[guard+k*p.N+j])
				}
				want += float64(x) * y
				size += math.Abs(float64(x) * y)
			}
			if p.Accumulate {
				want += float64(before[guard+i*p.N+j])
			}
			got := float64(dst[guard+i*p.N+j])
			if !(math.Abs(got-want) <= size*unit(p.Precision)+1e-5) {
				t.Fatalf("%+v: [%d,%d] = %g, want %g", p, i, j, got, want)
			}
		}
	}
}

func TestMatMulRandomShapes(t *testing.T) {
	for _, tier := range tiers() {
		for _, precision := range precisions {
			t.Run(fmt.Sprintf("%v/%v", tier, precision), func(t *testing.T) {
				r := rand.New(rand.NewPCG(uint64(tier), uint64(precision)))
				for i := range 40 {
					p := Product{
						M: 1 + r.IntN(100), N: 1 + r.IntN(100), K: 1 + r.IntN(120), TransA: i&1 != 0, TransB: i&2 != 0, Accumulate: i&4 != 0,
						Precision: precision, Tier: tier,
					}
					switch i % 10 {
					case 7:
						p.K = 600 + r.IntN(600)
						p.M = 1 + r.IntN(20)
					case 8:
						p.M = 150 + r.IntN(200)
					case 9:
						p.N = 150 + r.IntN(200)
					}
					checkProduct(t, p, 1+r.IntN(3), r)
				}
			})
		}
	}
}

func TestMatMulShortMatricesRefused(t *testing.T) {
	for _, tier := range tiers() {
		m, err := NewMultiplication(Product{M: 4, N: 5, K: 6, Tier: tier}, 1)
		if err != nil {
			t.Fatal(err)
		}
		for i, what := range []string{"destination", "a", "b", "scratch memory"} {
			size := []int{4 * 5, 4 * 6, 6 * 5, m.Scratch()}
			if size[i] == 0 {
				continue
			}
			size[i]--
			guard.Panics(t, fmt.Sprintf("%v: short %s", tier, what), func() {
				m.Run(0, make([]float32, size[0]), make([]float32, size[1]), make([]float32, size[2]), make([]byte, size[3]))
			})
		}
	}
	if _, err := NewMultiplication(Product{M: 4, N: 0, K: 4}, 1); err == nil {
		t.Error("empty product accepted")
	}
	if _, err := NewMultiplication(Product{M: 4, N: 4, K: 4, Tier: 99}, 1); err == nil {
		t.Error("unknown tier accepted")
	}
}

func TestMatMulRunAllocatesNothing(t *testing.T) {
	for _, tier := range tiers() {
		for _, precision := range precisions {
			m, err := NewMultiplication(Product{M: 70, N: 70, K: 70, Precision: precision, Tier: tier}, 1)
			if err != nil {
				t.Fatal(err)
			}
			dst, a, b, scratch := make([]float32, 4900), make([]float32, 4900), make([]float32, 4900), make([]byte, m.Scratch())
			if n := testing.AllocsPerRun(10, func() { m.Run(0, dst, a, b, scratch) }); n != 0 {
				t.Errorf("%v/%v: %v allocations", tier, precision, n)
			}
		}
	}
}

// BenchmarkMatMul runs products of training: forward, backward to the data, backward to the weights.
func BenchmarkMatMul(b *testing.B) {
	for _, p := range []Product{
		{M: 3136, N: 256, K: 64}, {M: 3136, N: 64, K: 576}, {M: 64, N: 576, K: 3136, TransA: true, Accumulate: true},
		{M: 512, N: 512, K: 3136, TransA: true, Accumulate: true}, {M: 1024, N: 1024, K: 1024}, {M: 16, N: 1000, K: 2048, TransB: true},
	} {
		for _, precision := range precisions {
			p.Tier, p.Precision = cpu.Best(), precision
			b.Run(fmt.Sprintf("%v/%dx%dx%d_%v_%v", precision, p.M, p.N, p.K, p.TransA, p.TransB), func(b *testing.B) {
				m, err := NewMultiplication(p, 1)
				if err != nil {
					b.Fatal(err)
				}
				dst, x, y, scratch := make([]float32, p.M*p.N), make([]float32, p.M*p.K), make([]float32, p.K*p.N), make([]byte, m.Scratch())
				r := rand.New(rand.NewPCG(1, 2))
				for i := range x {
					x[i] = r.Float32() - 0.5
				}
				for i := range y {
					y[i] = r.Float32() - 0.5
				}
				for b.Loop() {
					for task := range m.Tasks() {
						m.Run(task, dst, x, y, scratch)
					}
				}
				b.ReportMetric(2*float64(p.M)*float64(p.N)*float64(p.K)*float64(b.N)/b.Elapsed().Seconds()*1e-9, "GFLOP/s")
			})
		}
	}
}
