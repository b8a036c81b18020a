package codec_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/go-modelzoo/zoo/hub/codec"
	"github.com/go-modelzoo/zoo/internal/shared"
	"github.com/go-modelzoo/zoo/weights"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// normal returns n float32 as trained weights are: normal with a small deviation.
func normal(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 0, 4*n)
	for range n {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(float32(r.NormFloat64()*0.02)))
	}
	return b
}

func pack(t testing.TB, data []byte, spans []codec.Span) []byte {
	t.Helper()
	var out bytes.Buffer
	n, err := codec.Pack(context.Background(), &out, bytes.NewReader(data), spans, codec.Options{})
	if err != nil || n != int64(out.Len()) {
		t.Fatalf("%d bytes of %d: %v", n, out.Len(), err)
	}
	return out.Bytes()
}

func unpack(packed []byte, size int) ([]byte, error) {
	var out bytes.Buffer
	err := codec.Unpack(context.Background(), &out, bytes.NewReader(packed), int64(len(packed)), int64(size), codec.Options{})
	return out.Bytes(), err
}

func TestLossless(t *testing.T) {
	data := normal(1_500_000)
	noise := make([]byte, 3_000_001)
	r := rand.NewChaCha8([32]byte{})
	r.Read(noise) // never fails
	cases := map[string]struct {
		data  []byte
		spans []codec.Span
	}{
		"nothing":          {nil, nil},
		"one byte":         {data[:1], []codec.Span{{1, 1}}},
		"one element":      {data[:4], []codec.Span{{4, 4}}},
		"odd counts":       {data[:3+10+28+8*7], []codec.Span{{3, 1}, {10, 2}, {28, 4}, {8 * 7, 8}}},
		"empty spans":      {data[:8], []codec.Span{{0, 4}, {8, 4}, {0, 1}}},
		"larger than one":  {data[:codec.MaxBlock+4], []codec.Span{{codec.MaxBlock + 4, 4}}},
		"many blocks":      {data, []codec.Span{{100, 1}, {int64(len(data)) - 100, 4}}},
		"halves":           {data, []codec.Span{{int64(len(data)), 2}}},
		"incompressible":   {noise, []codec.Span{{1, 1}, {3_000_000, 4}}},
		"constant":         {make([]byte, 3<<20), []codec.Span{{3 << 20, 8}}},
		"all widths mixed": {noise[:2_000_000], []codec.Span{{400_000, 8}, {400_000, 4}, {400_000, 2}, {400_000, 1}, {400_000, 4}}},
	}
	for name, c := range cases {
		packed := pack(t, c.data, c.spans)
		got, err := unpack(packed, len(c.data))
		if err != nil || !bytes.Equal(got, c.data) {
			t.Errorf("%s: %d bytes of %d, %v", name, len(got), len(c.data), err)
		}
		if limit := len(c.data) + 12*(len(c.data)/codec.MaxBlock+len(c.spans)) + 100; len(packed) > limit {
			t.Errorf("%s: %d bytes became %d", name, len(c.data), len(packed))
		}
	}
}

func TestOneTensorReadAlone(t *testing.T) {
	data := normal(1_000_000)
	packed := pack(t, data, []codec.Span{{1_000_000, 4}, {2_000_000, 4}, {1_000_000, 4}})
	for _, c := range [][2]int{{0, 4}, {1_000_000, 2_000_000}, {999_996, 8}, {3_999_996, 4}, {0, 4_000_000}, {17, 3}} {
		dst := make([]byte, c[1])
		if err := codec.ReadAt(dst, bytes.NewReader(packed), int64(len(packed)), int64(c[0])); err != nil || !bytes.Equal(dst, data[c[0]:c[0]+c[1]]) {
			t.Errorf("%d bytes at %d: %v", c[1], c[0], err)
		}
	}
	if err := codec.ReadAt(make([]byte, 5), bytes.NewReader(packed), int64(len(packed)), 3_999_996); !errors.Is(err, codec.ErrFormat) {
		t.Errorf("beyond the end: %v", err)
	}
}

func TestBombRefused(t *testing.T) {
	packed := pack(t, make([]byte, 4<<20), []codec.Span{{4 << 20, 4}})
	if len(packed) > 4096 {
		t.Fatalf("%d bytes", len(packed))
	}
	if out, err := unpack(packed, 1<<20); !errors.Is(err, codec.ErrFormat) || len(out) > 0 {
		t.Errorf("4 MiB where 1 was declared: %d bytes came, %v", len(out), err)
	}
}

// crafted is a packed file whose table is the given numbers, then tail, behind so many bytes of frames.
func crafted(frames int, tail string, numbers ...uint64) []byte {
	var table []byte
	for _, n := range numbers {
		table = binary.AppendUvarint(table, n)
	}
	table = append(table, tail...)
	out := append([]byte("zoopack1"), make([]byte, frames)...)
	out = append(out, table...)
	out = binary.LittleEndian.AppendUint64(out, uint64(len(table)))
	return append(out, "zoopack1"...)
}

