package pluginrpc

import (
	"encoding/binary"
	"math"
	"unsafe"
)

var littleEndian = func() bool {
	x := uint16(1)
	return *(*byte)(unsafe.Pointer(&x)) == 1
}()

// Floats views memory as float32 in this machine's byte order. The memory must be aligned to 4 bytes, as mappings are.
func Floats(b []byte) []float32 {
	if len(b) < 4 {
		return nil
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// Encode writes values as little-endian float32 into dst, which has 4 bytes for each.
func Encode(dst []byte, values []float32) {
	if littleEndian {
		if len(values) > 0 {
			copy(dst, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), 4*len(values)))
		}
		return
	}
	for i, v := range values {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(v))
	}
}

// Decode reads little-endian float32 from src, which has 4 bytes for each value of dst.
func Decode(dst []float32, src []byte) {
	if littleEndian {
		if len(dst) > 0 {
			copy(unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(dst))), 4*len(dst)), src)
		}
		return
	}
	for i := range dst {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
	}
}
