//go:build noasm || !amd64

package jpeg

// haveVector reports whether inverseVector and fromYCCVector are faster than the plain functions.
func haveVector() bool { return false }

func inverseVector(b *block, dst []uint8, stride int) { b.inverse(dst, stride, 63) }

func fromYCCVector(dst, y, cb, cr []uint8) { fromYCC(dst, y, cb, cr) }
