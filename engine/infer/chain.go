package infer

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
)

// A chain runs several ops one after the other on bands of a few rows, such that what one op writes is still in the worker's
// own cache when the next one reads it. The maps between the ops exist only as bands in scratch memory. It pays where
// maps are large and weights small: the inverted residuals of the MobileNets (expand, depthwise, project), ConvNeXt's
// blocks, scaling before a projection.
//
// An op that reads more rows than it writes (a depthwise convolution) makes the ops in front of it in the chain compute
// the rows at the seams twice.

// chainLimits say when a chain pays.
type chainLimits struct {
	bytes   int // that the bands may take
	weights int // values that every band reads again: they should stay in the cache between bands
	seam    int // rows computed, in percent of the rows that there are
	pixels  int // of a band at least: matrix products with fewer rows are slow
}

var defaultChains = chainLimits{
	bytes:   1 << 20, // half of a 2 MB L2 cache; the rest is for weights and the maps at the ends
	weights: 512 << 10,
	seam:    140,
	pixels:  96,
}

// chain joins ops into chains for a batch of n images.
func (n *network) chain(images, group, threads int, limits chainLimits) {
	var ops []*op
	for _, o := range n.ops {
		if o.dead {
			continue
		}
		list := chainFrom(o)
		count := images
		if o.early {
			count = group
		}
		for len(list) > 1 {
			if b := newBands(list, count, threads, limits); b.worthwhile(limits) {
				break
			}
			list = list[:len(list)-1]
		}
		if len(list) < 2 {
			ops = append(ops, o)
			continue
		}
		last := list[len(list)-1]
		for _, x := range list {
			x.dead = true
			x.out.inner = x != last
		}
		ops = append(ops, &op{kind: kChain, node: o.node, in: o.in, out: last.out, chain: list, early: o.early})
	}
	// Operands of a chain's later ops must be there when it begins: run chains at the place of their last op.
	n.ops = order(ops)
	for _, o := range n.ops {
		for _, x := range o.chain {
			x.dead = false
		}
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

// chainFrom returns the longest run of ops from o on that could be a chain.
func chainFrom(o *op) []*op {
	if !o.rowwise() && o.kind != kDepthwise {
		return nil
	}
	list := []*op{o}
	depthwise := o.kind == kDepthwise
	for {
		u := o.out.sole()
		if u == nil || u.dead || u.early != o.early || o.out.shape.IsVector() || o.out.flat || o.sums != nil {
			return list // what follows may need the sums, which are not complete before the last band
		}
		switch {
		case u.kind == kDepthwise:
			// One is enough: each more widens the seams. In front of it there must be much to save.
			if depthwise || o.kind != kConv || o.conv.Out < 2*o.conv.In {
				return list
			}
			depthwise = true
		case !u.rowwise():
			return list
		case u.kind == kConv && u.conv.Out >= 2*u.conv.In:
			// The next inverted residual begins here: its wide map had better stay in a chain of its own.
			if next := u.out.sole(); next != nil && next.kind == kDepthwise {
				return list
			}
		}
		if u.residual == o.out || count(u.in, o.out) != 1 || u.kind == kScale && u.in[0] != o.out {
			return list
		}
		list = append(list, u)
		o = u
	}
}

func count(list []*value, v *value) int {
	n := 0
	for _, x := range list {
		if x == v {
			n++
		}
	}
	return n
}

// rowwise reports whether a row of the op's result depends on the same row of its operands alone.
func (o *op) rowwise() bool {
	switch o.kind {
	case kConv:
		return o.conv.Kernel.H == 1 && o.conv.Kernel.W == 1 && o.conv.Stride.H == 1 && o.conv.Stride.W == 1 && o.pads.Top == 0 && o.pads.Left == 0
	case kAffine, kScale, kAdd, kActivation, kLayerNorm, kInterleave:
		return true
	}
	return false
}

// main returns the index of the operand that comes from the op before o in the chain.
func (o *op) main(before *op) int {
	if before == nil {
		return 0
	}
	return slices.Index(o.in, before.out)
}

// bands is how a chain is cut into bands.
type bands struct {
	ops    []*op
	images int
	rows   int      // of the result in a band; the last band may have fewer
	spans  [][]span // by band and op: the rows of the op's result
	reads  [][]span // by band and op: the rows that the op reads, also beyond the map where it is padded
	buffer []kernel.Map
	places []int // where the band of each op's result begins in the worker's scratch; the last has none
	bytes  int   // of all bands
}

// span is a range of rows.
type span struct{ from, to int }

func (s span) len() int { return s.to - s.from }

// newBands cuts a chain for a batch so that the bands fit into the cache and all threads have work.
func newBands(ops []*op, images, threads int, limits chainLimits) *bands {
	h := ops[len(ops)-1].out.shape.H
	try := func(rows int) *bands {
		b := &bands{ops: ops, images: images, rows: rows}
		b.cut()
		return b
	}
	rows := h
	for rows > 1 && try(rows).bytes > limits.bytes {
		rows = (rows + 1) / 2
	}
	count := max((h+rows-1)/rows, (threads+images-1)/images)
	if over := count * images % threads; over != 0 && count*images < 8*threads {
		for count*images%threads != 0 {
			count++
		}
	}
	return try((h + count - 1) / count)
}

// worthwhile reports whether the chain is expected to run faster than its ops one by one.
func (b *bands) worthwhile(limits chainLimits) bool {
	weights, computed, all := 0, 0, 0
	for i, o := range b.ops {
		if o.kind == kConv {
			weights += o.conv.Out * o.conv.In / o.conv.Groups
		}
		for _, s := range b.spans {
			computed += s[i].len() * o.out.shape.W * o.out.shape.C
		}
		all += o.out.shape.Elements()
	}
	last := b.ops[len(b.ops)-1].out.shape
	return b.bytes <= 2*limits.bytes && weights <= limits.weights && computed*100 <= all*limits.seam && b.rows*last.W >= limits.pixels
}

// cut computes the rows of every op in every band, and the buffers between the ops.
func (b *bands) cut() {
	last := len(b.ops) - 1
	h := b.ops[last].out.shape.H
	need := make([]int, len(b.ops)) // rows of the band of each op's result
	for from := 0; from < h; from += b.rows {
		spans, reads := make([]span, len(b.ops)), make([]span, len(b.ops))
		s := span{from, min(from+b.rows, h)}
		for i := last; i >= 0; i-- {
			o := b.ops[i]
			spans[i] = s
			if i < last {
				// Rows beyond the map are its padding: zeros in the buffer.
				spans[i] = span{max(s.from, 0), min(s.to, o.out.shape.H)}
				need[i] = max(need[i], s.len())
			}
			if o.kind == kDepthwise {
				w := o.conv
				s = span{spans[i].from*w.Stride.H - o.pads.Top, (spans[i].to-1)*w.Stride.H - o.pads.Top + (w.Kernel.H-1)*w.Dilation.H + 1}
			} else {
				s = spans[i]
			}
			reads[i] = s
		}
		b.spans, b.reads = append(b.spans, spans), append(b.reads, reads)
	}
	for i, o := range b.ops[:last] {
		pad := 0
		if next := b.ops[i+1]; next.kind == kDepthwise && o.out.format == kernel.F32 {
			pad = max(next.pads.Top, next.pads.Left, next.pads.Bottom, next.pads.Right)
		}
		v := o.out
		m := kernel.Layout(v.format, 1, need[i], v.shape.W, v.shape.C, pad)
		m.Off = pad * m.Pixel // rows of padding count as rows here
		m.Image = need[i] * m.Row
		b.buffer = append(b.buffer, m)
		b.places = append(b.places, b.bytes)
		plane := align(m.Image*planeSize(v.format) + overread)
		b.bytes += plane * planeCount(v.format)
	}
}

// bandOp runs one op of a chain on rows [rows.from, rows.to) of image n. Maps are of one image; those between ops are bands whose
// offset makes row numbers those of the whole map.
type bandOp func(x *exec, worker, n int, dst, src kernel.Map, rows span)

// sideOutputs calls f for the values besides out that the op writes.
func (o *op) sideOutputs(f func(*value)) {
	if o.sums != nil && o.kind == kDepthwise {
		f(o.sums)
	}
	for _, x := range o.chain {
		x.sideOutputs(f)
	}
}

// chain adds the step of a chain.
func (c *compiler) chain(o *op, packed map[*op]*packed) error {
	b := newBands(o.chain, c.n, c.threads, c.chains)
	last := len(o.chain) - 1
	maps := slices.Clone(b.buffer)
	runs := make([]bandOp, len(o.chain))
	var names []string
	scratch, macs := 0, int64(0)
	for i, x := range o.chain {
		var before *op
		src := c.maps[x.in[0].id]
		if i > 0 {
			before, src = o.chain[i-1], maps[i-1]
			src.H, src.N = before.out.shape.H, 1
		}
		dst := c.maps[x.out.id]
		if i < last {
			dst = maps[i]
			dst.H, dst.N = x.out.shape.H, 1
		}
		s, name, m, err := c.bandOp(x, x.main(before), src, dst, b, i, packed[x], &runs[i])
		if err != nil {
			return err
		}
		scratch = max(scratch, s)
		macs += m
		names = append(names, name)
	}
	in, out := o.chain[0].in[0].id, o.out.id
	count := len(b.spans)
	st := step{
		op: o, kernel: strings.Join(names, " + "), macs: macs, tasks: c.n * count, scratch: align(b.bytes) + scratch,
		bind: func(x *exec) func(worker, task int) {
			local := make([][]kernel.Map, c.threads) // by worker: the bands
			for w := range local {
				local[w] = slices.Clone(maps)
				for i := range maps {
					plane := align(maps[i].Image*planeSize(maps[i].Format) + overread)
					local[w][i].F32, local[w][i].Hi, local[w][i].Lo = views(maps[i].Format, x.scratch[w][b.places[i]:], plane)
				}
			}
			return func(worker, task int) {
				n, band := task/count, task%count
				src := x.maps[in].Images(n, n+1)
				for i := range runs {
					dst := x.maps[out]
					if i < last {
						dst = local[worker][i]
						read := b.reads[band][i+1]
						dst.H = b.ops[i].out.shape.H
						dst.Off -= read.from * dst.Row
						zeroAround(dst, read)
					} else {
						dst = dst.Images(n, n+1)
					}
					runs[i](x, worker, n, dst, src, b.spans[band][i])
					src = dst
				}
			}
		},
	}
	c.steps = append(c.steps, st)
	return nil
}

// zeroAround clears the padding of a band: the rows of the range that lie beyond the map, and the columns beside it.
func zeroAround(m kernel.Map, rows span) {
	if m.Pad == 0 {
		return
	}
	for y := rows.from; y < rows.to; y++ {
		row := m.F32[m.Off+y*m.Row-m.Pad*m.Pixel:][:m.Row]
		if y < 0 || y >= m.H {
			clear(row)
			continue
		}
		clear(row[:m.Pad*m.Pixel])
		clear(row[(m.Pad+m.W)*m.Pixel:])
	}
}

// bandOp sets run to the function of one op of a chain. It returns the scratch bytes that the op needs beyond the bands, its name
// and its multiply-adds.
func (c *compiler) bandOp(o *op, operand int, src, dst kernel.Map, b *bands, at int, p *packed, run *bandOp) (scratch int, name string, macs int64, err error) {
	tier, act := c.tier, o.act
	begin := align(b.bytes)
	residual := -1
	if o.residual != nil {
		residual = o.residual.id
	}
	other := -1
	if len(o.in) > 1 {
		other = o.in[1-operand].id
	}
	switch o.kind {
	case kConv:
		spec := p.conv.Spec()
		macs = int64(c.n) * int64(spec.MACs(o.out.shape.H, o.out.shape.W))
		calls := map[int]*gemm.Call{}
		for _, s := range b.spans {
			rows := s[at].len()
			if calls[rows] != nil {
				continue
			}
			var r *kernel.Map
			if residual >= 0 {
				m := rowsOf(c.maps[residual], span{0, rows})
				r = &m
			}
			call, err := p.conv.Bind(rowsOf(src, span{0, rows}), rowsOf(dst, span{0, rows}), r, 1)
			if err != nil {
				return 0, "", 0, fmt.Errorf("node %s: %w", o.node.Name, err)
			}
			calls[rows] = call
			scratch = max(scratch, call.Scratch())
		}
		*run = func(x *exec, worker, n int, dst, src kernel.Map, rows span) {
			call := calls[rows.len()]
			var r *kernel.Map
			if residual >= 0 {
				r = &x.residual[worker]
				*r = rowsOf(x.maps[residual].Images(n, n+1), rows)
			}
			src, dst = rowsOf(src, rows), rowsOf(dst, rows)
			for task := range call.Tasks() {
				call.Run(task, src, dst, r, x.scratch[worker][begin:])
			}
		}
		return scratch, convName(spec), macs, nil
	case kDepthwise:
		d := p.depthwise
		sums := -1
		if o.sums != nil {
			sums = o.sums.id
		}
		*run = func(x *exec, worker, n int, dst, src kernel.Map, rows span) {
			var s []float32
			if sums >= 0 {
				m := &x.maps[sums]
				s = m.F32[m.Off+n*m.Image:]
			}
			d.Run(dst, src, rows.from, rows.to, x.floats[worker][begin/4:], s)
		}
		macs = int64(c.n) * int64(o.out.shape.Elements()) * int64(o.conv.Kernel.H*o.conv.Kernel.W)
		return 4 * d.Scratch(dst, src), depthwiseName(o), macs, nil
	case kAffine:
		*run = func(x *exec, worker, n int, dst, src kernel.Map, rows span) {
			kernel.Affine(tier, dst, src, p.scale, p.shift, 0, x.residualOf(worker, residual, n), act, rows.from, rows.to)
		}
		return 0, "affine", 0, nil
	case kScale:
		*run = func(x *exec, worker, n int, dst, src kernel.Map, rows span) {
			s := &x.maps[other]
			kernel.Affine(tier, dst, src, s.F32[s.Off+n*s.Image:], nil, 0, x.residualOf(worker, residual, n), act, rows.from, rows.to)
		}
		return 0, "scale", 0, nil
	case kAdd:
		*run = func(x *exec, worker, n int, dst, src kernel.Map, rows span) {
			kernel.Add(tier, dst, src, x.maps[other].Images(n, n+1), act, rows.from, rows.to)
		}
		return 0, "add", 0, nil
	case kActivation:
		*run = func(x *exec, worker, n int, dst, src kernel.Map, rows span) {
			kernel.Activate(tier, dst, src, act, rows.from, rows.to)
		}
		return 0, act.String(), 0, nil
	case kLayerNorm:
		eps := layerNormEps(o)
		*run = func(x *exec, worker, n int, dst, src kernel.Map, rows span) {
			kernel.LayerNorm(tier, dst, src, p.scale, p.shift, eps, rows.from, rows.to)
		}
		return 0, "layer norm", 0, nil
	case kInterleave:
		*run = func(x *exec, worker, n int, dst, src kernel.Map, rows span) {
			y := x.maps[other].Images(n, n+1)
			if operand == 0 {
				kernel.Interleave(tier, dst, src, y, rows.from, rows.to)
			} else {
				kernel.Interleave(tier, dst, y, src, rows.from, rows.to)
			}
		}
		return 0, "interleave", 0, nil
	}
	return 0, "", 0, fmt.Errorf("node %s: op %v cannot be in a chain", o.node.Name, o.kind)
}

// residualOf returns the residual operand of image n, nil if id is negative, in memory of the worker's.
func (x *exec) residualOf(worker, id, n int) *kernel.Map {
	if id < 0 {
		return nil
	}
	r := &x.residual[worker]
	*r = x.maps[id].Images(n, n+1)
	return r
}

// rowsOf returns a range of rows of a map of one image as a map of its own.
func rowsOf(m kernel.Map, rows span) kernel.Map {
	m.Off += rows.from * m.Row
	m.N, m.H, m.Pad = 1, rows.len(), 0
	m.Image = m.H * m.Row
	return m
}
