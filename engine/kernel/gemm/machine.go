package gemm

import "github.com/go-modelzoo/zoo/engine/kernel/cpu"

// machine is what the estimates of the kernels of vectors need to know of a processor.
type machine struct {
	panel    float64 // cycles in which a core can multiply a value with the two vectors of a panel, and add
	fetch    float64 // bytes a cycle and core that come from the third-level cache or memory
	spill    float64 // cycles that a byte of what a task writes and reads again costs where that is more than stays in L2
	scratch  int     // bytes of transformed inputs and products that a task may have
	unhidden float64 // share of the time of fetching weights in which nothing is computed
	operands int     // bytes of operands that are read again and again and stay in L2
	staged   int     // bytes of input that a band should copy, to stay in L2 beside the weights and what the band writes
}

// The processors that the estimates were measured on; others are taken to be as the Xeon is.
var (
	xeon = machine{panel: 1, fetch: weightBytesPerCycle, spill: 0.4, scratch: 24 << 20}
	zen4 = machine{panel: 1, fetch: 8, spill: 0.2, scratch: 6 << 20, unhidden: 0.5}
)

// machineOf describes this processor as kernels of a tier see it.
func machineOf(tier cpu.Tier) machine {
	m := xeon
	if cpu.Zen4() {
		m = zen4
		if tier >= cpu.AVX512 {
			m.panel = 2
		}
	}
	l2 := cpu.L2()
	m.operands, m.staged = l2/1024*600, l2/1024*384
	return m
}

// both estimates the time of computing and of fetching the weights for it, of so many bytes.
func (m *machine) both(compute, bytes, rate float64) float64 {
	fetch := bytes / rate
	return max(compute, fetch) + m.unhidden*min(compute, fetch)
}
