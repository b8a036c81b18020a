package infer

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/graph"
)

// step is a kernel bound to geometry: tasks that may run at once, after all earlier steps.
type step struct {
	op     *op
	kernel string // for the profile
	macs   int64
	tasks  int
	// scratch is how many bytes each worker needs.
	scratch int
	// bind returns the step's task function for the buffers of one run, so that running allocates nothing.
	bind func(x *exec) func(worker, task int)
}

// defaultGrain is the number of output values below which a memory-bound kernel is not divided: about the time that handing out a task
// takes, ten times over.
const defaultGrain = 16 << 10

// smallMap is the number of pixels up to which a depthwise convolution of one image is divided by channels.
const smallMap = 14 * 14

// compiler turns ops into steps for a batch of n images.
type compiler struct {
	n       int // images that a step works on
	threads int
	grain   int
	tier    cpu.Tier
	maps    []kernel.Map // geometry and offset by value, without buffers
	steps   []step
}

// tasks returns into how many parts to divide rows that together have the given number of values: as many for each worker if there are
// more than workers.
func (c *compiler) tasks(rows, values int) int {
	n := max(1, min(rows, values/c.grain, 4*c.threads))
	if n > c.threads {
		n -= n % c.threads
	}
	return n
}

// part returns the rows of a task.
func part(task, tasks, rows int) (from, to int) {
	return task * rows / tasks, (task + 1) * rows / tasks
}

// rows adds a step that divides the rows of the map that v lies in.
func (c *compiler) rows(o *op, name string, v *value, scratch int, run func(x *exec, worker, from, to int)) {
	m := c.maps[v.id]
	rows := m.Rows()
	tasks := c.tasks(rows, rows*m.W*m.C)
	c.steps = append(c.steps, step{op: o, kernel: name, tasks: tasks, scratch: scratch, bind: func(x *exec) func(worker, task int) {
		return func(worker, task int) {
			from, to := part(task, tasks, rows)
			run(x, worker, from, to)
		}
	}})
}

