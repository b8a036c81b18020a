package main

// Offsets of the fields of tileArgs in engine/kernel/gemm/amx_amd64.go, each 8 bytes.
const (
	tConfig = 8 * iota
	tA0
	tA1
	tAInc
	tAStride
	tALow
	tOffsets
	tSteps
	tB
	tPanels
	tBlocks
	tRows
	tStarts
	tLimit
	tDst
	tDstLow
	tRes
	tResLow
	tBias
	tSums
	tShare
	tFormat
	tActivation
	tBounds // two float32
	tMask
	tAwake
	// State of the kernel itself.
	tPendingDst
	tPendingDstLow
	tPendingRes
	tPendingResLow
	tPanelsLeft
	tRowsFrom
	tRowsTo
	tDone
	tPanelDst
	tPanelDstLow
	tPanelRes
	tPanelResLow
	tBiasNext
)
