//go:build !noasm

package gemm

import (
	"math"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// groupBytes is the size of the weights of a group of values, or of pairs of them, and a panel.
func (s productSize) groupBytes() int { return unrollValues * s.panel() * 4 }

// callRows is how many rows a call may have: it must not take long, as goroutines are not preempted in it.
func (s productSize) callRows(tier cpu.Tier, groups int) int {
	return max(1, int(callCycles/machineOf(tier).panel)/(groups*unrollValues)/s.rows) * s.rows
}

const (
	// fetchPanel is how many bytes a panel may have for the next one to be fetched whole, fetchAhead how far ahead weights are
	// fetched otherwise.
	fetchPanel = 256 << 10
	fetchAhead = 8 << 10
)

// productArgs are the arguments of the kernels of products. The offsets of the fields are known to _gen/gemm/product.go.
//
// A row of sums is bias plus the sum over runs of values of a row of A times rows of weights, then plus a row of residual; the
// activation is last.
type productArgs struct {
	a          unsafe.Pointer // the first row
	aStride    int            // bytes between rows
	runs       *int32         // of each run, bytes from the row and groups of four values or pairs
	runCount   int
	b          unsafe.Pointer // weights, [run][value][column of the panel]
	c          unsafe.Pointer // where sums go
	cStride    int            // bytes between rows of sums
	res        unsafe.Pointer // nil without residual
	resStride  int
	bias       *float32 // of a panel
	rows       int      // of a block
	blocks     int      // counts down
	longer     int      // how many blocks have one row more: the first ones; counts down
	next       unsafe.Pointer
	nextStep   int // bytes to fetch into L2 from next on while a group of values is summed, then on by this
	mask       int // columns that there are, as bits
	activation int
	low, high  float32        // bounds of the activations that clip
	half       int            // 1 if c and res are bfloat16, which only products of pairs can write
	sums       unsafe.Pointer // of a block, for products of pairs
	_          [3]uint64      // where the kernel is in a, c and res
}

//go:noescape
func product512(args *productArgs)

//go:noescape
func product256(args *productArgs)

//go:noescape
func productPairs512(args *productArgs)

// noBias is added where there is none.
var noBias [32]float32

// divideRows divides n rows into blocks of at most so many, of nearly the same size: so many rows, the first blocks of one more.
func divideRows(n, most int) (blocks, rows, longer int) {
	blocks = (n + most - 1) / most
	return blocks, n / blocks, n % blocks
}

// multiply multiplies n rows, and fetches on from next if it shall.
func (p *productArgs) multiply(s productSize, n int, fetch bool) {
	p.blocks, p.rows, p.longer = divideRows(n, s.rows)
	p.nextStep = 0
	if fetch {
		p.nextStep = s.groupBytes()
		if p.rows > s.fetchRows {
			p.nextStep /= 2
		}
	}
	switch {
	case s.pairs:
		productPairs512(p)
	case s == products512:
		product512(p)
	default:
		product256(p)
	}
}

// Estimates of how long float32 convolutions take on one core, in cycles.
const (
	lineRow   = 1.1 // a value of a row and a panel, times what the processor needs at least
	lineBlock = 60  // a block of rows beside its sums
	lineCall  = 60  // a call of a kernel
	// lineWeights is how many bytes of operands a cycle brings from L2.
	lineWeights = 20
)

// chooseLines divides the output into bands, and returns into how many parts the panels are divided: the choice with the least
// estimated time of the worker that is last to finish.
func (v *vectorCall) chooseLines(workers int) (parts int) {
	g, d, machine := v.grain, &v.depth, machineOf(v.spec.Tier)
	panels := d.bundles * v.panels
	values := float64(v.groups * unrollValues) // pairs of them take as long
	if v.grouped() {
		values = float64(len(v.depth.runs)*v.group.channels*groupedChannels) / float64(v.products.panel()) // each for a part of a panel
	}
	best := math.Inf(1)
	var bestRows, bestImages int
	v.eachDivision(g, workers, func(rows, images int) {
		rows = min(rows, v.oh)
		q := v.geometry
		q.setBands(rows, images, d, g)
		lines, width := q.bandRows*q.bandImages, q.ow
		if v.joined {
			lines, width = q.bandImages, q.bandRows*q.ow
		}
		panel := float64(lines) * (lineCall + float64((width+v.products.rows-1)/v.products.rows)*lineBlock + float64(width)*values*lineRow*machine.panel)
		staged := q.stagedBytes(g)
		input := staged
		if q.direct {
			input = lines * width * d.bundleIn * g.element
		}
		penalty := 1.0
		if input > machine.staged {
			penalty = overL2
		}
		for n := 1; n <= min(panels, 4*workers); n++ {
			per := (panels + n - 1) / n
			stage := float64(staged) / 64 * stageCycles
			if d.bundles > 1 {
				stage *= float64(per) / float64(panels)
			}
			tasks := q.bands * n
			weights := float64(per * v.panelBytes())
			rate := machine.fetch
			rounds := (tasks + workers - 1) / workers
			load := 0.0
			if weights+float64(input) < float64(machine.operands) { // later tasks find them in L2
				rate, load = lineWeights, weights/machine.fetch
			}
			task := max(float64(per)*panel, weights/rate)*penalty + stage + taskCycles
			if cost := (float64(rounds)+0.1)*task + load; cost < best {
				best, bestRows, bestImages, parts = cost, rows, images, n
			}
		}
	})
	v.setBands(bestRows, bestImages, d, g)
	return parts
}

// rowsJoin reports whether the rows of an image follow each other without a gap in what is read and in what is written, so that they can be
// computed as one.
func (v *vectorCall) rowsJoin(dst, residual *kernel.Map) bool {
	join := func(m *kernel.Map) bool {
		_, row, pixel := strides(&v.geometry, m)
		return row == v.ow*pixel
	}
	return v.pitch == v.ow && join(dst) && (residual == nil || join(residual))
}

// lines returns how many lines of each image of a band are computed by themselves, and their pixels.
func (v *vectorCall) lines(b band) (lines, width int) {
	if v.joined {
		return 1, b.rows * v.ow
	}
	return b.rows, v.ow
}

// multiply is compute by products.
func (v *vectorCall) multiply(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	d := &v.depth
	b, from, to := v.share(task, d.bundles*v.panels, v.parts, true)
	if from == to {
		return
	}
	scratch = align(scratch, 64)
	sums := unsafe.Pointer(&scratch[0])
	scratch = scratch[v.sumsBytes():]
	var a unsafe.Pointer
	if v.direct {
		a, _ = planes(&src, src.Off)
		a = unsafe.Add(a, (b.image*v.imageRows+b.row)*v.pitch*v.aStride)
	} else {
		stage(&v.geometry, d, v.grain, &src, b, scratch, from/v.panels, (to-1)/v.panels+1)
		a = unsafe.Pointer(&scratch[0])
	}
	if v.grouped() {
		v.multiplyGroups(b, from, to, dst, residual, scratch)
		return
	}
	image, row, pixel := strides(&v.geometry, &dst)
	lines, width := v.lines(b)
	element := dst.Format.Size()
	args := productArgs{aStride: v.aStride, runs: &v.runs[0], runCount: len(v.runs) / 2, cStride: element * pixel, activation: int(v.spec.Activation), sums: sums}
	args.low, args.high = bounds(v.spec.Activation)
	if dst.Format == kernel.BF16 {
		args.half = 1
	}
	var resImage, resRow, resPixel int
	if residual != nil {
		resImage, resRow, resPixel = strides(&v.geometry, residual)
		args.resStride = element * resPixel
	}
	dstAt, resAt := v.origin(&dst, b), 0
	if residual != nil {
		resAt = v.origin(residual, b)
	}
	perPanel := v.panelBytes()
	most, panel := v.products.callRows(v.spec.Tier, v.groups), v.products.panel()
	for p := from; p < to; p++ {
		bundle := p / v.panels
		channel := bundle*d.bundleOut + p%v.panels*panel
		args.b = v.panelWeights(p)
		args.bias = &v.bias[p*panel]
		args.mask = 1<<min(d.bundleOut-p%v.panels*panel, panel) - 1
		aBundle := a
		if !v.direct {
			aBundle = unsafe.Add(a, bundle*d.blocks*v.blockBytes)
		}
		// The next panel is fetched into L2 while the first rows of this one are summed; where all rows are in one block and the
		// weights are too many for L2, what comes a little later.
		next := p + 1
		if next == to {
			next = from
		}
		ahead := v.panelWeights(next)
		fetched := 0
		if b.images*lines*width <= v.products.fetchRows && perPanel > fetchPanel {
			ahead = args.b
			if rest := (d.bundles*v.panels - p) * perPanel; rest > perPanel+fetchAhead {
				ahead = unsafe.Add(ahead, fetchAhead)
			}
		}
		for n := range b.images {
			for y := range lines {
				line := ((n*v.imageRows + y) * v.pitch) * v.aStride
				for x := 0; x < width; x += most {
					args.a = unsafe.Add(aBundle, line+x*v.aStride)
					args.c, _ = planes(&dst, dstAt+channel+n*image+y*row+x*pixel)
					if residual != nil {
						args.res, _ = planes(residual, resAt+channel+n*resImage+y*resRow+x*resPixel)
					}
					count := min(most, width-x)
					if fetched < perPanel {
						args.next = unsafe.Add(ahead, fetched)
						args.multiply(v.products, count, true)
						fetched += (count + v.products.rows - 1) / v.products.rows * args.nextStep * v.groups
					} else {
						args.next = ahead
						args.multiply(v.products, count, false)
					}
				}
			}
		}
	}
}