// compile adds the steps of o.
func (c *compiler) compile(o *op, all map[*op]*packed) error {
	if o.kind == kChain {
		return c.chain(o, all)
	}
	p := all[o]
	out := o.out.id
	var in, second int
	if len(o.in) > 0 {
		in = o.in[0].id
	}
	if len(o.in) > 1 {
		second = o.in[1].id
	}
	dst := c.maps[out]
	tier, act := c.tier, o.act
	residual := func(*exec) *kernel.Map { return nil }
	if o.residual != nil {
		id := o.residual.id
		residual = func(x *exec) *kernel.Map { return &x.maps[id] }
	}
	switch o.kind {
	case kInput, kSlice:
	case kConv:
		return c.conv(o, p)
	case kDepthwise:
		c.depthwise(o, p)
	case kAffine:
		c.rows(o, "affine", o.out, 0, func(x *exec, _, from, to int) {
			kernel.Affine(tier, x.maps[out], x.maps[in], p.scale, p.shift, 0, residual(x), act, from, to)
		})
	case kScale:
		c.rows(o, "scale", o.out, 0, func(x *exec, _, from, to int) {
			s := &x.maps[second]
			kernel.Affine(tier, x.maps[out], x.maps[in], s.F32[s.Off:], nil, s.Image, residual(x), act, from, to)
		})
	case kAdd:
		c.rows(o, "add", o.out, 0, func(x *exec, _, from, to int) {
			kernel.Add(tier, x.maps[out], x.maps[in], x.maps[second], act, from, to)
		})
	case kMul:
		// Each pixel is an image whose channels are scaled by the other map's pixel.
		pixels := func(m kernel.Map) kernel.Map {
			m.N, m.H, m.W, m.Image, m.Row = m.N*m.H*m.W, 1, 1, m.Pixel, m.Pixel
			return m
		}
		c.rows(o, "mul", o.out, 0, func(x *exec, _, from, to int) {
			a, b, y := pixels(x.maps[in]), pixels(x.maps[second]), pixels(x.maps[out])
			kernel.Affine(tier, y, a, b.F32[b.Off:], nil, b.Pixel, nil, act, from*dst.W, to*dst.W)
		})
	case kActivation:
		c.rows(o, act.String(), o.out, 0, func(x *exec, _, from, to int) {
			kernel.Activate(tier, x.maps[out], x.maps[in], act, from, to)
		})
	case kMaxPool, kAvgPool, kAdaptive:
		c.pool(o)
	case kGlobal:
		c.global(o)
	case kRowsMean:
		h, w, sums := o.sums.op.out.shape.H, o.sums.op.out.shape.W, o.sums.id
		images := c.n
		c.steps = append(c.steps, step{op: o, kernel: "mean of rows", tasks: 1, bind: func(x *exec) func(int, int) {
			return func(int, int) {
				s := &x.maps[sums]
				kernel.MeanOfRows(tier, x.maps[out], s.F32[s.Off:], h, w, 0, images)
			}
		}})
	case kLayerNorm:
		eps := layerNormEps(o)
		c.rows(o, "layer norm", o.out, 0, func(x *exec, _, from, to int) {
			kernel.LayerNorm(tier, x.maps[out], x.maps[in], p.scale, p.shift, eps, from, to)
		})
	case kLRN:
		l := o.node.Op.(graph.LocalResponseNorm)
		c.rows(o, "local response norm", o.out, 4*kernel.LRNScratch(dst.C, l.Size), func(x *exec, worker, from, to int) {
			kernel.LRN(tier, x.maps[out], x.maps[in], l.Size, float32(l.Alpha), float32(l.Beta), float32(l.K), from, to, x.floats[worker])
		})
	case kConcat:
		c.concat(o)
	case kInterleave:
		c.rows(o, "interleave", o.out, 0, func(x *exec, _, from, to int) {
			kernel.Interleave(tier, x.maps[out], x.maps[in], x.maps[second], from, to)
		})
	case kShuffle:
		groups := o.node.Op.(graph.ChannelShuffle).Groups
		c.rows(o, "shuffle", o.out, 0, func(x *exec, _, from, to int) {
			kernel.Shuffle(tier, x.maps[out], x.maps[in], groups, from, to)
		})
	case kFlatten:
		c.rows(o, "flatten", o.in[0], 0, func(x *exec, _, from, to int) {
			m := &x.maps[out]
			kernel.ToNCHW(tier, m.F32[m.Off:], x.maps[in], from, to)
		})
	case kSubsample:
		s := o.node.Op.(graph.Subsample)
		c.rows(o, "subsample", o.out, 0, func(x *exec, _, from, to int) {
			kernel.Subsample(x.maps[out], x.maps[in], s.Stride, s.Before, from, to)
		})
	case kConvert:
		c.rows(o, "convert", o.out, 0, func(x *exec, _, from, to int) {
			kernel.Convert(tier, x.maps[out], x.maps[in], from, to)
		})
	case kCustom:
		c.custom(o, p)
	default:
		return fmt.Errorf("node %s: op %v has no kernel", o.node.Name, o.kind)
	}
	return nil
}

func (c *compiler) conv(o *op, p *packed) error {
	src, dst := c.maps[o.in[0].id], c.maps[o.out.id]
	var residual *kernel.Map
	at := -1
	if o.residual != nil {
		at = o.residual.id
		residual = &c.maps[at]
	}
	view := func(m kernel.Map) kernel.Map { return m }
	if o.covers() {
		view = oneRow
	}
	call, err := p.conv.Bind(view(src), dst, residual, c.threads)
	if err != nil {
		return fmt.Errorf("node %s: %w", o.node.Name, err)
	}
	spec := p.conv.Spec()
	in, out := o.in[0].id, o.out.id
	c.steps = append(c.steps, step{
		op: o, kernel: convName(spec), macs: int64(c.n) * int64(spec.MACs(dst.H, dst.W)), tasks: call.Tasks(), scratch: call.Scratch(),
		bind: func(x *exec) func(worker, task int) {
			if at < 0 {
				return func(worker, task int) { call.Run(task, view(x.maps[in]), x.maps[out], nil, x.scratch[worker]) }
			}
			return func(worker, task int) { call.Run(task, view(x.maps[in]), x.maps[out], &x.maps[at], x.scratch[worker]) }
		},
	})
	return nil
}

