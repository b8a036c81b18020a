package infer

import (
	"slices"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/graph"
)

// A chain runs several ops on one image, or on a strip of its rows, by one worker: a band of a few rows of the first op, then
// the rows of the second that can be computed from them, and so on to the last op, then the next band. What one op writes is
// still in the worker's own cache when the next one reads it, and the maps between the ops exist only as windows of a few rows in
// scratch memory. Nor do workers wait for each other between the ops. It pays where maps are large and weights small: the first
// stages of a ResNet, the inverted residuals of the MobileNets (expand, depthwise, project), ConvNeXt's blocks, scaling before a
// projection. See bands for how the rows go.

// chainLimits say when a chain pays. Sizes are in bytes. What a band touches are the chain's windows, its weights, and rows of the
// plan's maps.
type chainLimits struct {
	light  size // of chains whose time is memory's: with depthwise convolutions, scaling, normalisation
	dense  size // of chains of dense convolutions and pools alone, where larger bands cost less than more of them
	strips int  // what a band of a dense chain should touch where the strips of an image go to several workers
	most   int  // that a band may touch at most
	seam   int  // rows computed, in percent of the rows that there are
	pixels int  // of a band at least: matrix products with fewer rows are slow
	thin   int  // of a band of a dense chain at least where that is one or two rows of a strip of an image
	ops    int  // of a chain at most
}

// size limits a chain's use of a worker's own cache.
type size struct {
	band    int // that a band should touch
	weights int // that every band reads again
}

// A core of the processors with AMX has 2 MB of L2 cache.
var defaultChains = chainLimits{
	light:  size{band: 1500 << 10, weights: 2 << 20},
	dense:  size{band: 3000 << 10, weights: 600 << 10},
	strips: 1000 << 10,
	most:   4000 << 10,
	seam:   140,
	pixels: 96,
	thin:   128,
	ops:    32,
}

// size returns the limits for a chain that is cut into the given number of strips.
func (l *chainLimits) size(ops []*op, strips int) size {
	s := l.dense
	for _, o := range ops {
		if o.kind != kConv && o.kind != kMaxPool && o.kind != kAvgPool {
			return l.light
		}
	}
	if strips > 1 {
		s.band = l.strips
	}
	return s
}

// chain joins ops into chains for a batch of images, of which the ops of shards see one shard and one thread.
func (n *network) chain(images, threads, shards int, limits chainLimits) {
	l := newLinker(n)
	var ops []*op
	for _, o := range n.ops {
		if l.taken[o] {
			continue
		}
		images, threads := images, threads
		if o.phase != late {
			images, threads = images/shards, 1
		}
		list := l.from(o, limits)
		var b *bands
		for ; len(list) > 1; list = list[:len(list)-1] {
			if b = newBands(list, images, threads, limits); b.worthwhile(limits) {
				break
			}
		}
		if len(list) < 2 {
			ops = append(ops, o)
			continue
		}
		for _, x := range list {
			l.taken[x] = true
		}
		c := &op{kind: kChain, node: o.node, in: o.in, out: list[len(list)-1].out, chain: list, phase: o.phase}
		c.cut(b)
		ops = append(ops, c)
	}
	// Operands of a chain's later ops must be there when it begins: run chains at the place of their last op.
	n.ops = order(ops)
}

// cut sets how a chain is cut.
func (o *op) cut(b *bands) {
	o.bands = b
	for i, x := range o.chain {
		x.out.inner = b.windows[i] != nil
	}
}

// order sorts ops topologically and keeps their order otherwise.
func order(ops []*op) []*op {
	writer := map[*value]*op{}
	for _, o := range ops {
		writer[o.out] = o
		o.sideOutputs(func(v *value) { writer[v] = o })
	}
	var sorted []*op
	done := map[*op]bool{}
	var visit func(o *op)
	visit = func(o *op) {
		if done[o] {
			return
		}
		done[o] = true
		o.reads(func(v **value) { visit(writer[*v]) })
		sorted = append(sorted, o)
	}
	for _, o := range ops {
		visit(o)
	}
	return sorted
}

// linker finds the ops that could be a chain.
type linker struct {
	place map[*op]int  // in the order of the network
	taken map[*op]bool // the ops of the chains found so far
}

func newLinker(n *network) *linker {
	l := &linker{place: map[*op]int{}, taken: map[*op]bool{}}
	for i, o := range n.ops {
		l.place[o] = i
	}
	return l
}

