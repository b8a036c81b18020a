package weights

import (
	"math"
	"testing"
)

// TestHalfRoundsEveryValueToItself converts each 16-bit float to float32 and back, and checks that values between two neighbours
// round to the nearer, ties to the even one.
func TestHalfRoundsEveryValueToItself(t *testing.T) {
	for _, c := range []struct {
		d       DType
		convert func(uint32) uint16
	}{{F16, halfBits}, {BF16, brainBits}} {
		value := func(bits uint16) float32 {
			var out [1]float32
			toFloat32(out[:], []byte{byte(bits), byte(bits >> 8)}, c.d)
			return out[0]
		}
		for i := range 1 << 16 {
			bits := uint16(i)
			v := value(bits)
			if v != v {
				if w := value(c.convert(math.Float32bits(v))); w == w {
					t.Fatalf("%s %04x: NaN became %v", c.d, bits, w)
				}
				continue
			}
			if got := c.convert(math.Float32bits(v)); got != bits {
				t.Fatalf("%s %04x is %v and comes back as %04x", c.d, bits, v, got)
			}
			next := value(bits + 1)
			if next != next || math.IsInf(float64(next), 0) || math.IsInf(float64(v), 0) || bits&0x7fff == 0x7fff {
				continue
			}
			middle := float32((float64(v) + float64(next)) / 2)
			even := bits + bits&1
			if got := c.convert(math.Float32bits(middle)); got != even {
				t.Fatalf("%s: the middle of %04x and the next, %v, rounds to %04x", c.d, bits, middle, got)
			}
			above := math.Float32bits(middle) + 1
			if got := c.convert(above); got != bits+1 {
				t.Fatalf("%s: just above the middle of %04x and the next rounds to %04x", c.d, bits, got)
			}
		}
	}
	if got := halfBits(math.Float32bits(65520)); got != 0x7c00 {
		t.Errorf("65520 is %04x in F16", got)
	}
	if got := halfBits(math.Float32bits(1e-9)); got != 0 {
		t.Errorf("1e-9 is %04x in F16", got)
	}
}
