package infer

import (
	"fmt"
	"strings"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
)

// lane is what a worker has of a chain: the windows of the values that it is computing, by op, as maps of one whole image of which
// only the rows in the window exist.
type lane struct {
	maps []kernel.Map
}

// bandOp runs one op of a chain on rows of image n.
type bandOp func(x *exec, l *lane, worker, n int, j *job)

// operand finds a value's map of image n.
type operand func(x *exec, l *lane, n int) kernel.Map

// chainer compiles a chain.
type chainer struct {
	*compiler
	bands   *bands
	scratch int // beyond the windows
	macs    int64
}

// chain adds the step of a chain.
func (c *compiler) chain(o *op, packed map[*op]*packed) error {
	b := o.bands
	k := &chainer{compiler: c, bands: b}
	runs := make([]bandOp, len(b.ops))
	var names []string
	for i, x := range b.ops {
		run, name, err := k.bandOp(i, x, packed[x])
		if err != nil {
			return err
		}
		runs[i] = run
		names = append(names, name)
	}
	c.steps = append(c.steps, step{
		op: o, kernel: summary(names), macs: k.macs, tasks: c.n * b.strips, scratch: align(b.bytes) + k.scratch,
		bind: func(x *exec) func(worker, task int) {
			lanes := make([]lane, len(x.scratch))
			for w := range lanes {
				lanes[w].maps = make([]kernel.Map, len(b.ops))
				for i, v := range b.windows {
					if v != nil {
						lanes[w].maps[i] = v.over(x.scratch[w], b.ops[i].out.shape.H)
					}
				}
			}
			return func(worker, task int) {
				l := &lanes[worker]
				n, strip := task/b.strips, task%b.strips
				jobs := b.jobs[strip]
				for i := range jobs {
					j := &jobs[i]
					if w := b.windows[j.op]; w != nil {
						w.slide(&l.maps[j.op], j)
					}
					runs[j.op](x, l, worker, n, j)
				}
			}
		},
	})
	return nil
}

// summary joins the names of a chain's ops, each with how many there are if the list would be long.
func summary(names []string) string {
	if len(names) <= 4 {
		return strings.Join(names, " + ")
	}
	var kinds []string
	count := map[string]int{}
	for _, n := range names {
		if count[n]++; count[n] == 1 {
			kinds = append(kinds, n)
		}
	}
	for i, n := range kinds {
		if count[n] > 1 {
			kinds[i] = fmt.Sprintf("%d %s", count[n], n)
		}
	}
	return strings.Join(kinds, " + ")
}

// over returns the window as a map of h rows over a worker's scratch memory.
func (w *window) over(scratch []byte, h int) kernel.Map {
	m := w.layout
	m.F32, m.Hi, m.Lo = views(m.Format, scratch[w.place:], w.plane())
	m.H = h
	return m
}

// slide moves the window to where the job wants it: the rows that are still needed go to its top, and the border of the new ones
// is cleared. The map's offset is made such that row numbers stay those of the whole map.
func (w *window) slide(m *kernel.Map, j *job) {
	if n := j.keep.len() * m.Row; n > 0 && j.base != j.was {
		from, to := (j.keep.from-j.was)*m.Row, (j.keep.from-j.base)*m.Row
		switch m.Format {
		case kernel.F32:
			copy(m.F32[to:to+n], m.F32[from:from+n])
		case kernel.Split:
			copy(m.Lo[to:to+n], m.Lo[from:from+n])
			fallthrough
		case kernel.BF16:
			copy(m.Hi[to:to+n], m.Hi[from:from+n])
		}
	}
	m.Off = w.pad*m.Pixel - j.base*m.Row
	if w.pad == 0 {
		return
	}
	rows := j.rows
	if j.keep.len() == 0 {
		rows.from = j.base // the border above
	}
	if rows.to == m.H {
		rows.to += w.pad
	}
	for y := rows.from; y < rows.to; y++ {
		row := m.F32[(y-j.base)*m.Row:][:m.Row]
		if y < 0 || y >= m.H {
			clear(row)
			continue
		}
		clear(row[:w.pad*m.Pixel])
		clear(row[(w.pad+m.W)*m.Pixel:])
	}
}

// operand returns how to find a value in the chain, and the geometry of its map.
func (c *chainer) operand(v *value) (operand, kernel.Map) {
	b := c.bands
	for i, o := range b.ops {
		if w := b.windows[i]; w != nil && o.out == v {
			m := w.layout
			m.H = v.shape.H
			return func(_ *exec, l *lane, _ int) kernel.Map { return l.maps[i] }, m
		}
	}
	id := v.id
	return func(x *exec, _ *lane, n int) kernel.Map { return x.maps[id].Images(n, n+1) }, c.maps[id].Images(0, 1)
}

// residual returns how to find the op's residual in memory of the worker's; it finds nil if there is none.
func (c *chainer) residual(o *op) func(x *exec, l *lane, worker, n int) *kernel.Map {
	if o.residual == nil {
		return func(*exec, *lane, int, int) *kernel.Map { return nil }
	}
	find, _ := c.operand(o.residual)
	return func(x *exec, l *lane, worker, n int) *kernel.Map {
		r := &x.residual[worker]
		*r = find(x, l, n)
		return r
	}
}

