package infer

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/internal/pages"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// packed is the form in which the kernels read the parameters of an op. Only the fields of the op's kind are set.
type packed struct {
	conv         *gemm.Conv
	depthwise    *kernel.Depthwise
	scale, shift []float32 // kAffine; weight and bias of kLayerNorm
	params       [][]float32
}

// packKey tells packed parameters apart: by the nodes that were folded together and by what the kernel was told.
type packKey struct {
	nodes     string
	conv      gemm.ConvSpec
	depthwise kernel.DepthwiseSpec
}

// packer packs the parameters of ops once, for all plans of a model. It is safe for concurrent use.
type packer struct {
	params    engine.Params
	precision engine.Precision
	tier      cpu.Tier

	mu    sync.Mutex
	cache map[packKey]*packed
	// blocks hold the weights of all convolutions, a block those that were packed for one plan, side by side: so small ones lie in large
	// pages too, and a large page holds nothing that lives longer or shorter.
	blocks [][]byte
}

// packJob is an op whose parameters are to be packed.
type packJob struct {
	op     *op
	key    packKey
	conv   *gemm.Conv // of a convolution
	memory []byte     // for its weights
	packed *packed
	err    error
}

// packAll returns the parameters of the ops that have any, packed in parallel unless an earlier plan has packed them.
func (p *packer) packAll(ops []*op, pool *work.Pool) (map[*op]*packed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	jobs := map[packKey]*packJob{}
	var list []*packJob
	keys := map[*op]packKey{}
	for _, o := range flatten(ops) {
		key, ok := p.key(o)
		if !ok {
			continue
		}
		keys[o] = key
		if p.cache[key] == nil && jobs[key] == nil {
			jobs[key] = &packJob{op: o, key: key}
			list = append(list, jobs[key])
		}
	}
	block, err := reserve(list)
	if err != nil {
		return nil, err
	}
	kept := false
	defer func() {
		if !kept {
			pages.Release(block)
		}
	}()
	// Large layers are packed one after the other by all threads, then small ones each by one thread.
	slices.SortStableFunc(list, func(a, b *packJob) int { return b.op.parameters() - a.op.parameters() })
	scratch := make([][]float32, pool.Threads())
	large := 0
	for ; large < len(list) && list[large].op.parameters() >= packTogether; large++ {
		p.pack(list[large], &scratch[0], func(n int, f func(int)) {
			pool.Run(n, func(_, task int) { f(task) })
		})
	}
	alone := func(n int, f func(int)) {
		for i := range n {
			f(i)
		}
	}
	pool.Run(len(list)-large, func(worker, task int) { p.pack(list[large+task], &scratch[worker], alone) })
	for _, j := range list {
		if j.err != nil {
			return nil, fmt.Errorf("node %s: %w", j.op.node.Name, j.err)
		}
	}
	if kept = true; len(block) > 0 {
		p.blocks = append(p.blocks, block)
	}
	for _, j := range list {
		p.cache[j.key] = j.packed
	}
	if r, ok := p.params.(engine.Releaser); ok && len(list) > 0 {
		r.Release()
	}
	result := make(map[*op]*packed, len(keys))
	for o, key := range keys {
		result[o] = p.cache[key]
	}
	return result, nil
}

// reserve makes the convolutions, and one block of memory for their weights, in the order in which they run.
func reserve(list []*packJob) (block []byte, err error) {
	total := 0
	for _, j := range list {
		if j.op.kind == kConv {
			if j.conv, err = gemm.NewConv(j.key.conv); err != nil {
				return nil, fmt.Errorf("node %s: %w", j.op.node.Name, err)
			}
			total += j.conv.PackedBytes()
		}
	}
	block = pages.Huge(make([]byte, total))
	rest := block
	for _, j := range list {
		if j.conv != nil {
			n := j.conv.PackedBytes()
			j.memory, rest = rest[:n:n], rest[n:]
		}
	}
	return block, nil
}

// packTogether is the number of weights from which on a layer is packed by all threads together.
const packTogether = 512 << 10

// flatten returns the ops with chains replaced by what they run.
func flatten(ops []*op) []*op {
	var list []*op
	for _, o := range ops {
		if o.kind == kChain {
			list = append(list, o.chain...)
		} else {
			list = append(list, o)
		}
	}
	return list
}

// parameters counts the values of the op's weight.
func (o *op) parameters() int {
	if o.weight == nil {
		return 0
	}
	n := o.weight.Param(graph.Weight).Elements()
	if o.project != nil {
		n += o.project.parameters()
	}
	return n
}

// key returns what the packed parameters of o depend on, and whether it has any.
func (p *packer) key(o *op) (packKey, bool) {
	var names []string
	add := func(prefix string, nodes ...*graph.Node) {
		for _, n := range nodes {
			names = append(names, prefix+n.Name)
		}
	}
	for _, x := range []*op{o, o.project} {
		if x == nil {
			continue
		}
		add("<", x.pre...)
		if x.weight != nil {
			add("", x.weight)
		}
		add(">", x.post...)
	}
	var key packKey
	switch o.kind {
	case kConv:
		key.conv = p.convSpec(o)
	case kDepthwise:
		key.depthwise = p.depthwiseSpec(o)
	case kAffine:
	case kLayerNorm, kCustom:
		add("", o.node)
	default:
		return key, false
	}
	key.nodes = strings.Join(names, " ")
	return key, true
}

