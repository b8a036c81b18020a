// Package tflite reads the graph in a TensorFlow Lite file: tensors with their quantisation, and operators with the options of the few
// kinds that classifiers of MobileNet's time are made of. It knows nothing of any network.
//
// The file is a FlatBuffer of the schema in tensorflow/lite/schema/schema.fbs. Parse trusts nothing in it: it follows a fixed number of
// offsets for each object, bounds every count, and copies no weights, so no file makes it panic, loop, or allocate more than a small
// multiple of the file's size. Tensor data refers to the file's memory.
package tflite

import (
	"errors"
	"fmt"
	"math"
)

// Identifier is at byte 4 of every file.
const Identifier = "TFL3"

// Limits on what a file may list. MobileNet V2 has 173 tensors and 65 operators.
const (
	maxObjects  = 1 << 14 // tensors, operators, buffers, kinds of operators
	maxRank     = 8
	maxOperands = 64 // inputs or outputs of an operator or of the graph
	maxName     = 80
)

// Type is an element type, by the schema's TensorType.
type Type uint8

// The types that weights have.
const (
	Float32 Type = 0
	Float16 Type = 1
	Int32   Type = 2
	Uint8   Type = 3
	Int8    Type = 9
)

// Size returns the bytes of an element, 0 for a type that weights do not have.
func (t Type) Size() int {
	switch t {
	case Float32, Int32:
		return 4
	case Float16:
		return 2
	case Uint8, Int8:
		return 1
	}
	return 0
}

// Op is a kind of operator, by the schema's BuiltinOperator.
type Op int32

// The operators that Parse knows by name.
const (
	Add             Op = 0
	AveragePool2D   Op = 1
	Conv2D          Op = 3
	DepthwiseConv2D Op = 4
	Dequantize      Op = 6
	FullyConnected  Op = 9
	ReLU6           Op = 21
	Reshape         Op = 22
	Softmax         Op = 25
	Pad             Op = 34
	Mean            Op = 40
	Squeeze         Op = 43
	Quantize        Op = 114
)

var opNames = map[Op]string{
	Add: "ADD", AveragePool2D: "AVERAGE_POOL_2D", Conv2D: "CONV_2D", DepthwiseConv2D: "DEPTHWISE_CONV_2D", Dequantize: "DEQUANTIZE",
	FullyConnected: "FULLY_CONNECTED", ReLU6: "RELU6", Reshape: "RESHAPE", Softmax: "SOFTMAX", Pad: "PAD", Mean: "MEAN",
	Squeeze: "SQUEEZE", Quantize: "QUANTIZE",
}

// String returns the schema's name.
func (o Op) String() string {
	if name, ok := opNames[o]; ok {
		return name
	}
	return fmt.Sprintf("operator %d", int32(o))
}

// Activation is what is applied to an operator's result, by the schema's ActivationFunctionType.
type Activation uint8

// The activations of MobileNets.
const (
	NoActivation    Activation = 0
	ReLU6Activation Activation = 3
)

// Window is how a convolution or pooling moves over its input. Operators of other kinds leave it zero.
type Window struct {
	Valid              bool // padding VALID; else SAME
	StrideH, StrideW   int
	DilationH          int
	DilationW          int
	FilterH, FilterW   int // of poolings; a convolution's is its weight's shape
	ChannelsMultiplier int // of depthwise convolutions
}

// Operator is a step of the graph. Inputs and Outputs are indices of tensors; an absent optional input is -1.
type Operator struct {
	Op         Op
	Inputs     []int
	Outputs    []int
	Activation Activation
	Window     Window
}

// Tensor is a constant or the place of an operator's result.
type Tensor struct {
	Name   string
	Shape  []int // as the file has it: Elements checks it
	Type   Type
	Data   []byte // nil for what is computed
	Sparse bool   // Data leaves out zeros

	quantization table
	scale, zero  vector
}

// Model is the first subgraph of a file: its tensors, and its operators in an order in which they can run.
type Model struct {
	Tensors         []Tensor
	Operators       []Operator
	Inputs, Outputs []int
}

