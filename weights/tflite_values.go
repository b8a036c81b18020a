package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/weights/internal/tflite"
)

// background is the number of classes with TensorFlow's class 0, "background", which ImageNet does not have.
const background = 1001

// biasTolerance bounds how far the scale of a quantised bias may be from that of the products it is added to.
const biasTolerance = 1e-3

// weights takes the kernel and the bias of an operator, in PyTorch's layout. A kernel of 0 is a matrix.
func (w *tfliteWalk) weights(name string, o *tflite.Operator, l tfliteLayer) error {
	if len(o.Inputs) != 3 || o.Inputs[2] < 0 {
		return errors.New("has no bias: convert the model with its batch norms folded")
	}
	kernel, scales, err := w.constant(name+".weight", o.Inputs[1])
	if err != nil {
		return err
	}
	if kernel, err = oihw(kernel, l); err != nil {
		return err
	}
	out, in := kernel.Shape[0], kernel.Shape[1]
	if l.depthwise {
		in = out
	}
	if w.channels != 0 && in != w.channels {
		return fmt.Errorf("weight of shape %v behind %d channels", kernel.Shape, w.channels)
	}
	w.channels = out
	bias, err := w.bias(name+".bias", o.Inputs[2], o.Inputs[0], scales)
	if err != nil {
		return err
	}
	if len(bias.Shape) != 1 || bias.Shape[0] != out {
		return fmt.Errorf("bias of shape %v for %d channels", bias.Shape, out)
	}
	w.tensors = append(w.tensors, kernel, bias)
	return nil
}

// oihw views a kernel in PyTorch's layout: nothing is copied.
func oihw(t Tensor, l tfliteLayer) (Tensor, error) {
	s := t.Shape
	rank := 4
	if l.kernel == 0 {
		rank = 2
	}
	if len(s) != rank || rank == 4 && (s[1] != l.kernel || s[2] != l.kernel) || l.depthwise && s[0] != 1 {
		return t, fmt.Errorf("weight of shape %v for a kernel of %d×%d", s, l.kernel, l.kernel)
	}
	if l.kernel == 0 {
		return t, nil
	}
	o, h, w, i := s[0], s[1], s[2], s[3]
	if l.depthwise {
		t.Shape, t.strides = []int{i, 1, h, w}, []int{1, 1, w * i, i}
	} else {
		t.Shape, t.strides = []int{o, i, h, w}, []int{h * w * i, 1, w * i, i}
	}
	if rowMajor(t.Shape, t.strides) {
		t.strides = nil
	}
	return t, nil
}

// matrix makes the classifier's kernel a matrix and takes the background class off it and its bias. Both lie without gaps.
func (w *tfliteWalk) matrix() {
	list := w.tensors[len(w.tensors)-2:]
	list[0].Shape = list[0].Shape[:2:2]
	list[0].strides = nil
	if list[0].Shape[0] != background {
		return
	}
	for i, t := range list {
		t.data = t.data[len(t.data)/background:]
		t.Shape = append([]int{background - 1}, t.Shape[1:]...)
		list[i] = t
	}
	w.notes = append(w.notes, "left out class 0 of 1001, the background")
}

// constant returns a tensor of the file in its own layout: floats as the file has them, integers dequantised, whose quantisation it
// returns too.
func (w *tfliteWalk) constant(name string, index int) (Tensor, *tflite.Quantization, error) {
	t, n, err := w.stored(name, index)
	if err != nil {
		return Tensor{}, nil, err
	}
	x := Tensor{Name: name, Shape: append([]int{}, t.Shape...), data: t.Data}
	switch t.Type {
	case tflite.Float32:
		x.DType = F32
		return x, nil, nil
	case tflite.Float16:
		x.DType = F16
		return x, nil, nil
	case tflite.Int8, tflite.Uint8:
	default:
		return x, nil, fmt.Errorf("%s has element type %d of TensorFlow Lite, where floats and 8-bit integers are read", name, t.Type)
	}
	q, err := t.Quantization()
	if err != nil {
		return x, nil, err
	}
	if q == nil {
		return x, nil, fmt.Errorf("%s has integers without a scale", name)
	}
	inner := 1 // values in a row of one scale
	if len(q.Scale) > 1 {
		for _, d := range t.Shape[q.Axis+1:] {
			inner *= d
		}
	} else {
		inner = n
	}
	values := make([]float32, n)
	for i, b := range t.Data {
		v := int64(b)
		if t.Type == tflite.Int8 {
			v = int64(int8(b))
		}
		k := i / inner % len(q.Scale)
		values[i] = float32(float64(q.Scale[k]) * float64(v-q.Zero[k]))
	}
	x.DType, x.data = F32, bytesOf(values)
	return x, q, nil
}

