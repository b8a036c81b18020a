package jpeg

import "encoding/binary"

// The inverse transform is libjpeg's "islow" (Loeffler, Ligtenberg and Moschytz, "Practical fast 1-D DCT algorithms with 11
// multiplications", 1989): columns, then rows, in 13-bit fixed point with 2 more bits kept between the passes.
//
// Everything between two roundings is linear, so two columns (then two rows) go through one pass together, in the halves
// of a 64-bit integer: a + b<<32 times a constant is a*c + (b*c)<<32. The borrow of a negative lower half is taken
// back when the halves are separated. Coefficients that make the lower sum overflow 32 bits, which come from no image, disturb
// the upper one; the assembly, which keeps them apart, then gives other samples.
const (
	constBits = 13
	passBits  = 2

	fix0298631336 = 2446
	fix0390180644 = 3196
	fix0541196100 = 4433
	fix0765366865 = 6270
	fix0899976223 = 7373
	fix1175875602 = 9633
	fix1501321110 = 12299
	fix1847759065 = 15137
	fix1961570560 = 16069
	fix2053119869 = 16819
	fix2562915447 = 20995
	fix3072711026 = 25172
)

// transform is the one-dimensional inverse transform of two vectors, scaled up by constBits.
func transform(s0, s1, s2, s3, s4, s5, s6, s7 int64) (o0, o1, o2, o3, o4, o5, o6, o7 int64) {
	z1 := (s2 + s6) * fix0541196100
	t2 := z1 - s6*fix1847759065
	t3 := z1 + s2*fix0765366865
	t0 := (s0 + s4) << constBits
	t1 := (s0 - s4) << constBits
	e0, e3 := t0+t3, t0-t3
	e1, e2 := t1+t2, t1-t2

	z1, z2, z3, z4 := s7+s1, s5+s3, s7+s3, s5+s1
	z5 := (z3 + z4) * fix1175875602
	z1 *= -fix0899976223
	z2 *= -fix2562915447
	z3 = z5 - z3*fix1961570560
	z4 = z5 - z4*fix0390180644
	t0 = s7*fix0298631336 + z1 + z3
	t1 = s5*fix2053119869 + z2 + z4
	t2 = s3*fix3072711026 + z2 + z3
	t3 = s1*fix1501321110 + z1 + z4
	return e0 + t3, e1 + t2, e2 + t1, e3 + t0, e3 - t0, e2 - t1, e1 - t2, e0 - t3
}

// transformLow is transform for s4 to s7 zero.
func transformLow(s0, s1, s2, s3 int64) (o0, o1, o2, o3, o4, o5, o6, o7 int64) {
	t2 := s2 * fix0541196100
	t3 := s2 * (fix0541196100 + fix0765366865)
	s0 <<= constBits
	e0, e3 := s0+t3, s0-t3
	e1, e2 := s0+t2, s0-t2

	z5 := (s3 + s1) * fix1175875602
	z3 := z5 - s3*fix1961570560
	z4 := z5 - s1*fix0390180644
	t0 := z3 - s1*fix0899976223
	t1 := z4 - s3*fix2562915447
	t2 = s3*(fix3072711026-fix2562915447) + z3
	t3 = s1*(fix1501321110-fix0899976223) + z4
	return e0 + t3, e1 + t2, e2 + t1, e3 + t0, e3 - t0, e2 - t1, e1 - t2, e0 - t3
}

// diagonal is the anti-diagonal (row + column) of a coefficient, by zigzag index.
var diagonal = func() (d [64]uint8) {
	for k, at := range zigzag {
		d[k] = at/8 + at%8
	}
	return d
}()

// rangeLimit maps a sample, less 128 and modulo 1024, to 0..255.
var rangeLimit = func() (t [1024]uint8) {
	for i := range t {
		v := i
		if i >= 512 {
			v -= 1024
		}
		t[i] = uint8(min(max(v+128, 0), 255))
	}
	return t
}()

