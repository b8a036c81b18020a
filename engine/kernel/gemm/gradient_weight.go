package gemm

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// WeightGradient computes the gradient of a convolution's weights from that of its output and the input, for one geometry of maps:
// dW[tap] = Xᵀ(shifted by the tap)·dY, summed over positions. It is read-only and safe for concurrent use.
//
// Positions are the output pixels of all images as one row, with zeros between rows and between images as far as the taps
// reach beyond them: every tap then is a constant shift. So the input is packed once for all taps, channel by channel with its
// positions in a row, where a shift is another address; the gradient of the output is packed as weights are. With a stride the input
// falls into phases, by row and column modulo the stride, and a tap reads one of them. Where the input has few channels, as images
// have, the columns of the kernel count as channels, and taps are its rows alone. Without taps to shift the matrix with fewer
// channels is the one that is transposed.
type WeightGradient struct {
	spec   ConvSpec
	dy, x  kernel.Map // geometry
	kernel outer
	a, b   side // a is the input, transposed and shifted, b the gradient of the output
	swap   bool // or the other way round
	flat   bool // all pixels of all images are one row
	// The positions.
	n, oh, ow, h, w  int // images, output and input
	pitch, imageRows int // positions of a row, rows of an image
	positions        int
	planes           []phase
	taps             []shift
	reach            int // the largest shift, rounded up to positionBlock
	// The division. A task has a range of rows of a, of columns of b, or of positions; those of positions have sums of their own.
	parts, aParts, bParts int
	chunk                 int // positions packed at a time
	row, low              int // bytes between packed rows of a, and between its planes
	aBytes, bBytes        int
}

// side is how many channels one of the two matrices has.
type side struct {
	channels, padded int // padded to the kernel's grain
}

// phase is the part of the input at (y, x) modulo the stride.
type phase struct{ y, x int }

// shift is a tap: its phase's number and the distance in positions.
type shift struct{ plane, by int }

// outer multiplies packed matrices whose rows are channels: dst[i][j] += Σ a[i][p]·b[p][j] over positions p.
type outer interface {
	// grain returns the multiples in which channels of a and of b are computed.
	grain() (rows, cols int)
	// planes is how many planes a has, valueBytes the size of its values.
	planes() int
	valueBytes() int
	// rowBytes is the distance of rows of so many positions.
	rowBytes(positions int) int
	// bBytes is the memory for b.
	bBytes(cols, positions int) int
	// temporary is memory that packing and the product need.
	temporary() int
	// packA packs up to positionBlock positions from position at on; the rest of the block is zeros.
	packA(dst []byte, row, low, at int, src []float32, stride, n, channels int, temporary []byte)
	// packB does the same for b, which has room for so many positions.
	packB(dst []byte, positions, at int, src []float32, stride, n, channels int)
	// product computes rows×cols values, ldd apart. a begins at the first row and position.
	product(o outerCall, dst []float32, ldd int, a, b []byte, temporary []byte)
}

// outerCall is what the products of a chunk have in common.
type outerCall struct {
	rows, cols, positions int
	row, low              int
	accumulate            bool
}

// positionBlock is how many positions are packed at a time.
const positionBlock = 32

const (
	// fewChannels is the number of channels below which the columns of the kernel count as channels.
	fewChannels = 16
	// ownSums is the number of weights up to which workers divide the positions and have sums of their own.
	ownSums = 160 << 10
	// outerBytes is how much of L2 the packed matrices of a chunk may take.
	outerBytes = 1 << 20
)

