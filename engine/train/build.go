package train

import (
	"fmt"
	"slices"

	"github.com/go-modelzoo/zoo/graph"
)

// build turns the graph's nodes into operators, some of which compute several nodes: an activation with what comes before it, for instance.
func (t *Trainer) build() error {
	roots := []*graph.Node{t.graph.Output}
	if t.at == nil {
		for _, a := range t.graph.Aux {
			roots = append(roots, a.Node)
		}
	}
	order := t.graph.InferenceNodes(roots...)
	uses := map[int]int{}
	for _, n := range order {
		for _, in := range n.Inputs {
			uses[in.ID]++
		}
	}
	for _, r := range roots {
		uses[r.ID]++
	}
	made := map[int]*node{}
	static := t.staticNodes(order)
	var frozen []*node
	for _, n := range border(order, roots, static) {
		v := &node{Node: n}
		made[n.ID] = v
		frozen = append(frozen, v)
		t.nodes = append(t.nodes, v)
	}
	if len(frozen) > 0 {
		if err := t.newTrunk(frozen); err != nil {
			return err
		}
	}
	for _, n := range order {
		if _, image := n.Op.(graph.InputOp); static[n] && !image {
			continue
		}
		if act, ok := n.Op.(graph.Activation); ok && uses[n.Inputs[0].ID] == 1 {
			if before := made[n.Inputs[0].ID]; before.Node == n.Inputs[0] && fuse(before.op, act.Function) {
				before.Node = n
				made[n.ID] = before
				continue
			}
		}
		if v := t.normSum(n, made, uses); v != nil {
			made[n.ID] = v
			continue
		}
		if v := t.concatConvs(n, made, uses); v != nil {
			made[n.ID] = v
			continue
		}
		v := &node{Node: n, ctx: &context{env: t.env, in: n.InputShapes(), out: n.Shape, params: map[graph.Role]*Param{}}}
		for _, in := range n.Inputs {
			producer := made[in.ID]
			v.inputs = append(v.inputs, producer)
			v.slots = append(v.slots, producer.consumers)
			producer.consumers++
		}
		for _, spec := range n.Params {
			p := t.byName[spec.Name]
			v.params = append(v.params, p)
			v.ctx.params[spec.Role] = p
		}
		if err := trainable(n); err != nil {
			return err
		}
		v.op = newOperator(n, v.params)
		made[n.ID] = v
		t.nodes = append(t.nodes, v)
	}
	for i, r := range roots {
		h := output{made[r.ID], 1, made[r.ID].consumers}
		if i > 0 {
			h.weight = t.graph.Aux[i-1].Weight
		}
		h.consumers++
		t.heads = append(t.heads, h)
	}
	for i, v := range t.nodes {
		v.grad = v.Node == t.at
		for _, p := range v.params {
			v.grad = v.grad || p.trainable
		}
		for _, in := range v.inputs {
			v.grad = v.grad || in.grad
			in.last = i
		}
		if v.op == nil || !v.grad {
			continue
		}
		in, out := v.op.reads()
		v.keep = v.keep || out
		for _, p := range v.inputs {
			p.keep = p.keep || in
		}
	}
	for _, h := range t.heads {
		h.last = len(t.nodes)
	}
	t.least = 1
	for _, v := range t.nodes {
		if norm, ok := v.op.(*batchNorm); ok && norm.learns(v.ctx) && v.Shape.H*v.Shape.W == 1 {
			t.least = 2
		}
	}
	return nil
}

// normSum makes one operator of a sum of two and a batch norm that only the sum reads, in place of the batch norm.
func (t *Trainer) normSum(n *graph.Node, made map[int]*node, uses map[int]int) *node {
	if _, ok := n.Op.(graph.Add); !ok || len(n.Inputs) != 2 {
		return nil
	}
	for i, in := range n.Inputs {
		v := made[in.ID]
		norm, ok := v.op.(*batchNorm)
		if !ok || norm.act.active || norm.residual || uses[in.ID] != 1 || v.Node != in {
			continue
		}
		other := made[n.Inputs[1-i].ID]
		norm.residual = true
		v.Node, v.ctx.in = n, []graph.Shape{n.Shape, n.Shape}
		v.inputs, v.slots = append(v.inputs, other), append(v.slots, other.consumers)
		other.consumers++
		at := slices.Index(t.nodes, v)
		t.nodes = append(slices.Delete(t.nodes, at, at+1), v) // behind the other operand
		return v
	}
	return nil
}

// fuse gives an operator the activation behind it, if it can take one.
func fuse(op operator, f graph.Function) bool {
	switch op := op.(type) {
	case *batchNorm:
		if !op.act.active {
			op.act = activation{true, f}
			return true
		}
	case *add:
		if !op.act.active {
			op.act = activation{true, f}
			return true
		}
	case *conv:
		if !op.act.active && clips(f) {
			op.act.activation = activation{true, f}
			return true
		}
	case *linear:
		if !op.act.active && clips(f) {
			op.act.activation = activation{true, f}
			return true
		}
	}
	return false
}

// trainable returns an error for what has no backward pass here.
func trainable(n *graph.Node) error {
	switch op := n.Op.(type) {
	case graph.Conv2d:
		if op.Stride.H > 1 && op.Dilation.H > 1 || op.Stride.W > 1 && op.Dilation.W > 1 {
			return fmt.Errorf("train: convolution %s has both a stride and a dilation above 1, which cannot be trained", n.Name)
		}
	case graph.MaxPool:
		if op.Kernel.H*op.Kernel.W > maxTaps {
			return fmt.Errorf("train: the window of max pooling %s is %dx%d, beyond the %d values that can be trained", n.Name, op.Kernel.H, op.Kernel.W, maxTaps)
		}
	}
	return nil
}

// newOperator returns the operator of a node; nil for the input.
func newOperator(n *graph.Node, params []*Param) operator {
	switch op := n.Op.(type) {
	case graph.InputOp:
		return nil
	case graph.Conv2d:
		return newConv(op, n.Inputs[0].Shape)
	case graph.Linear:
		return &linear{Linear: op}
	case graph.BatchNorm:
		return &batchNorm{BatchNorm: op}
	case graph.LayerNorm:
		return &layerNorm{LayerNorm: op}
	case graph.LocalResponseNorm:
		return &localResponseNorm{LocalResponseNorm: op}
	case graph.MaxPool:
		return &maxPool{pool: window(op.Window, n.Inputs[0].Shape)}
	case graph.AvgPool:
		return newAvgPool(op, n.Inputs[0].Shape)
	case graph.AdaptiveAvgPool:
		return &adaptiveAvgPool{}
	case graph.Activation:
		return &elementwise{activation{true, op.Function}}
	case graph.Add:
		return &add{}
	case graph.Mul:
		return &mul{}
	case graph.Concat:
		return &concat{}
	case graph.ChannelShuffle:
		return &shuffle{op}
	case graph.Slice:
		return &slice{op}
	case graph.Subsample:
		return &subsample{op}
	case graph.Dropout:
		return &dropout{p: op.P}
	case graph.StochasticDepth:
		return &dropout{p: op.P, images: true}
	case graph.Flatten:
		return &flatten{}
	case graph.LayerScale:
		return &channelScale{}
	case graph.Affine:
		return &channelScale{scale: op.Scale, shift: op.Shift}
	case graph.Custom:
		return &custom{op: op, specs: params}
	}
	panic(fmt.Sprintf("train: operator %s of node %s has no gradient: implement graph.Custom", n.Op.Kind(), n.Name))
}