// from returns the longest run of ops from o on that could be a chain, in an order in which they can run; every beginning of it
// could be one, too. Whatever else reads the list comes behind all of it in the order of the network, so that no op of the list waits for
// what depends on it.
func (l *linker) from(o *op, limits chainLimits) []*op {
	if !o.rowwise() {
		return nil
	}
	list := []*op{o}
	depthwise := o.kind == kDepthwise
	for len(list) < limits.ops && o.sums == nil { // what follows may need the sums, which are not complete before the last band
		u := l.next(list)
		if u == nil || u.phase != o.phase || l.taken[u] || !u.rowwise() {
			break
		}
		switch {
		case u.kind == kDepthwise:
			if v := u.in[0].op; depthwise || v.kind != kConv {
				return list
			}
			depthwise = true
		case u.kind == kConv && u.conv.Out >= 2*u.conv.In:
			// The next inverted residual begins here: its wide map had better stay in a chain of its own.
			if next := u.out.sole(); next != nil && next.kind == kDepthwise {
				return list
			}
		}
		list = append(list, u)
		o = u
	}
	return list
}

// next returns the first op in the order of the network that reads what the list writes and is not in it.
func (l *linker) next(list []*op) *op {
	var next *op
	for _, o := range list {
		for _, u := range o.out.users {
			if (next == nil || l.place[u] < l.place[next]) && !slices.Contains(list, u) {
				next = u
			}
		}
	}
	return next
}

// rowwise reports whether some rows of the op's result can be computed from some rows of its operands.
func (o *op) rowwise() bool {
	if o.out.shape.IsVector() {
		return false
	}
	switch o.kind {
	case kConv, kDepthwise:
		return o.meets()
	case kAffine, kScale, kAdd, kActivation, kLayerNorm, kInterleave, kMaxPool, kAvgPool:
		return true
	}
	return false
}

// meets reports whether every window of the convolution meets the map: one that lies in the padding alone (a padding as large as the kernel)
// reads rows that no band holds.
func (o *op) meets() bool {
	return o.under(span{0, 1}).to > 0 && o.under(span{o.out.shape.H - 1, o.out.shape.H}).from < o.in[0].shape.H
}

// beside returns the rows of the op's other operands that rows s of its result are computed from: the same ones, unless the op projects
// its residual with a stride.
func (o *op) beside(s span) span {
	if o.project == nil || s.len() == 0 {
		return s
	}
	return o.project.under(s)
}

// under returns the rows of the op's first operand that rows s of its result are computed from, also beyond the map where it
// is padded.
func (o *op) under(s span) span {
	window := func(kernel, stride, dilation, pad int) span {
		return span{s.from*stride - pad, (s.to-1)*stride - pad + (kernel-1)*dilation + 1}
	}
	switch o.kind {
	case kConv, kDepthwise:
		return window(o.conv.Kernel.H, o.conv.Stride.H, o.conv.Dilation.H, o.pads.Top)
	case kMaxPool, kAvgPool:
		p := o.pooling()
		return window(p.KernelH, p.StrideH, p.DilationH, p.PadTop)
	}
	return s
}

// pooling returns the window of a pooling op.
func (o *op) pooling() kernel.Pool {
	var w graph.Window
	p := kernel.Pool{}
	switch n := o.node.Op.(type) {
	case graph.MaxPool:
		w, p.CeilMode = n.Window, n.Ceil
	case graph.AvgPool:
		w, p.CeilMode, p.CountIncludePad = n.Window, n.Ceil, n.CountIncludePad
	}
	pads := w.Pads(o.in[0].shape)
	p.KernelH, p.KernelW, p.StrideH, p.StrideW = w.Kernel.H, w.Kernel.W, w.Stride.H, w.Stride.W
	p.DilationH, p.DilationW = max(w.Dilation.H, 1), max(w.Dilation.W, 1)
	p.PadTop, p.PadLeft, p.PadBottom, p.PadRight = pads.Top, pads.Left, pads.Bottom, pads.Right
	return p
}

// sideOutputs calls f for the values besides out that the op writes.
func (o *op) sideOutputs(f func(*value)) {
	if o.sums != nil && o.kind == kDepthwise {
		f(o.sums)
	}
	for _, x := range o.chain {
		if x.out != o.out && !x.out.inner {
			f(x.out)
		}
		x.sideOutputs(f)
	}
}
