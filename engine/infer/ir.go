package infer

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/graph"
)

// kind is what an op computes.
type kind uint8

const (
	kInput      kind = iota
	kConv            // dense or grouped convolution or linear layer, with residual, its projection, and activation
	kDepthwise       // depthwise convolution with activation, and the sums of its rows
	kAffine          // act(x*scale + shift + residual) with constants
	kScale           // act(x*vector + residual): squeeze and excitation
	kAdd             // act(x + y)
	kMul             // x*y of equal shapes beyond one pixel, in float32
	kActivation      // act(x)
	kMaxPool         // max pooling
	kAvgPool         // average pooling
	kAdaptive        // adaptive average pooling to more than one pixel
	kGlobal          // global average pooling into a float32 vector
	kRowsMean        // global average from the row sums of a depthwise convolution
	kLayerNorm       // layer norm over the channels of a pixel
	kLRN             // local response norm
	kConcat          // views of one buffer where possible, else copies
	kInterleave      // concatenation of two halves and their shuffle
	kShuffle         // channel shuffle
	kSlice           // a view
	kFlatten         // a vector in PyTorch's order
	kSubsample       // every n-th row and column
	kConvert         // copies into another format
	kCustom          // a family's own operator
	kChain           // several ops on bands of rows
)

var kindNames = [...]string{"input", "conv", "depthwise", "affine", "scale", "add", "mul", "activation", "max_pool", "avg_pool", "adaptive_pool",
	"global_pool", "mean_of_rows", "layer_norm", "lrn", "concat", "interleave", "shuffle", "slice", "flatten", "subsample", "convert", "custom", "chain"}

func (k kind) String() string { return kindNames[k] }

// value is a feature map of the network that is being compiled. A vector is a map of one pixel.
type value struct {
	id    int
	shape graph.Shape
	op    *op   // the op that writes it
	users []*op // the ops that read it, one entry a use
	keep  bool  // an output of the plan
	inner bool  // within a chain: it exists only in windows of a few rows

	// Set by place.
	format kernel.Format
	root   *root
	from   int // first channel within the root
	flat   bool
}

// op is an operation of the network that is being compiled. Passes change it in place.
type op struct {
	kind     kind
	node     *graph.Node // which names it; the first node of those that were fused
	in       []*value
	residual *value // added before the activation, or nil
	// project is a 1×1 convolution that the residual goes through before it is added, of the same sum, or nil (kConv).
	project *op
	out     *value
	sums    *value // kDepthwise: the sums of its rows, or nil; kRowsMean reads it
	act     kernel.Activation
	dead    bool
	phase   phase // in which it runs

	conv   graph.Conv2d  // kConv, kDepthwise
	pads   graph.Pads    // kConv, kDepthwise
	weight *graph.Node   // kConv, kDepthwise: owner of weight and bias
	pre    []*graph.Node // kConv, kDepthwise: affine nodes on the input channels, folded into the weights
	post   []*graph.Node // kConv, kDepthwise: affine nodes on the output channels, folded into the weights; kAffine: its constants
	tile   int           // kConv: rows of results that are computed together, such that a band begins and ends with them; 0 means 1
	bands  *bands        // kChain: how it is cut
	chain  []*op         // kChain: what it runs; out is the last one's result
}

// network is the intermediate representation: ops in an order in which they can run.
type network struct {
	ops    []*op
	values []*value
	input  *value
	output []*value // in the order of the plan's outputs
}

func (n *network) value(shape graph.Shape, o *op) *value {
	v := &value{id: len(n.values), shape: shape, op: o}
	n.values = append(n.values, v)
	return v
}

// reads calls f for each operand of o.
func (o *op) reads(f func(**value)) {
	if o.kind == kChain {
		for _, x := range o.chain {
			x.reads(func(v **value) {
				if !(*v).inner {
					f(v)
				}
			})
		}
		return
	}
	for i := range o.in {
		f(&o.in[i])
	}
	if o.residual != nil {
		f(&o.residual)
	}
	if o.kind == kRowsMean {
		f(&o.sums)
	}
}

// added returns the residual if it is added as it is, so that the result may take its place.
func (o *op) added() *value {
	if o.project != nil {
		return nil
	}
	return o.residual
}

// link computes the users of all values and drops ops whose results nobody reads.
func (n *network) link() {
	for _, v := range n.values {
		v.users = v.users[:0]
	}
	for i := len(n.ops) - 1; i >= 0; i-- {
		o := n.ops[i]
		if !o.out.keep && len(o.out.users) == 0 && (o.kind != kDepthwise || o.sums == nil || len(o.sums.users) == 0) && o.kind != kInput {
			o.dead = true
			continue
		}
		o.reads(func(v **value) { (*v).users = append((*v).users, o) })
	}
	n.sweep()
}

// sweep removes dead ops.
func (n *network) sweep() {
	live := n.ops[:0]
	for _, o := range n.ops {
		if !o.dead {
			live = append(live, o)
		}
	}
	n.ops = live
}

