package weights

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/weights/internal/tflite"
)

// A FlatBuffer for tests is a fbTable: its fields in the schema's order. nil is an absent field, a []*fbTable a vector of
// tables.
type fbTable []any

// flatbuffer encodes a root table.
func flatbuffer(root fbTable) []byte {
	e := &fbEncoder{out: append(make([]byte, 4), tflite.Identifier...)}
	e.point(0, root)
	return e.out
}

type fbEncoder struct{ out []byte }

// point writes a value at the end and its offset at the given place.
func (e *fbEncoder) point(from int, value any) {
	for len(e.out)%4 != 0 {
		e.out = append(e.out, 0)
	}
	at := len(e.out)
	le := binary.LittleEndian
	length := func(n int) { e.out = le.AppendUint32(e.out, uint32(n)) }
	switch v := value.(type) {
	case fbTable:
		at = e.table(v)
	case string:
		length(len(v))
		e.out = append(append(e.out, v...), 0)
	case []byte:
		length(len(v))
		e.out = append(e.out, v...)
	case []int32:
		length(len(v))
		for _, x := range v {
			e.out = le.AppendUint32(e.out, uint32(x))
		}
	case []float32:
		length(len(v))
		for _, x := range v {
			e.out = le.AppendUint32(e.out, math.Float32bits(x))
		}
	case []int64:
		length(len(v))
		for _, x := range v {
			e.out = le.AppendUint64(e.out, uint64(x))
		}
	case []fbTable:
		length(len(v))
		e.out = append(e.out, make([]byte, 4*len(v))...)
		for i, t := range v {
			e.point(at+4+4*i, t)
		}
	}
	le.PutUint32(e.out[from:], uint32(at-from))
}

// table writes the vtable, the table, and what it refers to; every field takes four bytes.
func (e *fbEncoder) table(t fbTable) int {
	le := binary.LittleEndian
	vtable := len(e.out)
	e.out = le.AppendUint16(e.out, uint16(4+2*len(t)))
	e.out = le.AppendUint16(e.out, uint16(4+4*len(t)))
	for i, v := range t {
		offset := 4 + 4*i
		if v == nil {
			offset = 0
		}
		e.out = le.AppendUint16(e.out, uint16(offset))
	}
	for len(e.out)%4 != 0 {
		e.out = append(e.out, 0)
	}
	at := len(e.out)
	e.out = append(e.out, make([]byte, 4+4*len(t))...)
	le.PutUint32(e.out[at:], uint32(at-vtable))
	for i, v := range t {
		field := at + 4 + 4*i
		switch v := v.(type) {
		case nil:
		case uint8:
			e.out[field] = v
		case int32:
			le.PutUint32(e.out[field:], uint32(v))
		default:
			e.point(field, v)
		}
	}
	return at
}

// lite is a TensorFlow Lite model under construction.
type lite struct {
	tensors []liteTensor
	ops     []liteOp
	inputs  []int32
	outputs []int32
	at      int32 // the tensor that the next operator reads
	version int32
}

type liteTensor struct {
	shape []int32
	typ   tflite.Type
	data  []byte
	scale []float32
	zero  []int64
	axis  int32
}

type liteOp struct {
	op          tflite.Op
	in, out     []int32
	optionsType uint8
	options     fbTable
}

func (m *lite) tensor(t liteTensor) int32 {
	m.tensors = append(m.tensors, t)
	return int32(len(m.tensors) - 1)
}

// op adds an operator that reads the last result and more, and gives a result of the given shape.
func (m *lite) op(op tflite.Op, result liteTensor, optionsType uint8, options fbTable, more ...int32) *liteOp {
	out := m.tensor(result)
	m.ops = append(m.ops, liteOp{op, append([]int32{m.at}, more...), []int32{out}, optionsType, options})
	m.at = out
	return &m.ops[len(m.ops)-1]
}