// NewWeightGradient prepares the gradient for maps like dy, of the output, and x, of the input, both float32, and so many workers. The
// activation of spec is ignored. Groups are refused: they are convolutions of their own over channels of the maps.
func NewWeightGradient(spec ConvSpec, dy, x kernel.Map, workers int) (*WeightGradient, error) {
	s, err := spec.normal()
	if err != nil {
		return nil, err
	}
	h, w := s.OutputSize(x.H, x.W)
	switch {
	case s.Groups != 1:
		return nil, fmt.Errorf("gemm: the gradient of the weights of %d groups is computed group by group", s.Groups)
	case dy.Format != kernel.F32 || x.Format != kernel.F32:
		return nil, fmt.Errorf("gemm: gradient of weights from maps %v and %v: both must be float32", dy, x)
	case x.C != s.In || dy.C != s.Out:
		return nil, fmt.Errorf("gemm: maps %v and %v given to the gradient of a convolution of %d to %d channels", x, dy, s.In, s.Out)
	case dy.N != x.N || dy.H != h || dy.W != w || h < 1 || w < 1:
		return nil, fmt.Errorf("gemm: gradient %v does not belong to an input of %v", dy, x)
	case x.N < 1:
		return nil, fmt.Errorf("gemm: gradient of weights from no image, %v", x)
	case workers < 1:
		return nil, fmt.Errorf("gemm: %d workers", workers)
	}
	g := &WeightGradient{spec: s, dy: bare(dy), x: bare(x)}
	g.layout()
	g.divide(workers)
	return g, nil
}

// wide reports whether the columns of the kernel count as channels.
func (g *WeightGradient) wide() bool {
	s := &g.spec
	return s.KernelW > 1 && s.DilationW == 1 && s.In < fewChannels
}

// layout lays out positions, phases and shifts.
func (g *WeightGradient) layout() {
	s := &g.spec
	g.n, g.oh, g.ow, g.h, g.w = g.dy.N, g.dy.H, g.dy.W, g.x.H, g.x.W
	if s.KernelH == 1 && s.KernelW == 1 && s.StrideH == 1 && s.StrideW == 1 && s.PadTop|s.PadLeft|s.PadBottom|s.PadRight == 0 {
		_, a := uniform(&g.dy)
		_, b := uniform(&g.x)
		if g.flat = a && b; g.flat {
			g.n, g.oh, g.ow, g.h, g.w = 1, 1, g.n*g.oh*g.ow, 1, g.n*g.oh*g.ow
		}
	}
	kernelW, in := s.KernelW, s.In
	if g.wide() {
		kernelW, in = 1, s.In*s.KernelW
	}
	needH := g.oh + (s.KernelH-1)*s.DilationH/s.StrideH // rows and columns of a phase that are looked at
	needW := g.ow + (kernelW-1)*s.DilationW/s.StrideW
	g.imageRows, g.pitch = needH, needW
	// The zeros left of a row serve the row before as those on its right, and the zeros above an image likewise.
	if s.StrideH == 1 {
		g.imageRows = max(s.PadTop+min(g.h, needH-s.PadTop), needH-s.PadTop, g.oh)
	}
	if s.StrideW == 1 && !g.wide() {
		g.pitch = max(s.PadLeft+min(g.w, needW-s.PadLeft), needW-s.PadLeft, g.ow)
	}
	g.positions = ((g.n-1)*g.imageRows+g.oh-1)*g.pitch + g.ow
	number := map[phase]int{}
	for ky := range s.KernelH {
		for kx := range kernelW {
			ty, tx := ky*s.DilationH, kx*s.DilationW
			p := phase{ty % s.StrideH, tx % s.StrideW}
			if _, ok := number[p]; !ok {
				number[p] = len(g.planes)
				g.planes = append(g.planes, p)
			}
			by := ty/s.StrideH*g.pitch + tx/s.StrideW
			g.taps = append(g.taps, shift{number[p], by})
			g.reach = max(g.reach, by)
		}
	}
	g.reach = (g.reach + positionBlock - 1) / positionBlock * positionBlock
	// Without taps either can be transposed. That takes some cycles a position and channel, the transposition of the sums more a weight.
	const position, weight = 3, 60 // tenths of a cycle
	g.swap = s.KernelH*s.KernelW == 1 && position*g.positions*s.Out <= position*g.positions*in+weight*in*s.Out
	a, b := in, s.Out
	if g.swap {
		a, b = b, a
	}
	g.kernel = newOuter(s, b)
	rows, cols := g.kernel.grain()
	g.a = side{a, (a + rows - 1) / rows * rows}
	g.b = side{b, (b + cols - 1) / cols * cols}
}

// pixel is the distance from pixel to pixel of the input or of the gradient of the output.
func (g *WeightGradient) pixel(input bool) int {
	m := &g.dy
	if input {
		m = &g.x
	}
	if g.flat {
		step, _ := uniform(m)
		return step
	}
	return m.Pixel
}

