// Package onnx writes a graph with its parameters as an ONNX model (opset 17, https://onnx.ai), which ONNX Runtime, OpenVINO
// and others read.
//
// The model has one input "input" of shape [N, C, H, W] and one output "logits" of shape [N, classes], with N free; parameters keep
// their PyTorch names. Auxiliary classifiers, dropout and stochastic depth are left out: the model is the network in evaluation.
//
// Write only reads its arguments.
package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
)

// opset is the version of the operator set that Write uses.
const opset = 17

// ErrUnevenBins is wrapped by the error for an adaptive pooling whose bins differ in size.
var ErrUnevenBins = errors.New("ONNX has no pooling over bins of different sizes: export at an input size that divides")

// Write writes the model to w. Operators of a family's own, adaptive pooling to bins of different sizes and local response norms over an even
// number of channels have no ONNX form and are an error that names the node.
func Write(w io.Writer, g *graph.Graph, params engine.Params) error {
	b := &builder{params: params, flat: map[string]string{}, square: map[string]string{}, constants: map[string]bool{}}
	for _, n := range g.InferenceNodes() {
		if err := b.node(n); err != nil {
			return fmt.Errorf("onnx: node %s (%s): %w", n.Name, n.Op.Kind(), err)
		}
	}
	logits := b.vector(g.Output)
	b.op("Identity", "logits", []string{logits})

	in := []dim{{param: "N"}, {value: int64(g.Input.C)}, {value: int64(g.Input.H)}, {value: int64(g.Input.W)}}
	out := []dim{{param: "N"}, {value: int64(g.Classes)}}
	// Fields of onnx.proto3's GraphProto: 1 node, 2 name, 5 initializer, 11 input, 12 output.
	body := b.nodes
	body = append(body, small(str(nil, 2, "zoo")))
	body = append(body, b.initializers...)
	body = append(body, small(msg(nil, 11, valueInfo("input", in))), small(msg(nil, 12, valueInfo("logits", out))))
	// ModelProto: 1 ir_version, 2 producer_name, 7 graph, 8 opset_import.
	head := varint(nil, 1, 8)
	head = str(head, 2, "zoo")
	head = msg(head, 8, varint(nil, 2, opset))
	head = protowire.AppendTag(head, 7, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(length(body)))
	if _, err := w.Write(head); err != nil {
		return err
	}
	for _, c := range body {
		if err := c.write(w); err != nil {
			return err
		}
	}
	return nil
}

// chunk is a piece of the file: encoded bytes, then float32 values, which are only encoded when they are written.
type chunk struct {
	bytes  []byte
	floats []float32
}

func small(b []byte) chunk { return chunk{bytes: b} }

func length(list []chunk) int {
	n := 0
	for _, c := range list {
		n += len(c.bytes) + 4*len(c.floats)
	}
	return n
}

func (c chunk) write(w io.Writer) error {
	if _, err := w.Write(c.bytes); err != nil {
		return err
	}
	buf := make([]byte, 0, 1<<16)
	for rest := c.floats; len(rest) > 0; {
		n := min(len(rest), cap(buf)/4)
		buf = buf[:0]
		for _, v := range rest[:n] {
			buf = binary.LittleEndian.AppendUint32(buf, math.Float32bits(v))
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func varint(b []byte, field protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, field, protowire.VarintType), v)
}

func str(b []byte, field protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, field, protowire.BytesType), s)
}

func msg(b []byte, field protowire.Number, m []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, field, protowire.BytesType), m)
}

type dim struct {
	value int64
	param string
}

// valueInfo encodes a float32 ValueInfoProto.
func valueInfo(name string, dims []dim) []byte {
	var shape []byte
	for _, d := range dims {
		var m []byte
		if d.param != "" {
			m = str(nil, 2, d.param)
		} else {
			m = varint(nil, 1, uint64(d.value))
		}
		shape = msg(shape, 1, m)
	}
	tensor := msg(varint(nil, 1, 1), 2, shape) // elem_type FLOAT
	return msg(str(nil, 1, name), 2, msg(nil, 1, tensor))
}

// builder collects nodes and initializers. A value is known by its node's name and is of rank 4, but for outputs of linear layers over
// vectors, which are of rank 2; flat and square hold the other form of a value once it has been needed.
type builder struct {
	params       engine.Params
	nodes        []chunk
	initializers []chunk
	flat, square map[string]string
	constants    map[string]bool
}

// attr is an attribute of a node.
type attr struct {
	name string
	i    *int64
	f    *float32
	ints []int64
}

func integer(name string, v int) attr   { i := int64(v); return attr{name: name, i: &i} }
func float(name string, v float64) attr { f := float32(v); return attr{name: name, f: &f} }
func integers(name string, v ...int) attr {
	a := attr{name: name, ints: make([]int64, len(v))}
	for k, x := range v {
		a.ints[k] = int64(x)
	}
	return a
}

