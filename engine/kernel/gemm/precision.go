package gemm

import (
	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// Resolve returns the precision that Default stands for on a tier: High on AMX, else Highest. Others are returned as
// they are.
func Resolve(p engine.Precision, tier cpu.Tier) engine.Precision {
	if p != engine.Default {
		return p
	}
	if tier >= cpu.AMX {
		return engine.High
	}
	return engine.Highest
}

// FormatOf returns the format of the maps that the kernels of a tier read and write fastest at a precision.
// They take float32 maps at every precision.
func FormatOf(p engine.Precision, tier cpu.Tier) kernel.Format {
	switch p = Resolve(p, tier); {
	case p == engine.High && tier >= cpu.AMX:
		return kernel.Split
	case p == engine.Medium && (tier >= cpu.AMX || tier == cpu.AVX512 && cpu.FastBF16()):
		return kernel.BF16
	}
	return kernel.F32
}

// paired reports whether pairs of bfloat16 compute the convolution.
func (s *ConvSpec) paired() bool {
	return s.Tier == cpu.AVX512 && Resolve(s.Precision, s.Tier) == engine.Medium && cpu.HasBF16() && (s.Linear || cpu.FastBF16())
}

// tiled reports whether AMX tiles compute the convolution.
func (s *ConvSpec) tiled() bool {
	p := Resolve(s.Precision, s.Tier)
	return s.Tier >= cpu.AMX && p != engine.Highest && !(s.Linear && p == engine.High)
}