// sole returns the only reader of v, or nil if there are more or v is an output.
func (v *value) sole() *op {
	if v.keep || len(v.users) != 1 {
		return nil
	}
	return v.users[0]
}

// wanted is an output of a plan: a node's, or its average over all pixels.
type wanted struct {
	name   string
	node   *graph.Node
	pooled bool
	shape  graph.Shape
}

// lower translates the nodes that the outputs need. What is the identity in inference disappears.
func lower(nodes []*graph.Node, outputs []wanted) (*network, error) {
	n := &network{}
	of := map[*graph.Node]*value{}
	for _, node := range nodes {
		in := make([]*value, len(node.Inputs))
		for i, x := range node.Inputs {
			in[i] = of[x]
		}
		if identity(node) {
			of[node] = in[0]
			continue
		}
		o := &op{node: node, in: in}
		if err := o.lower(node); err != nil {
			return nil, err
		}
		if o.kind == kAdd && len(in) > 2 {
			// The kernel adds two: (((a + b) + c) + d).
			sum := in[0]
			for _, x := range in[1:] {
				o = &op{kind: kAdd, node: node, in: []*value{sum, x}}
				o.out = n.value(node.Shape, o)
				n.ops = append(n.ops, o)
				sum = o.out
			}
			of[node] = sum
			continue
		}
		o.out = n.value(node.Shape, o)
		n.ops = append(n.ops, o)
		of[node] = o.out
		if o.kind == kInput {
			n.input = o.out
		}
	}
	for _, w := range outputs {
		v := of[w.node]
		if w.pooled {
			o := &op{kind: kGlobal, node: w.node, in: []*value{v}}
			o.out = n.value(w.shape, o)
			n.ops = append(n.ops, o)
			v = o.out
		}
		v.keep = true
		n.output = append(n.output, v)
	}
	n.link()
	return n, nil
}

// identity reports whether a node changes nothing in inference.
func identity(n *graph.Node) bool {
	one := func() graph.Shape { return n.Inputs[0].Shape }
	switch op := n.Op.(type) {
	case graph.Dropout, graph.StochasticDepth:
		return true
	case graph.AdaptiveAvgPool:
		return n.Shape == one()
	case graph.Flatten:
		return one().IsVector()
	case graph.ChannelShuffle:
		return op.Groups == 1 || op.Groups == one().C
	case graph.Slice:
		return n.Shape == one()
	case graph.Subsample:
		return op.Stride == 1 && n.Shape == one()
	case graph.Concat:
		return len(n.Inputs) == 1
	}
	return false
}

var activations = map[graph.Function]kernel.Activation{
	graph.ReLU: kernel.ReLU, graph.ReLU6: kernel.ReLU6, graph.HardSwish: kernel.HardSwish, graph.HardSigmoid: kernel.HardSigmoid,
	graph.SiLU: kernel.SiLU, graph.GELU: kernel.GELU, graph.Sigmoid: kernel.Sigmoid, graph.Tanh: kernel.Tanh,
}

// lower sets the op's kind and attributes from the node.
func (o *op) lower(n *graph.Node) error {
	switch op := n.Op.(type) {
	case graph.InputOp:
		o.kind = kInput
	case graph.Conv2d:
		o.kind, o.conv, o.weight = kConv, op, n
		if op.Depthwise() {
			o.kind = kDepthwise
		}
		o.pads = op.Pads(n.Inputs[0].Shape)
	case graph.Linear:
		o.kind, o.weight = kConv, n
		o.conv = graph.Conv2d{Window: graph.Window{Kernel: graph.Square(1), Stride: graph.Square(1), Dilation: graph.Square(1)},
			In: op.In, Out: op.Out, Groups: 1, Bias: op.Bias}
	case graph.BatchNorm, graph.LayerScale, graph.Affine:
		o.kind, o.post = kAffine, []*graph.Node{n}
	case graph.LayerNorm:
		o.kind = kLayerNorm
	case graph.LocalResponseNorm:
		o.kind = kLRN
	case graph.MaxPool:
		o.kind = kMaxPool
	case graph.AvgPool:
		o.kind = kAvgPool
	case graph.AdaptiveAvgPool:
		o.kind = kAdaptive
		if op.Global() {
			o.kind = kGlobal
		}
	case graph.Activation:
		act, ok := activations[op.Function]
		if !ok {
			return fmt.Errorf("node %s: the inference engine has no activation %v", n.Name, op.Function)
		}
		o.kind, o.act = kActivation, act
	case graph.Add:
		o.kind = kAdd
	case graph.Mul:
		o.kind = kMul
		if n.Inputs[1].Shape.IsVector() {
			o.kind = kScale
		}
	case graph.Concat:
		o.kind = kConcat
	case graph.ChannelShuffle:
		o.kind = kShuffle
	case graph.Slice:
		o.kind = kSlice
	case graph.Flatten:
		o.kind = kFlatten
	case graph.Subsample:
		o.kind = kSubsample
	case graph.Custom:
		o.kind = kCustom
	default:
		return fmt.Errorf("node %s: the inference engine has no operator %s", n.Name, n.Op.Kind())
	}
	return nil
}
