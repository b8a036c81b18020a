package infer

import (
	"slices"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/graph"
)

// root is a buffer of the arena. It holds one value, or several side by side as channel blocks (a concatenation) or one after the
// other (an op that overwrites its operand).
type root struct {
	c, h, w  int
	format   kernel.Format
	pad      int
	images   int
	begins   phase // in which it is used first, and
	ends     phase // last; outputs are used when all is done
	external bool  // the caller's image, not in the arena
	values   []*value
	index    int // in the plan's list
	lease
}

// own reports whether every shard has such a root of its own, for one group of images.
func (r *root) own() bool { return r.begins == r.ends && r.ends != late && !r.external }

// seen reports whether shards see the images of their group of a root that is there for the whole batch.
func (r *root) seen() bool { return r.begins != late && !r.own() }

// layout returns the geometry of the root.
func (r *root) layout() kernel.Map {
	if r.external || slices.ContainsFunc(r.values, func(v *value) bool { return v.flat }) {
		return kernel.Layout(r.format, r.images, r.h, r.w, r.c, r.pad)
	}
	return layout(r.format, r.images, r.h, r.w, r.c, r.pad)
}

// layout returns the geometry of a map. The rows of a tile are neighbouring pixels, and where these are a multiple of 256 bytes apart
// they share few sets of the first-level cache: so pixels of many channels get a cache line more.
func layout(format kernel.Format, n, h, w, c, pad int) kernel.Map {
	const (
		sets   = 256
		spaced = 1024 // maps with fewer bytes a pixel are large, and lose more by being larger
	)
	pixel := c
	if bytes := c * format.PlaneSize(); h*w > 1 && bytes%sets == 0 && bytes >= spaced {
		pixel += cacheLine / format.PlaneSize()
	}
	return kernel.Spaced(format, n, h, w, c, pad, pixel)
}

// planes returns how many bytes a plane of the root takes, rounded up to whole cache lines, and how many planes there are.
func (r *root) planes() (bytes, count int) {
	return align(r.layout().Elements() * r.format.PlaneSize()), r.format.Planes()
}

func align(n int) int { return (n + cacheLine - 1) &^ (cacheLine - 1) }

// cacheLine is the alignment of buffers: that of the widest vector and of a tile's row.
const cacheLine = 64

// place decides for every value its format and where it lies, and how the batch is divided. format is the one that the plan's
// convolutions read fastest.
func (n *network) place(format kernel.Format, images, threads int, chains chainLimits, groups groupLimits) ([]*root, division) {
	n.convert()
	n.chooseFormats(format)
	shards := n.shard(images, threads, groups)
	n.chain(images, threads, shards, chains)
	d := n.divide(images, threads, shards, chains, groups)
	n.placeConcats()
	n.placeRest()
	roots := n.roots()
	for _, r := range roots {
		r.pad = r.border()
	}
	n.count(roots, images, d)
	n.reuse(roots)
	return slices.DeleteFunc(roots, func(r *root) bool { return len(r.values) == 0 }), d
}

// convert puts copies around the ops that only take dense float32.
func (n *network) convert() {
	var ops []*op
	insert := func(v *value, o *op) *value {
		c := &op{kind: kConvert, node: o.node, in: []*value{v}}
		c.out = n.value(v.shape, c)
		ops = append(ops, c)
		return c.out
	}
	for _, o := range n.ops {
		if o.kind == kFlatten {
			o.out.flat = true
		}
		if o.sums != nil {
			o.sums.flat = true // kernels write and read them without gaps
		}
		if o.kind != kCustom && o.kind != kMul {
			ops = append(ops, o)
			continue
		}
		for i, v := range o.in {
			o.in[i] = insert(v, o)
			o.in[i].flat = true
		}
		ops = append(ops, o)
		raw := n.value(o.out.shape, o)
		raw.flat = true
		result := o.out
		o.out = raw
		c := &op{kind: kConvert, node: o.node, in: []*value{raw}, out: result}
		result.op = c
		ops = append(ops, c)
	}
	n.ops = ops
	n.link()
}

