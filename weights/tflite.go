package weights

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-modelzoo/zoo/weights/internal/tflite"
)

// readTFLite reads the classifiers MobileNet V1 and V2 as TensorFlow's converter writes them: batch norms folded into the
// convolutions, padding SAME (the network is built with padding=same and norm=none), weights as float32, float16 or
// 8-bit integers. Because a FlatBuffer has no names to rely on, the whole graph is compared with the network's, operator by operator: kinds,
// strides, paddings, activations, sums. What is another network is refused, not half read.
//
// Names and layouts become PyTorch's: OHWI kernels OIHW, depthwise 1HWC kernels [C, 1, H, W], the classifier a matrix.
// Integers become scale·(q - zero point). Of 1001 classes the first, TensorFlow's background, is left out.
func readTFLite(f *File, data []byte) error {
	f.format = TFLite
	m, err := tflite.Parse(data)
	if err != nil {
		return err
	}
	w := &tfliteWalk{model: m, half: map[int]int{}}
	if err := w.start(); err != nil {
		return err
	}
	n := mobileNetV1()
	if w.weighted(3) == tflite.Conv2D { // V2's first block ends after two convolutions, with a pointwise one follows another
		n = mobileNetV2()
	}
	if err := w.network(n); err != nil {
		return fmt.Errorf("is no %s as TensorFlow's converter writes it (of TensorFlow Lite, the classifiers MobileNet V1 and V2 are read): %w", n.name, err)
	}
	if w.used > len(data) {
		return errors.New("has tensors that share their bytes")
	}
	f.notes = append([]string{"a TensorFlow Lite " + n.name + ": options padding=same, norm=none"}, w.notes...)
	f.adopt(w.tensors)
	return nil
}

// tfliteLayer is a convolution with its bias.
type tfliteLayer struct {
	name      string
	depthwise bool
	kernel    int
	stride    int
	linear    bool // no ReLU6 behind it
}

// tfliteBlock is a chain of layers, whose input is added to its output if it is a residual one.
type tfliteBlock struct {
	layers   []tfliteLayer
	residual bool
}

type tfliteNetwork struct {
	name       string
	blocks     []tfliteBlock
	classifier string
}

// mobileNetV1 is Howard et al., 2017, table 1, by timm's names.
func mobileNetV1() tfliteNetwork {
	n := tfliteNetwork{name: "MobileNet V1", classifier: "classifier"}
	n.blocks = append(n.blocks, tfliteBlock{layers: []tfliteLayer{{name: "conv_stem", kernel: 3, stride: 2}}})
	for stage, units := range []int{1, 2, 2, 6, 2} {
		for unit := range units {
			stride := 1
			if stage > 0 && unit == 0 {
				stride = 2
			}
			prefix := fmt.Sprintf("blocks.%d.%d.", stage, unit)
			n.blocks = append(n.blocks, tfliteBlock{layers: []tfliteLayer{
				{name: prefix + "conv_dw", depthwise: true, kernel: 3, stride: stride},
				{name: prefix + "conv_pw", kernel: 1, stride: 1},
			}})
		}
	}
	return n
}

// mobileNetV2 is Sandler et al., 2018, table 2, by torchvision's names.
func mobileNetV2() tfliteNetwork {
	n := tfliteNetwork{name: "MobileNet V2", classifier: "classifier.1"}
	n.blocks = append(n.blocks, tfliteBlock{layers: []tfliteLayer{{name: "features.0.0", kernel: 3, stride: 2}}})
	for _, s := range []struct{ repeats, stride int }{{1, 1}, {2, 2}, {3, 2}, {4, 2}, {3, 1}, {3, 2}, {1, 1}} {
		for i := range s.repeats {
			k := len(n.blocks)
			prefix, stride := fmt.Sprintf("features.%d.conv.", k), 1
			if i == 0 {
				stride = s.stride
			}
			layers := []tfliteLayer{
				{name: prefix + "0.0", kernel: 1, stride: 1},
				{name: prefix + "1.0", depthwise: true, kernel: 3, stride: stride},
				{name: prefix + "2", kernel: 1, stride: 1, linear: true},
			}
			if k == 1 { // does not expand
				layers = layers[1:]
				layers[0].name, layers[1].name = prefix+"0.0", prefix+"1"
			}
			n.blocks = append(n.blocks, tfliteBlock{layers, i > 0})
		}
	}
	last := fmt.Sprintf("features.%d.0", len(n.blocks))
	n.blocks = append(n.blocks, tfliteBlock{layers: []tfliteLayer{{name: last, kernel: 1, stride: 1}}})
	return n
}