func (p *packer) convSpec(o *op) gemm.ConvSpec {
	w := o.conv.Window
	if o.covers() {
		w.Kernel = graph.HW(1, w.Kernel.H*w.Kernel.W)
		w.Stride, w.Dilation = w.Kernel, graph.Square(1) // a dilation across a side of one pixel would count along the row
	}
	spec := gemm.ConvSpec{
		In: o.conv.In, Out: o.conv.Out, KernelH: w.Kernel.H, KernelW: w.Kernel.W, StrideH: w.Stride.H, StrideW: w.Stride.W,
		DilationH: w.Dilation.H, DilationW: w.Dilation.W, Groups: o.conv.Groups,
		PadTop: o.pads.Top, PadLeft: o.pads.Left, PadBottom: o.pads.Bottom, PadRight: o.pads.Right,
		Activation: o.act, Linear: o.out.shape.IsVector(), Precision: p.precision, Tier: p.tier,
	}
	if s := o.project; s != nil {
		spec.Projection = gemm.Projection{In: s.conv.In, StrideH: s.conv.Stride.H, StrideW: s.conv.Stride.W}
	}
	spec.Winograd = gemm.Winograd(spec, o.out.shape.H, o.out.shape.W)
	return spec
}

// covers reports whether the kernel is as large as the map: a linear layer behind a flattened map. Such a map is one row of pixels to the
// kernel, and so is the convolution's kernel, with a stride of its own length: images then follow each other without gaps, as the
// rows of a matrix product do, and the weights are read once for all of them.
func (o *op) covers() bool {
	in := o.in[0].shape
	return o.kind == kConv && !in.IsVector() && o.conv.Kernel == graph.HW(in.H, in.W) && o.pads == (graph.Pads{}) && o.conv.Groups == 1
}

func (p *packer) depthwiseSpec(o *op) kernel.DepthwiseSpec {
	w := o.conv.Window
	return kernel.DepthwiseSpec{
		Channels: o.conv.In, KernelH: w.Kernel.H, KernelW: w.Kernel.W, StrideH: w.Stride.H, StrideW: w.Stride.W,
		DilationH: w.Dilation.H, DilationW: w.Dilation.W,
		PadTop: o.pads.Top, PadLeft: o.pads.Left, PadBottom: o.pads.Bottom, PadRight: o.pads.Right,
		Activation: o.act, Tier: p.tier,
	}
}

// pack reads, folds and packs the parameters of one op. scratch is memory for folded weights that is kept between calls; each calls
// a function for the numbers below n, perhaps on several threads.
func (p *packer) pack(j *packJob, scratch *[]float32, each func(n int, f func(int))) {
	j.packed, j.err = p.packed(j, scratch, each)
}

func (p *packer) packed(j *packJob, scratch *[]float32, each func(n int, f func(int))) (*packed, error) {
	o := j.op
	switch o.kind {
	case kConv, kDepthwise:
		weight, bias, err := p.fold(o, scratch, each)
		if err == nil && o.project != nil {
			weight, bias, err = p.join(weight, bias, o.project, scratch, each)
		}
		if err != nil {
			return nil, err
		}
		if o.kind == kDepthwise {
			d, err := kernel.NewDepthwise(j.key.depthwise, weight, bias)
			return &packed{depthwise: d}, err
		}
		return &packed{conv: j.conv}, j.conv.Pack(each, j.memory, weight, bias)
	case kAffine:
		scale, shift, err := p.affine(o.post, o.out.shape.C)
		if err != nil {
			return nil, err
		}
		return &packed{scale: narrow(scale), shift: narrow(shift)}, nil
	case kLayerNorm:
		scale, err := p.param(o.node, graph.Weight)
		if err != nil {
			return nil, err
		}
		shift, err := p.param(o.node, graph.Bias)
		return &packed{scale: slices.Clone(scale), shift: slices.Clone(shift)}, err
	default: // kCustom
		params := make([][]float32, len(o.node.Params))
		for i, q := range o.node.Params {
			values, err := p.values(q)
			if err != nil {
				return nil, err
			}
			params[i] = slices.Clone(values)
		}
		return &packed{params: params}, nil
	}
}

func narrow(v []float64) []float32 {
	out := make([]float32, len(v))
	for i, x := range v {
		out[i] = float32(x)
	}
	return out
}

// param returns the node's parameter of the given role.
func (p *packer) param(n *graph.Node, role graph.Role) ([]float32, error) {
	q := n.Param(role)
	if q == nil {
		return nil, fmt.Errorf("node %s has no %v", n.Name, role)
	}
	return p.values(q)
}