// chooseFormats gives every value its format. Ops whose kernels need one format throughout tie values together; such a
// group is float32 where it must be or where no convolution reads it.
func (n *network) chooseFormats(format kernel.Format) {
	parent := make([]int, len(n.values))
	for i := range parent {
		parent[i] = i
	}
	var find func(int) int
	find = func(i int) int {
		if parent[i] != i {
			parent[i] = find(parent[i])
		}
		return parent[i]
	}
	tie := func(a, b *value) { parent[find(a.id)] = find(b.id) }
	for _, o := range n.ops {
		if o.added() != nil {
			tie(o.residual, o.out)
		}
		switch o.kind {
		case kAffine, kActivation, kLayerNorm, kLRN, kShuffle, kSlice, kSubsample:
			tie(o.in[0], o.out)
		case kScale:
			// A depthwise convolution writes float32 sooner than two planes, which the scaling then need not put together again.
			if v := o.in[0]; format != kernel.Split || o.residual != nil || v.op.kind != kDepthwise || v.sole() != o {
				tie(v, o.out)
			}
		case kAdd, kConcat, kInterleave:
			for _, v := range o.in {
				tie(v, o.out)
			}
		}
	}
	must := make([]bool, len(n.values))  // float32 is needed
	wants := make([]bool, len(n.values)) // the plan's format is better
	for _, v := range n.values {
		if v.flat {
			must[find(v.id)] = true
		}
	}
	for _, o := range n.ops {
		switch o.kind {
		case kInput, kGlobal, kRowsMean, kFlatten:
			must[find(o.out.id)] = true
		case kScale:
			must[find(o.in[1].id)] = true
		case kConv:
			if !o.in[0].shape.IsVector() {
				wants[find(o.in[0].id)] = true
			}
			if o.project != nil {
				wants[find(o.residual.id)] = true
			}
			if format == kernel.BF16 && !o.out.shape.IsVector() {
				wants[find(o.out.id)] = true // half the bytes of float32
			}
		case kDepthwise:
			if format == kernel.BF16 && !o.out.shape.IsVector() {
				wants[find(o.out.id)] = true
			}
		}
	}
	for _, v := range n.values {
		v.format = kernel.F32
		if c := find(v.id); wants[c] && !must[c] {
			v.format = format
		}
	}
}

// placeConcats lays the operands of concatenations side by side, the outermost and last concatenation first, so that a
// concatenation that is the beginning of a later one (DenseNet's) becomes a view of it. What cannot lie in place, such as an
// operand of two concatenations, is copied.
func (n *network) placeConcats() {
	for _, o := range slices.Backward(n.ops) {
		if o.kind != kConcat {
			continue
		}
		if o.out.root == nil && !o.alias() {
			o.out.root = newRoot(o.out)
		}
		at := o.out.from
		for _, v := range o.in {
			if v.root == nil && !v.flat && v.op.kind != kSlice && v.op.kind != kInput {
				v.root, v.from = o.out.root, at
			}
			at += v.shape.C
		}
	}
}

// alias makes the concatenation a view if its operands already lie side by side.
func (o *op) alias() bool {
	first := o.in[0]
	if first.root == nil {
		return false
	}
	at := first.from
	for _, v := range o.in {
		if v.root != first.root || v.from != at {
			return false
		}
		at += v.shape.C
	}
	o.out.root, o.out.from = first.root, first.from
	return true
}

func newRoot(v *value) *root {
	return &root{c: v.shape.C, h: v.shape.H, w: v.shape.W, format: v.format, begins: late}
}

// placeRest makes slices views and gives all other values buffers of their own.
func (n *network) placeRest() {
	for _, o := range n.ops {
		o.sideOutputs(func(v *value) {
			if v.root == nil {
				v.root = newRoot(v)
			}
		})
		if o.out.root != nil {
			continue
		}
		if o.kind == kSlice {
			o.out.root, o.out.from = o.in[0].root, o.in[0].from+o.node.Op.(graph.Slice).From
			continue
		}
		o.out.root = newRoot(o.out)
		o.out.root.external = o.kind == kInput
	}
}

// roots collects the buffers and when they are in use.
func (n *network) roots() []*root {
	var roots []*root
	touch := func(v *value, at int) {
		r := v.root
		if r.values == nil {
			roots = append(roots, r)
			r.first, r.last = at, at
		}
		if !slices.Contains(r.values, v) {
			r.values = append(r.values, v)
		}
		r.last = max(r.last, at)
		if v.keep {
			r.last = len(n.ops)
		}
	}
	for i, o := range n.ops {
		o.reads(func(v **value) { touch(*v, i) })
		touch(o.out, i)
		o.sideOutputs(func(v *value) { touch(v, i) })
	}
	return roots
}