// inverse transforms a block to 8 rows of 8 samples at dst. last is the zigzag index of the last coefficient that is not zero.
func (b *block) inverse(dst []uint8, stride, last int) {
	if last == 0 {
		v := uint64(rangeLimit[uint32((b[0]<<passBits+1<<(passBits+2))>>(passBits+3))&1023]) * 0x0101010101010101
		for range 7 {
			binary.LittleEndian.PutUint64(dst, v)
			dst = dst[stride:]
		}
		binary.LittleEndian.PutUint64(dst, v)
		return
	}
	// Coefficients end at anti-diagonal d: column c has none below row d-c.
	d := int(diagonal[last&63])
	var rows [4][8]int64 // rows[i][c] holds rows 2*i and 2*i+1
	for c := 0; c < 8 && c <= d; c += 2 {
		in := b[c : c+58 : 64]
		pair := func(row int) int64 { return int64(in[8*row]) + int64(in[8*row+1])<<32 }
		var o0, o1, o2, o3, o4, o5, o6, o7 int64
		switch depth := d - c; {
		case depth == 0:
			lo, hi := int64(in[0])<<passBits, int64(in[1])<<passBits
			for i := range rows {
				rows[i][c], rows[i][c+1] = lo+lo<<32, hi+hi<<32
			}
			continue
		case depth <= 3:
			o0, o1, o2, o3, o4, o5, o6, o7 = transformLow(pair(0), pair(1), pair(2), pair(3))
		default:
			o0, o1, o2, o3, o4, o5, o6, o7 = transform(pair(0), pair(1), pair(2), pair(3), pair(4), pair(5), pair(6), pair(7))
		}
		rows[0][c], rows[0][c+1] = turn(o0, o1)
		rows[1][c], rows[1][c+1] = turn(o2, o3)
		rows[2][c], rows[2][c+1] = turn(o4, o5)
		rows[3][c], rows[3][c+1] = turn(o6, o7)
	}
	for i := range rows {
		r := &rows[i]
		var o0, o1, o2, o3, o4, o5, o6, o7 int64
		if d <= 3 {
			o0, o1, o2, o3, o4, o5, o6, o7 = transformLow(r[0], r[1], r[2], r[3])
		} else {
			o0, o1, o2, o3, o4, o5, o6, o7 = transform(r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7])
		}
		a0, b0 := samples(o0)
		a1, b1 := samples(o1)
		a2, b2 := samples(o2)
		a3, b3 := samples(o3)
		a4, b4 := samples(o4)
		a5, b5 := samples(o5)
		a6, b6 := samples(o6)
		a7, b7 := samples(o7)
		binary.LittleEndian.PutUint64(dst[2*i*stride:], a0|a1<<8|a2<<16|a3<<24|a4<<32|a5<<40|a6<<48|a7<<56)
		binary.LittleEndian.PutUint64(dst[(2*i+1)*stride:], b0|b1<<8|b2<<16|b3<<24|b4<<32|b5<<40|b6<<48|b7<<56)
	}
}

// turn rounds a column pass's sums for two rows of two columns and pairs them by column instead of by row.
func turn(upper, lower int64) (left, right int64) {
	const shift = constBits - passBits
	const round = 1 << (shift - 1)
	upperLeft, lowerLeft := int32(upper), int32(lower)
	upperRight, lowerRight := int32((upper-int64(upperLeft))>>32), int32((lower-int64(lowerLeft))>>32)
	return int64((upperLeft+round)>>shift) + int64((lowerLeft+round)>>shift)<<32,
		int64((upperRight+round)>>shift) + int64((lowerRight+round)>>shift)<<32
}

// samples rounds a row pass's sums for two rows and limits them.
func samples(v int64) (upper, lower uint64) {
	const shift = constBits + passBits + 3
	const round = 1 << (shift - 1)
	lo := int32(v)
	hi := int32((v - int64(lo)) >> 32)
	return uint64(rangeLimit[uint32(lo+round)>>shift&1023]), uint64(rangeLimit[uint32(hi+round)>>shift&1023])
}
