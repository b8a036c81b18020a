package infer

import (
	"slices"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
)

// bands is how a chain is cut. A task is a strip of rows of one image: the image itself unless there are too few images for the
// threads. Within a strip the bands follow each other from the top down, and no row is computed twice: an op that reads more rows
// than it writes (a 3×3 convolution) computes a row or two less than the op in front of it in the first band, and the rows that it
// needs again stay in the window of their map. Only where strips meet do both compute the rows at the seam.
//
// Values that ops outside the chain read, too, or that are outputs, are written to maps of the plan. Strips write disjoint rows of
// these.
type bands struct {
	ops     []*op
	images  int
	strips  int
	rows    int       // of the last op's result in a band
	windows []*window // by op: where its result is while it is needed, nil if that is a map of the plan
	jobs    [][]job   // by strip: what to do, one after the other
	bytes   int       // of all windows
	weights int       // bytes of the weights of all convolutions
	live    int       // bytes that a band touches: windows, weights, and the rows of the plan's maps

	readers [][]int // by op: the ops that read its result
	over    []bool  // by op: its result overwrites its residual, both maps of the plan
	broken  bool    // strips would write the same rows
}

// span is a range of rows.
type span struct{ from, to int }

func (s span) len() int { return max(s.to-s.from, 0) }

// window is some rows of a map of one image, in scratch memory.
type window struct {
	layout  kernel.Map // of capacity rows; its offset is that of row 0, rows of padding included
	pad     int
	rows    int  // capacity
	place   int  // bytes into the worker's scratch
	carried bool // rows stay from one band to the next
	from    int  // first and last op that uses it in a band
	to      int
}

// job is one op on one band.
type job struct {
	op   int
	rows span       // of its result
	read span       // of its first operand, also beyond the map
	base int        // row of the map with which the result's window begins now
	keep span       // rows that stay in the window
	was  int        // the row with which it began when they were written
	call *gemm.Call // a convolution, bound to as many rows
}

// newBands cuts a chain for a batch so that what a band touches fits into the cache and all threads have work.
func newBands(ops []*op, images, threads int, limits chainLimits) *bands {
	h := ops[len(ops)-1].out.shape.H
	strips := 1
	for images*strips%threads != 0 && images*strips < 8*threads && strips < h {
		strips++
	}
	b := &bands{ops: ops, images: images, strips: strips, rows: (h + strips - 1) / strips, over: make([]bool, len(ops))}
	for i, o := range ops {
		b.over[i] = strips == 1 && o.added() != nil && !o.residual.keep && o.residual.shape == o.out.shape
	}
	b.link()
	b.cut()
	band := limits.size(ops, strips).band
	for b.rows > 1 && b.live > band || b.undo() {
		if b.live > band {
			b.rows = ops[len(ops)-1].fewer(b.rows)
		}
		b.link()
		b.cut()
	}
	return b
}

// fewer returns a number of rows of a band that is about three quarters of the given one, such that the pixels of a band fill whole
// steps of the matrix kernels if that is possible.
func (o *op) fewer(rows int) int {
	const step = 32 // pixels
	rows = max(rows-(rows+3)/4, 1)
	w, whole := o.out.shape.W, 1
	for whole*w%step != 0 {
		whole++
	}
	if rows > whole {
		rows -= rows % whole
	}
	return rows
}

// spreads reports whether the op is a dense convolution that reads more rows than it writes.
func (o *op) spreads() bool { return o.kind == kConv && o.conv.Kernel.H > 1 }

// worthwhile reports whether the chain is expected to run faster than its ops one by one.
func (b *bands) worthwhile(limits chainLimits) bool {
	computed, all := 0, 0
	for _, o := range b.ops {
		all += o.out.shape.Elements()
	}
	for _, jobs := range b.jobs {
		for _, j := range jobs {
			s := b.ops[j.op].out.shape
			computed += j.rows.len() * s.W * s.C
		}
	}
	last, size := b.ops[len(b.ops)-1].out.shape, limits.size(b.ops, b.strips)
	// A worker that has one strip of an image computes what lies at the seams again, and waits for the other at the end of the chain:
	// DenseNet's layers (affine, 1×1, 3×3) are then faster without their last part.
	if b.strips > 1 && size == limits.light && slices.ContainsFunc(b.ops, (*op).spreads) {
		return false
	}
	// Where a dense chain fits only in bands of a row or two, it is faster as two chains.
	if b.strips > 1 && size != limits.light && b.rows < min(3, last.H/b.strips) && b.rows*last.W < limits.thin {
		return false
	}
	return !b.broken && b.live <= limits.most && b.weights <= size.weights && computed*100 <= all*limits.seam && b.rows*last.W >= limits.pixels
}

