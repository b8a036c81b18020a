package gemm

import (
	"fmt"
	"slices"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// ConvSpec describes a convolution as torch.nn.Conv2d does. Zero strides, dilations and Groups mean 1.
// A linear layer is a 1×1 convolution over images of one pixel.
type ConvSpec struct {
	In, Out              int // channels
	KernelH, KernelW     int
	StrideH, StrideW     int
	DilationH, DilationW int
	Groups               int
	PadTop, PadLeft      int // zeros around the image
	PadBottom, PadRight  int
	Activation           kernel.Activation // applied last
	// Linear says that the output is a few pixels per image, mostly one: a linear layer, or a convolution as large as its
	// input. Its time is in reading the weights, so they are packed as small as the precision allows. It changes no result
	// beyond rounding.
	Linear bool
	// Winograd, if not 0, asks for a convolution by Winograd's method in tiles of so many outputs along an axis: what the function
	// Winograd returned. It changes results by rounding alone. Kernels that cannot, compute directly; AMX does it along the rows.
	Winograd int
	// Projection, if it has input channels, is what the residual goes through before it is added. See Projects.
	Projection Projection
	Precision  engine.Precision // Default is resolved for the tier
	Tier       cpu.Tier         // the instructions to use, at most cpu.Best()
}

// normal returns the spec with its defaults filled in, or an error that says what is wrong with it.
func (s ConvSpec) normal() (ConvSpec, error) {
	if s.Projection.In > 0 {
		s.Projection.StrideH, s.Projection.StrideW = max(s.Projection.StrideH, 1), max(s.Projection.StrideW, 1)
	}
	for _, v := range []*int{&s.StrideH, &s.StrideW, &s.DilationH, &s.DilationW, &s.Groups} {
		if *v == 0 {
			*v = 1
		}
	}
	s.Precision = Resolve(s.Precision, s.Tier)
	switch {
	case s.In < 1 || s.Out < 1 || s.KernelH < 1 || s.KernelW < 1:
		return s, fmt.Errorf("gemm: convolution of %d to %d channels with a %dx%d kernel: each must be at least 1", s.In, s.Out, s.KernelH, s.KernelW)
	case s.StrideH < 1 || s.StrideW < 1 || s.DilationH < 1 || s.DilationW < 1 || s.Groups < 1:
		return s, fmt.Errorf("gemm: convolution with stride %dx%d, dilation %dx%d, %d groups: each must be at least 1", s.StrideH, s.StrideW, s.DilationH, s.DilationW, s.Groups)
	case s.PadTop < 0 || s.PadLeft < 0 || s.PadBottom < 0 || s.PadRight < 0:
		return s, fmt.Errorf("gemm: convolution with negative padding")
	case s.In%s.Groups != 0 || s.Out%s.Groups != 0:
		return s, fmt.Errorf("gemm: convolution of %d to %d channels cannot have %d groups", s.In, s.Out, s.Groups)
	case s.Winograd != 0 && !slices.Contains(winogradTiles, s.Winograd):
		return s, fmt.Errorf("gemm: Winograd's method asked for with tiles of %dx%d outputs; there are %v", s.Winograd, s.Winograd, winogradTiles)
	case s.Projection.In != 0 && !Projects(s):
		return s, fmt.Errorf("gemm: convolution with a projected residual of %d channels: no kernel of tier %v computes it together with this convolution at %v", s.Projection.In, s.Tier, s.Precision)
	case s.Tier > cpu.Best():
		return s, fmt.Errorf("gemm: tier %v asked for, but this process can use %v at most", s.Tier, cpu.Best())
	}
	return s, nil
}

// weights returns how many weights a convolution has whose defaults are filled in.
func (s *ConvSpec) weights() int {
	return s.Out * (s.In/s.Groups*s.KernelH*s.KernelW + s.Projection.In)
}

// Projection is a 1×1 convolution without padding of so many channels to as many as it is added to. Zero strides mean 1.
type Projection struct {
	In               int
	StrideH, StrideW int
}

// Projects reports whether there is a kernel that computes the convolution and the projection of its residual as one sum: AMX tiles do
// it for 1×1 convolutions.
func Projects(s ConvSpec) bool {
	one := func(v int) bool { return v == 0 || v == 1 }
	return s.Projection.In > 0 && s.tiled() && !s.Linear && s.KernelH == 1 && s.KernelW == 1 && one(s.StrideH) && one(s.StrideW) && one(s.Groups) &&
		s.PadTop|s.PadLeft|s.PadBottom|s.PadRight == 0
}

// projection returns the projection as a convolution of its own.
func (s *ConvSpec) projection() ConvSpec {
	p := s.Projection
	return ConvSpec{
		In: p.In, Out: s.Out, KernelH: 1, KernelW: 1, StrideH: p.StrideH, StrideW: p.StrideW, DilationH: 1, DilationW: 1, Groups: 1,
		Precision: s.Precision, Tier: s.Tier,
	}
}

// check returns an error unless weight and bias, or nil, are as many as the convolution has.
func (s *ConvSpec) check(weight, bias []float32) error {
	if len(weight) != s.weights() {
		return fmt.Errorf("gemm: %d weights given to a convolution that has %d", len(weight), s.weights())
	}
	if bias != nil && len(bias) != s.Out {
		return fmt.Errorf("gemm: %d biases given to a convolution of %d output channels", len(bias), s.Out)
	}
	return nil
}

// OutputSize returns the height and width of the output for an input of h×w, 0 where the kernel does not fit.
func (s ConvSpec) OutputSize(h, w int) (int, int) {
	out := func(n, k, stride, dilation, before, after int) int {
		n += before + after - max(dilation, 1)*(k-1) - 1
		if n < 0 {
			return 0
		}
		return n/max(stride, 1) + 1
	}
	return out(h, s.KernelH, s.StrideH, s.DilationH, s.PadTop, s.PadBottom), out(w, s.KernelW, s.StrideW, s.DilationW, s.PadLeft, s.PadRight)
}

// MACs returns the multiply-adds of one image with an output of h×w.
func (s ConvSpec) MACs(h, w int) int {
	return h * w * s.Out * (s.In/max(s.Groups, 1)*s.KernelH*s.KernelW + s.Projection.In)
}

// Conv is a convolution whose weights are packed for a tier and a precision. It is safe for concurrent use while nobody calls Pack, the one
// method that changes it.
type Conv struct {
	spec   ConvSpec
	kernel packed
}

// packed is a convolution as one tier computes it at one precision. Padding is no part of that: it may differ from call to call.
type packed interface {
	// bind prepares runs over maps of the given geometry, which Bind has checked. spec is the one that the weights were packed for but
	// for its padding.
	bind(spec *ConvSpec, src, dst kernel.Map, residual *kernel.Map, workers int) runner
	// bytes is the memory that the packed weights take.
	bytes() int
	// pack packs weights and biases, in place of those that there are: the weights into memory, bytes() long and aligned to packedAlign, in which
	// anything may be.
	pack(each parallel, memory []byte, w *weights, bias []float32)
}

// runner is a convolution bound to geometry.
type runner interface {
	tasks() int
	scratch() int
	run(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte)
}

// NewConv returns the convolution. Pack brings its weights: Bind may come before that, Run not.
func NewConv(spec ConvSpec) (*Conv, error) {
	s, err := spec.normal()
	if err != nil {
		return nil, err
	}
	return &Conv{spec: s, kernel: choose(s)}, nil
}

// Spec returns the description with its defaults filled in.
func (c *Conv) Spec() ConvSpec { return c.spec }

// Padded returns the convolution with other rows of zeros above and below, as a band of the rows of an image needs it. Both share the
// packed weights.
func (c *Conv) Padded(top, bottom int) *Conv {
	s := c.spec
	if s.PadTop == top && s.PadBottom == bottom {
		return c
	}
	s.PadTop, s.PadBottom = top, bottom
	return &Conv{spec: s, kernel: c.kernel}
}

// Call is a convolution bound to the geometry of its maps. It is read-only after Bind: any number of goroutines may
// run different tasks, and different inferences, at once.
type Call struct {
	src, dst kernel.Map // geometry only
	residual *kernel.Map
	runner   runner
}

// Bind prepares the convolution for maps of the given geometry and format (as kernel.Layout returns them; buffers are
// not looked at), and divides the work into tasks for the given number of workers. residual is the geometry of a map
// that is added before the activation, or nil; a convolution with a projection needs it.
func (c *Conv) Bind(src, dst kernel.Map, residual *kernel.Map, workers int) (*Call, error) {
	h, w := c.spec.OutputSize(src.H, src.W)
	switch {
	case src.C != c.spec.In:
		return nil, fmt.Errorf("gemm: source %v given to a convolution of %d input channels", src, c.spec.In)
	case src.N < 1:
		return nil, fmt.Errorf("gemm: source %v has no image", src)
	case h < 1 || w < 1:
		return nil, fmt.Errorf("gemm: source %v is smaller than the %dx%d kernel", src, c.spec.KernelH, c.spec.KernelW)
	case dst.N != src.N || dst.H != h || dst.W != w || dst.C != c.spec.Out:
		return nil, fmt.Errorf("gemm: destination %v given, the result is %dx%dx%dx%d", dst, src.N, h, w, c.spec.Out)
	case c.spec.Projection.In > 0:
		if err := c.checkProjected(dst, residual); err != nil {
			return nil, err
		}
	case residual != nil && !residual.SameShape(dst):
		return nil, fmt.Errorf("gemm: residual %v and destination %v differ in shape", *residual, dst)
	}
	if workers < 1 {
		return nil, fmt.Errorf("gemm: %d workers", workers)
	}
	call := &Call{src: bare(src), dst: bare(dst)}
	if residual != nil {
		r := bare(*residual)
		call.residual = &r
	}
	call.runner = c.kernel.bind(&c.spec, call.src, call.dst, call.residual, workers)
	return call, nil
}

// checkProjected returns an error unless the projection of a residual is of the destination's shape.
func (c *Conv) checkProjected(dst kernel.Map, residual *kernel.Map) error {
	if residual == nil {
		return fmt.Errorf("gemm: no residual given to a convolution that projects it from %d channels", c.spec.Projection.In)
	}
	p := c.spec.projection()
	if h, w := p.OutputSize(residual.H, residual.W); residual.N != dst.N || residual.C != p.In || h != dst.H || w != dst.W {
		return fmt.Errorf("gemm: residual %v given, whose projection from %d channels with stride %dx%d is to have the shape of the destination %v", *residual, p.In, p.StrideH, p.StrideW, dst)
	}
	return nil
}

// bare returns the geometry of m without its buffers.
func bare(m kernel.Map) kernel.Map {
	m.F32, m.Hi, m.Lo, m.Off = nil, nil, nil, 0
	return m
}

// Tasks returns how many tasks make up the convolution. They write disjoint parts of the destination and may run in any
// order, at the same time.
func (c *Call) Tasks() int { return c.runner.tasks() }

// Scratch returns how many bytes of scratch memory a worker must bring.
func (c *Call) Scratch() int { return c.runner.scratch() }

// Run computes one task: dst = activation(conv(src) + bias + residual). The maps must have the geometry given to Bind;
// it panics if they do not, as that is a fault of the program. residual may be the same memory as dst unless it is projected, src may not
// overlap it. Run allocates nothing; the contents of scratch do not matter.
func (c *Call) Run(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	mustMatch("source", &src, &c.src)
	mustMatch("destination", &dst, &c.dst)
	if (residual != nil) != (c.residual != nil) {
		panic("gemm: a residual must be given to Run exactly if it was given to Bind")
	}
	if residual != nil {
		mustMatch("residual", residual, c.residual)
	}
	if len(scratch) < c.runner.scratch() {
		panic(fmt.Sprintf("gemm: %d bytes of scratch given, %d are needed", len(scratch), c.runner.scratch()))
	}
	c.runner.run(task, src, dst, residual, scratch)
}

// mustMatch panics unless m has the geometry that was bound and a buffer that holds it.
func mustMatch(what string, m, bound *kernel.Map) {
	if !m.SameShape(*bound) || m.Format != bound.Format || m.Pixel != bound.Pixel || m.Row != bound.Row || m.Image != bound.Image {
		panic(fmt.Sprintf("gemm: %s %v differs from the geometry given to Bind, %v", what, *m, *bound))
	}
	last := m.Off + (m.N-1)*m.Image + (m.H-1)*m.Row + (m.W-1)*m.Pixel + m.C
	ok := m.Off >= 0
	switch m.Format {
	case kernel.F32:
		ok = ok && len(m.F32) >= last
	case kernel.BF16:
		ok = ok && len(m.Hi) >= last
	default:
		ok = ok && len(m.Hi) >= last && len(m.Lo) >= last
	}
	if !ok {
		panic(fmt.Sprintf("gemm: the buffer of the %s %v is too small", what, *m))
	}
}
