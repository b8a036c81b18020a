package infer

import (
	"slices"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/graph"
)

// fuse runs the passes that merge ops. Each leaves a correct network behind; the order matters only for how much they find.
func (n *network) fuse() {
	n.foldAffine()
	n.foldIntoNext()
	n.poolFirst()
	n.poolLast()
	n.fuseActivations()
	n.fuseShuffles()
	n.fuseResiduals()
	n.fuseActivations()
	n.flattenIntoConv()
	n.fuseRowSums()
	n.link()
}

// absorb makes o produce what its reader u produced, and removes u.
func (n *network) absorb(o, u *op) {
	u.out.op = o
	o.out = u.out
	u.dead = true
}

// move puts o in front of the op at, for ops whose result is read by at alone.
func (n *network) move(o, at *op) {
	i, j := slices.Index(n.ops, o), slices.Index(n.ops, at)
	if i < j {
		copy(n.ops[i:j], n.ops[i+1:j+1])
		n.ops[j] = o
	}
}

// foldAffine folds batch norm, layer scale and constant affine maps into the convolution in front of them, and runs of
// them into one.
func (n *network) foldAffine() {
	for _, o := range n.ops {
		if o.dead || o.kind != kConv && o.kind != kDepthwise && o.kind != kAffine {
			continue
		}
		for {
			u := o.out.sole()
			if u == nil || u.kind != kAffine {
				break
			}
			o.post = append(o.post, u.post...)
			n.absorb(o, u)
		}
	}
	n.link()
}

// foldIntoNext folds an affine map into the convolution behind it. Padding is zero after the map, not before it, so
// this needs a convolution without padding.
func (n *network) foldIntoNext() {
	for _, o := range n.ops {
		if o.kind != kAffine || o.act != kernel.None || o.residual != nil {
			continue
		}
		u := o.out.sole()
		if u == nil || u.kind != kConv && u.kind != kDepthwise || u.in[0] != o.out || u.conv.Groups != 1 && u.kind == kConv || u.pads != (graph.Pads{}) {
			continue
		}
		u.pre = append(slices.Clone(o.post), u.pre...)
		u.in[0] = o.in[0]
		o.dead = true
	}
	n.link()
}

// poolFirst moves an average pooling in front of the 1x1 convolution that it follows (DenseNet's transitions): both are linear
// and work on different axes, and the convolution then has a quarter of the pixels. Windows must be whole, so that a bias
// stays what it is.
func (n *network) poolFirst() {
	for _, o := range n.ops {
		if !o.pointwise() {
			continue
		}
		u := o.out.sole()
		if u == nil || u.kind != kAvgPool {
			continue
		}
		pool := u.node.Op.(graph.AvgPool)
		whole := pool.Pads(u.in[0].shape) == (graph.Pads{}) && !pool.Ceil
		if in, out := o.in[0].shape, u.out.shape; !whole || in.C*out.H*out.W > o.conv.Out*in.H*in.W {
			continue
		}
		// From here on o pools and u convolves; each keeps its place in the order.
		x, between, y := o.in[0], o.out, u.out
		*o, *u = *u, *o
		o.in, o.out, between.op = []*value{x}, between, o
		u.in, u.out, y.op = []*value{between}, y, u
		between.shape = graph.Shape{C: x.shape.C, H: y.shape.H, W: y.shape.W}
	}
	n.link()
}

// poolLast moves an average pooling that keeps the size of its map behind the 1x1 convolution that reads it (Inception's pooling
// branches), where the convolution has far fewer outputs than inputs. What batch norm adds stays behind the pooling, which at the
// edges of the map may count pixels that are not there as zeros.
func (n *network) poolLast() {
	for _, u := range slices.Clone(n.ops) {
		if !u.pointwise() || len(u.pre) > 0 || u.conv.Bias {
			continue
		}
		o := u.in[0].op
		if o.kind != kAvgPool || o.out.sole() != u {
			continue
		}
		if in, out := o.in[0].shape, u.out.shape; in.H*in.W > out.H*out.W || 2*out.C > in.C {
			continue
		}
		// From here on o convolves and u pools; each keeps its place in the order.
		x, between, y := o.in[0], o.out, u.out
		*o, *u = *u, *o
		o.in, o.out, between.op = []*value{x}, between, o
		u.in, u.out, y.op = []*value{between}, y, u
		between.shape = graph.Shape{C: y.shape.C, H: x.shape.H, W: x.shape.W}
		if len(o.post) == 0 {
			continue
		}
		a := &op{kind: kAffine, node: o.node, out: y, post: o.post}
		pooled := n.value(y.shape, u)
		u.out, a.in, y.op, o.post = pooled, []*value{pooled}, a, nil
		n.ops = slices.Insert(n.ops, slices.Index(n.ops, u)+1, a)
	}
	n.link()
}

// pointwise reports whether the op is a convolution that computes each pixel from one of its operand, and nothing more.
func (o *op) pointwise() bool {
	return o.oneByOne() && o.conv.Stride == graph.Square(1) && o.act == kernel.None && o.residual == nil
}

// oneByOne reports whether the op is a 1×1 convolution without padding and groups, whatever its stride and what comes behind its sums.
func (o *op) oneByOne() bool {
	return o.kind == kConv && o.conv.Groups == 1 && o.conv.Kernel == graph.Square(1) && o.pads == (graph.Pads{})
}