// bandOp returns the function of one op of a chain and its name.
func (c *chainer) bandOp(at int, o *op, p *packed) (bandOp, string, error) {
	tier, act := c.tier, o.act
	begin := align(c.bands.bytes)
	in, src := c.operand(o.in[0])
	out, dst := c.operand(o.out)
	residual := c.residual(o)
	switch o.kind {
	case kConv:
		return c.bandConv(at, o, p)
	case kDepthwise:
		d := p.depthwise
		sums := -1
		if o.sums != nil {
			sums = o.sums.id
		}
		c.macs += int64(c.n) * int64(o.out.shape.Elements()) * int64(o.conv.Kernel.H*o.conv.Kernel.W)
		c.scratch = max(c.scratch, 4*d.Scratch(dst, src))
		return func(x *exec, l *lane, worker, n int, j *job) {
			var s []float32
			if sums >= 0 {
				m := &x.maps[sums]
				s = m.F32[m.Off+n*m.Image:]
			}
			d.Run(out(x, l, n), in(x, l, n), j.rows.from, j.rows.to, x.floats[worker][begin/4:], s)
		}, depthwiseName(o), nil
	case kMaxPool, kAvgPool:
		pool, name := kernel.MaxPool, "max"
		if o.kind == kAvgPool {
			pool, name = kernel.AvgPool, "average"
		}
		w := o.pooling()
		c.scratch = max(c.scratch, 4*kernel.PoolScratch(dst, src))
		return func(x *exec, l *lane, worker, n int, j *job) {
			pool(tier, out(x, l, n), in(x, l, n), w, j.rows.from, j.rows.to, x.floats[worker][begin/4:])
		}, fmt.Sprintf("%s pool %dx%d", name, w.KernelH, w.KernelW), nil
	case kAffine:
		return func(x *exec, l *lane, worker, n int, j *job) {
			kernel.Affine(tier, out(x, l, n), in(x, l, n), p.scale, p.shift, 0, residual(x, l, worker, n), act, j.rows.from, j.rows.to)
		}, "affine", nil
	case kScale:
		factors, _ := c.operand(o.in[1])
		return func(x *exec, l *lane, worker, n int, j *job) {
			s := factors(x, l, n)
			kernel.Affine(tier, out(x, l, n), in(x, l, n), s.F32[s.Off:], nil, 0, residual(x, l, worker, n), act, j.rows.from, j.rows.to)
		}, "scale", nil
	case kAdd:
		other, _ := c.operand(o.in[1])
		return func(x *exec, l *lane, worker, n int, j *job) {
			kernel.Add(tier, out(x, l, n), in(x, l, n), other(x, l, n), act, j.rows.from, j.rows.to)
		}, "add", nil
	case kActivation:
		return func(x *exec, l *lane, worker, n int, j *job) {
			kernel.Activate(tier, out(x, l, n), in(x, l, n), act, j.rows.from, j.rows.to)
		}, act.String(), nil
	case kLayerNorm:
		eps := layerNormEps(o)
		return func(x *exec, l *lane, worker, n int, j *job) {
			kernel.LayerNorm(tier, out(x, l, n), in(x, l, n), p.scale, p.shift, eps, j.rows.from, j.rows.to)
		}, "layer norm", nil
	case kInterleave:
		other, _ := c.operand(o.in[1])
		return func(x *exec, l *lane, worker, n int, j *job) {
			kernel.Interleave(tier, out(x, l, n), in(x, l, n), other(x, l, n), j.rows.from, j.rows.to)
		}, "interleave", nil
	}
	return nil, "", fmt.Errorf("node %s: op %v cannot be in a chain", o.node.Name, o.kind)
}

// bandConv is bandOp for a convolution. Each height of a band, with the padding that it has, is bound by itself.
func (c *chainer) bandConv(at int, o *op, p *packed) (bandOp, string, error) {
	spec := p.conv.Spec()
	c.macs += int64(c.n) * int64(spec.MACs(o.out.shape.H, o.out.shape.W))
	in, src := c.operand(o.in[0])
	out, dst := c.operand(o.out)
	var res kernel.Map
	if o.residual != nil {
		_, res = c.operand(o.residual)
	}
	type height struct{ rows, read, top, bottom int }
	bound := map[height]*gemm.Call{}
	for _, jobs := range c.bands.jobs {
		for i := range jobs {
			j := &jobs[i]
			if j.op != at {
				continue
			}
			read := j.inside(src.H)
			h := height{j.rows.len(), read.len(), read.from - j.read.from, j.read.to - read.to}
			if bound[h] == nil {
				var r *kernel.Map
				if o.residual != nil {
					m := rowsOf(res, o.beside(j.rows))
					r = &m
				}
				call, err := p.conv.Padded(h.top, h.bottom).Bind(rowsOf(src, read), rowsOf(dst, j.rows), r, 1)
				if err != nil {
					return nil, "", fmt.Errorf("node %s: %w", o.node.Name, err)
				}
				bound[h] = call
				c.scratch = max(c.scratch, call.Scratch())
			}
			j.call = bound[h]
		}
	}
	residual := c.residual(o)
	begin := align(c.bands.bytes)
	return func(x *exec, l *lane, worker, n int, j *job) {
		r := residual(x, l, worker, n)
		if r != nil {
			*r = rowsOf(*r, o.beside(j.rows))
		}
		src, dst := rowsOf(in(x, l, n), j.inside(o.in[0].shape.H)), rowsOf(out(x, l, n), j.rows)
		for task := range j.call.Tasks() {
			j.call.Run(task, src, dst, r, x.scratch[worker][begin:])
		}
	}, convName(spec), nil
}

// inside returns the rows that the job reads of a map of h rows.
func (j *job) inside(h int) span { return span{max(j.read.from, 0), min(j.read.to, h)} }

// rowsOf returns a range of rows of a map of one image as a map of its own.
func rowsOf(m kernel.Map, rows span) kernel.Map {
	m.Off += rows.from * m.Row
	m.N, m.H, m.Pad = 1, rows.len(), 0
	m.Image = m.H * m.Row
	return m
}
