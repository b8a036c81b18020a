package weights

import (
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/internal/shared"
	"github.com/go-modelzoo/zoo/weights/internal/tflite"
)

// liteStyles are the ways in which MobileNets are published: TensorFlow 1's slim, quantisation-aware slim, Keras, float16 and per-channel integers.
var liteStyles = map[string]liteStyle{
	"float":                        {typ: tflite.Float32, background: true},
	"uint8, one scale":             {typ: tflite.Uint8, background: true},
	"Keras float":                  {typ: tflite.Float32, keras: true},
	"Keras float16":                {typ: tflite.Float16, keras: true},
	"Keras int8, a scale a filter": {typ: tflite.Int8, keras: true},
}

func liteNetworks() []tfliteNetwork { return []tfliteNetwork{mobileNetV1(), mobileNetV2()} }

func TestTFLiteWeightsComeOutInAnotherLayout(t *testing.T) {
	for _, n := range liteNetworks() {
		for name, style := range liteStyles {
			t.Run(n.name+" "+name, func(t *testing.T) {
				m, want := liteModel(t, n, 32, smallState(n, 1000), style)
				f, err := parse("x.tflite", m.encode())
				if err != nil {
					t.Fatal(err)
				}
				if f.Format() != TFLite || len(f.Notes()) == 0 {
					t.Errorf("format %q, notes %q", f.Format(), f.Notes())
				}
				sameValues(t, f, want)
			})
		}
	}
}

// sameValues compares the tensors of a file with others, as float32 and in any order.
func sameValues(t *testing.T, f *File, want []Tensor) {
	t.Helper()
	if f.Len() != len(want) {
		t.Errorf("%d tensors, want %d", f.Len(), len(want))
	}
	for _, w := range want {
		got, ok := f.Tensor(w.Name)
		if !ok || !slices.Equal(got.Shape, w.Shape) {
			t.Errorf("%s has shape %v, want %v", w.Name, got.Shape, w.Shape)
			continue
		}
		a, errA := got.Float32()
		b, errB := w.Float32()
		if errA != nil || errB != nil || !slices.Equal(a, b) {
			t.Errorf("%s: other values (%v, %v)", w.Name, errA, errB)
		}
	}
}

// TestPublicWeightsAsTFLite writes public MobileNets as TensorFlow Lite has them. Both were 8-bit TensorFlow Lite files before somebody converted
// them without this package: names, shapes and values must be that conversion's, also from 8 bits.
func TestPublicWeightsAsTFLite(t *testing.T) {
	for file, n := range map[string]tfliteNetwork{
		"mobilenet_v1_0.75_192.tf.safetensors": mobileNetV1(), "mobilenet_v2_1.0_224.tf.safetensors": mobileNetV2(),
	} {
		public := mustOpen(t, shared.Path(t, "weights/"+file))
		for _, style := range []liteStyle{{typ: tflite.Float32, background: true}, {typ: tflite.Uint8, background: true, lattice: true}} {
			m, want := liteModel(t, n, 192, slices.Collect(public.All()), style)
			f := mustOpen(t, write(t, "model.tflite", m.encode()))
			sameValues(t, f, want)
			if f.Len() != public.Len() {
				t.Errorf("%s: %d tensors, want %d", file, f.Len(), public.Len())
			}
			for x := range public.All() {
				got, a := floats(t, f, x.Name), floats(t, public, x.Name)
				for i, v := range a {
					if math.Abs(float64(v-got[i])) > 1e-6*math.Abs(float64(v)) || style.typ == tflite.Float32 && v != got[i] {
						t.Fatalf("%s: %s has %v at %d, want %v", file, x.Name, got[i], i, v)
					}
				}
			}
		}
	}
}