// divide chooses the tasks and the size of chunks.
func (g *WeightGradient) divide(workers int) {
	const (
		// What packing a value costs, in products.
		packA, packB = 150, 100
		// The most positions of a chunk: a block of rows of a stays in L1 for all taps.
		most = 512
	)
	rows, cols := g.kernel.grain()
	aBlocks, bBlocks := g.a.padded/rows, g.b.padded/cols
	g.parts, g.aParts, g.bParts = 1, 1, 1
	if g.values() <= ownSums {
		g.parts = min(workers, max(g.positions/128, 1))
	} else {
		best := -1
		for i := 1; i <= min(workers, aBlocks); i++ {
			j := min(workers/i, bBlocks)
			high, wide := (aBlocks+i-1)/i*rows, (bBlocks+j-1)/j*cols
			cost := high*wide*len(g.taps) + packA*high*len(g.planes) + packB*wide
			if best < 0 || cost < best {
				best, g.aParts, g.bParts = cost, i, j
			}
		}
	}
	aRows := (aBlocks + g.aParts - 1) / g.aParts * rows * len(g.planes)
	bCols := (bBlocks + g.bParts - 1) / g.bParts * cols
	chunk := min(max(outerBytes/4/(aRows+bCols)-g.reach, g.reach, positionBlock), most)
	each := (g.positions + g.parts - 1) / g.parts
	chunks := (each + chunk - 1) / chunk
	g.chunk = ((each+chunks-1)/chunks + positionBlock - 1) / positionBlock * positionBlock
	g.row = g.kernel.rowBytes(g.chunk + g.reach)
	g.low = aRows * g.row
	g.aBytes = g.kernel.planes()*g.low + 64 // a product reads this much behind the last value
	g.bBytes = g.kernel.bBytes(bCols, g.chunk)
}

// Tasks returns how many tasks make up the gradient.
func (g *WeightGradient) Tasks() int { return g.parts * g.aParts * g.bParts }

// Scratch returns how many bytes of scratch memory a worker must bring.
func (g *WeightGradient) Scratch() int {
	return g.aBytes + g.bBytes + g.stagedBytes() + g.kernel.temporary() + 3*64
}

// stagedBytes is the memory for a block of positions.
func (g *WeightGradient) stagedBytes() int {
	return 4 * positionBlock * max(g.a.channels, g.b.channels)
}

// Sums returns how many values the tasks write: those of one weight for each part of the positions.
func (g *WeightGradient) Sums() int { return g.parts * g.values() }

func (g *WeightGradient) values() int { return len(g.taps) * g.a.channels * g.b.channels }