// encode gives tensors of the same memory the same buffer.
func (m *lite) encode() []byte {
	places := map[*byte]int32{}
	codes := map[tflite.Op]int32{}
	var operatorCodes, buffers, tensors, operators []fbTable
	buffers = append(buffers, fbTable{})
	for _, o := range m.ops {
		if _, ok := codes[o.op]; !ok {
			codes[o.op] = int32(len(operatorCodes))
			operatorCodes = append(operatorCodes, fbTable{uint8(min(o.op, 127)), nil, int32(1), int32(o.op)})
		}
		operators = append(operators, fbTable{codes[o.op], o.in, o.out, o.optionsType, o.options})
	}
	for _, t := range m.tensors {
		x := fbTable{t.shape, uint8(t.typ), int32(0), "tensor", nil}
		if t.data != nil {
			first := &t.data[0]
			if _, ok := places[first]; !ok {
				places[first] = int32(len(buffers))
				buffers = append(buffers, fbTable{t.data})
			}
			x[2] = places[first]
		}
		if t.scale != nil {
			x[4] = fbTable{nil, nil, t.scale, t.zero, nil, nil, t.axis}
		}
		tensors = append(tensors, x)
	}
	return flatbuffer(fbTable{m.version, operatorCodes, []fbTable{{tensors, m.inputs, m.outputs, operators, "main"}}, "a test", buffers})
}

// liteStyle is a way in which models are written.
type liteStyle struct {
	typ        tflite.Type // of the weights: Float32, Float16, Uint8 with a scale a tensor, Int8 with one a channel
	keras      bool        // PAD before strides, MEAN, FULLY_CONNECTED
	background bool        // a class before the others
	lattice    bool        // the weights were 8-bit integers before: find their scale again; biases are floats
}

const inputScale = 1.0 / 128

// liteModel writes a network with the weights of a state dict (PyTorch's names and layouts), and returns it with the state dict
// that must come out.
func liteModel(t testing.TB, n tfliteNetwork, side int32, state []Tensor, style liteStyle) (*lite, []Tensor) {
	t.Helper()
	byName := map[string]Tensor{}
	for _, x := range state {
		byName[x.Name] = x
	}
	m := &lite{version: 3}
	var want []Tensor
	channels := int32(3)
	result := func(shape ...int32) liteTensor {
		r := liteTensor{shape: shape, typ: tflite.Float32}
		if style.typ == tflite.Uint8 || style.typ == tflite.Int8 {
			r.typ, r.scale, r.zero = style.typ, []float32{inputScale}, []int64{0}
		}
		return r
	}
	m.at = m.tensor(result(1, side, side, channels))
	m.inputs = []int32{m.at}
	// parameters adds a layer's kernel and bias and returns their tensors.
	parameters := func(name string, depthwise, classifier bool) []int32 {
		kernel, bias := byName[name+".weight"], byName[name+".bias"]
		if kernel.Len() == 0 || bias.Len() == 0 {
			t.Fatalf("the state dict lacks %s", name)
		}
		k, b, wantKernel, wantBias := liteParameters(t, kernel, bias, depthwise, classifier, style)
		want = append(want, wantKernel, wantBias)
		channels = b.shape[0]
		if classifier && style.keras {
			k.shape = []int32{k.shape[0], k.shape[3]}
		}
		list := []int32{m.tensor(k), m.tensor(b)}
		if style.typ == tflite.Float16 {
			for i, index := range list {
				full := m.tensor(liteTensor{shape: m.tensors[index].shape, typ: tflite.Float32})
				m.ops = append(m.ops, liteOp{op: tflite.Dequantize, in: []int32{index}, out: []int32{full}})
				list[i] = full
			}
		}
		return list
	}
	for _, b := range n.blocks {
		before := m.at
		for _, l := range b.layers {
			padding, stride, act := uint8(0), int32(l.stride), uint8(tflite.ReLU6Activation)
			if l.linear {
				act = 0
			}
			if style.keras && l.stride == 2 {
				padding = 1
				amounts := m.tensor(liteTensor{shape: []int32{4, 2}, typ: tflite.Int32, data: int32Bytes(0, 0, 0, 1, 0, 1, 0, 0)})
				m.op(tflite.Pad, result(1, side+1, side+1, channels), 0, nil, amounts)
			}
			side = (side + stride - 1) / stride
			p := parameters(l.name, l.depthwise, false)
			if l.depthwise {
				m.op(tflite.DepthwiseConv2D, result(1, side, side, channels), 2, fbTable{padding, stride, stride, int32(1), act}, p...)
			} else {
				m.op(tflite.Conv2D, result(1, side, side, channels), 1, fbTable{padding, stride, stride, act}, p...)
			}
		}
		if b.residual {
			m.op(tflite.Add, result(1, side, side, channels), 11, fbTable{uint8(0)}, before)
		}
	}
	if style.keras {
		m.op(tflite.Mean, result(1, channels), 0, nil, m.tensor(liteTensor{shape: []int32{2}, typ: tflite.Int32, data: int32Bytes(1, 2)}))
		p := parameters(n.classifier, false, true)
		m.op(tflite.FullyConnected, result(1, channels), 8, fbTable{uint8(0)}, p...)
	} else {
		m.op(tflite.AveragePool2D, result(1, 1, 1, channels), 5, fbTable{uint8(1), side, side, side, side, uint8(0)})
		p := parameters(n.classifier, false, true)
		m.op(tflite.Conv2D, result(1, 1, 1, channels), 1, fbTable{uint8(0), int32(1), int32(1), uint8(0)}, p...)
		m.op(tflite.Reshape, result(1, channels), 0, nil)
	}
	m.op(tflite.Softmax, result(1, channels), 0, nil)
	m.outputs = []int32{m.at}
	return m, want
}