// border returns the border that the readers of the root make use of: a depthwise convolution reads float32 where it lies if
// the padding is there. A convolution is faster without.
func (r *root) border() int {
	if r.format != kernel.F32 || r.external {
		return 0
	}
	pad := 0
	for _, v := range r.values {
		if v.flat || v.keep {
			return 0
		}
		for _, u := range v.users {
			switch u.kind {
			case kDepthwise:
				pad = max(pad, u.pads.Top, u.pads.Left, u.pads.Bottom, u.pads.Right)
			case kGlobal, kMaxPool, kAvgPool, kAdaptive, kRowsMean:
			default:
				return 0
			}
		}
	}
	if border := (r.h+2*pad)*(r.w+2*pad) - r.h*r.w; border > r.h*r.w/2 {
		return 0 // clearing it would take longer than the copy of every block of channels that the convolution makes without it
	}
	return pad
}

// reuse lets ops overwrite an operand that nobody reads later.
func (n *network) reuse(roots []*root) {
	for i, o := range n.ops {
		switch o.kind {
		case kConv:
			n.overwrite(i, o.out, o.in[0], o.added()) // it reads more than the pixel that it writes
		case kAffine, kScale:
			n.overwrite(i, o.out, nil, o.in[0], o.residual)
		case kAdd:
			n.overwrite(i, o.out, nil, o.in...)
		case kActivation, kLayerNorm, kMul:
			n.overwrite(i, o.out, nil, o.in[0])
		case kChain:
			for k, x := range o.chain {
				var beside *value
				if x.kind == kConv {
					beside = x.in[0]
				}
				if o.bands.over[k] && !o.views(x.residual) {
					n.overwrite(i, x.out, beside, x.residual)
				}
			}
		}
	}
}

// views reports whether the chain reads another value that lies in one buffer with v, such as a slice of it.
func (o *op) views(v *value) bool {
	found := false
	o.reads(func(w **value) { found = found || *w != v && (*w).root == v.root })
	return found
}

// overwrite gives out, which op i writes, the place of one of the operands over, if op i is the last to read it and it is not in one
// buffer with the operand beside.
func (n *network) overwrite(i int, v, beside *value, over ...*value) {
	out := v.root
	if out.c != v.shape.C || out.first != i {
		return // a channel block of a concatenation
	}
	for _, x := range over {
		if x == nil {
			continue
		}
		r := x.root
		if r == out || r.external || r.last != i || beside != nil && beside.root == r {
			continue
		}
		if r.c != out.c || r.pad != out.pad || r.images != out.images || r.format != out.format || x.from != 0 || x.shape.C != r.c {
			continue
		}
		for _, w := range out.values {
			w.root = r
		}
		r.values = append(r.values, out.values...)
		r.last = out.last
		out.values = nil
		return
	}
}

// lease is a piece of memory and when it is needed.
type lease struct {
	size        int  // bytes
	first, last int  // ops that write and read it first and last
	offset      int  // bytes into the memory that it is a piece of
	shared      bool // other leases have some of its bytes at other times
}

// allocate finds an offset for every lease such that no two overlap in time and memory, and returns how much memory they take. It is
// the greedy best fit by size: large ones first, each into the smallest gap that holds it. A gap of guard bytes follows each.
func allocate(leases []*lease, guard int) int {
	order := slices.Clone(leases)
	slices.SortStableFunc(order, func(a, b *lease) int { return b.size - a.size })
	total := 0
	var placed []*lease // by offset
	for _, l := range order {
		size := l.size + guard
		best, bestGap, at := -1, 0, 0
		for _, p := range placed {
			if p.last < l.first || p.first > l.last {
				continue
			}
			if gap := p.offset - at; gap >= size && (best < 0 || gap < bestGap) {
				best, bestGap = at, gap
			}
			at = max(at, p.offset+p.size+guard)
		}
		if best < 0 {
			best = at
		}
		l.offset = best
		total = max(total, best+size)
		i, _ := slices.BinarySearchFunc(placed, best, func(p *lease, at int) int { return p.offset - at })
		placed = slices.Insert(placed, i, l)
	}
	for _, l := range order {
		l.shared = slices.ContainsFunc(order, func(p *lease) bool {
			return p != l && p.offset < l.offset+l.size && l.offset < p.offset+p.size
		})
	}
	return total
}
