//go:build (!amd64 && !arm64) || noasm

package gemm

// choose chooses the kernel for a spec whose defaults are filled in.
func choose(s ConvSpec) packed { return newReference(s) }

// newMultiplier chooses the kernel of a product.
func newMultiplier(*Product) multiplier { return plainMultiplier{} }
