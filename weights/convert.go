package weights

import (
	"encoding/binary"
	"math"
	"unsafe"
)

// hostLittle says that the machine's own byte order is that of the files.
var hostLittle = binary.NativeEndian.Uint16([]byte{1, 0}) == 1

// asFloat32 returns the little-endian float32 values in b without copying, when the machine can read them in place.
func asFloat32(b []byte) ([]float32, bool) {
	if len(b) == 0 {
		return []float32{}, true
	}
	p := unsafe.Pointer(unsafe.SliceData(b))
	if !hostLittle || uintptr(p)%unsafe.Alignof(float32(0)) != 0 {
		return nil, false
	}
	return unsafe.Slice((*float32)(p), len(b)/4), true
}

// bytesOf returns the little-endian bytes of values, without copying where the machine stores them so.
func bytesOf[T float32 | int64](values []T) []byte {
	if len(values) == 0 {
		return []byte{}
	}
	size := int(unsafe.Sizeof(values[0]))
	if hostLittle {
		return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), len(values)*size)
	}
	out := make([]byte, 0, len(values)*size)
	for _, v := range values {
		switch v := any(v).(type) {
		case float32:
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(v))
		case int64:
			out = binary.LittleEndian.AppendUint64(out, uint64(v))
		}
	}
	return out
}

// toFloat32 converts the elements of type d in b to dst, whose length says how many. float64 and the wide integers are
// rounded to nearest.
func toFloat32(dst []float32, b []byte, d DType) {
	le := binary.LittleEndian
	b = b[:len(dst)*d.Size()]
	switch d {
	case F32:
		if hostLittle {
			copy(bytesOf(dst), b)
			return
		}
		for i := range dst {
			dst[i] = math.Float32frombits(le.Uint32(b[4*i:]))
		}
	case F16:
		for ; len(dst) >= 4 && len(b) >= 8; dst, b = dst[4:], b[8:] {
			word := le.Uint64(b)
			dst[0] = float16(uint16(word))
			dst[1] = float16(uint16(word >> 16))
			dst[2] = float16(uint16(word >> 32))
			dst[3] = float16(uint16(word >> 48))
		}
		for i := range dst {
			dst[i] = float16(le.Uint16(b[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(le.Uint16(b[2*i:])) << 16)
		}
	case F64:
		for i := range dst {
			dst[i] = float32(math.Float64frombits(le.Uint64(b[8*i:])))
		}
	case I64:
		for i := range dst {
			dst[i] = float32(int64(le.Uint64(b[8*i:])))
		}
	case I32:
		for i := range dst {
			dst[i] = float32(int32(le.Uint32(b[4*i:])))
		}
	case I16:
		for i := range dst {
			dst[i] = float32(int16(le.Uint16(b[2*i:])))
		}
	case I8:
		for i := range dst {
			dst[i] = float32(int8(b[i]))
		}
	case U64:
		for i := range dst {
			dst[i] = float32(le.Uint64(b[8*i:]))
		}
	case U32:
		for i := range dst {
			dst[i] = float32(le.Uint32(b[4*i:]))
		}
	case U16:
		for i := range dst {
			dst[i] = float32(le.Uint16(b[2*i:]))
		}
	case U8:
		for i := range dst {
			dst[i] = float32(b[i])
		}
	case Bool:
		for i := range dst {
			dst[i] = 0
			if b[i] != 0 {
				dst[i] = 1
			}
		}
	}
}

// float16 widens an IEEE 754 binary16, exactly. Moved into the fields of a float32, its exponent is 112 too small. A
// subnormal gets one more, which makes it a number with an implicit bit that it should not have, and then that bit
// subtracted: no operand is a subnormal float32, which processors are slow at.
func float16(h uint16) float32 {
	const (
		bias     = 112 << 23
		exponent = 0x1f << 23
		implicit = 113 << 23
	)
	sign := uint32(h&0x8000) << 16
	bits := uint32(h&0x7fff) << 13
	switch bits & exponent {
	case 0:
		f := math.Float32frombits(bits+implicit) - math.Float32frombits(implicit)
		return math.Float32frombits(math.Float32bits(f) | sign)
	case exponent:
		return math.Float32frombits(bits | 0xff<<23 | sign) // infinity or NaN
	}
	return math.Float32frombits(bits + bias | sign)
}
