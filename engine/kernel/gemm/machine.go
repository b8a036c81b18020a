package gemm

import "github.com/go-modelzoo/zoo/engine/kernel/cpu"

// machine is what the estimates of the kernels of vectors need to know of a processor.
type machine struct {
	panel    float64 // cycles in which a core can multiply a value with the two vectors of a panel, and add
	fetch    float64 // bytes a cycle and core that come from the third-level cache or memory
	operands int     // bytes of operands that are read again and again and stay in L2
	staged   int     // bytes of input that a band should copy, to stay in L2 beside the weights and what the band writes
}

// machineOf describes this processor as kernels of a tier see it.
func machineOf(tier cpu.Tier) machine {
	m := machine{panel: 1, fetch: weightBytesPerCycle}
	l2 := cpu.L2()
	if cpu.HalfRate512() {
		m.fetch = 8
		if tier >= cpu.AVX512 {
			m.panel = 2
		}
	}
	m.operands, m.staged = l2/1024*600, l2/1024*384
	return m
}
