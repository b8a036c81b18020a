package weights

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Half makes a tensor of type F16 or BF16 from values, rounded to nearest, ties to even. Values beyond F16's range become
// infinite, as in PyTorch's half(). It panics if shape does not hold exactly len(values) elements, or for another type.
func Half(name string, d DType, shape []int, values []float32) Tensor {
	convert := halfBits
	switch d {
	case F16:
	case BF16:
		convert = brainBits
	default:
		panic(fmt.Sprintf("weights: tensor %q: %s is not a 16-bit float", name, d))
	}
	data := make([]byte, 2*len(values))
	for i, v := range values {
		binary.LittleEndian.PutUint16(data[2*i:], convert(math.Float32bits(v)))
	}
	return inMemory(name, d, shape, len(values), data)
}

// brainBits rounds a float32 to bfloat16.
func brainBits(b uint32) uint16 {
	if b&0x7fffffff > 0x7f800000 { // NaN: keep it one
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// halfBits rounds a float32 to IEEE binary16.
func halfBits(b uint32) uint16 {
	sign := uint16(b >> 16 & 0x8000)
	exponent := int(b>>23&0xff) - 127
	mantissa := b & 0x7fffff
	switch {
	case exponent == 128 && mantissa != 0: // NaN
		return sign | 0x7e00
	case exponent > 15:
		return sign | 0x7c00
	case exponent < -25:
		return sign
	case exponent < -14: // subnormal: units of 2^-24
		mantissa |= 1 << 23
		shift := uint(-exponent - 1) // 14..24: the value is mantissa * 2^(exponent-23)
		return sign + roundShift(mantissa, shift)
	}
	// A carry out of the mantissa rightly goes into the exponent.
	return sign + uint16(exponent+15)<<10 + roundShift(mantissa, 13)
}

// roundShift is v >> n, rounded to nearest, ties to even.
func roundShift(v uint32, n uint) uint16 {
	return uint16((v + 1<<(n-1) - 1 + v>>n&1) >> n)
}