// oneRow returns a map without border as images of one row.
func oneRow(m kernel.Map) kernel.Map {
	m.W *= m.H
	m.H, m.Row = 1, m.W*m.Pixel
	return m
}

func convName(s gemm.ConvSpec) string {
	if s.Linear {
		return "linear " + s.Precision.String()
	}
	name := fmt.Sprintf("conv %dx%d", s.KernelH, s.KernelW)
	if s.StrideH > 1 {
		name += fmt.Sprintf("/%d", s.StrideH)
	}
	if p := s.Projection; p.In > 0 {
		name += " + 1x1"
		if p.StrideH > 1 {
			name += fmt.Sprintf("/%d", p.StrideH)
		}
	}
	if s.Groups > 1 {
		name += fmt.Sprintf(" g%d", s.Groups)
	}
	if s.Winograd > 0 {
		name += fmt.Sprintf(" winograd %d", s.Winograd)
	}
	return name + " " + s.Precision.String()
}

func layerNormEps(o *op) float32 { return float32(o.node.Op.(graph.LayerNorm).Eps) }

func depthwiseName(o *op) string {
	name := fmt.Sprintf("depthwise %dx%d", o.conv.Kernel.H, o.conv.Kernel.W)
	if o.conv.Stride.H > 1 {
		name += fmt.Sprintf("/%d", o.conv.Stride.H)
	}
	if o.sums != nil {
		name += " with sums"
	}
	return name
}

// depthwiseCost is about how much longer a value of a depthwise convolution takes than one of a kernel that the grain is meant for.
func depthwiseCost(o *op) int { return 1 + o.conv.Kernel.H*o.conv.Kernel.W/8 }

func (c *compiler) depthwise(o *op, p *packed) {
	d, in, out := p.depthwise, o.in[0].id, o.out.id
	sums := -1
	if o.sums != nil {
		sums = o.sums.id
	}
	name, scratch := depthwiseName(o), 4*d.Scratch(c.maps[out], c.maps[in])
	rowSums := func(x *exec) []float32 {
		if sums < 0 {
			return nil
		}
		return x.maps[sums].F32[x.maps[sums].Off:]
	}
	if m := c.maps[out]; m.N == 1 && o.in[0].shape.H*o.in[0].shape.W <= smallMap {
		// The convolution in front has divided its output channels among the workers, for its weights are more than its maps.
		blocks := (m.C + kernel.ChannelBlock - 1) / kernel.ChannelBlock
		tasks := c.tasks(blocks, m.H*m.W*m.C*depthwiseCost(o))
		c.steps = append(c.steps, step{op: o, kernel: name, tasks: tasks, scratch: scratch, bind: func(x *exec) func(worker, task int) {
			return func(worker, task int) {
				first, last := part(task, tasks, blocks)
				last = min(last*kernel.ChannelBlock, m.C)
				d.RunChannels(x.maps[out], x.maps[in], 0, m.H, first*kernel.ChannelBlock, last, x.floats[worker], rowSums(x))
			}
		}})
	} else {
		c.rows(o, name, o.out, scratch, func(x *exec, worker, from, to int) {
			d.Run(x.maps[out], x.maps[in], from, to, x.floats[worker], rowSums(x))
		})
	}
	c.steps[len(c.steps)-1].macs = int64(c.n) * int64(o.out.shape.Elements()) * int64(o.conv.Kernel.H*o.conv.Kernel.W)
}