// Run computes one task: a part of sums, which Add then adds up. Tasks write disjoint parts, and Run allocates nothing.
func (g *WeightGradient) Run(task int, sums []float32, dy, x kernel.Map, scratch []byte) {
	mustMatch("gradient of the destination", &dy, &g.dy)
	mustMatch("source", &x, &g.x)
	if len(scratch) < g.Scratch() || len(sums) < g.Sums() {
		panic(fmt.Sprintf("gemm: %d bytes of scratch and %d sums given, %d and %d are needed", len(scratch), len(sums), g.Scratch(), g.Sums()))
	}
	scratch = align(scratch, 64)
	a, scratch := scratch[:g.aBytes], align(scratch[g.aBytes:], 64)
	b, scratch := scratch[:g.bBytes], align(scratch[g.bBytes:], 64)
	staged, temporary := floats(scratch), scratch[g.stagedBytes():]
	part := task % g.parts
	task /= g.parts
	rows, cols := g.kernel.grain()
	i0, i1 := share(&g.a, rows, task%g.aParts, g.aParts)
	j0, j1 := share(&g.b, cols, task/g.aParts, g.bParts)
	if i0 >= i1 || j0 >= j1 {
		return
	}
	aReader, bReader := reader{g, x, !g.swap, i0, i1, staged}, reader{g, dy, g.swap, j0, j1, staged}
	if g.swap {
		aReader.m, bReader.m = dy, x
	}
	sums = sums[part*g.values():][:g.values()]
	from, to := part*g.positions/g.parts, (part+1)*g.positions/g.parts
	padded := (i1 - i0 + rows - 1) / rows * rows
	size := g.kernel.valueBytes()
	call := outerCall{rows: i1 - i0, cols: j1 - j0, row: g.row, low: g.low}
	for q := from; q < to; q += g.chunk {
		n := min(g.chunk, to-q)
		call.positions = (n + positionBlock - 1) / positionBlock * positionBlock
		call.accumulate = q > from
		for at := 0; at < n; at += positionBlock {
			count := min(positionBlock, n-at)
			src, stride := bReader.read(phase{}, q+at, count)
			g.kernel.packB(b, call.positions, at, src, stride, count, j1-j0)
		}
		have := 0
		if q > from && g.reach > 0 { // the chunk before has packed positions beyond its own
			have = g.reach
			for plane := range g.kernel.planes() {
				for r := range len(g.planes) * padded {
					row := a[plane*g.low+r*g.row:]
					copy(row[:g.reach*size], row[g.chunk*size:])
				}
			}
		}
		for at := have; at < call.positions+g.reach; at += positionBlock {
			for i, p := range g.planes {
				src, stride := aReader.read(p, q+at, positionBlock)
				g.kernel.packA(a[i*padded*g.row:], g.row, g.low, at, src, stride, positionBlock, i1-i0, temporary)
			}
		}
		for t, tap := range g.taps {
			dst := sums[(t*g.a.channels+i0)*g.b.channels+j0:]
			g.kernel.product(call, dst, g.b.channels, a[tap.plane*padded*g.row+tap.by*size:], b, temporary)
		}
	}
}

// share returns the channels of one of so many parts.
func share(s *side, grain, part, parts int) (from, to int) {
	blocks := s.padded / grain
	return min(part*blocks/parts*grain, s.channels), min((part+1)*blocks/parts*grain, s.channels)
}

// reader reads channels of a map by position.
type reader struct {
	g        *WeightGradient
	m        kernel.Map
	x        bool // the input, not the gradient of the output
	from, to int  // channels
	staged   []float32
}

// read returns the channels of n positions from q on, and the distance between positions. They lie in the map itself or in staged
// memory.
func (r *reader) read(p phase, q, n int) (values []float32, stride int) {
	g, m := r.g, &r.m
	s := &g.spec
	stepY, stepX, top, left, h, w := 1, 1, 0, 0, g.oh, g.ow
	if r.x {
		stepY, stepX, top, left, h, w = s.StrideH, s.StrideW, p.y-s.PadTop, p.x-s.PadLeft, g.h, g.w
	}
	wide := r.x && g.wide()
	ch := r.to - r.from
	staged := r.staged
	whole := n
	for n > 0 {
		image, row, col := q/g.pitch/g.imageRows, q/g.pitch%g.imageRows, q%g.pitch
		count := min(g.pitch-col, n)
		q += count
		n -= count
		y := row*stepY + top
		if image >= g.n || y < 0 || y >= h {
			clear(staged[:count*ch])
			staged = staged[count*ch:]
			continue
		}
		line := m.Off + image*m.Image + y*m.Row
		if wide {
			for i := range count {
				g.window(staged[:ch], m, line, (col+i)*stepX+left, r.from)
				staged = staged[ch:]
			}
			continue
		}
		// Columns [before, behind) of these lie in the image.
		before, behind := 0, 0
		if first := col*stepX + left; first < 0 {
			before = min((-first+stepX-1)/stepX, count)
		}
		if last := w - 1 - left - col*stepX; last >= 0 {
			behind = min(last/stepX+1, count)
		}
		if behind <= before { // the address of the first of no columns may lie behind the map
			clear(staged[:count*ch])
			staged = staged[count*ch:]
			continue
		}
		at := line + ((col+before)*stepX+left)*g.pixel(r.x) + r.from
		step := stepX * g.pixel(r.x)
		if count == whole && before == 0 && behind == count {
			return m.F32[at:], step
		}
		clear(staged[:before*ch])
		to := staged[before*ch : behind*ch]
		if step == ch {
			copy(to, m.F32[at:])
		} else {
			for ; len(to) > 0; to, at = to[ch:], at+step {
				copy(to[:ch], m.F32[at:])
			}
		}
		clear(staged[behind*ch : count*ch])
		staged = staged[count*ch:]
	}
	return r.staged, ch
}