func (p *packer) values(q *graph.Param) ([]float32, error) {
	v, err := p.params.Param(q.Name)
	if err != nil {
		return nil, err
	}
	if len(v) != q.Elements() {
		return nil, fmt.Errorf("parameter %s has %d values instead of %d: the weights belong to another model or number of classes", q.Name, len(v), q.Elements())
	}
	return v, nil
}

// affine returns the product of affine nodes on c channels: x*scale + shift.
func (p *packer) affine(nodes []*graph.Node, c int) (scale, shift []float64, err error) {
	scale, shift = make([]float64, c), make([]float64, c)
	for i := range scale {
		scale[i] = 1
	}
	apply := func(s, t func(i int) float64) {
		for i := range scale {
			scale[i] *= s(i)
			shift[i] = shift[i]*s(i) + t(i)
		}
	}
	for _, n := range nodes {
		switch op := n.Op.(type) {
		case graph.BatchNorm:
			var v [4][]float32
			for i, role := range []graph.Role{graph.Weight, graph.Bias, graph.RunningMean, graph.RunningVar} {
				if v[i], err = p.param(n, role); err != nil {
					return nil, nil, err
				}
			}
			s := make([]float64, c)
			for i := range s {
				s[i] = float64(v[0][i]) / math.Sqrt(float64(v[3][i])+op.Eps)
			}
			apply(func(i int) float64 { return s[i] }, func(i int) float64 { return float64(v[1][i]) - float64(v[2][i])*s[i] })
		case graph.LayerScale:
			v, err := p.param(n, graph.Scale)
			if err != nil {
				return nil, nil, err
			}
			apply(func(i int) float64 { return float64(v[i]) }, func(int) float64 { return 0 })
		case graph.Affine:
			apply(func(i int) float64 { return float64(op.Scale[i]) }, func(i int) float64 { return float64(op.Shift[i]) })
		}
	}
	return scale, shift, nil
}

// fold returns weight and bias of a convolution with the affine maps in front of it and behind it:
// s·(w·(a·x + b) + bias) + t = (s·w·a)·x + s·(w·b + bias) + t, in float64.
func (p *packer) fold(o *op, scratch *[]float32, each func(n int, f func(int))) (weight, bias []float32, err error) {
	if weight, err = p.param(o.weight, graph.Weight); err != nil {
		return nil, nil, err
	}
	if o.weight.Param(graph.Bias) != nil {
		if bias, err = p.param(o.weight, graph.Bias); err != nil {
			return nil, nil, err
		}
	}
	if len(o.pre) == 0 && len(o.post) == 0 {
		return weight, bias, nil
	}
	out, in := o.conv.Out, o.conv.In
	s, t, err := p.affine(o.post, out)
	if err != nil {
		return nil, nil, err
	}
	a, b, err := p.affine(o.pre, in)
	if err != nil {
		return nil, nil, err
	}
	if cap(*scratch) < len(weight) {
		*scratch = make([]float32, len(weight))
	}
	folded := (*scratch)[:len(weight)]
	bias = append(make([]float32, 0, out), bias...)[:out]
	perOut, inPerGroup := len(weight)/out, in/o.conv.Groups
	area := perOut / inPerGroup
	each(out, func(k int) {
		row, dst := weight[k*perOut:(k+1)*perOut], folded[k*perOut:(k+1)*perOut]
		first := k / (out / o.conv.Groups) * inPerGroup // input channel of the row's first weight
		sum := 0.0
		if len(o.pre) == 0 {
			for i, w := range row {
				dst[i] = float32(float64(w) * s[k])
			}
		} else {
			for c := range inPerGroup {
				for i := c * area; i < (c+1)*area; i++ {
					sum += float64(row[i]) * b[first+c]
					dst[i] = float32(float64(row[i]) * a[first+c] * s[k])
				}
			}
		}
		bias[k] = float32((sum+float64(bias[k]))*s[k] + t[k])
	})
	return folded, bias, nil
}

// join returns the weights of a convolution followed by those of the projection of its residual, and the sum of the biases.
func (p *packer) join(weight, bias []float32, project *op, scratch *[]float32, each func(n int, f func(int))) ([]float32, []float32, error) {
	joined := append(make([]float32, 0, len(weight)+project.parameters()), weight...) // what fold returned may lie in scratch
	second, shift, err := p.fold(project, scratch, each)
	if err != nil {
		return nil, nil, err
	}
	sum := append(make([]float32, 0, project.conv.Out), bias...)[:project.conv.Out]
	for i, v := range shift {
		sum[i] += v
	}
	return append(joined, second...), sum, nil
}

// release takes back what was asked of the system for the packed parameters.
func (p *packer) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.blocks {
		pages.Release(b)
	}
}

// bytes returns the memory that all packed parameters take.
func (p *packer) bytes() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	total := 0
	for _, b := range p.blocks {
		total += len(b)
	}
	for _, v := range p.cache {
		if v.depthwise != nil {
			total += v.depthwise.Bytes()
		}
		total += 4 * (len(v.scale) + len(v.shift))
		for _, q := range v.params {
			total += 4 * len(q)
		}
	}
	return total
}
