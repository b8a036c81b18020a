// Package cpu says which instruction sets the kernels may use on this machine.
//
// A Tier names a set of kernels; tiers are ordered and each contains the ones below it. Best is the highest tier that
// the processor, the operating system and the build allow. The environment variable ZOO_CPU lowers it for tests and for
// comparisons (it never raises it), and the build tag noasm pins it to Generic.
//
// AMX needs the kernel's permission once per process: Linux grants the tile registers to every thread, present and
// future, of a process that asked with arch_prctl. Best asks when the processor has AMX, and reports the tier AMX only if
// the answer was yes.
//
// Everything is detected once, on first use, and is read-only afterwards: all functions are safe for concurrent use.
package cpu

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"

	"github.com/klauspost/cpuid/v2"
)

// Env is the environment variable that lowers the tier.
const Env = "ZOO_CPU"

// Tier is a set of instructions that a kernel may use.
type Tier uint8

const (
	// Generic is portable Go, and on arm64 the NEON kernels of gemm, which every such processor can run.
	Generic Tier = iota
	// AVX2 is AVX2 with FMA.
	AVX2
	// AVX512 is AVX-512 F, BW, DQ and VL.
	AVX512
	// AMX is AVX512 with AVX-512 BF16 and VBMI, and AMX tiles with bfloat16 products, usable by this process.
	AMX
)

var tierNames = [...]string{Generic: "generic", AVX2: "avx2", AVX512: "avx512", AMX: "amx"}

// String returns the name that ParseTier reads.
func (t Tier) String() string {
	if int(t) < len(tierNames) {
		return tierNames[t]
	}
	return fmt.Sprintf("tier(%d)", uint8(t))
}

// ParseTier reads "generic", "avx2", "avx512" or "amx".
func ParseTier(s string) (Tier, error) {
	for t, name := range tierNames {
		if s == name {
			return Tier(t), nil
		}
	}
	return Generic, fmt.Errorf("CPU tier %q is unknown: use %s", s, strings.Join(tierNames[:], ", "))
}

// state is what detection found.
type state struct {
	hardware Tier // what processor, operating system and build allow
	best     Tier // hardware, lowered by ZOO_CPU
	bf16     bool
	err      error // a value of ZOO_CPU that is no tier
}

var detect = sync.OnceValue(func() state {
	var s state
	s.hardware = hardwareTier()
	s.best = s.hardware
	if name := os.Getenv(Env); name != "" {
		t, err := ParseTier(name)
		if err != nil {
			s.err = fmt.Errorf("environment variable %s: %w", Env, err)
		} else {
			s.best = min(t, s.hardware)
		}
	}
	s.bf16 = s.best >= AVX512 && cpuid.CPU.Supports(cpuid.AVX512BF16)
	return s
})

// hardwareTier is the highest tier regardless of ZOO_CPU.
func hardwareTier() Tier {
	if !haveAssembly {
		return Generic
	}
	c := &cpuid.CPU
	switch {
	case !c.Supports(cpuid.AVX2, cpuid.FMA3):
		return Generic
	case !c.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL):
		return AVX2
	case !c.Supports(cpuid.AMXTILE, cpuid.AMXBF16, cpuid.AVX512BF16, cpuid.AVX512VBMI) || requestTiles() != nil:
		return AVX512
	}
	return AMX
}

// Best returns the highest tier that this process may use. An unknown value of ZOO_CPU changes nothing here and is
// reported by Check.
func Best() Tier { return detect().best }

// HasBF16 reports whether the AVX512 tier may use the AVX-512 BF16 dot product and conversions (VDPBF16PS,
// VCVTNE2PS2BF16).
func HasBF16() bool { return detect().bf16 }

// FastBF16 reports whether VDPBF16PS does more than float32 multiply-adds in the same time. On Intel's processors it
// starts every other cycle (measured on one with AMX: 107 GFLOP/s where float32 reaches 170), on AMD's every cycle.
func FastBF16() bool { return detect().bf16 && !cpuid.CPU.IsVendor(cpuid.Intel) }

// Zen4 reports whether the processor is of AMD's Zen 4: vectors of 512 bits take it as long as two of 256, and its third-level cache is
// fast.
func Zen4() bool {
	return cpuid.CPU.IsVendor(cpuid.AMD) && cpuid.CPU.Family == 0x19 && cpuid.CPU.Supports(cpuid.AVX512F)
}

// L2 returns the bytes of a core's second-level cache, 2 MB where that is unknown.
func L2() int {
	if n := cpuid.CPU.Cache.L2; n > 0 {
		return n
	}
	return 2 << 20
}

// Check returns an error if ZOO_CPU names no tier.
func Check() error { return detect().err }

// Info describes the machine as the kernels see it. Cache sizes are in bytes, per core for L1D and L2, and -1 where
// unknown.
type Info struct {
	Model    string   `json:"model"`
	Cores    int      `json:"cores"`    // logical processors this process may run on
	Tier     string   `json:"tier"`     // what Best returns
	Hardware string   `json:"hardware"` // the tier without ZOO_CPU
	BF16     bool     `json:"bf16"`
	L1D      int      `json:"l1d"`
	L2       int      `json:"l2"`
	L3       int      `json:"l3"`
	Features []string `json:"features"` // vector and matrix extensions by their usual names
	// AMX says why the tiles cannot be used, or "" where they can or the processor has none.
	AMX string `json:"amx,omitempty"`
}

// Describe returns what `zoo info --system` prints about the processor.
func Describe() Info {
	s := detect()
	c := &cpuid.CPU
	info := Info{
		Model:    strings.TrimSpace(c.BrandName),
		Cores:    runtime.NumCPU(),
		Tier:     s.best.String(),
		Hardware: s.hardware.String(),
		BF16:     s.bf16,
		L1D:      c.Cache.L1D,
		L2:       c.Cache.L2,
		L3:       c.Cache.L3,
	}
	if info.Model == "" {
		info.Model = runtime.GOARCH
	}
	for _, f := range described {
		if c.Supports(f) {
			info.Features = append(info.Features, f.String())
		}
	}
	if haveAssembly && c.Supports(cpuid.AMXTILE) {
		if err := requestTiles(); err != nil {
			info.AMX = err.Error()
		}
	}
	return info
}

// described are the extensions that decide how fast the kernels are.
var described = []cpuid.FeatureID{
	cpuid.AVX, cpuid.AVX2, cpuid.FMA3, cpuid.F16C, cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL,
	cpuid.AVX512VBMI, cpuid.AVX512VNNI, cpuid.AVX512BF16, cpuid.AVX512FP16, cpuid.AMXTILE, cpuid.AMXBF16, cpuid.AMXINT8,
	cpuid.AMXFP16, cpuid.ASIMD,
}