// stored returns a constant of the file, which has all its bytes, and the number of its values.
func (w *tfliteWalk) stored(name string, index int) (*tflite.Tensor, int, error) {
	if k, ok := w.half[index]; ok {
		index = k
	}
	if index < 0 {
		return nil, 0, fmt.Errorf("%s is missing", name)
	}
	t := &w.model.Tensors[index]
	n, ok := t.Elements()
	switch size := t.Type.Size(); {
	case t.Data == nil:
		return nil, 0, fmt.Errorf("%s is computed, not stored", name)
	case t.Sparse:
		return nil, 0, fmt.Errorf("%s is stored sparse, which is not read", name)
	case size == 0:
		return nil, 0, fmt.Errorf("%s has element type %d of TensorFlow Lite, which weights do not have", name, t.Type)
	case !ok || n > math.MaxInt/size || n*size != len(t.Data):
		return nil, 0, fmt.Errorf("%s of shape %v has %d bytes", name, t.Shape, len(t.Data))
	}
	w.used += len(t.Data)
	return t, n, nil
}

// bias returns a vector. Integers of 32 bits have the scale of the products that they are added to, input's times kernel's.
func (w *tfliteWalk) bias(name string, index, input int, kernel *tflite.Quantization) (Tensor, error) {
	t, n, err := w.stored(name, index)
	if err != nil {
		return Tensor{}, err
	}
	if t.Type != tflite.Int32 {
		w.used -= len(t.Data) // constant counts it
		x, _, err := w.constant(name, index)
		return x, err
	}
	scales, err := biasScales(t, &w.model.Tensors[input], kernel, n)
	if err != nil {
		return Tensor{}, fmt.Errorf("%s %w", name, err)
	}
	values := make([]float32, n)
	for i := range values {
		values[i] = float32(scales[i%len(scales)] * float64(int32(binary.LittleEndian.Uint32(t.Data[4*i:]))))
	}
	return Tensor{Name: name, DType: F32, Shape: []int{n}, data: bytesOf(values)}, nil
}

// biasScales returns one scale or n: the bias's own, which must be that of the products where both are known.
func biasScales(t, input *tflite.Tensor, kernel *tflite.Quantization, n int) ([]float64, error) {
	own, err := t.Quantization()
	if err != nil {
		return nil, err
	}
	in, err := input.Quantization()
	if err != nil {
		return nil, err
	}
	var products []float64
	if in != nil && kernel != nil && len(in.Scale) == 1 && (len(kernel.Scale) == 1 || len(kernel.Scale) == n) {
		for _, s := range kernel.Scale {
			products = append(products, float64(in.Scale[0])*float64(s))
		}
	}
	if own == nil {
		if products == nil {
			return nil, errors.New("has integers without a scale")
		}
		return products, nil
	}
	if len(own.Scale) != 1 && len(own.Scale) != n {
		return nil, fmt.Errorf("has %d scales for %d values", len(own.Scale), n)
	}
	scales := make([]float64, len(own.Scale))
	for i, s := range own.Scale {
		scales[i] = float64(s)
		if own.Zero[i] != 0 {
			return nil, fmt.Errorf("has zero point %d", own.Zero[i])
		}
	}
	if products == nil {
		return scales, nil
	}
	for i := range max(len(scales), len(products)) {
		s, p := scales[i%len(scales)], products[i%len(products)]
		if math.Abs(s-p) > biasTolerance*p {
			return nil, fmt.Errorf("has scale %g where its input and weight have %g", s, p)
		}
	}
	return scales, nil
}