// Parse reads a file. The errors continue a sentence that begins with the file's name.
func Parse(data []byte) (*Model, error) {
	b := &buffer{data: data}
	if len(data) < 8 || string(data[4:8]) != Identifier {
		return nil, errors.New("is not a TensorFlow Lite model")
	}
	model := b.table(b.follow(0))
	if v := model.uint32(0); b.err == nil && v != 3 {
		return nil, fmt.Errorf("has version %d of TensorFlow Lite's schema, where only 3 is known", v)
	}
	codes := operatorCodes(model.vector(1, 4))
	graphs, buffers := model.vector(2, 4), model.vector(4, 4)
	if b.err == nil && graphs.n != 1 {
		return nil, fmt.Errorf("has %d graphs, where a classifier has one", graphs.n)
	}
	if b.err != nil {
		return nil, b.err
	}
	graph := graphs.table(0)
	m := &Model{
		Tensors: tensors(graph.vector(0, 4), buffers),
		Inputs:  b.indices(graph.vector(1, 4)),
		Outputs: b.indices(graph.vector(2, 4)),
	}
	m.Operators = operators(graph.vector(3, 4), codes)
	if b.err != nil {
		return nil, b.err
	}
	return m, m.checkIndices()
}

// limited bounds the number of objects of a kind.
func limited(v vector, what string) int {
	if v.n > maxObjects {
		v.b.fail("has %d %s, of at most %d", v.n, what, maxObjects)
		return 0
	}
	return v.n
}

func operatorCodes(v vector) []Op {
	codes := make([]Op, limited(v, "kinds of operators"))
	for i := range codes {
		// builtin_code replaced a field of one byte, which old files have alone and new ones fill up to 127.
		t := v.table(i)
		codes[i] = Op(max(int32(int8(t.uint8(0))), t.int32(3, 0)))
	}
	return codes
}

func tensors(v, buffers vector) []Tensor {
	list := make([]Tensor, limited(v, "tensors"))
	for i := range list {
		t := v.table(i)
		x := Tensor{Type: Type(t.uint8(1)), Sparse: t.has(6), quantization: t.table(4)}
		if name := t.vector(3, 1).raw(); len(name) > 0 {
			x.Name = string(name[:min(len(name), maxName)])
		}
		x.scale, x.zero = x.quantization.vector(2, 4), x.quantization.vector(3, 8)
		shape := t.vector(0, 4)
		if shape.n > maxRank {
			v.b.fail("has tensor %.80q of %d dimensions, of at most %d", x.Name, shape.n, maxRank)
			return nil
		}
		for k := range shape.n {
			// Results may have a dimension of -1 or 0 in old files; Data is checked against Shape where it is used.
			x.Shape = append(x.Shape, int(shape.int32(k)))
		}
		k := t.uint32(2)
		if v.b.err == nil && uint64(k) >= uint64(buffers.n) && k != 0 {
			v.b.fail("is damaged: tensor %.80q has buffer %d of %d", x.Name, k, buffers.n)
		}
		if v.b.err == nil && k != 0 {
			buffer := buffers.table(int(k))
			if buffer.has(1) || buffer.has(2) {
				v.b.fail("keeps weights behind its FlatBuffer, as models above 2 GB do: this is not read")
			}
			if data := buffer.vector(0, 1); data.n > 0 {
				x.Data = data.raw()
			}
		}
		if v.b.err != nil {
			return nil
		}
		list[i] = x
	}
	return list
}

// Options of operators, by the schema's BuiltinOptions.
const (
	conv2DOptions          = 1
	depthwiseConv2DOptions = 2
	pool2DOptions          = 5
	fullyConnectedOptions  = 8
	addOptions             = 11
)