// link finds the readers of every op's result and gives those a window that nothing else needs.
func (b *bands) link() {
	b.windows = make([]*window, len(b.ops))
	b.readers = make([][]int, len(b.ops))
	b.broken = false
	for i, o := range b.ops {
		inner := !o.out.keep && i < len(b.ops)-1 && !b.over[i]
		for _, u := range o.out.users {
			at := slices.Index(b.ops, u)
			if at < 0 {
				inner = false
				continue
			}
			inner = inner && !(b.over[at] && u.residual == o.out)
			if !slices.Contains(b.readers[i], at) {
				b.readers[i] = append(b.readers[i], at)
			}
		}
		slices.Sort(b.readers[i])
		pad := 0
		for _, r := range b.readers[i] {
			if u := b.ops[r]; u.kind == kDepthwise && o.out.format == kernel.F32 {
				pad = max(pad, u.pads.Top, u.pads.Left, u.pads.Bottom, u.pads.Right)
			}
		}
		if inner {
			b.windows[i] = &window{pad: pad, from: i, to: b.readers[i][len(b.readers[i])-1]}
		} else if pad > 0 {
			b.broken = true // the border of a map of the plan is cleared beside the tasks of the step that writes it
		}
	}
}

// undo takes back the decision to overwrite a residual where an op would still read what is overwritten, and reports whether there
// was such a case.
func (b *bands) undo() bool {
	found := false
	for i, o := range b.ops {
		if !b.over[i] {
			continue
		}
		left := make([]int, len(b.ops)) // rows that each op has still to compute
		next := make([]int, len(b.ops))
		for _, j := range b.jobs[0] {
			left[j.op] += j.rows.len()
		}
		for _, j := range b.jobs[0] {
			left[j.op] -= j.rows.len()
			next[j.op] = j.rows.to
			if j.op != i {
				continue
			}
			for r, u := range b.ops {
				reads := false
				u.reads(func(v **value) { reads = reads || *v == o.residual })
				if r != i && reads && left[r] > 0 && (u.in[0] != o.residual || u.under(span{next[r], next[r] + 1}).from < j.rows.to) {
					b.over[i] = false
				}
			}
		}
		found = found || !b.over[i]
	}
	return found
}

// demand returns the rows of op i's result that its reader r looks at for rows s of its own. In a window with a border the border is
// part of it.
func (b *bands) demand(i, r int, s span) span {
	u, v := b.ops[r], b.ops[i].out
	d := u.beside(s)
	if len(u.in) == 0 || u.in[0] == v {
		other := d
		d = u.under(s)
		if u.residual == v || len(u.in) > 1 && u.in[1] == v {
			d = span{min(d.from, other.from), max(d.to, other.to)}
		}
	}
	pad, h := 0, v.shape.H
	if w := b.windows[i]; w != nil {
		pad = w.pad
	}
	return span{min(max(d.from, -pad), h), max(min(d.to, h+pad), 0)}
}

// cut computes the jobs of all strips, and the windows.
func (b *bands) cut() {
	b.jobs = make([][]job, b.strips)
	for _, w := range b.windows {
		if w != nil {
			w.rows, w.carried = 0, false
		}
	}
	b.live = 0
	for s := range b.strips {
		b.cutStrip(s)
	}
	b.allocate()
	b.weights = 0
	for _, o := range b.ops {
		if o.kind == kConv {
			b.weights += o.parameters() * o.in[0].format.Size()
		}
	}
	b.live += b.bytes + b.weights
}

// tiled rounds a row down to where op o can begin, or up to where it can end.
func (o *op) tiled(row int, up bool) int {
	t := max(o.tile, 1)
	if up {
		return min((row+t-1)/t*t, o.out.shape.H)
	}
	return row / t * t
}

// share returns the rows of op i's result that are a strip's to write, the same for every chain in which the op might be.
func (b *bands) share(i, strip int) span {
	o := b.ops[i]
	h := o.out.shape.H
	s := span{o.tiled(h*strip/b.strips, false), o.tiled(h*(strip+1)/b.strips, false)}
	if strip == b.strips-1 {
		s.to = h
	}
	return s
}

