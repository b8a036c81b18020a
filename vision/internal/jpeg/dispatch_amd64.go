//go:build !noasm

package jpeg

import "github.com/go-modelzoo/zoo/engine/kernel/cpu"

//go:generate go run -C _gen . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg jpeg

// haveVector reports whether inverseVector and fromYCCVector may be called.
func haveVector() bool { return cpu.Best() >= cpu.AVX2 }

// inverseVector is b.inverse in assembly.
func inverseVector(b *block, dst []uint8, stride int) {
	_ = dst[7*stride+7]
	inverseAVX2(&dst[0], stride, (*[64]int32)(b))
}

// fromYCCVector is fromYCC in assembly.
func fromYCCVector(dst, y, cb, cr []uint8) {
	const lanes = 16
	n := len(y)
	if n < lanes {
		fromYCC(dst, y, cb, cr)
		return
	}
	dst, cb, cr = dst[:3*n], cb[:n], cr[:n]
	fromYCCAVX2(&dst[0], &y[0], &cb[0], &cr[0], n&^(lanes-1))
	if n%lanes != 0 { // the last samples, some of them a second time
		i := n - lanes
		fromYCCAVX2(&dst[3*i], &y[i], &cb[i], &cr[i], lanes)
	}
}
