package weights

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"testing"
)

func TestNaNAndInfinityAreCounted(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(-1)
	var f64 []byte
	for _, v := range []float64{1, nan, inf, inf, math.MaxFloat64} {
		f64 = binary.LittleEndian.AppendUint64(f64, math.Float64bits(v))
	}
	words := func(w ...uint16) (b []byte) {
		for _, v := range w {
			b = binary.LittleEndian.AppendUint16(b, v)
		}
		return b
	}
	f, err := parse("x", safetensorsBytes(t, []Tensor{
		FromFloat32("good", []int{2}, []float32{math.MaxFloat32, 1e-45}),
		FromFloat32("f32", []int{4}, []float32{float32(nan), float32(inf), float32(nan), 0}),
		FromInt64("int", []int{1}, []int64{-1}), // all ones, and no NaN
		{Name: "f64", DType: F64, Shape: []int{5}, data: f64},
		{Name: "f16", DType: F16, Shape: []int{4}, data: words(0x7c00, 0xfc01, 0x7bff, 0x8000)},
		{Name: "bf16", DType: BF16, Shape: []int{4}, data: words(0x7f80, 0xffff, 0x7f7f, 0xff80)},
	}))
	if err != nil {
		t.Fatal(err)
	}
	found, err := Verify(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][2]int{"f32": {2, 1}, "f64": {1, 2}, "f16": {1, 1}, "bf16": {1, 2}}
	for _, g := range found {
		if w, ok := want[g.Name]; !ok || w != [2]int{g.NaN, g.Inf} {
			t.Errorf("found %v, want %v", g, w)
		}
		delete(want, g.Name)
	}
	if len(want) != 0 {
		t.Errorf("not found: %v", want)
	}
	if got := found[0].String(); got != `"f64": 1 NaN and 2 infinite of 5 values` {
		t.Errorf("printed as %s", got)
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, data := range [][]byte{safetensorsBytes(t, sample()), pthBytes(t, sample())} {
		f, err := parse("x", data)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Verify(ctx, f); !errors.Is(err, context.Canceled) {
			t.Errorf("verified: %v", err)
		}
	}
}

// TestNoElementIsOverlooked puts each kind of value at each place of a block, among values that nearly are not finite.
func TestNoElementIsOverlooked(t *testing.T) {
	for d, bits := range map[DType]struct{ largest, inf, nan uint64 }{
		F64:  {math.Float64bits(-math.MaxFloat64), 0x7ff0 << 48, 0xffff << 48},
		F32:  {uint64(math.Float32bits(-math.MaxFloat32)), 0xff80_0000, 0x7f80_0001},
		F16:  {0xfbff, 0xfc00, 0x7c01},
		BF16: {0xff7f, 0x7f80, 0xffff},
	} {
		size := d.Size()
		put := func(b []byte, i int, v uint64) {
			var word [8]byte
			binary.LittleEndian.PutUint64(word[:], v)
			copy(b[i*size:(i+1)*size], word[:])
		}
		n := 2*64/size + 3
		b := make([]byte, n*size)
		for i := range n {
			put(b, i, bits.largest)
		}
		if nan, inf := nonFinite(b, d); nan+inf != 0 {
			t.Fatalf("%v: %d, %d of finite values", d, nan, inf)
		}
		for i := range n {
			put(b, i, bits.nan)
			if nan, inf := nonFinite(b, d); nan != 1 || inf != 0 {
				t.Fatalf("%v at %d: %d NaN, %d infinite, want a NaN", d, i, nan, inf)
			}
			put(b, i, bits.inf)
			if nan, inf := nonFinite(b, d); nan != 0 || inf != 1 {
				t.Fatalf("%v at %d: %d NaN, %d infinite, want an infinity", d, i, nan, inf)
			}
			put(b, i, bits.largest)
		}
	}
}

// TestFloat16IsExact compares all values with a conversion from the definition.
func TestFloat16IsExact(t *testing.T) {
	const n = 1<<16 - 1 // odd, and without the last NaN
	data := make([]byte, 0, 2*n)
	for h := range n {
		data = binary.LittleEndian.AppendUint16(data, uint16(h))
	}
	values, err := Tensor{Name: "all", DType: F16, Shape: []int{n}, data: data}.Float32()
	if err != nil {
		t.Fatal(err)
	}
	for h := range n {
		sign := 1.0
		if h&0x8000 != 0 {
			sign = -1
		}
		exponent, mantissa := h>>10&0x1f, float64(h&0x3ff)
		var want float64
		switch exponent {
		case 0:
			want = sign * mantissa * 0x1p-24
		case 31:
			want = math.Inf(int(sign))
			if mantissa != 0 {
				want = math.NaN()
			}
		default:
			want = sign * math.Ldexp(1+mantissa/1024, exponent-15)
		}
		got := values[h]
		if math.IsNaN(want) {
			if got == got {
				t.Fatalf("%#04x is %v, want NaN", h, got)
			}
		} else if math.Float32bits(got) != math.Float32bits(float32(want)) {
			t.Fatalf("%#04x is %v, want %v", h, got, want)
		}
	}
}

func TestEveryTypeConverts(t *testing.T) {
	le := binary.LittleEndian
	for d, c := range map[DType]struct {
		data []byte
		want float32
	}{
		F64:  {le.AppendUint64(nil, math.Float64bits(-1.5)), -1.5},
		F32:  {le.AppendUint32(nil, math.Float32bits(-1.5)), -1.5},
		F16:  {[]byte{0x00, 0xbe}, -1.5},
		BF16: {[]byte{0xc0, 0xbf}, -1.5},
		I64:  {le.AppendUint64(nil, math.MaxUint64), -1},
		I32:  {le.AppendUint32(nil, math.MaxUint32), -1},
		I16:  {[]byte{0xff, 0xff}, -1},
		I8:   {[]byte{0xff}, -1},
		U64:  {le.AppendUint64(nil, math.MaxUint64), 0x1p64},
		U32:  {le.AppendUint32(nil, math.MaxUint32), 0x1p32},
		U16:  {[]byte{0xff, 0xff}, 65535},
		U8:   {[]byte{0xff}, 255},
		Bool: {[]byte{2}, 1},
	} {
		got, err := Tensor{Name: "x", DType: d, Shape: []int{1}, data: c.data}.Float32()
		if err != nil || len(got) != 1 || got[0] != c.want {
			t.Errorf("%v: %v, %v, want %v", d, got, err, c.want)
		}
		if n, err := dtypeNamed(d.String()); n != d || err != nil {
			t.Errorf("%v reads back as %v, %v", d, n, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	f, err := parse("x", safetensorsBytes(b, []Tensor{FromFloat32("w", []int{1 << 22}, make([]float32, 1<<22))}))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1 << 24)
	for b.Loop() {
		if _, err := Verify(b.Context(), f); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFloat16(b *testing.B) {
	data := make([]byte, 1<<20)
	for i := range data {
		data[i] = byte(i * 31)
	}
	dst := make([]float32, len(data)/2)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		toFloat32(dst, data, F16)
	}
}