// encode encodes an AttributeProto: 1 name, 2 f, 3 i, 8 ints, 20 type.
func (a attr) encode() []byte {
	m := str(nil, 1, a.name)
	switch {
	case a.i != nil:
		return varint(varint(m, 3, uint64(*a.i)), 20, 2)
	case a.f != nil:
		m = protowire.AppendFixed32(protowire.AppendTag(m, 2, protowire.Fixed32Type), math.Float32bits(*a.f))
		return varint(m, 20, 1)
	}
	for _, v := range a.ints {
		m = varint(m, 8, uint64(v))
	}
	return varint(m, 20, 7)
}

// op adds a NodeProto (1 input, 2 output, 3 name, 4 op_type, 5 attribute) and returns its output.
func (b *builder) op(kind, out string, in []string, attrs ...attr) string {
	var m []byte
	for _, s := range in {
		m = str(m, 1, s)
	}
	m = str(m, 2, out)
	m = str(m, 3, out)
	m = str(m, 4, kind)
	for _, a := range attrs {
		m = msg(m, 5, a.encode())
	}
	b.nodes = append(b.nodes, small(msg(nil, 1, m)))
	return out
}

// tensor adds a float32 TensorProto (1 dims, 2 data_type, 8 name, 9 raw_data).
func (b *builder) tensor(name string, shape []int, values []float32) string {
	var m []byte
	for _, d := range shape {
		m = varint(m, 1, uint64(d))
	}
	m = str(varint(m, 2, 1), 8, name)
	m = protowire.AppendTag(m, 9, protowire.BytesType)
	m = protowire.AppendVarint(m, uint64(4*len(values)))
	head := protowire.AppendTag(nil, 5, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(m)+4*len(values)))
	b.initializers = append(b.initializers, chunk{append(head, m...), values})
	return name
}

// ints adds an int64 TensorProto (7 int64_data).
func (b *builder) ints(name string, values ...int) string {
	if b.constants[name] {
		return name
	}
	b.constants[name] = true
	m := str(varint(varint(nil, 1, uint64(len(values))), 2, 7), 8, name)
	for _, v := range values {
		m = varint(m, 7, uint64(int64(v)))
	}
	b.initializers = append(b.initializers, small(msg(nil, 5, m)))
	return name
}

func (b *builder) scalar(name string, v float32) string {
	if b.constants[name] {
		return name
	}
	b.constants[name] = true
	return b.tensor(name, nil, []float32{v})
}

// param adds the node's parameter of the given role in a shape of the caller's.
func (b *builder) param(n *graph.Node, role graph.Role, shape ...int) (string, error) {
	p := n.Param(role)
	values, err := b.params.Param(p.Name)
	if err != nil {
		return "", err
	}
	if len(values) != p.Elements() {
		return "", fmt.Errorf("parameter %s has %d values, not %d", p.Name, len(values), p.Elements())
	}
	if shape == nil {
		shape = p.Shape
	}
	return b.tensor(p.Name, shape, values), nil
}

// value returns the name of a node's output. It differs from every parameter's.
func value(n *graph.Node) string {
	if _, ok := n.Op.(graph.InputOp); ok {
		return "input"
	}
	return "/" + n.Name
}

// isFlat reports whether a node's value is of rank 2.
func isFlat(n *graph.Node) bool {
	switch n.Op.(type) {
	case graph.Flatten:
		return true
	case graph.Linear:
		return n.Inputs[0].Shape.IsVector()
	case graph.Activation, graph.Dropout, graph.StochasticDepth:
		return isFlat(n.Inputs[0])
	}
	return false
}

// vector returns a value of one pixel as [N, C].
func (b *builder) vector(n *graph.Node) string {
	if isFlat(n) {
		return value(n)
	}
	if b.flat[value(n)] == "" {
		b.flat[value(n)] = b.op("Flatten", value(n)+"/flat", []string{value(n)}, integer("axis", 1))
	}
	return b.flat[value(n)]
}

// image returns a value as [N, C, H, W].
func (b *builder) image(n *graph.Node) string {
	if !isFlat(n) {
		return value(n)
	}
	if b.square[value(n)] == "" {
		shape := b.ints(value(n)+"/shape", 0, n.Shape.C, 1, 1)
		b.square[value(n)] = b.op("Reshape", value(n)+"/image", []string{value(n), shape})
	}
	return b.square[value(n)]
}

func (b *builder) images(n *graph.Node) []string {
	list := make([]string, len(n.Inputs))
	for i, in := range n.Inputs {
		list[i] = b.image(in)
	}
	return list
}
