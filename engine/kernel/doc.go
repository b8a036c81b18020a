// Package kernel holds the feature map that every kernel reads and writes, and the memory-bound kernels of a network:
// depthwise convolution, pooling, activations, element-wise arithmetic with its fused forms, normalisations, channel
// shuffles and the changes of layout at the border. Matrix products and dense convolutions are in kernel/gemm, the
// kernels that only training needs in kernel/grad, the detection of the CPU in kernel/cpu.
//
// # Layout
//
// A [Map] is NHWC: the channels of a pixel lie together, so every kernel vectorises over contiguous memory. It may be a
// channel block of a wider map (a concatenation is then nothing but writing to blocks), and it may carry a border of
// Pad pixels around each image, which is zero by the agreement of those who asked for it: see [Map.ZeroBorder].
//
// # Conventions
//
// Every kernel runs on the calling goroutine, allocates nothing, and works on a half-open range of output rows
// [from, to), where row r is row r%H of image r/H; disjoint ranges may run at the same time. A kernel writes only the
// C channels of the rows it was given: not the border, not the neighbouring channel blocks. Scratch memory is passed in,
// its size is given by a method or function beside the kernel, its contents are of no importance before or after.
// Destination and source may be the same map where the comment says so; else they must not overlap.
//
// Shapes are checked where a kernel is prepared, not where it runs: a wrong shape in a call is a fault of the program
// and panics.
//
// # Tiers
//
// Each kernel has a plain Go reference, which is the meaning of the kernel and the tier cpu.Generic, and assembly for
// AVX2 and AVX-512, chosen by the tier that the caller gives. cpu.AMX runs the AVX-512 kernels. The assembly is written
// by the program in _gen/vector; go generate ./engine/kernel/... writes it again. Build tag noasm leaves it out.
// float32 results of the tiers may differ by the order of summation and by a few units in the last place of exp and
// erf; moves and maxima are exact.
package kernel

//go:generate go run -C _gen ./vector -out ..
