// Package grad holds the memory-bound kernels that only training needs: the backward passes of depthwise convolution,
// pooling, normalisations and activations, the statistics of batch norm, and the updates of optimisers.
// The forward passes are those of package kernel, the matrix products those of kernel/gemm.
//
// # Layout
//
// Everything is dense float32. A feature map of shape [Shape] is a slice of N*H*W pixels of C values, the matrix of one
// row per pixel that package train keeps; kernel.Layout(kernel.F32, n, h, w, c, 0).Over makes a kernel.Map of it without
// copying. Depthwise weights are [C][1][KernelH][KernelW] as in PyTorch.
//
// # Work sharing and reproducibility
//
// All functions run on the calling goroutine and allocate nothing. Those that write a map take a half-open range of its
// rows or pixels, and disjoint ranges may run at the same time. Those that reduce over the batch add what their range
// contributes to a partial result that belongs to the caller: give each range its own partial result and add them up in
// a fixed order (Sum, Moments.Merge). The result then depends on how the batch was cut, but not on which worker
// did what or when: it is the same to the bit in every run with the same cut.
//
// Each kernel has a plain Go reference, which is its meaning, and assembly for AVX2 and AVX-512, written by the program
// in ../_gen/vector.
package grad

// Shape is the shape of a dense feature map.
type Shape struct{ N, H, W, C int }

// Len returns the number of values.
func (s Shape) Len() int { return s.N * s.H * s.W * s.C }

// Rows returns the number of rows, N*H.
func (s Shape) Rows() int { return s.N * s.H }
