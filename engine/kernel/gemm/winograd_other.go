//go:build !amd64 || noasm

package gemm

// winogradKernels says whether there is assembly for Winograd's method.
const winogradKernels = false