func (b *bands) cutStrip(strip int) {
	count := len(b.ops)
	start, end := make([]int, count), make([]int, count)
	// Where each op begins and ends in the strip.
	for i := count - 1; i >= 0; i-- {
		o := b.ops[i]
		own := b.share(i, strip)
		s := own
		if b.windows[i] != nil {
			s = span{o.out.shape.H, 0}
		}
		for _, r := range b.readers[i] {
			if start[r] >= end[r] {
				continue
			}
			d := b.demand(i, r, span{start[r], end[r]})
			s = span{min(s.from, max(d.from, 0)), max(s.to, min(d.to, o.out.shape.H))}
		}
		start[i], end[i] = o.tiled(s.from, false), o.tiled(s.to, true)
		if b.windows[i] == nil && (start[i] < own.from || end[i] > own.to) {
			b.broken = true
		}
	}
	done := slices.Clone(start)
	base := make([]int, count)
	need := make([]int, count)
	last := count - 1
	total := max((end[last]-start[last]+b.rows-1)/b.rows, 1)
	for k := 1; k <= total; k++ {
		for i := count - 1; i >= 0; i-- {
			o := b.ops[i]
			need[i] = done[i]
			if b.windows[i] == nil {
				own := b.share(i, strip)
				need[i] = max(need[i], own.from+(own.len()*k+total-1)/total)
			}
			for _, r := range b.readers[i] {
				if need[r] > done[r] {
					need[i] = max(need[i], b.demand(i, r, span{done[r], need[r]}).to)
				}
			}
			need[i] = min(o.tiled(min(need[i], o.out.shape.H), true), end[i])
			if k == total {
				need[i] = end[i]
			}
		}
		for i, o := range b.ops {
			w := b.windows[i]
			if w != nil && done[i] > start[i] && b.lowest(i, done, end) < done[i] {
				w.carried = true // also if nothing is added in this band
			}
			if need[i] <= done[i] {
				continue
			}
			j := job{op: i, rows: span{done[i], need[i]}, read: o.under(span{done[i], need[i]})}
			if w != nil {
				j.base = min(b.lowest(i, done, end), done[i])
				if done[i] > start[i] {
					j.keep, j.was = span{j.base, done[i]}, base[i]
				}
				base[i] = j.base
				top := need[i]
				if top == o.out.shape.H {
					top += w.pad
				}
				w.rows = max(w.rows, top-j.base)
			}
			b.jobs[strip] = append(b.jobs[strip], j)
		}
		b.touch(done, need, end)
		copy(done, need)
	}
}

// touch finds how many bytes of maps of the plan a band touches.
func (b *bands) touch(done, need, end []int) {
	type rows struct {
		span
		bytes int // of a row
	}
	maps := map[*value]*rows{}
	first := map[*value]*value{} // of those that overwrite each other
	add := func(v *value, s span) {
		for first[v] != nil {
			v = first[v]
		}
		if s = (span{max(s.from, 0), min(s.to, v.shape.H)}); s.len() == 0 {
			return
		}
		r := maps[v]
		if r == nil {
			maps[v] = &rows{s, v.bytes() / v.shape.H}
			return
		}
		r.span = span{min(r.from, s.from), max(r.to, s.to)}
	}
	inside := map[*value]bool{}
	for i, o := range b.ops {
		if b.over[i] {
			first[o.out] = o.residual
		}
		inside[o.out] = b.windows[i] != nil
		s := span{done[i], need[i]}
		if s.len() == 0 {
			continue
		}
		if b.windows[i] == nil {
			add(o.out, s)
		}
		for k, v := range o.in {
			if inside[v] {
				continue
			}
			if k == 0 {
				add(v, o.under(s))
			} else {
				add(v, s)
			}
		}
		if o.residual != nil && !inside[o.residual] {
			add(o.residual, o.beside(s))
		}
	}
	total := 0
	for _, r := range maps {
		total += r.len() * r.bytes
	}
	b.live = max(b.live, total)
}

// lowest returns the first row of op i's result that its readers will still look at.
func (b *bands) lowest(i int, done, end []int) int {
	low := b.ops[i].out.shape.H
	for _, r := range b.readers[i] {
		if done[r] < end[r] {
			low = min(low, b.demand(i, r, span{done[r], done[r] + 1}).from)
		}
	}
	return low
}

// allocate gives the windows places such that no two that are in use at the same time overlap.
func (b *bands) allocate() {
	b.bytes = 0
	var placed []*window
	for i, w := range b.windows {
		if w == nil {
			continue
		}
		if w.carried {
			w.from, w.to = 0, len(b.ops)
		} else {
			w.from, w.to = i, b.readers[i][len(b.readers[i])-1]
		}
		v := b.ops[i].out
		m := layout(v.format, 1, w.rows, v.shape.W, v.shape.C, w.pad)
		m.Off = w.pad * m.Pixel // rows of padding count as rows here
		m.Image = w.rows * m.Row
		w.layout = m
		size := w.plane() * v.format.Planes()
		w.place = 0
		for moved := true; moved; {
			moved = false
			for _, p := range placed {
				if p.from <= w.to && w.from <= p.to && w.place < p.place+p.plane()*p.layout.Format.Planes() && p.place < w.place+size {
					w.place, moved = p.place+p.plane()*p.layout.Format.Planes(), true
				}
			}
		}
		placed = append(placed, w)
		b.bytes = max(b.bytes, w.place+size)
	}
}

// plane returns how many bytes each plane of the window takes.
func (w *window) plane() int { return align(w.layout.Image*w.layout.Format.PlaneSize() + overread) }
