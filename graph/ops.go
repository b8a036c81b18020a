package graph

import "fmt"

// Op is what a node computes. The operators of this package are plain structs whose fields are what PyTorch calls the
// layer's arguments; engines switch on their types. An operator of a family's own implements Custom.
//
// An Op is immutable and safe for concurrent use.
type Op interface {
	// Kind is the operator's short lower-case name, such as "conv2d".
	Kind() string
	// Infer returns the output shape for operands of the given shapes, or an error that states the rule they break.
	Infer(in []Shape) (Shape, error)
	// MACs counts multiply-accumulates for one image.
	MACs(in []Shape, out Shape) int64
}

// Custom is an operator that a family brings along. Feature maps are float32 NHWC: n images of shape s are
// n·s.H·s.W rows of s.C channels. Parameters come in PyTorch's layout, in the order that Builder.Custom was given.
type Custom interface {
	Op
	// Forward writes out from the operands, which have the given shapes; out is not zeroed before. It must not retain its arguments and must be safe
	// for concurrent calls. It is called once for a batch, and what it does with more than one core is its own affair.
	Forward(out []float32, in [][]float32, params [][]float32, shapes []Shape, n int)
	// Backward adds to the gradients of the operands (a nil entry is not wanted) and of the parameters, given the gradient of the output.
	Backward(gradIn, gradParams [][]float32, gradOut []float32, in [][]float32, params [][]float32, shapes []Shape, n int)
}

// Pair is a height and a width.
type Pair struct{ H, W int }

// Square is a Pair of equal parts.
func Square(n int) Pair { return Pair{n, n} }

// HW is a Pair.
func HW(h, w int) Pair { return Pair{h, w} }

func (p Pair) or(n int) Pair {
	if p == (Pair{}) {
		return Pair{n, n}
	}
	return p
}

// Pads is the number of zero pixels on each side of a map.
type Pads struct{ Top, Left, Bottom, Right int }

// Window is what convolutions and poolings share: where the kernel stands.
type Window struct {
	Kernel, Stride, Pad, Dilation Pair
	Same                          bool // TensorFlow's SAME: output = ceil(input/stride), odd padding at the end; Pad is ignored
}

// Pads returns the padding for an input of the given shape.
func (w Window) Pads(in Shape) Pads {
	if !w.Same {
		return Pads{w.Pad.H, w.Pad.W, w.Pad.H, w.Pad.W}
	}
	same := func(n, k, s, d int) (before, after int) {
		total := max((ceilDiv(n, s)-1)*s+(k-1)*d+1-n, 0)
		return total / 2, total - total/2
	}
	var p Pads
	p.Top, p.Bottom = same(in.H, w.Kernel.H, w.Stride.H, w.Dilation.H)
	p.Left, p.Right = same(in.W, w.Kernel.W, w.Stride.W, w.Dilation.W)
	return p
}

// output returns the output height and width. With ceil a last window may hang over the end, and a kernel may exceed a small input by
// less than a stride, but a window must begin inside the input or its padding at the beginning (PyTorch's rule).
func (w Window) output(in Shape, ceil bool) (h, wd int, err error) {
	p := w.Pads(in)
	extent := func(n, before, after, k, s, d int) int {
		span := n + before + after - (k-1)*d - 1
		if ceil {
			span += s - 1
		}
		if span < 0 {
			return 0
		}
		out := span/s + 1
		if ceil && (out-1)*s >= n+before {
			out--
		}
		return out
	}
	h = extent(in.H, p.Top, p.Bottom, w.Kernel.H, w.Stride.H, w.Dilation.H)
	wd = extent(in.W, p.Left, p.Right, w.Kernel.W, w.Stride.W, w.Dilation.W)
	if h < 1 || wd < 1 {
		return 0, 0, fmt.Errorf("input %v is smaller than the %d×%d window (dilation %d×%d, padding %+v)", in, w.Kernel.H, w.Kernel.W, w.Dilation.H, w.Dilation.W, p)
	}
	return h, wd, nil
}

