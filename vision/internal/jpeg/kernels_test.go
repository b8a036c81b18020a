package jpeg

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestTransformsAgreeOnAllShapesOfBlock(t *testing.T) {
	if !haveVector() {
		t.Skip("no assembly on this machine")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	const stride = 24
	for round := range 200_000 {
		var b block
		last := rng.IntN(64)
		bound := int32(1) << rng.IntN(12) // larger ones overflow the sums, which no image does
		for k := range last + 1 {
			if rng.IntN(3) > 0 || k == last {
				b[zigzag[k]] = rng.Int32N(2*bound) - bound
			}
		}
		plain, vector := bytes.Repeat([]byte{0xa5}, 8*stride), bytes.Repeat([]byte{0xa5}, 8*stride)
		b.inverse(plain[8:], stride, last)
		inverseVector(&b, vector[8:], stride)
		if !bytes.Equal(plain, vector) {
			t.Fatalf("round %d: coefficients %v\nplain  %v\nvector %v", round, b, plain, vector)
		}
	}
}

func TestColoursAgreeForAllSamples(t *testing.T) {
	var y, cb, cr []uint8
	for a := 0; a < 256; a += 3 {
		for b := range 256 {
			for c := range 256 {
				y, cb, cr = append(y, uint8(a)), append(cb, uint8(b)), append(cr, uint8(c))
			}
		}
	}
	plain, vector := make([]uint8, 3*len(y)), make([]uint8, 3*len(y)+1)
	vector[3*len(y)] = 0xa5
	fromYCC(plain, y, cb, cr)
	fromYCCVector(vector, y, cb, cr)
	if !bytes.Equal(plain, vector[:3*len(y)]) {
		t.Error("assembly differs from Go")
	}
	for i, v := range y { // libjpeg's formulas, in full
		clip := func(v int) uint8 { return uint8(min(max(v, 0), 255)) }
		u, w := int(cb[i])-128, int(cr[i])-128
		r, g, b := clip(int(v)+(91881*w+32768)>>16), clip(int(v)+(-22554*u-46802*w+32768)>>16), clip(int(v)+(116130*u+32768)>>16)
		if plain[3*i] != r || plain[3*i+1] != g || plain[3*i+2] != b {
			t.Fatalf("YCC %d %d %d gave %v, want %d %d %d", v, cb[i], cr[i], plain[3*i:3*i+3], r, g, b)
		}
	}
	for n := range 70 {
		a, b := make([]uint8, 3*n), bytes.Repeat([]byte{0xa5}, 3*n+8)
		fromYCC(a, y[1000:][:n], cb[1000:][:n], cr[1000:][:n])
		fromYCCVector(b[:3*n], y[1000:][:n], cb[1000:][:n], cr[1000:][:n])
		if !bytes.Equal(a, b[:3*n]) || !bytes.Equal(b[3*n:], bytes.Repeat([]byte{0xa5}, 8)) {
			t.Errorf("%d samples: assembly differs from Go or writes beyond the row", n)
		}
	}
}

func BenchmarkInverse(b *testing.B) {
	for _, last := range []int{0, 5, 20, 63} {
		var in block
		for k := range last + 1 {
			in[zigzag[k]] = int32(500 / (k + 1))
		}
		dst := make([]uint8, 64)
		b.Run(fmt.Sprintf("plain/%d", last), func(b *testing.B) {
			for b.Loop() {
				in.inverse(dst, 8, last)
			}
		})
		b.Run(fmt.Sprintf("vector/%d", last), func(b *testing.B) {
			for b.Loop() {
				inverseVector(&in, dst, 8)
			}
		})
	}
}
