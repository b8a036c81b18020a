package onnx

import (
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/graph"
)

// node adds the ONNX form of one node.
func (b *builder) node(n *graph.Node) error {
	switch op := n.Op.(type) {
	case graph.InputOp:
		return nil // the model's own input has its name
	case graph.Conv2d:
		return b.conv(n, op)
	case graph.Linear:
		return b.linear(n, op)
	case graph.BatchNorm:
		return b.batchNorm(n, op)
	case graph.LayerNorm:
		return b.layerNorm(n, op)
	case graph.LocalResponseNorm:
		if op.Size%2 == 0 { // one channel more before than after in PyTorch, after than before in ONNX
			return fmt.Errorf("has an even size of %d, which ONNX reads as other channels: export safetensors or pth instead", op.Size)
		}
		b.op("LRN", value(n), b.images(n), integer("size", op.Size), float("alpha", op.Alpha), float("beta", op.Beta), float("bias", op.K))
	case graph.MaxPool:
		in, attrs := b.pool(n, op.Window, op.Ceil)
		b.op("MaxPool", value(n), in, append(attrs, integers("dilations", op.Dilation.H, op.Dilation.W))...)
	case graph.AvgPool:
		in, attrs := b.pool(n, op.Window, op.Ceil)
		b.op("AveragePool", value(n), in, append(attrs, integer("count_include_pad", boolean(op.CountIncludePad)))...)
	case graph.AdaptiveAvgPool:
		return b.adaptive(n, op)
	case graph.Activation:
		in := b.image(n.Inputs[0])
		if isFlat(n) {
			in = value(n.Inputs[0])
		}
		b.activation(value(n), in, op.Function)
	case graph.Add:
		sum := b.images(n)
		for i := 2; i < len(sum); i++ {
			sum[1] = b.op("Add", fmt.Sprintf("%s/%d", value(n), i), []string{sum[1], sum[i]})
		}
		b.op("Add", value(n), sum[:2])
	case graph.Mul:
		b.op("Mul", value(n), b.images(n))
	case graph.Concat:
		b.op("Concat", value(n), b.images(n), integer("axis", 1))
	case graph.ChannelShuffle:
		s := n.Shape
		split := b.op("Reshape", value(n)+"/split", append(b.images(n), b.ints(value(n)+"/groups", 0, op.Groups, s.C/op.Groups, s.H, s.W)))
		turned := b.op("Transpose", value(n)+"/turned", []string{split}, integers("perm", 0, 2, 1, 3, 4))
		b.op("Reshape", value(n), []string{turned, b.ints(value(n)+"/channels", 0, s.C, s.H, s.W)})
	case graph.Slice:
		b.op("Slice", value(n), append(b.images(n), b.ints(value(n)+"/from", op.From), b.ints(value(n)+"/to", op.To), b.ints("axis/1", 1)))
	case graph.Subsample:
		picked := b.op("Slice", value(n)+"/picked", append(b.images(n),
			b.ints("pixels/from", 0, 0), b.ints("pixels/to", math.MaxInt32, math.MaxInt32), b.ints("axes/2-3", 2, 3), b.ints(value(n)+"/stride", op.Stride, op.Stride)))
		b.op("Pad", value(n), []string{picked, b.ints(value(n)+"/pads", 0, op.Before, 0, 0, 0, op.After, 0, 0)})
	case graph.Dropout, graph.StochasticDepth:
		b.op("Identity", value(n), []string{value(n.Inputs[0])})
	case graph.Flatten:
		b.op("Flatten", value(n), []string{value(n.Inputs[0])}, integer("axis", 1))
	case graph.LayerScale:
		scale, err := b.param(n, graph.Scale, 1, n.Shape.C, 1, 1)
		if err != nil {
			return err
		}
		b.op("Mul", value(n), append(b.images(n), scale))
	case graph.Affine:
		shape := []int{1, n.Shape.C, 1, 1}
		scaled := b.op("Mul", value(n)+"/scaled", append(b.images(n), b.tensor(value(n)+"/scale", shape, op.Scale)))
		b.op("Add", value(n), []string{scaled, b.tensor(value(n)+"/shift", shape, op.Shift)})
	default:
		return fmt.Errorf("has no ONNX form: export safetensors or pth instead")
	}
	return nil
}

func boolean(v bool) int {
	if v {
		return 1
	}
	return 0
}

// window returns the attributes that convolutions and poolings share.
func window(w graph.Window, p graph.Pads) []attr {
	return []attr{
		integers("kernel_shape", w.Kernel.H, w.Kernel.W),
		integers("strides", w.Stride.H, w.Stride.W),
		integers("pads", p.Top, p.Left, p.Bottom, p.Right),
	}
}