func (c *compiler) pool(o *op) {
	in, out := o.in[0].id, o.out.id
	scratch := 4 * kernel.PoolScratch(c.maps[out], c.maps[in])
	switch o.kind {
	case kMaxPool:
		w := o.pooling()
		c.rows(o, fmt.Sprintf("max pool %dx%d", w.KernelH, w.KernelW), o.out, scratch, func(x *exec, worker, from, to int) {
			kernel.MaxPool(c.tier, x.maps[out], x.maps[in], w, from, to, x.floats[worker])
		})
	case kAvgPool:
		w := o.pooling()
		c.rows(o, fmt.Sprintf("average pool %dx%d", w.KernelH, w.KernelW), o.out, scratch, func(x *exec, worker, from, to int) {
			kernel.AvgPool(c.tier, x.maps[out], x.maps[in], w, from, to, x.floats[worker])
		})
	default:
		c.rows(o, "adaptive average pool", o.out, scratch, func(x *exec, worker, from, to int) {
			kernel.AdaptiveAvgPool(c.tier, x.maps[out], x.maps[in], from, to, x.floats[worker])
		})
	}
}

// global divides the average over whole images by image and by blocks of channels.
func (c *compiler) global(o *op) {
	in, out := o.in[0].id, o.out.id
	src := c.maps[in]
	const block = 64 // channels: whole cache lines in every format
	wanted := c.tasks(1<<30, src.N*src.H*src.W*src.C)
	blocks := max(1, min((src.C+block-1)/block, (wanted+src.N-1)/src.N))
	width := ((src.C+blocks-1)/blocks + block - 1) / block * block
	blocks = (src.C + width - 1) / width
	c.steps = append(c.steps, step{op: o, kernel: "global average", tasks: src.N * blocks, bind: func(x *exec) func(int, int) {
		return func(_, task int) {
			n, from := task/blocks, task%blocks*width
			to := min(from+width, src.C)
			kernel.GlobalAvgPool(c.tier, x.maps[out].Sub(from, to), x.maps[in].Sub(from, to), n, n+1)
		}
	}})
}

// concat copies the operands that do not lie in the concatenation already.
func (c *compiler) concat(o *op) {
	out, at := o.out.id, 0
	for _, v := range o.in {
		in, from, to := v.id, at, at+v.shape.C
		at = to
		if v.root == o.out.root && v.from == o.out.from+from {
			continue
		}
		c.rows(o, "copy", v, 0, func(x *exec, _, first, last int) {
			kernel.Copy(x.maps[out].Sub(from, to), x.maps[in], first, last)
		})
	}
}

func (c *compiler) custom(o *op, p *packed) {
	images := c.n
	c.steps = append(c.steps, step{op: o, kernel: "custom " + o.node.Op.Kind(), tasks: 1, macs: int64(c.n) * o.node.Op.MACs(o.node.InputShapes(), o.node.Shape),
		bind: func(x *exec) func(int, int) {
			slice := func(v *value) []float32 {
				m := x.maps[v.id]
				return m.F32[m.Off:][:m.N*m.H*m.W*m.C]
			}
			in := make([][]float32, len(o.in))
			for i, v := range o.in {
				in[i] = slice(v)
			}
			out, shapes, op := slice(o.out), o.node.InputShapes(), o.node.Op.(graph.Custom)
			return func(int, int) { op.Forward(out, in, p.params, shapes, images) }
		}})
}

// zero has a step clear the border of a root whose memory other buffers use too, beside its tasks.
func (s *step) zero(r *root) {
	tasks, bind := s.tasks, s.bind
	s.bind = func(x *exec) func(worker, task int) {
		run := bind(x)
		return func(worker, task int) {
			m := &x.roots[r.index]
			m.ZeroBorder(part(task, tasks, m.N))
			run(worker, task)
		}
	}
}

// output adds a step that copies an output into the caller's memory.
func (c *compiler) output(i int, v *value) {
	c.rows(v.op, "output", v, 0, func(x *exec, _, from, to int) {
		kernel.Convert(c.tier, x.outputs[i], x.maps[v.id], from, to)
	})
}
