//go:build !noasm

package gemm

import (
	"math/bits"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

//go:noescape
func stageCopy(args *stageArgs)

//go:noescape
func stageCopy256(args *stageArgs)

//go:noescape
func stageWiden(args *stageArgs)

//go:noescape
func stageRound(args *stageArgs)

//go:noescape
func stageSplit(args *stageArgs)

// convert rounds float32 to one plane of bfloat16 or splits it into two.
func (a *stageArgs) convert(planes int) {
	if planes == 2 {
		stageSplit(a)
	} else {
		stageRound(a)
	}
}

// copy copies one row of pixels from element e on.
func (st *stager) copy(to, e, blocks int) {
	a, src := &st.args, &st.src
	a.dst = unsafe.Pointer(&st.scratch[to])
	switch {
	case st.g.tier < cpu.AVX512 && src.Format == kernel.F32:
		a.src = unsafe.Pointer(&src.F32[e])
		stageCopy256(a)
	case st.g.tier < cpu.AVX512:
		st.copyRow(to, e, blocks)
	case st.g.element == 4 && src.Format == kernel.F32:
		a.src = unsafe.Pointer(&src.F32[e])
		stageCopy(a)
	case st.g.element == 4 && src.Format == kernel.BF16:
		a.loadMask = 1<<(bits.OnesCount64(a.storeMask)/2) - 1
		a.src = unsafe.Pointer(&src.Hi[e])
		stageWiden(a)
	case st.g.element == 4, st.g.planes == 2 && src.Format == kernel.BF16:
		st.copyRow(to, e, blocks)
	case src.Format == kernel.F32:
		a.src = unsafe.Pointer(&src.F32[e])
		a.convert(st.g.planes)
	default:
		a.src = unsafe.Pointer(&src.Hi[e])
		stageCopy(a)
		if st.g.planes == 2 {
			a.src = unsafe.Pointer(&src.Lo[e])
			a.dst = unsafe.Pointer(&st.scratch[to+a.low])
			stageCopy(a)
		}
	}
}