// window copies the values of a kernel's row, from channel first on, that begins in column x of the line of the map at the given element.
func (g *WeightGradient) window(dst []float32, m *kernel.Map, line, x, first int) {
	in := g.spec.In
	for len(dst) > 0 {
		kx, c := first/in, first%in
		n := min(in-c, len(dst))
		if col := x + kx; col < 0 || col >= g.w {
			clear(dst[:n])
		} else {
			copy(dst[:n], m.F32[line+col*m.Pixel+c:])
		}
		dst = dst[n:]
		first += n
	}
}

// Add stores the gradient of the weights of output channels [from, to) in weight, laid out as PyTorch's [Out, In, KernelH, KernelW], or
// adds it to what is there. It adds the parts of sums in order.
func (g *WeightGradient) Add(weight, sums []float32, from, to int, accumulate bool) {
	if len(weight) < g.values() || len(sums) < g.Sums() {
		panic(fmt.Sprintf("gemm: %d values and %d sums given, %d and %d are needed", len(weight), len(sums), g.values(), g.Sums()))
	}
	for part := range g.parts {
		g.add(weight, sums[part*g.values():][:g.values()], from, to, accumulate || part > 0)
	}
}

func (g *WeightGradient) add(weight, sums []float32, from, to int, accumulate bool) {
	out := g.spec.Out
	area := g.spec.KernelH * g.spec.KernelW
	in := g.spec.In
	if g.swap {
		dst, src := weight[from*in:to*in], sums[from*in:to*in]
		if !accumulate {
			copy(dst, src)
			return
		}
		for i, v := range src {
			dst[i] += v
		}
		return
	}
	// Blocks of input and output channels: what is read with gaps stays in cache, what is written is contiguous. Sums are
	// [tap][input][output].
	const block = 16
	for i0 := 0; i0 < in; i0 += block {
		n := min(block, in-i0)
		for o0 := from; o0 < to; o0 += block {
			for o := o0; o < min(o0+block, to); o++ {
				dst := weight[(o*in+i0)*area:][:n*area]
				for i := range n {
					at := (i0+i)*out + o
					row := dst[i*area:][:area]
					if accumulate {
						for t := range row {
							row[t] += sums[at]
							at += in * out
						}
						continue
					}
					for t := range row {
						row[t] = sums[at]
						at += in * out
					}
				}
			}
		}
	}
}

// plainOuter is outer in plain Go: rows of a and rows of positions of b, in float32.
type plainOuter struct{}

func (plainOuter) grain() (int, int) { return 1, 1 }

func (plainOuter) planes() int { return 1 }

func (plainOuter) valueBytes() int { return 4 }

func (plainOuter) rowBytes(positions int) int { return 4 * positions }

func (plainOuter) bBytes(cols, positions int) int { return 4 * cols * positions }

func (plainOuter) temporary() int { return 0 }

func (plainOuter) packA(dst []byte, row, _, at int, src []float32, stride, n, channels int, _ []byte) {
	f := floats(dst)
	for c := range channels {
		to := f[c*row/4+at:][:positionBlock]
		clear(to)
		for p := range n {
			to[p] = src[p*stride+c]
		}
	}
}

func (plainOuter) packB(dst []byte, positions, at int, src []float32, stride, n, channels int) {
	f := floats(dst)[at*channels:][:positionBlock*channels]
	clear(f)
	for p := range n {
		copy(f[p*channels:][:channels], src[p*stride:])
	}
}

func (plainOuter) product(o outerCall, dst []float32, ldd int, a, b []byte, _ []byte) {
	x, y := floats(a), floats(b)
	for i := range o.rows {
		to := dst[i*ldd:][:o.cols]
		if !o.accumulate {
			clear(to)
		}
		for p, v := range x[i*o.row/4:][:o.positions] {
			axpy(to, v, y[p*o.cols:])
		}
	}
}
