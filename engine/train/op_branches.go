package train

import (
	"slices"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/grad"
	"github.com/go-modelzoo/zoo/graph"
)

// branches is graph.Concat of convolutions that nothing else reads, with their clipping activation: each writes its channels of the
// map and reads its channels of the gradient in place, so that nothing is copied.
type branches struct {
	convs []*branch // by operand
	act   clip
}

// branch is a convolution and what it works with.
type branch struct {
	*conv
	ctx *context
}

// concatConvs makes one operator of a concatenation and the convolutions before it, in their place; nil if it cannot.
func (t *Trainer) concatConvs(n *graph.Node, made map[int]*node, uses map[int]int) *node {
	if _, ok := n.Op.(graph.Concat); !ok {
		return nil
	}
	op := &branches{}
	v := &node{Node: n, op: op, ctx: &context{env: t.env, out: n.Shape}}
	for i, in := range n.Inputs {
		p := made[in.ID]
		c, ok := p.op.(*conv)
		if !ok || p.Node != in || uses[in.ID] != 1 || p.consumers != 0 || i > 0 && c.act != op.act {
			return nil
		}
		op.act = c.act
		op.convs = append(op.convs, &branch{c, p.ctx})
		v.inputs, v.slots, v.params = append(v.inputs, p.inputs...), append(v.slots, p.slots...), append(v.params, p.params...)
		v.ctx.in = append(v.ctx.in, p.ctx.in...)
	}
	t.nodes = slices.DeleteFunc(t.nodes, func(v *node) bool {
		return slices.ContainsFunc(n.Inputs, func(in *graph.Node) bool { return made[in.ID] == v })
	})
	t.nodes = append(t.nodes, v)
	return v
}

func (o *branches) reads() (in, out bool) { return true, o.act.active }

func (o *branches) overwrites() []int { return nil }

// each calls f with each convolution, its context and its channels of a map.
func (o *branches) each(c *context, data []float32, f func(i int, b *branch, m kernel.Map)) {
	whole, at := denseMap(data, c.n, c.out), 0
	for i, b := range o.convs {
		b.ctx.n, b.ctx.train = c.n, c.train
		f(i, b, whole.Sub(at, at+b.Out))
		at += b.Out
	}
}

func (o *branches) forward(c *context, out []float32, in [][]float32) {
	o.each(c, out, func(i int, b *branch, y kernel.Map) { b.forwardTo(b.ctx, y, in[i]) })
}

func (o *branches) backward(c *context, gin [][]float32, gout, out []float32, in [][]float32) {
	o.act.gradient(c, gout, out)
	o.biasGradients(c, gout)
	o.each(c, gout, func(i int, b *branch, dy kernel.Map) { b.backwardFrom(b.ctx, gin[i], dy, in[i]) })
}

// biasGradients adds the sums over pixels of the output's gradient to those of the biases.
func (o *branches) biasGradients(c *context, gout []float32) {
	if !slices.ContainsFunc(o.convs, func(b *branch) bool { p := b.ctx.params[graph.Bias]; return p != nil && p.trainable }) {
		return
	}
	ch := c.out.C
	sum := c.reduce(rows(c.n, c.out), ch, func(acc []float64, from, to int) {
		grad.ColumnSums(c.tier, acc, gout[from*ch:to*ch])
	})
	for _, b := range o.convs {
		addBias(b.ctx, sum[:b.Out])
		sum = sum[b.Out:]
	}
}
