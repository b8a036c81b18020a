//go:build !amd64 || noasm

package gemm

// pack chooses the kernel for a spec whose defaults are filled in.
func pack(s ConvSpec, weight, bias []float32) packed {
	return newReference(s, weight, bias)
}

// newMultiplier chooses the kernel of a product.
func newMultiplier(*Product) multiplier { return plainMultiplier{} }
