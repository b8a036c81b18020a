//go:build (!amd64 && !arm64) || noasm

package gemm

// pack chooses the kernel for a spec whose defaults are filled in.
func pack(s ConvSpec, w *weights, bias []float32, _ parallel) packed {
	return newReference(s, w, bias)
}

// newMultiplier chooses the kernel of a product.
func newMultiplier(*Product) multiplier { return plainMultiplier{} }
