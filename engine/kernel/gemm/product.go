package gemm

import "github.com/go-modelzoo/zoo/engine/kernel/cpu"

// productSize is what one of the kernels of products sums at a time.
type productSize struct {
	lanes int // of a vector; a panel has two vectors of columns
	rows  int // of sums in registers
	// fetchRows is up to how many rows a block fetches as many bytes as it reads; with more rows, half of them.
	fetchRows int
	pairs     bool // of bfloat16 are the values and the weights, else float32
}

var (
	products512      = productSize{lanes: 16, rows: 14, fetchRows: 9} // 28 of 32 registers
	products256      = productSize{lanes: 8, rows: 6, fetchRows: 3}   // 12 of 16 registers
	productsPairs512 = productSize{lanes: 16, rows: 14, fetchRows: 9, pairs: true}
)

// productsOf returns the size of products on a tier.
func productsOf(tier cpu.Tier) productSize {
	if tier >= cpu.AVX512 {
		return products512
	}
	return products256
}

// panel is the columns of a product.
func (s productSize) panel() int { return 2 * s.lanes }