// TestHostileTablesRefused: of each lie of a table the error tells, before anything is allocated for it.
func TestHostileTablesRefused(t *testing.T) {
	footer := func(length uint64, end string) []byte {
		b := crafted(4, "", 4, 1, 4, 1, 4)
		return append(binary.LittleEndian.AppendUint64(b[:len(b)-16], length), end...)
	}
	const huge = 1 << 62
	for name, c := range map[string]struct {
		packed []byte
		want   string
	}{
		"nothing":                     {nil, "too few"},
		"no table":                    {crafted(0, ""), "cut off"},
		"no number of blocks":         {crafted(0, "", 4), "cut off"},
		"number without end":          {crafted(0, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 4), "cut off"},
		"more than 1 TiB":             {crafted(4, "", 1<<40+1, 1, 4, 1, 4), "more than 1 TiB"},
		"more blocks than the table":  {crafted(4, "", 4, huge, 4, 1, 4), "blocks do not fit"},
		"one block more":              {crafted(8, "", 8, 2, 4, 1, 4), "blocks do not fit"},
		"block of nothing":            {crafted(4, "", 4, 2, 4, 1, 4, 0, 1, 1), "block 1 has 0 bytes"},
		"block of 1 MiB and a byte":   {crafted(4, "", codec.MaxBlock+1, 1, codec.MaxBlock+1, 1, 4), "block 0 has 1048577 bytes"},
		"block of 2^62 bytes":         {crafted(4, "", 4, 1, huge, 1, 4), "block 0 has 4611686018427387904 bytes"},
		"elements of no bytes":        {crafted(4, "", 4, 1, 4, 0, 4), "elements of 0"},
		"elements of 3 bytes":         {crafted(3, "", 3, 1, 3, 3, 1, 1, 1), "elements of 3"},
		"elements of 16 bytes":        {crafted(16, "", 16, 1, 16, 16, 1), "elements of 16"},
		"elements of 2^32+1 bytes":    {crafted(4, "", 4, 1, 4, 1<<32+1, 4), "elements of 4294967297"},
		"half an element":             {crafted(3, "", 3, 1, 3, 2, 1, 1), "elements of 2"},
		"no width":                    {crafted(4, "\x80\x80", 4, 1, 4), "block 0 has"},
		"no frame":                    {crafted(4, "\x80\x80", 4, 1, 4, 2, 2), "a frame of 0 bytes"},
		"frame of nothing":            {crafted(4, "", 4, 1, 4, 1, 0), "a frame of 0 bytes"},
		"frame longer than its plane": {crafted(5, "", 4, 1, 4, 1, 5), "a frame of 5 bytes"},
		"frame of 2^62 bytes":         {crafted(4, "", 4, 1, 4, 1, huge), "a frame of 4611686018427387904"},
		"more than the blocks hold":   {crafted(4, "", 5, 1, 4, 1, 4), "blocks hold 4 bytes of 5"},
		"less than the blocks hold":   {crafted(4, "", 3, 1, 4, 1, 4), "blocks hold 4 bytes of 3"},
		"more behind the table":       {crafted(4, "x", 4, 1, 4, 1, 4), "1 bytes of the table are left"},
		"frames missing":              {crafted(3, "", 4, 1, 4, 1, 4), "frames take 3 bytes and the table says 4"},
		"more behind the frames":      {crafted(5, "", 4, 1, 4, 1, 4), "frames take 5 bytes and the table says 4"},
		"table longer than the file":  {footer(10, "zoopack1"), "does not begin and end"},
		"table of 2^64-1 bytes":       {footer(math.MaxUint64, "zoopack1"), "does not begin and end"},
		"another end":                 {footer(5, "zoopack2"), "does not begin and end"},
		"another beginning":           {append([]byte("zoopack2"), footer(5, "zoopack1")[8:]...), "does not begin and end"},
	} {
		out, err := unpack(c.packed, 4)
		if !errors.Is(err, codec.ErrFormat) || !strings.Contains(err.Error(), c.want) || len(out) > 0 {
			t.Errorf("%s: %d bytes, error %v, want %q", name, len(out), err, c.want)
		}
	}
	if out, err := unpack(crafted(4, "", 4, 1, 4, 1, 4), 4); err != nil || len(out) != 4 {
		t.Errorf("the good one: %d bytes, %v", len(out), err)
	}
}