func int32Bytes(values ...int32) []byte {
	var out []byte
	for _, v := range values {
		out = binary.LittleEndian.AppendUint32(out, uint32(v))
	}
	return out
}

// liteParameters turns a kernel (OIHW, or a matrix) and a bias into tensors of the file and into what must be read from them.
func liteParameters(t testing.TB, kernel, bias Tensor, depthwise, classifier bool, style liteStyle) (k, b liteTensor, wantKernel, wantBias Tensor) {
	t.Helper()
	floats := func(x Tensor) []float32 {
		v, err := x.Float32()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	s := append(append([]int{}, kernel.Shape...), 1, 1)[:4]
	o, i, h, w := s[0], s[1], s[2], s[3]
	row := i * h * w
	values, biases := floats(kernel), floats(bias)
	if classifier && style.background {
		values = append(make([]float32, row), values...)
		biases = append([]float32{9}, biases...)
		o++
	}
	// place is where the value of index x in OIHW lies in the file: in OHWI, or in 1HWC.
	place := func(x int) int {
		oo, ii, hh, ww := x/row, x/(h*w)%i, x/w%h, x%w
		if depthwise {
			return (hh*w+ww)*o + oo
		}
		return ((oo*h+hh)*w+ww)*i + ii
	}
	k.shape, k.typ, b.shape, b.typ = []int32{int32(o), int32(h), int32(w), int32(i)}, style.typ, []int32{int32(o)}, style.typ
	if depthwise {
		k.shape = []int32{1, int32(h), int32(w), int32(o)}
		k.axis = 3
	}
	wantValues, wantBiases := make([]float32, len(values)), make([]float32, len(biases))
	switch style.typ {
	case tflite.Float32, tflite.Float16:
		size := style.typ.Size()
		put := func(data []byte, at int, v float32) float32 {
			if size == 4 {
				binary.LittleEndian.PutUint32(data[4*at:], math.Float32bits(v))
				return v
			}
			half := toFloat16(v)
			binary.LittleEndian.PutUint16(data[2*at:], half)
			return float16(half)
		}
		k.data, b.data = make([]byte, size*len(values)), make([]byte, size*len(biases))
		for x, v := range values {
			wantValues[x] = put(k.data, place(x), v)
		}
		for x, v := range biases {
			wantBiases[x] = put(b.data, x, v)
		}
	default:
		k.data = make([]byte, len(values))
		scales, zero := 1, int64(131)
		if style.typ == tflite.Int8 {
			scales, zero = o, 0
		}
		largest := make([]float32, scales)
		for x, v := range values {
			c := x / row % scales
			largest[c] = max(largest[c], v, -v, 1e-6)
		}
		if style.lattice {
			largest[0], zero = lattice(t, kernel.Name, values)
			largest[0] *= 120
		}
		for c := range scales {
			k.scale, k.zero = append(k.scale, largest[c]/120), append(k.zero, zero)
			b.scale, b.zero = append(b.scale, inputScale*k.scale[c]), append(b.zero, 0)
		}
		for x, v := range values {
			scale := float64(k.scale[x/row%scales])
			q := math.Round(float64(v)/scale) + float64(zero)
			if style.typ == tflite.Int8 {
				q = min(max(q, -127), 127)
				k.data[place(x)] = byte(int8(q))
			} else {
				q = min(max(q, 0), 255)
				k.data[place(x)] = byte(q)
			}
			wantValues[x] = float32(scale * (q - float64(zero)))
		}
		if style.lattice {
			b.typ, b.scale, b.zero = tflite.Float32, nil, nil
			for x, v := range biases {
				b.data = binary.LittleEndian.AppendUint32(b.data, math.Float32bits(v))
				wantBiases[x] = v
			}
			break
		}
		b.typ = tflite.Int32
		for x, v := range biases {
			scale := float64(b.scale[x%scales])
			q := int32(math.Round(float64(v) / scale))
			b.data = append(b.data, int32Bytes(q)...)
			wantBiases[x] = float32(scale * float64(q))
		}
	}
	if classifier && style.background {
		wantValues, wantBiases = wantValues[row:], wantBiases[1:]
	}
	return k, b, FromFloat32(kernel.Name, kernel.Shape, wantValues), FromFloat32(bias.Name, bias.Shape, wantBiases)
}

// lattice finds the scale and the zero point of values that are scale·(q - zero) with q of 8 bits, up to rounding.
func lattice(t testing.TB, name string, values []float32) (float32, int64) {
	t.Helper()
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	low, high := float64(sorted[0]), float64(sorted[len(sorted)-1])
	gap := high - low
	for i, v := range sorted[1:] {
		if d := float64(v - sorted[i]); d > 1e-5*(high-low) {
			gap = min(gap, d)
		}
	}
search:
	for divisor := 1.0; divisor < 10; divisor++ {
		steps := math.Round((high - low) / gap * divisor)
		scale := (high - low) / steps
		for _, v := range values {
			if q := float64(v) / scale; math.Abs(q-math.Round(q)) > 0.01 {
				continue search
			}
		}
		if steps > 255 {
			break
		}
		return float32(scale), int64(-math.Round(low / scale))
	}
	t.Fatalf("%s is no lattice of 8 bits", name)
	return 0, 0
}

// toFloat16 rounds a float of ordinary size.
func toFloat16(v float32) uint16 {
	bits := math.Float32bits(v)
	sign := uint16(bits >> 16 & 0x8000)
	exponent := int(bits>>23&0xff) - 112
	if exponent <= 0 {
		return sign
	}
	return sign | uint16(exponent)<<10 | uint16(bits>>13&0x3ff)
}

// smallState is a state dict of random weights for a network of a few channels.
func smallState(n tfliteNetwork, classes int) []Tensor {
	return stateOfWidth(n, classes, func(i int) int { return 2 + i%3 })
}

// stateOfWidth is smallState with the given number of filters of the i-th convolution.
func stateOfWidth(n tfliteNetwork, classes int, width func(i int) int) []Tensor {
	r := rand.New(rand.NewPCG(1, 2))
	var state []Tensor
	layer := func(name string, shape ...int) {
		size := 1
		for _, d := range shape {
			size *= d
		}
		values, bias := make([]float32, size), make([]float32, shape[0])
		for i := range values {
			values[i] = r.Float32() - 0.5
		}
		for i := range bias {
			bias[i] = r.Float32() - 0.5
		}
		state = append(state, FromFloat32(name+".weight", shape, values), FromFloat32(name+".bias", shape[:1], bias))
	}
	channels := 3
	for i, b := range n.blocks {
		before := channels
		for j, l := range b.layers {
			if l.depthwise {
				layer(l.name, channels, 1, l.kernel, l.kernel)
				continue
			}
			out := width(i + j)
			if b.residual && j == len(b.layers)-1 {
				out = before
			}
			layer(l.name, out, channels, l.kernel, l.kernel)
			channels = out
		}
	}
	layer(n.classifier, classes, channels)
	return state
}