// fuseActivations lets ops apply the activation behind them before they store. An activation that never decreases commutes with
// max pooling, so it also moves through one to the op in front.
func (n *network) fuseActivations() {
	for _, o := range n.ops {
		if o.dead || o.act != kernel.None {
			continue
		}
		switch o.kind {
		case kConv, kDepthwise, kAffine, kScale, kAdd:
		default:
			continue
		}
		if u := o.out.sole(); u != nil && u.kind == kActivation {
			o.act = u.act
			n.absorb(o, u)
		} else if u != nil && u.kind == kMaxPool {
			if a := u.out.sole(); a != nil && a.kind == kActivation && monotone(a.act) {
				o.act = a.act
				n.absorb(u, a)
			}
		}
	}
	n.link()
}

func monotone(a kernel.Activation) bool {
	return a == kernel.ReLU || a == kernel.ReLU6 || a == kernel.HardSigmoid || a == kernel.Sigmoid || a == kernel.Tanh
}

// fuseShuffles turns a concatenation of two halves and its shuffle in two groups into one op without the buffer between.
func (n *network) fuseShuffles() {
	for _, o := range n.ops {
		if o.dead || o.kind != kConcat || len(o.in) != 2 || o.in[0].shape != o.in[1].shape {
			continue
		}
		if u := o.out.sole(); u != nil && u.kind == kShuffle && u.node.Op.(graph.ChannelShuffle).Groups == 2 {
			o.kind = kInterleave
			n.absorb(o, u)
		}
	}
	n.link()
}

// fuseResiduals lets a convolution or a scaling add the other branch before it stores. The later of the two branches takes
// the sum if it can, so that nothing needs to move; an earlier one moves to the sum's place.
func (n *network) fuseResiduals() {
	for _, add := range slices.Clone(n.ops) {
		if add.dead || add.kind != kAdd {
			continue
		}
		best, rest := (*op)(nil), (*value)(nil)
		for i, v := range add.in {
			o := v.op
			if v.sole() != add || o.act != kernel.None || o.residual != nil || o.kind != kConv && o.kind != kScale && o.kind != kAffine {
				continue
			}
			// A convolution is the better place: its sums are in registers.
			if best == nil || best.kind != kConv || o.kind == kConv && slices.Index(n.ops, o) > slices.Index(n.ops, best) {
				best, rest = o, add.in[1-i]
			}
		}
		if best == nil {
			continue
		}
		n.move(best, add)
		best.residual = rest
		best.act = add.act
		n.absorb(best, add)
		n.link()
	}
}

// fuseProjections lets a 1×1 convolution compute the other branch of a residual block, too, if that is a 1×1 convolution of any stride:
// the first block of each of ResNet's stages. It is one sum over the channels of both, and the map between them is neither written nor
// read. can says for which convolutions there is a kernel.
func (n *network) fuseProjections(can func(o *op) bool) {
	for _, o := range n.ops {
		if o.kind != kConv || o.residual == nil {
			continue
		}
		first, second := o, o.residual.op
		if second.out.sole() != o || !first.projects() || !second.projects() || second.act != kernel.None || second.residual != nil {
			continue
		}
		if o.conv.Stride != graph.Square(1) { // the one that keeps the size of its map comes first
			first, second = second, first
		}
		sum, project := *o, *second
		sum.node, sum.in, sum.conv, sum.weight, sum.pre, sum.post = first.node, first.in, first.conv, first.weight, first.pre, first.post
		sum.project, sum.residual, project.residual = &project, second.in[0], nil
		if can(&sum) {
			*o = sum
		}
	}
	n.link()
}

// projects reports whether the op is a 1×1 convolution of maps.
func (o *op) projects() bool { return o.oneByOne() && !o.out.shape.IsVector() }

// flattenIntoConv turns a linear layer on a flattened map into a convolution whose kernel is the whole map: the linear layer's
// columns are in PyTorch's order (channel, row, column), which is that of a convolution's weights.
func (n *network) flattenIntoConv() {
	for _, o := range n.ops {
		if o.dead || o.kind != kFlatten || o.out.keep {
			continue
		}
		linear := func(u *op) bool {
			return u.oneByOne() && u.residual != o.out && len(u.pre) == 0
		}
		if !all(o.out.users, linear) {
			continue
		}
		x := o.in[0]
		for _, u := range o.out.users {
			u.conv.In, u.conv.Kernel = x.shape.C, graph.HW(x.shape.H, x.shape.W)
			u.in[0] = x
		}
		o.dead = true
	}
	n.link()
}

// fuseRowSums lets a depthwise convolution sum its rows while they are in cache, for the global average behind it.
func (n *network) fuseRowSums() {
	for _, o := range n.ops {
		if o.kind != kGlobal || o.in[0].op.kind != kDepthwise || o.in[0].keep && o.in[0].shape.IsVector() {
			continue
		}
		d := o.in[0].op
		if d.sums == nil {
			d.sums = n.value(graph.Shape{C: d.out.shape.C, H: d.out.shape.H, W: 1}, d)
		}
		o.kind, o.in, o.sums = kRowsMean, nil, d.sums
	}
	n.link()
}

func all(ops []*op, f func(*op) bool) bool {
	return !slices.ContainsFunc(ops, func(o *op) bool { return !f(o) })
}