func (w Window) check() error {
	for _, v := range []struct {
		name string
		p    Pair
		low  int
	}{{"kernel", w.Kernel, 1}, {"stride", w.Stride, 1}, {"dilation", w.Dilation, 1}, {"padding", w.Pad, 0}} {
		if v.p.H < v.low || v.p.W < v.low || v.p.H > maxExtent || v.p.W > maxExtent {
			return fmt.Errorf("%s %d×%d is outside %d..%d", v.name, v.p.H, v.p.W, v.low, maxExtent)
		}
	}
	return nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

func one(in []Shape) (Shape, error) {
	if len(in) != 1 {
		return Shape{}, fmt.Errorf("takes one input, has %d", len(in))
	}
	return in[0], nil
}

// InputOp is the image.
type InputOp struct{ Shape Shape }

// Conv2d is a cross-correlation with a weight [Out, In/Groups, Kernel.H, Kernel.W] and an optional bias [Out]
// (torch.nn.Conv2d).
type Conv2d struct {
	Window
	In, Out, Groups int
	Bias            bool
}

// Depthwise reports whether every output channel reads one input channel of its own.
func (c Conv2d) Depthwise() bool { return c.Groups == c.In && c.Out == c.In && c.Groups > 1 }

// Linear multiplies the channels of every pixel by a weight [Out, In] and adds an optional bias [Out] (torch.nn.Linear).
type Linear struct {
	In, Out int
	Bias    bool
}

// BatchNorm normalises each channel over batch and pixels (torch.nn.BatchNorm2d): in evaluation with the running mean and
// variance, in training with the batch's.
type BatchNorm struct {
	Channels int
	Eps      float64
	Momentum float64 // share of the new batch in the running statistics
}

// LayerNorm normalises the channels of each pixel (torch.nn.LayerNorm over C; ConvNeXt's LayerNorm2d).
type LayerNorm struct {
	Channels int
	Eps      float64
}

// LocalResponseNorm divides by (K + Alpha/Size·Σx²)^Beta over Size neighbouring channels (torch.nn.LocalResponseNorm; Krizhevsky
// et al., 2012, §3.3).
type LocalResponseNorm struct {
	Size           int
	Alpha, Beta, K float64
}

// MaxPool takes the maximum of each window; padding never wins (torch.nn.MaxPool2d).
type MaxPool struct {
	Window
	Ceil bool
}

// AvgPool takes the mean of each window (torch.nn.AvgPool2d).
type AvgPool struct {
	Window
	Ceil            bool
	CountIncludePad bool
}

// AdaptiveAvgPool averages over bins [⌊i·in/out⌋, ⌈(i+1)·in/out⌉) (torch.nn.AdaptiveAvgPool2d).
type AdaptiveAvgPool struct{ Out Pair }

// Global reports whether the output is one pixel.
func (a AdaptiveAvgPool) Global() bool { return a.Out == Pair{1, 1} }

// Function is an elementwise activation.
type Function uint8

// Activations, by PyTorch's names. GELU is the exact one (erf).
const (
	ReLU Function = iota
	ReLU6
	HardSwish
	HardSigmoid
	SiLU
	GELU
	Sigmoid
	Tanh
)

var functionNames = [...]string{"relu", "relu6", "hardswish", "hardsigmoid", "silu", "gelu", "sigmoid", "tanh"}

// String returns the activation's name in torch.nn.functional.
func (f Function) String() string { return functionNames[f] }

// Activation applies a Function to every value.
type Activation struct{ Function Function }

// Add sums operands of one shape.
type Add struct{}

// Mul multiplies two operands; the second may be a vector that scales the channels of the first (squeeze-and-excite).
type Mul struct{}

// Concat joins operands of one height and width along channels.
type Concat struct{}

// ChannelShuffle views the channels as Groups × C/Groups and transposes (ShuffleNet).
type ChannelShuffle struct{ Groups int }

// Slice takes channels From up to, not including, To.
type Slice struct{ From, To int }

// Subsample takes every Stride-th pixel and adds Before and After channels of zeros: the parameter-free shortcut (option A) of He
// et al., 2015, §3.3.
type Subsample struct {
	Stride        int
	Before, After int
}

// Dropout zeroes values with probability P in training and is the identity in inference (torch.nn.Dropout).
type Dropout struct{ P float64 }

// StochasticDepth zeroes the whole of an image's map with probability P in training, scaling the others by 1/(1-P), and is the
// identity in inference (torchvision.ops.StochasticDepth, mode "row").
type StochasticDepth struct{ P float64 }

// Flatten makes a vector of the map in PyTorch's order: channel, row, column.
type Flatten struct{}

// LayerScale multiplies each channel by a parameter (ConvNeXt).
type LayerScale struct{ Channels int }

// Affine multiplies channel c by Scale[c] and adds Shift[c]: constants, not parameters (transform_input of GoogLeNet and Inception V3).
type Affine struct{ Scale, Shift []float32 }

// Kinds of the operators.
func (InputOp) Kind() string           { return "input" }
func (Conv2d) Kind() string            { return "conv2d" }
func (Linear) Kind() string            { return "linear" }
func (BatchNorm) Kind() string         { return "batch_norm" }
func (LayerNorm) Kind() string         { return "layer_norm" }
func (LocalResponseNorm) Kind() string { return "local_response_norm" }
func (MaxPool) Kind() string           { return "max_pool2d" }
func (AvgPool) Kind() string           { return "avg_pool2d" }
func (AdaptiveAvgPool) Kind() string   { return "adaptive_avg_pool2d" }
func (a Activation) Kind() string      { return a.Function.String() }
func (Add) Kind() string               { return "add" }
func (Mul) Kind() string               { return "mul" }
func (Concat) Kind() string            { return "concat" }
func (ChannelShuffle) Kind() string    { return "channel_shuffle" }
func (Slice) Kind() string             { return "slice" }
func (Subsample) Kind() string         { return "subsample" }
func (Dropout) Kind() string           { return "dropout" }
func (StochasticDepth) Kind() string   { return "stochastic_depth" }
func (Flatten) Kind() string           { return "flatten" }
func (LayerScale) Kind() string        { return "layer_scale" }
func (Affine) Kind() string            { return "affine" }

// Infer implements Op.
func (o InputOp) Infer(in []Shape) (Shape, error) {
	if len(in) != 0 {
		return Shape{}, fmt.Errorf("takes no input, has %d", len(in))
	}
	return o.Shape, nil
}

// Infer implements Op.
func (o Conv2d) Infer(in []Shape) (Shape, error) {
	x, err := one(in)
	if err != nil {
		return Shape{}, err
	}
	if err := o.check(); err != nil {
		return Shape{}, err
	}
	if o.Out < 1 || o.Groups < 1 || x.C != o.In || o.In%o.Groups != 0 || o.Out%o.Groups != 0 {
		return Shape{}, fmt.Errorf("input %v does not fit a convolution of %d to %d channels in %d groups", x, o.In, o.Out, o.Groups)
	}
	h, w, err := o.output(x, false)
	return Shape{o.Out, h, w}, err
}

// Infer implements Op.
func (o Linear) Infer(in []Shape) (Shape, error) {
	x, err := one(in)
	if err != nil {
		return Shape{}, err
	}
	if x.C != o.In || o.Out < 1 {
		return Shape{}, fmt.Errorf("input %v does not fit a linear layer of %d to %d channels", x, o.In, o.Out)
	}
	return Shape{o.Out, x.H, x.W}, nil
}

func sameChannels(in []Shape, c int, what string) (Shape, error) {
	x, err := one(in)
	if err == nil && x.C != c {
		err = fmt.Errorf("input %v does not fit %s of %d channels", x, what, c)
	}
	return x, err
}

// Infer implements Op.
func (o BatchNorm) Infer(in []Shape) (Shape, error) {
	return sameChannels(in, o.Channels, "a batch norm")
}

// Infer implements Op.
func (o LayerNorm) Infer(in []Shape) (Shape, error) {
	return sameChannels(in, o.Channels, "a layer norm")
}

// Infer implements Op.
func (o LayerScale) Infer(in []Shape) (Shape, error) {
	return sameChannels(in, o.Channels, "a layer scale")
}

// Infer implements Op.
func (o Affine) Infer(in []Shape) (Shape, error) {
	if len(o.Scale) != len(o.Shift) {
		return Shape{}, fmt.Errorf("has %d scales and %d shifts", len(o.Scale), len(o.Shift))
	}
	return sameChannels(in, len(o.Scale), "an affine map")
}

// Infer implements Op.
func (o LocalResponseNorm) Infer(in []Shape) (Shape, error) {
	if o.Size < 1 {
		return Shape{}, fmt.Errorf("size %d is below 1", o.Size)
	}
	return one(in)
}

func (w Window) pool(in []Shape, ceil bool) (Shape, error) {
	x, err := one(in)
	if err != nil {
		return Shape{}, err
	}
	if err := w.check(); err != nil {
		return Shape{}, err
	}
	if !w.Same && (2*w.Pad.H > w.Kernel.H || 2*w.Pad.W > w.Kernel.W) {
		return Shape{}, fmt.Errorf("padding %d×%d is above half of the %d×%d window", w.Pad.H, w.Pad.W, w.Kernel.H, w.Kernel.W)
	}
	h, wd, err := w.output(x, ceil)
	return Shape{x.C, h, wd}, err
}

// Infer implements Op.
func (o MaxPool) Infer(in []Shape) (Shape, error) { return o.pool(in, o.Ceil) }

// Infer implements Op.
func (o AvgPool) Infer(in []Shape) (Shape, error) {
	if o.Dilation != Square(1) {
		return Shape{}, fmt.Errorf("an average pooling has no dilation, this has %d×%d", o.Dilation.H, o.Dilation.W)
	}
	return o.pool(in, o.Ceil)
}

// Infer implements Op.
func (o AdaptiveAvgPool) Infer(in []Shape) (Shape, error) {
	x, err := one(in)
	if err == nil && (o.Out.H < 1 || o.Out.W < 1) {
		err = fmt.Errorf("output %d×%d is empty", o.Out.H, o.Out.W)
	}
	return Shape{x.C, o.Out.H, o.Out.W}, err
}

// Infer implements Op.
func (o Activation) Infer(in []Shape) (Shape, error) { return one(in) }

// Infer implements Op.
func (o Add) Infer(in []Shape) (Shape, error) {
	if len(in) < 2 {
		return Shape{}, fmt.Errorf("takes at least two inputs, has %d", len(in))
	}
	for _, s := range in[1:] {
		if s != in[0] {
			return Shape{}, fmt.Errorf("shapes %v and %v differ", in[0], s)
		}
	}
	return in[0], nil
}

// Infer implements Op.
func (o Mul) Infer(in []Shape) (Shape, error) {
	if len(in) != 2 {
		return Shape{}, fmt.Errorf("takes two inputs, has %d", len(in))
	}
	if in[1] != in[0] && in[1] != (Shape{in[0].C, 1, 1}) {
		return Shape{}, fmt.Errorf("shape %v does not scale shape %v: it must be equal or a vector of %d channels", in[1], in[0], in[0].C)
	}
	return in[0], nil
}

// Infer implements Op.
func (o Concat) Infer(in []Shape) (Shape, error) {
	if len(in) < 1 {
		return Shape{}, fmt.Errorf("takes at least one input")
	}
	out := in[0]
	for _, s := range in[1:] {
		if s.H != out.H || s.W != out.W {
			return Shape{}, fmt.Errorf("shapes %v and %v differ in height or width", in[0], s)
		}
		out.C += s.C
	}
	return out, nil
}

// Infer implements Op.
func (o ChannelShuffle) Infer(in []Shape) (Shape, error) {
	x, err := one(in)
	if err == nil && (o.Groups < 1 || x.C%o.Groups != 0) {
		err = fmt.Errorf("%d channels do not split into %d groups", x.C, o.Groups)
	}
	return x, err
}

// Infer implements Op.
func (o Slice) Infer(in []Shape) (Shape, error) {
	x, err := one(in)
	if err == nil && (o.From < 0 || o.To <= o.From || o.To > x.C) {
		err = fmt.Errorf("channels %d to %d are not within input %v", o.From, o.To, x)
	}
	return Shape{o.To - o.From, x.H, x.W}, err
}

// Infer implements Op.
func (o Subsample) Infer(in []Shape) (Shape, error) {
	x, err := one(in)
	if err == nil && (o.Stride < 1 || min(o.Before, o.After) < 0 || max(o.Stride, o.Before, o.After) > maxExtent) {
		err = fmt.Errorf("stride %d or channel padding %d, %d is out of range", o.Stride, o.Before, o.After)
	}
	if err != nil {
		return Shape{}, err
	}
	return Shape{o.Before + x.C + o.After, ceilDiv(x.H, o.Stride), ceilDiv(x.W, o.Stride)}, nil
}

func probability(in []Shape, p float64) (Shape, error) {
	x, err := one(in)
	if err == nil && !(p >= 0 && p < 1) { // NaN, too
		err = fmt.Errorf("probability %g is outside [0, 1)", p)
	}
	return x, err
}

// Infer implements Op.
func (o Dropout) Infer(in []Shape) (Shape, error) { return probability(in, o.P) }

// Infer implements Op.
func (o StochasticDepth) Infer(in []Shape) (Shape, error) { return probability(in, o.P) }

// Infer implements Op.
func (o Flatten) Infer(in []Shape) (Shape, error) {
	x, err := one(in)
	return Shape{x.Elements(), 1, 1}, err
}

// MACs implements Op.
func (o Conv2d) MACs(_ []Shape, out Shape) int64 {
	return int64(out.Elements()) * int64(o.In/o.Groups) * int64(o.Kernel.H) * int64(o.Kernel.W)
}

// MACs implements Op.
func (o Linear) MACs(_ []Shape, out Shape) int64 { return int64(out.Elements()) * int64(o.In) }

// Operators without matrix products count none, as in torchvision's figures.
func (InputOp) MACs([]Shape, Shape) int64           { return 0 }
func (BatchNorm) MACs([]Shape, Shape) int64         { return 0 }
func (LayerNorm) MACs([]Shape, Shape) int64         { return 0 }
func (LocalResponseNorm) MACs([]Shape, Shape) int64 { return 0 }
func (MaxPool) MACs([]Shape, Shape) int64           { return 0 }
func (AvgPool) MACs([]Shape, Shape) int64           { return 0 }
func (AdaptiveAvgPool) MACs([]Shape, Shape) int64   { return 0 }
func (Activation) MACs([]Shape, Shape) int64        { return 0 }
func (Add) MACs([]Shape, Shape) int64               { return 0 }
func (Mul) MACs([]Shape, Shape) int64               { return 0 }
func (Concat) MACs([]Shape, Shape) int64            { return 0 }
func (ChannelShuffle) MACs([]Shape, Shape) int64    { return 0 }
func (Slice) MACs([]Shape, Shape) int64             { return 0 }
func (Subsample) MACs([]Shape, Shape) int64         { return 0 }
func (Dropout) MACs([]Shape, Shape) int64           { return 0 }
func (StochasticDepth) MACs([]Shape, Shape) int64   { return 0 }
func (Flatten) MACs([]Shape, Shape) int64           { return 0 }
func (LayerScale) MACs([]Shape, Shape) int64        { return 0 }
func (Affine) MACs([]Shape, Shape) int64            { return 0 }