// tfliteWalk goes along the operators, which run in the order of the file, and takes the weights.
type tfliteWalk struct {
	model    *tflite.Model
	half     map[int]int // what a DEQUANTIZE of a constant gives: the constant (float16 models)
	next     int         // operator
	at       int         // tensor that the walk has come to
	channels int         // of it, 0 where unknown: of the image
	used     int         // bytes of constants
	tensors  []Tensor
	notes    []string
}

// start finds the image and the constants behind DEQUANTIZE.
func (w *tfliteWalk) start() error {
	if len(w.model.Inputs) != 1 || len(w.model.Outputs) != 1 {
		return fmt.Errorf("has a graph of %d inputs and %d outputs, where a classifier has one of each", len(w.model.Inputs), len(w.model.Outputs))
	}
	w.at = w.model.Inputs[0]
	for _, o := range w.model.Operators {
		if o.Op == tflite.Dequantize && len(o.Inputs) == 1 && len(o.Outputs) == 1 && o.Inputs[0] >= 0 && w.model.Tensors[o.Inputs[0]].Data != nil {
			w.half[o.Outputs[0]] = o.Inputs[0]
		}
	}
	return nil
}

// weighted returns the kind of the i-th convolution from 0.
func (w *tfliteWalk) weighted(i int) tflite.Op {
	for _, o := range w.model.Operators {
		if o.Op == tflite.Conv2D || o.Op == tflite.DepthwiseConv2D {
			if i == 0 {
				return o.Op
			}
			i--
		}
	}
	return -1
}

// network walks the whole graph.
func (w *tfliteWalk) network(n tfliteNetwork) error {
	for _, b := range n.blocks {
		w.peek()
		before := w.at
		for _, l := range b.layers {
			if err := w.convolution(l); err != nil {
				return fmt.Errorf("%s: %w", l.name, err)
			}
		}
		if b.residual {
			if err := w.sum(before); err != nil {
				return err
			}
		}
	}
	if err := w.pool(); err != nil {
		return err
	}
	if err := w.classifier(n.classifier); err != nil {
		return fmt.Errorf("%s: %w", n.classifier, err)
	}
	return w.end()
}

// peek returns the next operator, nil after the last. DEQUANTIZE of constants and what only changes how the numbers are stored is passed over.
func (w *tfliteWalk) peek() *tflite.Operator {
	for ; w.next < len(w.model.Operators); w.next++ {
		o := &w.model.Operators[w.next]
		if o.Op == tflite.Dequantize || o.Op == tflite.Quantize {
			if len(o.Inputs) == 1 && len(o.Outputs) == 1 {
				if _, constant := w.half[o.Outputs[0]]; constant {
					continue
				}
				if o.Inputs[0] == w.at {
					w.at = o.Outputs[0]
					continue
				}
			}
		}
		return o
	}
	return nil
}

// take returns the next operator, which must be of one of the kinds, have the tensor that the walk has come to as its first
// input and give one result: there the walk goes on.
func (w *tfliteWalk) take(kinds ...tflite.Op) (*tflite.Operator, error) {
	o := w.peek()
	if o == nil {
		return nil, fmt.Errorf("the graph ends before its %v", kinds[0])
	}
	if !slices.Contains(kinds, o.Op) {
		return nil, fmt.Errorf("operator %d is %v instead of %v", w.next, o.Op, kinds[0])
	}
	if len(o.Inputs) == 0 || len(o.Outputs) != 1 || o.Inputs[0] != w.at {
		return nil, fmt.Errorf("operator %d, %v, does not go on from the one before", w.next, o.Op)
	}
	w.next++
	w.at = o.Outputs[0]
	return o, nil
}

func (w *tfliteWalk) convolution(l tfliteLayer) error {
	padded, err := w.padding(l)
	if err != nil {
		return err
	}
	kind, multiplier := tflite.Conv2D, 0
	if l.depthwise {
		kind, multiplier = tflite.DepthwiseConv2D, 1
	}
	o, err := w.take(kind)
	if err != nil {
		return err
	}
	v := o.Window
	switch {
	case v.StrideH != l.stride || v.StrideW != l.stride:
		return fmt.Errorf("stride %d×%d instead of %d", v.StrideH, v.StrideW, l.stride)
	case v.DilationH != 1 || v.DilationW != 1:
		return fmt.Errorf("dilation %d×%d", v.DilationH, v.DilationW)
	case v.ChannelsMultiplier != multiplier:
		return fmt.Errorf("%d filters a channel", v.ChannelsMultiplier)
	case l.kernel > 1 && v.Valid != padded:
		return errors.New("padding is not SAME")
	}
	if err := w.activation(o, !l.linear); err != nil {
		return err
	}
	return w.weights(l.name, o, l)
}

