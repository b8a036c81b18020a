//go:build noasm || !amd64

package transforms

// haveVector reports whether the vector kernels may be used.
func haveVector() bool { return false }

func (a *axis) packAlong() {}

func (a *axis) alongVector(dst, src []uint8, _ int) { a.along(dst, src, 0) }

func acrossVector(dst, src []uint8, stride int, weight []int32, scratch []uint32) []uint32 {
	across(dst, src, stride, weight)
	return scratch
}
