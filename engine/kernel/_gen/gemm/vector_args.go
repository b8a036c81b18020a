package main

// Offsets of the fields of vectorArgs in engine/kernel/gemm/vector_args_amd64.go, each 8 bytes.
const (
	tA0 = 8 * iota
	tAInc
	tAStride
	tOffsets
	tSteps
	tB
	tPanels
	tBlocks
	tRows
	tStarts
	tLimit
	tDst
	tRes
	tBias
	tSums
	tActivation
	tBounds // two float32
	tMask
	// State of the kernel itself.
	tPanelsLeft
	tPanelDst
	tPanelRes
	tBiasNext
)