func TestOtherTFLiteGraphsRefused(t *testing.T) {
	n := mobileNetV2()
	firstOf := func(m *lite, op tflite.Op) *liteOp {
		return &m.ops[slices.IndexFunc(m.ops, func(o liteOp) bool { return o.op == op })]
	}
	kernel := func(m *lite) *liteTensor { return &m.tensors[firstOf(m, tflite.Conv2D).in[1]] }
	bias := func(m *lite) *liteTensor { return &m.tensors[firstOf(m, tflite.Conv2D).in[2]] }
	for _, c := range []struct {
		fault  string
		change func(m *lite)
		words  string
	}{
		{"another version", func(m *lite) { m.version = 4 }, "version 4"},
		{"another operator", func(m *lite) { firstOf(m, tflite.Add).op = 41 }, "ADD"},
		{"padding VALID", func(m *lite) { firstOf(m, tflite.DepthwiseConv2D).options[0] = uint8(1) }, "SAME"},
		{"another stride", func(m *lite) { firstOf(m, tflite.Conv2D).options[1] = int32(1) }, "stride"},
		{"a dilation", func(m *lite) {
			o := firstOf(m, tflite.Conv2D)
			o.options = append(o.options, int32(2), int32(2))
		}, "dilation"},
		{"two filters a channel", func(m *lite) { firstOf(m, tflite.DepthwiseConv2D).options[3] = int32(2) }, "filters a channel"},
		{"ReLU", func(m *lite) { firstOf(m, tflite.Conv2D).options[3] = uint8(1) }, "activation 1"},
		{"activation behind a sum", func(m *lite) { firstOf(m, tflite.Add).options[0] = uint8(3) }, "activation"},
		{"a sum with something else", func(m *lite) { firstOf(m, tflite.Add).in[1] = 0 }, "ADD"},
		{"operators out of order", func(m *lite) { m.ops[0], m.ops[1] = m.ops[1], m.ops[0] }, "instead of"},
		{"a chain with a gap", func(m *lite) { m.ops[3].in[0] = 0 }, "does not go on"},
		{"pooling of a part", func(m *lite) { firstOf(m, tflite.AveragePool2D).options[3] = int32(2) }, "whole map"},
		{"no bias", func(m *lite) { o := firstOf(m, tflite.Conv2D); o.in = o.in[:2] }, "bias"},
		{"an operator behind the classifier", func(m *lite) { m.op(tflite.Add, liteTensor{shape: []int32{1}}, 0, nil) }, "follows"},
		{"the end missing", func(m *lite) { m.ops = m.ops[:2] }, "ends before"},
		{"another output", func(m *lite) { m.outputs[0] = 0 }, "output"},
		{"two outputs", func(m *lite) { m.outputs = []int32{m.at, 0} }, "2 outputs"},
		{"a tensor that is not there", func(m *lite) { m.ops[5].in[1] = 1 << 20 }, "tensor 1048576"},
		{"a weight that is computed", func(m *lite) { kernel(m).data = nil }, "computed"},
		{"a weight of too few bytes", func(m *lite) { kernel(m).data = kernel(m).data[1:] }, "bytes"},
		{"a dimension below 0", func(m *lite) { kernel(m).shape[0] = -4 }, "shape"},
		{"huge dimensions", func(m *lite) { copy(kernel(m).shape, []int32{1 << 30, 1 << 30, 1 << 30, 1 << 30}) }, "shape"},
		{"nine dimensions", func(m *lite) { kernel(m).shape = make([]int32, 9) }, "9 dimensions"},
		{"strings as weights", func(m *lite) { kernel(m).typ = 5 }, "element type 5"},
		{"no scale", func(m *lite) { kernel(m).scale = nil }, "scale"},
		{"scale 0", func(m *lite) { kernel(m).scale[0] = 0 }, "scale 0"},
		{"two scales on a dimension of 3", func(m *lite) { kernel(m).scale = []float32{1, 1}; kernel(m).axis = 1 }, "2 scales"},
		{"scales along dimension 9", func(m *lite) { kernel(m).scale = []float32{1, 1}; kernel(m).axis = 9 }, "dimension 9"},
		{"two zero points", func(m *lite) { kernel(m).zero = []int64{1, 2} }, "zero points"},
		{"a wild zero point", func(m *lite) { kernel(m).zero[0] = 1 << 40 }, "zero point"},
		{"a bias with another scale", func(m *lite) { bias(m).scale[0] *= 2 }, "has scale"},
		{"a bias with a zero point", func(m *lite) { bias(m).zero[0] = 1 }, "zero point 1"},
		{"a bias for other channels", func(m *lite) { b := bias(m); b.shape[0]++; b.data = append(b.data, 0, 0, 0, 0) }, "bias of shape"},
	} {
		m, _ := liteModel(t, n, 32, smallState(n, 5), liteStyles["uint8, one scale"])
		c.change(m)
		_, err := parse("x.tflite", m.encode())
		if err == nil {
			t.Errorf("%s: accepted", c.fault)
			continue
		}
		oneLine(t, err, ErrFormat, "x.tflite", c.words)
	}
}

// TestSharedTFLiteBytesRefused has many large weights in the same bytes: read, they would be many times the file.
func TestSharedTFLiteBytesRefused(t *testing.T) {
	n := mobileNetV1()
	m, _ := liteModel(t, n, 32, stateOfWidth(n, 5, func(int) int { return 64 }), liteStyles["float"])
	same := map[int][]byte{}
	for i := range m.tensors {
		x := &m.tensors[i]
		if same[len(x.data)] == nil {
			same[len(x.data)] = x.data
		}
		x.data = same[len(x.data)]
	}
	_, err := parse("x.tflite", m.encode())
	oneLine(t, err, ErrFormat, "share")
}

func TestTruncatedTFLiteRefused(t *testing.T) {
	n := mobileNetV1()
	m, _ := liteModel(t, n, 32, smallState(n, 5), liteStyles["uint8, one scale"])
	data := m.encode()
	for end := 9; end < len(data)-8; end += 5 {
		if _, err := parse("x.tflite", data[:end]); err == nil {
			t.Fatalf("the first %d of %d bytes are accepted", end, len(data))
		}
	}
}

// TestWildTFLiteOffsets puts numbers that lead outside, backwards, to themselves or to too many elements in every place of a file.
func TestWildTFLiteOffsets(t *testing.T) {
	n := mobileNetV1()
	m, _ := liteModel(t, n, 32, smallState(n, 5), liteStyles["uint8, one scale"])
	data := m.encode()
	for at := 0; at+4 <= len(data); at += 12 { // a third of the places: fields of one kind recur often
		if at == 4 {
			continue
		}
		kept := binary.LittleEndian.Uint32(data[at:])
		for _, wild := range []uint32{0, 0xffffffff, 0x7fffffff, uint32(-at), uint32(len(data))} {
			binary.LittleEndian.PutUint32(data[at:], wild)
			if f, err := parse("x.tflite", data); err == nil {
				for x := range f.All() {
					if _, err := x.Float32(); err != nil {
						t.Fatal(err)
					}
				}
			} else if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
		}
		binary.LittleEndian.PutUint32(data[at:], kept)
	}
}
