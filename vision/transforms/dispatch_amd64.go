//go:build !noasm

package transforms

import "github.com/go-modelzoo/zoo/engine/kernel/cpu"

//go:generate go run -C _gen . -out ../kernels_amd64.s -stubs ../kernels_amd64.go -pkg transforms

// haveVector reports whether the vector kernels may be used.
func haveVector() bool { return cpu.Best() >= cpu.AVX2 }

// lowBits is the length of the lower part of a weight (see _gen).
const lowBits = 8

func parts(w int32) (low, high uint16) { return uint16(w & (1<<lowBits - 1)), uint16(w >> lowBits) }

// packAlong lays the weights out for alongAVX2.
func (a *axis) packAlong() {
	const words = 32 // of a group: 16 lower, 16 upper parts
	longest := int32(1)
	for _, n := range a.count {
		longest = max(longest, n)
	}
	a.groups = int(longest+3) / 4
	a.packed = grow(a.packed, len(a.first)*a.groups*2*words)
	clear(a.packed)
	for i, n := range a.count {
		for j, w := range a.weight[i*a.taps:][:n] {
			low, high := parts(w)
			// Tap j of its group is in half j/2, the first or second of each of three pairs.
			at := ((i*a.groups+j/4)*words + j%4/2*8 + j%2) * 2
			for c := range 3 {
				p := a.packed[at+4*c:]
				p[0], p[1] = uint8(low), uint8(low>>8)
				p[words], p[words+1] = uint8(high), uint8(high>>8)
			}
		}
	}
}

// alongVector is a.along in assembly, after packAlong. beyond is the number of bytes that may be read from src on.
func (a *axis) alongVector(dst, src []uint8, beyond int) {
	// Outputs are in order of their taps, so those that read too far are the last.
	n := len(a.first)
	for n > 0 && 3*int(a.first[n-1])+12*(a.groups-1)+16 > beyond {
		n--
	}
	if n > 0 {
		_, _ = dst[3*n-1], src[0]
		alongAVX2(&dst[0], &src[0], &a.first[0], &a.packed[0], n, a.groups)
	}
	a.along(dst[3*n:], src, n)
}

// acrossVector is across in assembly.
func acrossVector(dst, src []uint8, stride int, weight []int32, scratch []uint32) []uint32 {
	const lanes = 16
	n := len(dst)
	if n < lanes || len(weight) == 0 {
		across(dst, src, stride, weight)
		return scratch
	}
	scratch = scratch[:0]
	for j := 0; j < len(weight); j += 2 {
		low, high := parts(weight[j])
		var low2, high2 uint16
		if j+1 < len(weight) {
			low2, high2 = parts(weight[j+1])
		}
		scratch = append(scratch, uint32(low)|uint32(low2)<<16, uint32(high)|uint32(high2)<<16)
	}
	_ = src[(len(weight)-1)*stride+n-1]
	acrossAVX2(&dst[0], &src[0], n&^(lanes-1), stride, &scratch[0], len(weight)/2, len(weight)%2)
	if n%lanes != 0 { // the last samples, some of them a second time
		i := n - lanes
		acrossAVX2(&dst[i], &src[i], lanes, stride, &scratch[0], len(weight)/2, len(weight)%2)
	}
	return scratch
}