func operators(v vector, codes []Op) []Operator {
	list := make([]Operator, limited(v, "operators"))
	for i := range list {
		t := v.table(i)
		k := t.uint32(0)
		if v.b.err == nil && uint64(k) >= uint64(len(codes)) {
			v.b.fail("is damaged: operator %d is of kind %d of %d", i, k, len(codes))
		}
		if v.b.err != nil {
			return nil
		}
		o := Operator{Op: codes[k], Inputs: v.b.indices(t.vector(1, 4)), Outputs: v.b.indices(t.vector(2, 4))}
		options := t.table(4)
		number := func(field int, absent int32) int { return int(options.int32(field, absent)) }
		switch t.uint8(3) {
		case conv2DOptions:
			o.Window = Window{Valid: options.uint8(0) != 0, StrideW: number(1, 0), StrideH: number(2, 0), DilationW: number(4, 1), DilationH: number(5, 1)}
			o.Activation = Activation(options.uint8(3))
		case depthwiseConv2DOptions:
			o.Window = Window{Valid: options.uint8(0) != 0, StrideW: number(1, 0), StrideH: number(2, 0), ChannelsMultiplier: number(3, 0), DilationW: number(5, 1), DilationH: number(6, 1)}
			o.Activation = Activation(options.uint8(4))
		case pool2DOptions:
			o.Window = Window{Valid: options.uint8(0) != 0, StrideW: number(1, 0), StrideH: number(2, 0), FilterW: number(3, 0), FilterH: number(4, 0)}
			o.Activation = Activation(options.uint8(5))
		case fullyConnectedOptions, addOptions:
			o.Activation = Activation(options.uint8(0))
		}
		list[i] = o
	}
	return list
}

func (b *buffer) indices(v vector) []int {
	if v.n > maxOperands {
		b.fail("has an operator of %d operands, of at most %d", v.n, maxOperands)
		return nil
	}
	list := make([]int, v.n)
	for i := range list {
		list[i] = int(v.int32(i))
	}
	return list
}

// checkIndices makes sure that operands are tensors; inputs may be absent.
func (m *Model) checkIndices() error {
	check := func(list []int, least int) error {
		for _, k := range list {
			if k < least || k >= len(m.Tensors) {
				return fmt.Errorf("is damaged: it refers to tensor %d of %d", k, len(m.Tensors))
			}
		}
		return nil
	}
	err := check(m.Inputs, 0)
	if err == nil {
		err = check(m.Outputs, 0)
	}
	for _, o := range m.Operators {
		if err == nil {
			err = check(o.Inputs, -1)
		}
		if err == nil {
			err = check(o.Outputs, 0)
		}
	}
	return err
}

// Elements returns the number of values of the shape, and false if a dimension is below 1 or the product overflows.
func (t *Tensor) Elements() (int, bool) {
	n := 1
	for _, d := range t.Shape {
		if d < 1 || n > math.MaxInt/d {
			return 0, false
		}
		n *= d
	}
	return n, true
}

// Quantization is how integers stand for numbers: scale·(q - zero), with one of each or one for each index of dimension Axis.
type Quantization struct {
	Scale []float32 // finite and positive
	Zero  []int64   // as many
	Axis  int
}

// Quantization returns the tensor's quantisation, nil if it has none.
func (t *Tensor) Quantization() (*Quantization, error) {
	b := t.scale.b
	if b == nil || t.scale.n == 0 {
		return nil, nil
	}
	if t.quantization.uint8(4) != 0 {
		return nil, fmt.Errorf("has tensor %.80q with a quantisation of its own kind, which is not read", t.Name)
	}
	q := &Quantization{Axis: int(t.quantization.int32(6, 0))}
	n := t.scale.n
	if n > 1 && (q.Axis < 0 || q.Axis >= len(t.Shape) || t.Shape[q.Axis] != n) {
		return nil, fmt.Errorf("has tensor %.80q of shape %v with %d scales along dimension %d", t.Name, t.Shape, n, q.Axis)
	}
	if t.zero.n != 0 && t.zero.n != n {
		return nil, fmt.Errorf("has tensor %.80q with %d scales and %d zero points", t.Name, n, t.zero.n)
	}
	q.Scale, q.Zero = make([]float32, n), make([]int64, n)
	for i := range n {
		s := t.scale.float32(i)
		if !(s > 0) || math.IsInf(float64(s), 0) {
			return nil, fmt.Errorf("has tensor %.80q with scale %v", t.Name, s)
		}
		q.Scale[i] = s
		if t.zero.n > 0 {
			q.Zero[i] = t.zero.int64(i)
		}
		if q.Zero[i] < math.MinInt16 || q.Zero[i] > math.MaxInt16 {
			return nil, fmt.Errorf("has tensor %.80q with zero point %d", t.Name, q.Zero[i])
		}
	}
	return q, b.err
}
