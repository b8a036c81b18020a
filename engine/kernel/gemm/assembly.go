//go:build (amd64 || arm64) && !noasm

package gemm

import (
	"math"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// This file holds what the assembly kernels of all processors have in common.

const (
	// unrollValues is how many values, or pairs of them, the kernels of amd64 sum per loop: what they sum is padded to it with zeros.
	unrollValues = 4
	// groupRows is how many rows of a matrix are packed at a time: with a depth of 512 they take 128 or 256 KB of L2.
	groupRows = 128
)

// bounds returns the interval to which an activation clips, all numbers for those that do more.
func bounds(a kernel.Activation) (low, high float32) {
	low, high = float32(math.Inf(-1)), float32(math.Inf(1))
	switch a {
	case kernel.ReLU:
		low = 0
	case kernel.ReLU6:
		low, high = 0, 6
	}
	return low, high
}