// TestImpossibleSpansRefused: they would divide a file so that it does not come back.
func TestImpossibleSpansRefused(t *testing.T) {
	for _, s := range [][]codec.Span{{{4, 0}}, {{4, 3}}, {{16, 16}}, {{-4, 4}}, {{6, 4}}, {{4, 4}, {1, 2}}} {
		if n, err := codec.Pack(t.Context(), io.Discard, bytes.NewReader(make([]byte, 64)), s, codec.Options{}); err == nil {
			t.Errorf("%v: packed to %d bytes", s, n)
		}
	}
}

func TestTruncatedAndDamagedRefusedOrHarmless(t *testing.T) {
	data := normal(3000)
	packed := pack(t, data, []codec.Span{{12_000, 4}})
	for n := range packed {
		if _, err := unpack(packed[:n], len(data)); err == nil {
			t.Fatalf("%d of %d bytes unpack", n, len(packed))
		}
	}
	for i := range packed {
		bad := bytes.Clone(packed)
		bad[i] ^= 1 << (i % 8)
		if out, err := unpack(bad, len(data)); err == nil && len(out) != len(data) {
			t.Fatalf("byte %d: %d bytes instead of %d", i, len(out), len(data))
		}
	}
}

func TestWriteErrorEnds(t *testing.T) {
	data := normal(3_000_000)
	packed := pack(t, data, []codec.Span{{12_000_000, 4}})
	full := errors.New("full")
	w := &failing{after: 5 << 20, err: full}
	if err := codec.Unpack(t.Context(), w, bytes.NewReader(packed), int64(len(packed)), int64(len(data)), codec.Options{Workers: 3}); !errors.Is(err, full) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := codec.Unpack(ctx, io.Discard, bytes.NewReader(packed), int64(len(packed)), int64(len(data)), codec.Options{Workers: 3}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

type failing struct {
	after int
	err   error
}

func (w *failing) Write(p []byte) (int, error) {
	if w.after -= len(p); w.after < 0 {
		return 0, w.err
	}
	return len(p), nil
}

// TestRealWeightsShrink packs every real checkpoint, as safetensors, and requires 13 % in total.
func TestRealWeightsShrink(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(shared.Path(t, "weights"), "*.*"))
	if err != nil {
		t.Fatal(err)
	}
	var before, after int64
	for _, path := range files {
		if ext := filepath.Ext(path); ext != ".th" && ext != ".safetensors" {
			continue
		}
		data, spans := safetensors(t, path)
		packed := pack(t, data, spans)
		got, err := unpack(packed, len(data))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s does not come back: %v", path, err)
		}
		before, after = before+int64(len(data)), after+int64(len(packed))
		t.Logf("%-44s %9d -> %9d  %5.1f %% smaller", filepath.Base(path), len(data), len(packed), 100-100*float64(len(packed))/float64(len(data)))
	}
	if after > before*87/100 {
		t.Errorf("%d bytes became %d: less than 13 %% smaller", before, after)
	}
}

// safetensors reads a checkpoint of any format as the bytes of a safetensors file.
func safetensors(t testing.TB, path string) ([]byte, []codec.Span) {
	t.Helper()
	f, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // only read
	var tensors []weights.Tensor
	for tensor := range f.All() {
		tensors = append(tensors, tensor)
	}
	out := filepath.Join(t.TempDir(), "x.safetensors")
	w, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(weights.WriteSafetensors(w, tensors, nil), w.Close()); err != nil {
		t.Fatal(err)
	}
	spans, err := codec.Spans(out)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data, spans
}

func FuzzUnpack(f *testing.F) {
	data := normal(700)
	f.Add(pack(f, data, []codec.Span{{100, 1}, {2700, 4}}), int64(2800))
	f.Add(pack(f, make([]byte, 4000), []codec.Span{{4000, 2}}), int64(4000))
	f.Add(pack(f, nil, nil), int64(0))
	f.Fuzz(func(t *testing.T, packed []byte, size int64) {
		var out bytes.Buffer
		err := codec.Unpack(context.Background(), &out, bytes.NewReader(packed), int64(len(packed)), size, codec.Options{Workers: 1})
		if err == nil && int64(out.Len()) != size {
			t.Fatalf("%d bytes instead of %d", out.Len(), size)
		}
		if err != nil && !errors.Is(err, codec.ErrFormat) {
			t.Fatal(err)
		}
	})
}

func BenchmarkUnpack(b *testing.B) {
	data := normal(16 << 20)
	packed := pack(b, data, []codec.Span{{int64(len(data)), 4}})
	b.Logf("%.1f %% smaller", 100-100*float64(len(packed))/float64(len(data)))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := codec.Unpack(context.Background(), io.Discard, bytes.NewReader(packed), int64(len(packed)), int64(len(data)), codec.Options{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPack(b *testing.B) {
	data := normal(4 << 20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		pack(b, data, []codec.Span{{int64(len(data)), 4}})
	}
}