// pool returns the operand and attributes of a pooling. Rounding up, ONNX has a last window begin behind the map, where PyTorch has none: the map
// is given up to where the last window of PyTorch ends.
func (b *builder) pool(n *graph.Node, w graph.Window, ceil bool) ([]string, []attr) {
	s, in := n.Inputs[0].Shape, b.images(n)
	p := w.Pads(s)
	if ceil {
		fit := func(size, after *int, before, kernel, stride, dilation, out int) {
			if end := (out-1)*stride + (kernel-1)*dilation + 1 - before; end < *size+*after {
				*size = min(*size, end)
				*after = end - *size
			}
		}
		fit(&s.H, &p.Bottom, p.Top, w.Kernel.H, w.Stride.H, w.Dilation.H, n.Shape.H)
		fit(&s.W, &p.Right, p.Left, w.Kernel.W, w.Stride.W, w.Dilation.W, n.Shape.W)
	}
	if s != n.Inputs[0].Shape {
		in = []string{b.op("Slice", value(n)+"/reached", append(in, b.ints("pixels/from", 0, 0), b.ints(value(n)+"/to", s.H, s.W), b.ints("axes/2-3", 2, 3)))}
	}
	return in, append(window(w, p), integer("ceil_mode", boolean(ceil)))
}

func (b *builder) conv(n *graph.Node, op graph.Conv2d) error {
	in := b.images(n)
	w, err := b.param(n, graph.Weight)
	if err != nil {
		return err
	}
	in = append(in, w)
	if op.Bias {
		bias, err := b.param(n, graph.Bias)
		if err != nil {
			return err
		}
		in = append(in, bias)
	}
	b.op("Conv", value(n), in, append(window(op.Window, op.Pads(n.Inputs[0].Shape)), integers("dilations", op.Dilation.H, op.Dilation.W), integer("group", op.Groups))...)
	return nil
}

// linear is Gemm over vectors, and a 1×1 convolution over maps.
func (b *builder) linear(n *graph.Node, op graph.Linear) error {
	kind, in, attrs, shape := "Gemm", []string{}, []attr{integer("transB", 1)}, []int{op.Out, op.In}
	if n.Inputs[0].Shape.IsVector() {
		in = append(in, b.vector(n.Inputs[0]))
	} else {
		kind, in, attrs, shape = "Conv", b.images(n), []attr{integers("kernel_shape", 1, 1)}, []int{op.Out, op.In, 1, 1}
	}
	w, err := b.param(n, graph.Weight, shape...)
	if err != nil {
		return err
	}
	in = append(in, w)
	if op.Bias {
		bias, err := b.param(n, graph.Bias)
		if err != nil {
			return err
		}
		in = append(in, bias)
	}
	b.op(kind, value(n), in, attrs...)
	return nil
}

func (b *builder) batchNorm(n *graph.Node, op graph.BatchNorm) error {
	in := b.images(n)
	for _, role := range []graph.Role{graph.Weight, graph.Bias, graph.RunningMean, graph.RunningVar} {
		p, err := b.param(n, role)
		if err != nil {
			return err
		}
		in = append(in, p)
	}
	b.op("BatchNormalization", value(n), in, float("epsilon", op.Eps))
	return nil
}

// layerNorm normalises the last axis, so maps are turned to NHWC and back.
func (b *builder) layerNorm(n *graph.Node, op graph.LayerNorm) error {
	weight, err := b.param(n, graph.Weight)
	if err != nil {
		return err
	}
	bias, err := b.param(n, graph.Bias)
	if err != nil {
		return err
	}
	last := b.op("Transpose", value(n)+"/nhwc", b.images(n), integers("perm", 0, 2, 3, 1))
	normed := b.op("LayerNormalization", value(n)+"/normed", []string{last, weight, bias}, integer("axis", -1), float("epsilon", op.Eps))
	b.op("Transpose", value(n), []string{normed}, integers("perm", 0, 3, 1, 2))
	return nil
}

func (b *builder) adaptive(n *graph.Node, op graph.AdaptiveAvgPool) error {
	in := n.Inputs[0].Shape
	switch {
	case op.Global():
		b.op("GlobalAveragePool", value(n), b.images(n))
	case in.H%op.Out.H == 0 && in.W%op.Out.W == 0:
		kh, kw := in.H/op.Out.H, in.W/op.Out.W
		b.op("AveragePool", value(n), b.images(n), integers("kernel_shape", kh, kw), integers("strides", kh, kw))
	default:
		return fmt.Errorf("pools %v to %d×%d bins: %w", in, op.Out.H, op.Out.W, ErrUnevenBins)
	}
	return nil
}

// activation adds an elementwise function. GELU has no operator of its own before opset 20: x·(1+erf(x/√2))/2.
func (b *builder) activation(name, x string, f graph.Function) {
	in := []string{x}
	switch f {
	case graph.ReLU:
		b.op("Relu", name, in)
	case graph.ReLU6:
		b.op("Clip", name, []string{x, b.scalar("zero", 0), b.scalar("six", 6)})
	case graph.HardSwish:
		b.op("HardSwish", name, in)
	case graph.HardSigmoid:
		b.op("HardSigmoid", name, in, float("alpha", 1.0/6), float("beta", 0.5))
	case graph.SiLU:
		b.op("Mul", name, []string{x, b.op("Sigmoid", name+"/sigmoid", in)})
	case graph.Sigmoid:
		b.op("Sigmoid", name, in)
	case graph.Tanh:
		b.op("Tanh", name, in)
	case graph.GELU:
		erf := b.op("Erf", name+"/erf", []string{b.op("Mul", name+"/scaled", []string{x, b.scalar("root/half", float32(math.Sqrt(0.5)))})})
		sum := b.op("Add", name+"/sum", []string{erf, b.scalar("one", 1)})
		b.op("Mul", name, []string{b.op("Mul", name+"/half", []string{x, b.scalar("half", 0.5)}), sum})
	}
}
