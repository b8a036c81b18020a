package kernel

import "math"

// ToBF16 rounds v to the nearest bfloat16, ties to even. Not-a-number stays one, quiet; what rounds beyond the largest
// finite bfloat16 (3.3895e38) becomes an infinity.
func ToBF16(v float32) uint16 {
	b := math.Float32bits(v)
	if b&0x7fffffff > 0x7f800000 {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// FromBF16 returns the value of a bfloat16, exactly.
func FromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// ToSplit returns v as the sum of two bfloat16: hi is v rounded, lo the rounded rest. The error is at most 2^-17 of v
// for |v| >= 2^-110; smaller values may lose lo, because the vector conversions flush subnormals. If hi is an infinity
// or not a number, lo is zero, so that hi + lo is the same.
func ToSplit(v float32) (hi, lo uint16) {
	hi = ToBF16(v)
	if hi&0x7f80 == 0x7f80 {
		return hi, 0
	}
	return hi, ToBF16(v - FromBF16(hi))
}

// FromSplit returns hi + lo.
func FromSplit(hi, lo uint16) float32 { return FromBF16(hi) + FromBF16(lo) }

// ToBF16s rounds len(src) values into dst.
func ToBF16s(dst []uint16, src []float32) {
	dst = dst[:len(src)]
	for i, v := range src {
		dst[i] = ToBF16(v)
	}
}

// FromBF16s widens len(src) values into dst.
func FromBF16s(dst []float32, src []uint16) {
	dst = dst[:len(src)]
	for i, b := range src {
		dst[i] = FromBF16(b)
	}
}

// ToSplits splits len(src) values into hi and lo.
func ToSplits(hi, lo []uint16, src []float32) {
	hi, lo = hi[:len(src)], lo[:len(src)]
	for i, v := range src {
		hi[i], lo[i] = ToSplit(v)
	}
}

// FromSplits adds len(hi) pairs into dst.
func FromSplits(dst []float32, hi, lo []uint16) {
	dst, lo = dst[:len(hi)], lo[:len(hi)]
	for i, h := range hi {
		dst[i] = FromSplit(h, lo[i])
	}
}