// padding takes the PAD that Keras puts before a convolution of stride 2, which then is VALID: a row below and a column at the right,
// as SAME has on maps of even size.
func (w *tfliteWalk) padding(l tfliteLayer) (bool, error) {
	if o := w.peek(); l.stride == 1 || o == nil || o.Op != tflite.Pad {
		return false, nil
	}
	o, err := w.take(tflite.Pad)
	if err != nil {
		return false, err
	}
	if amounts, ok := w.integers(o); !ok || !slices.Equal(amounts, []int{0, 0, 0, 1, 0, 1, 0, 0}) {
		return false, fmt.Errorf("padding %v is not SAME", amounts)
	}
	return true, nil
}

// activation checks that ReLU6 follows, in the operator or behind it, or that nothing does.
func (w *tfliteWalk) activation(o *tflite.Operator, relu6 bool) error {
	if o.Activation == tflite.NoActivation && relu6 {
		_, err := w.take(tflite.ReLU6)
		return err
	}
	if relu6 != (o.Activation == tflite.ReLU6Activation) || !relu6 && o.Activation != tflite.NoActivation {
		return fmt.Errorf("activation %d", o.Activation)
	}
	return nil
}

// sum takes the ADD of a residual block.
func (w *tfliteWalk) sum(before int) error {
	o := w.peek()
	at := w.at
	if o == nil || o.Op != tflite.Add {
		return errors.New("a residual block lacks its ADD")
	}
	if len(o.Outputs) != 1 || !slices.Equal(o.Inputs, []int{before, at}) && !slices.Equal(o.Inputs, []int{at, before}) {
		return fmt.Errorf("operator %d, ADD, does not add a block's input to its output", w.next)
	}
	if o.Activation != tflite.NoActivation {
		return fmt.Errorf("operator %d, ADD, has activation %d", w.next, o.Activation)
	}
	w.next++
	w.at = o.Outputs[0]
	return nil
}

// pool takes the average over the map.
func (w *tfliteWalk) pool() error {
	o, err := w.take(tflite.AveragePool2D, tflite.Mean)
	if err != nil {
		return err
	}
	if o.Op == tflite.Mean {
		if axes, ok := w.integers(o); !ok || !slices.Equal(axes, []int{1, 2}) {
			return fmt.Errorf("MEAN over dimensions %v instead of height and width", axes)
		}
		return nil
	}
	shape := w.model.Tensors[o.Inputs[0]].Shape
	if v := o.Window; len(shape) != 4 || v.FilterH != shape[1] || v.FilterW != shape[2] || !v.Valid && (v.StrideH < v.FilterH || v.StrideW < v.FilterW) && v.FilterH*v.FilterW != 1 {
		return fmt.Errorf("pooling of %d×%d is not over the whole map %v", v.FilterH, v.FilterW, shape)
	}
	return w.activation(o, false)
}

// classifier takes the linear layer, which may be a 1×1 convolution.
func (w *tfliteWalk) classifier(name string) error {
	if err := w.reshapes(); err != nil {
		return err
	}
	o, err := w.take(tflite.Conv2D, tflite.FullyConnected)
	if err != nil {
		return err
	}
	if err := w.activation(o, false); err != nil {
		return err
	}
	l := tfliteLayer{kernel: 1}
	if o.Op == tflite.FullyConnected {
		l.kernel = 0
	}
	if err := w.weights(name, o, l); err != nil {
		return err
	}
	w.matrix()
	return nil
}

// reshapes takes operators that only drop dimensions of size 1.
func (w *tfliteWalk) reshapes() error {
	for {
		o := w.peek()
		if o == nil || o.Op != tflite.Reshape && o.Op != tflite.Squeeze {
			return nil
		}
		if _, err := w.take(o.Op); err != nil {
			return err
		}
	}
}

// end takes what turns logits into probabilities.
func (w *tfliteWalk) end() error {
	if err := w.reshapes(); err != nil {
		return err
	}
	if o := w.peek(); o != nil && o.Op == tflite.Softmax {
		if _, err := w.take(tflite.Softmax); err != nil {
			return err
		}
	}
	if err := w.reshapes(); err != nil {
		return err
	}
	if o := w.peek(); o != nil {
		return fmt.Errorf("operator %d, %v, follows the classifier", w.next, o.Op)
	}
	if w.at != w.model.Outputs[0] {
		return errors.New("the classifier is not the graph's output")
	}
	return nil
}

// integers returns the values of an operator's second input, if it is a small constant of int32.
func (w *tfliteWalk) integers(o *tflite.Operator) ([]int, bool) {
	if len(o.Inputs) != 2 || o.Inputs[1] < 0 {
		return nil, false
	}
	t := &w.model.Tensors[o.Inputs[1]]
	if t.Type != tflite.Int32 || len(t.Data)%4 != 0 || len(t.Data) > 64 {
		return nil, false
	}
	values := make([]float32, len(t.Data)/4)
	toFloat32(values, t.Data, I32)
	list := make([]int, len(values))
	for i, v := range values {
		list[i] = int(v)
	}
	return list, true
}
