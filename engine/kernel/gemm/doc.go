// Package gemm computes what a network spends its time in: dense and grouped convolutions, linear layers and matrix
// products, with bias, residual and activation in the same pass.
//
// # From convolution to matrix product
//
// A convolution is a product of a matrix whose rows are positions (output pixels) with one whose columns are output
// channels; the sum runs over taps and input channels. The left matrix is never built. In NHWC the input values that a
// position needs for one tap lie together, and from position to position they are at a constant distance, so the kernels
// are told the address of the first position, that distance, and a table with one offset for each run of values:
//
//   - 1×1 convolutions read the map itself, if its pixels are at a constant distance (a map without border).
//   - All others read a copy of a band of the input in scratch memory (stage.go), with the zeros around the image written
//     out, values converted to the format of the kernel, and the channels in blocks of 64 bytes, so that the rows of a tile
//     are contiguous memory. Zeros right of a row serve as zeros left of the next; a few positions between output rows are
//     computed and thrown away. The copy costs a few percent and lets one kernel serve every padding, stride and format.
//     A band of several images has them above each other or side by side, whichever wastes fewer positions. Where a band's input
//     would not fit in L2, AMX tiles take its channels in slices, and keep the sums of all panels meanwhile.
//   - A residual that goes through a 1×1 convolution of its own before it is added (ConvSpec.Projection: the first blocks of a ResNet's
//     stages) is a second source of the same sums in AMX tiles: their last steps read it, from its map or, where it has a stride, from a
//     copy of the pixels that count. So it is never written, and the rows of sums are finished once.
//   - Small groups are bundled to one block-diagonal product, as the products with zeros cost less than empty tiles.
//
// layout.go holds these decisions (depth: the order of the sum, fixed when weights are packed; geometry: the addresses
// for one shape of maps), divide.go the division into tasks.
//
// # Kernels
//
//   - AMX tiles (tile_amd64.go) at the precisions High and Medium: 2×2 tiles of sums over one or two planes of bfloat16.
//     High sums lo·hi, hi·hi and hi·lo in float32. The epilogue of a block runs between the tile products of the next.
//   - Vectors: float32 multiply-adds in AVX-512 or AVX2 (product_amd64.go: any number of rows, so that an output row of any width wastes
//     nothing); at Medium without AMX, pairs of bfloat16 in the same products where the processor does them faster (then maps are bfloat16
//     too) and for linear layers, whose bytes they save; on AMX weights of 20 bits for linear layers at High (narrow_amd64.go). Groups of
//     4, 8 and 16 channels are computed without idle lanes (grouped_amd64.go). machine.go holds what the estimates know of processors.
//   - Winograd's method for 3×3 convolutions, where the caller asks for it (winograd.go says when it pays): in float32 vectors, also
//     at Medium, a quarter to a half of the multiplications, at two to three times the rounding error with the larger tiles; in AMX tiles along the
//     rows, half of them at twice the error (winograd_strip_amd64.go).
//   - NEON (neon_arm64.go): blocks of 6 positions and 16 channels of float32, for convolutions and products.
//   - Plain Go (reference.go): the meaning of the others, and the tier cpu.Generic but on arm64.
//
// The program in ../_gen/gemm writes the assembly, but for that of NEON; ../_gen/amx encodes the instructions that Go's assembler does not
// know. AMX tiles live only within one call of the assembly, from LDTILECFG to TILERELEASE, and a call takes at most some 60 µs, as goroutines
// are not preempted in it.
//
// # Use
//
// Conv.Pack packs weights; Conv.Bind plans for the geometry of maps and returns a Call; Call.Run computes one of its tasks.
// NewMultiplication and Multiplication.Run do the same for products of float32 matrices, packing both on the way.
// Everything is read-only after creation, but for Pack, and safe for concurrent use, Run allocates nothing, and tasks write disjoint
// memory. Wrong shapes are errors from New and Bind; maps in Run that differ from what was bound are a fault of the
// program and panic.
//
// Values: a not-a-number or an infinity in the input may spread to output pixels up to 31 input values away from where the
// formula puts it (it is multiplied with zero weights), and with Winograd's method to all of its tile. Otherwise results differ between
// kernels by rounding alone.
package gemm
