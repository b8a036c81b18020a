//go:build !noasm

package gemm

import (
	"math"
	"unsafe"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// Sizes of the AMX kernel. A tile is 16 rows of 64 bytes: 16 positions × 32 input values, or 16 sums of 16 channels.
const (
	tileRows   = 16
	tileValues = 32 // bfloat16 values in a row of a tile
	// A kernel step computes 2×2 tiles of sums: with four tiles for operands that is all eight registers, and each
	// operand tile loaded from L1 or L2 (8 to 32 cycles) serves two products of 16 cycles.
	tileBlock = 2 * tileRows
	tilePanel = 32 // output channels of a step
	// sumsBytes is the memory for the sums of a step. There are two of them: one is being finished while the other's
	// successor is computed.
	sumsBytes  = tileBlock * tilePanel * 4
	awakeBytes = 1024 // a tile
	// weightsInL2 is how much of the packed weights is used for all positions of a band before the next is begun: half of
	// the 2 MB of L2 that processors with AMX have, for the staged input needs its place there too.
	weightsInL2 = 1 << 20
	// callCycles limits one call of the assembly, during which the goroutine cannot be preempted: 60 µs at 3 GHz.
	callCycles = 180e3
	// productCycles is the time of one tile product.
	productCycles = 16
	stepOverhead  = 80 // cycles per block and panel beside the products
)

// spareRows are entries for the rows of a block that lies otherwise than the table says, and one for its bounds.
const spareRows = tileBlock + 1

var tileGrain = grain{element: 2, planes: 1, block: tileValues, rows: tileBlock, panel: tilePanel, tier: cpu.AMX, least: tileRows}

// tileArgs are the arguments of the AMX kernels, and their state. The offsets of the fields are known to
// _gen/gemm/tile.go.
type tileArgs struct {
	config     *tileConfig
	a0, a1     unsafe.Pointer // rows 0 and 16 of the first block, hi plane
	aInc       int            // bytes to the next block
	aStride    int            // bytes between rows
	aLow       int            // bytes from the hi plane to the lo plane
	offsets    *int32         // byte offset of each step from its row
	steps      int
	b          unsafe.Pointer // packed weights of the first panel
	panels     int
	blocks     int // counts down
	rows       *rowEntry
	starts     *int32 // counts up
	limit      int    // valid entries of rows
	dst        unsafe.Pointer
	dstLow     unsafe.Pointer
	res        unsafe.Pointer // nil without residual
	resLow     unsafe.Pointer
	bias       *float32       // 16 even and 16 odd channels for each panel
	sums       unsafe.Pointer // 2*sumsBytes, aligned to 2*sumsBytes
	share      int            // rows finished per step
	format     int            // kernel.Format of dst and res
	activation int
	low, high  float32        // bounds of the activations that clip
	mask       int            // channels of the last panel as bits
	awake      unsafe.Pointer // 1 KiB to which a tile is stored now and then
	_          [13]uint64     // what the kernels keep between the rows
}

// tileConfig is the operand of LDTILECFG.
type tileConfig struct {
	palette, _ uint8 // and the row to start at: 0
	_          [14]uint8
	columns    [16]uint16 // bytes per row
	rows       [16]uint8
}

//go:noescape
func amxMedium(args *tileArgs)

//go:noescape
func amxHigh(args *tileArgs)

// tileConv is a convolution packed for AMX.
type tileConv struct {
	spec    ConvSpec
	depth   depth
	grain   grain
	step    int // input values in a step, at most tileValues and even
	offsets []tileStep
	panels  int // per bundle
	// weights is [bundle][panel][step][plane][parity][16 pairs of values][16 channels][2 values]. The two tiles of a panel
	// hold its even and its odd channels: see finishRow in _gen/gemm/tile.go.
	weights []uint16
	bias    []float32 // [bundle][panel][parity][16]
	config  tileConfig
}

// tileStep is a step of up to tileValues of a run.
type tileStep struct {
	run  int
	from int // first value
}

// stepWidth returns how many values of each run a step sums. It is 32, unless 1×1 runs over another number of channels
// divide into equal steps: then tiles can be read from the map itself without looking at a neighbour's channels.
func stepWidth(s *ConvSpec, d *depth) (width int, direct bool) {
	if s.KernelH*s.KernelW != 1 {
		return tileValues, false
	}
	c := d.bundleIn
	best := (c + tileValues - 1) / tileValues
	for w := tileValues; w >= 2; w -= 2 {
		if c%w == 0 {
			if c/w <= best+best/3 {
				return w, d.bundles == 1
			}
			break
		}
	}
	return tileValues, false
}

func newTileConv(s ConvSpec, w *weights, bias []float32, each parallel) *tileConv {
	c := &tileConv{spec: s, grain: tileGrain}
	if s.Precision == engine.High {
		c.grain.planes = 2
	}
	c.depth = newDepth(s, c.grain)
	d := &c.depth
	c.step, _ = stepWidth(&s, d)
	for i, r := range d.runs {
		for from := 0; from < r.n; from += c.step {
			c.offsets = append(c.offsets, tileStep{i, from})
		}
	}
	c.panels = (d.bundleOut + tilePanel - 1) / tilePanel
	c.config = fullTiles()
	for t := 4; t < 6; t++ {
		c.config.columns[t] = uint16(2 * c.step)
		c.config.rows[t+2] = uint8(c.step / 2)
	}
	c.bias = make([]float32, d.bundles*c.panels*tilePanel)
	c.repack(each, nil, w, bias)
	return c
}

// panelBytes is the size of the packed weights of a panel.
func (c *tileConv) panelBytes() int { return len(c.offsets) * c.grain.planes * 2 * 1024 }

// pack packs one panel: it gathers 32 values of 32 channels at a time and turns them into the tiles of a step with the
// kernels that pack matrices.
func (c *tileConv) pack(w *weights, panel int) {
	d := &c.depth
	to := c.weights[panel*c.panelBytes()/2:]
	bundle, first := panel/c.panels, panel%c.panels*tilePanel
	n := min(tilePanel, d.bundleOut-first)
	var values [tilePanel][tileValues]float32
	var rows [2][tilePanel][tileValues]uint16 // both planes
	args := stageArgs{
		dst: unsafe.Pointer(&rows), src: unsafe.Pointer(&values), pixels: tilePanel, srcStep: 4 * tileValues, dstStep: 2 * tileValues,
		chunks: 1, loadMask: 1<<tileValues - 1, storeMask: 1<<tileValues - 1, low: int(unsafe.Sizeof(rows[0])),
	}
	for _, st := range c.offsets {
		for o := range n {
			d.gather(values[o][:c.step], &c.spec, w, bundle, d.runs[st.run], st.from, first+o)
		}
		if c.grain.planes == 2 {
			stageSplit(&args)
		} else {
			stageRound(&args)
		}
		for plane := range c.grain.planes {
			for parity := range 2 {
				transpose16(unsafe.Pointer(&to[0]), 64, unsafe.Pointer(&rows[plane][parity]), 4*tileValues)
				to = to[tileRows*tileValues:]
			}
		}
	}
}

func (c *tileConv) bytes() int { return 2*len(c.weights) + 4*len(c.bias) }

// tileCall is a tileConv bound to maps.
type tileCall struct {
	*tileConv
	geometry
	offsets  []int32 // byte offset of each step
	parts    int     // divisions of the panels
	aStride  int     // bytes between positions
	blockMax int     // blocks in one call of the assembly
}

func (c *tileConv) bind(src, dst kernel.Map, residual *kernel.Map, workers int) runner {
	t := &tileCall{tileConv: c}
	_, directable := stepWidth(&c.spec, &c.depth)
	native := kernel.BF16
	if c.grain.planes == 2 {
		native = kernel.Split
	}
	t.geometry = newGeometry(&c.spec, &c.depth, c.grain, &src, &dst, residual, directable && src.Format == native)
	perBlock := float64(len(c.offsets))*c.stepCycles() + stepOverhead
	t.parts = t.choose(c.grain, &c.depth, costs{perBlock: perBlock, panels: c.depth.bundles * c.panels, panelBytes: c.panelBytes()}, workers)
	t.blockMax = max(1, int(callCycles/perBlock))
	t.listRows(c.grain, &dst, residual, tilePanel*4)
	t.aStride = t.stride * t.pixel
	if t.direct {
		step, _ := uniform(&src)
		t.aStride = step * 2
	}
	t.offsets = make([]int32, len(c.offsets))
	for i, st := range c.offsets {
		t.offsets[i] = int32(2 * st.from)
		if !t.direct {
			t.offsets[i] += int32(t.offset(&c.spec, c.depth.runs[st.run]))
		}
	}
	return t
}

// stepCycles is the time of one step of a block and a panel.
func (c *tileConv) stepCycles() float64 {
	products := 4.0
	if c.grain.planes == 2 {
		products = 12
	}
	return products * productCycles
}

func (t *tileCall) tasks() int { return t.bands * t.parts }

func (t *tileCall) scratch() int {
	return 4*sumsBytes + awakeBytes + spareRows*int(unsafe.Sizeof(rowEntry{})) + 64 + t.stagedBytes(t.grain)
}

func (t *tileCall) run(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	d := &t.depth
	b := t.band(task % t.bands)
	panels := d.bundles * t.panels
	part := task / t.bands
	from, to := part*panels/t.parts, (part+1)*panels/t.parts
	if from == to {
		return
	}
	scratch = align(scratch, 2*sumsBytes)
	args := tileArgs{
		config:     &t.config,
		aStride:    t.aStride,
		offsets:    &t.offsets[0],
		steps:      len(t.offsets),
		rows:       &t.geometry.rows[0],
		limit:      b.entries,
		sums:       unsafe.Pointer(&scratch[0]),
		share:      (tileBlock + len(t.offsets) - 1) / len(t.offsets),
		format:     int(dst.Format),
		activation: int(t.spec.Activation),
	}
	args.low, args.high = bounds(t.spec.Activation)
	args.awake = unsafe.Pointer(&scratch[2*sumsBytes])
	scratch = scratch[2*sumsBytes+awakeBytes:]
	spare := unsafe.Slice((*rowEntry)(unsafe.Pointer(&scratch[0])), spareRows)
	scratch = align(scratch[spareRows*unsafe.Sizeof(rowEntry{}):], 64)
	firstBundle, lastBundle := from/t.panels, (to-1)/t.panels
	var a unsafe.Pointer
	var first, positions int // of the band, in all positions of the map where tiles are read from it
	if t.direct {
		first = t.firstPosition(b)
		positions = t.n * t.oh * t.ow
		a = unsafe.Pointer(&src.Hi[src.Off])
		if t.grain.planes == 2 {
			args.aLow = int(uintptr(unsafe.Pointer(&src.Lo[src.Off])) - uintptr(a))
		}
		a = unsafe.Add(a, first*t.aStride)
	} else {
		args.aLow = t.planeBytes
		stage(&t.geometry, &t.spec, d, t.grain, &src, b, scratch, firstBundle, lastBundle+1)
		a = unsafe.Pointer(&scratch[0])
	}
	dstAt := t.origin(&dst, b)
	resAt := 0
	if residual != nil {
		resAt = t.origin(residual, b)
	}
	blocks := t.grain.blocks(b.positions)
	for bundle := firstBundle; bundle <= lastBundle; bundle++ {
		p0, p1 := max(from-bundle*t.panels, 0), min(to-bundle*t.panels, t.panels)
		aBundle := a
		if !t.direct {
			aBundle = unsafe.Add(a, bundle*d.blocks*t.blockBytes)
		}
		group := max(1, weightsInL2/t.panelBytes())
		for ; p0 < p1; p0 += group {
			args.panels = min(group, p1-p0)
			panel := bundle*t.panels + p0
			channel := bundle*d.bundleOut + p0*tilePanel
			args.b = unsafe.Pointer(&t.weights[panel*t.panelBytes()/2])
			args.bias = &t.bias[panel*tilePanel]
			args.dst, args.dstLow = planes(&dst, dstAt+channel)
			if residual != nil {
				args.res, args.resLow = planes(residual, resAt+channel)
			}
			rest := d.bundleOut - (p0+args.panels-1)*tilePanel
			args.mask = 1<<min(rest, tilePanel) - 1
			step := max(1, t.blockMax/args.panels)
			full := blocks
			if t.direct && first+blocks*tileBlock > positions {
				full--
			}
			for block := 0; block < full; block += step {
				args.a0 = unsafe.Add(aBundle, block*tileBlock*t.aStride)
				args.a1 = unsafe.Add(args.a0, tileRows*t.aStride)
				args.aInc = tileBlock * t.aStride
				args.blocks = min(step, full-block)
				args.starts = &t.starts[block]
				t.call(&args)
			}
			if full < blocks {
				t.lastBlock(&args, aBundle, full, first, positions, spare)
			}
		}
	}
}

// firstPosition returns the number of the first position of a band among those of all images.
func (t *tileCall) firstPosition(b band) int { return (b.image*t.imageRows + b.row) * t.pitch }

// lastBlock computes a block that reaches beyond the last position of a map that tiles are read from. Its tiles begin
// earlier instead: some positions are computed twice, and stored once.
func (t *tileCall) lastBlock(args *tileArgs, a unsafe.Pointer, block, first, positions int, spare []rowEntry) {
	at := block * tileBlock
	begin := [2]int{}
	for i := range begin {
		begin[i] = min(at+i*tileRows, positions-first-tileRows)
	}
	rows := t.geometry.rows[t.starts[block]:min(int(t.starts[block+1]), args.limit)]
	for i, e := range rows {
		r := int(e.sums) / (tilePanel * 4)
		tile := r / tileRows
		e.sums = int32((tile*tileRows + at + r - begin[tile]) * tilePanel * 4)
		spare[i] = e
	}
	starts := (*[2]int32)(unsafe.Pointer(&spare[tileBlock]))
	*starts = [2]int32{0, int32(len(rows))}
	table, limit := args.rows, args.limit
	args.a0 = unsafe.Add(a, begin[0]*t.aStride)
	args.a1 = unsafe.Add(a, begin[1]*t.aStride)
	args.blocks = 1
	args.rows, args.starts, args.limit = &spare[0], &starts[0], len(rows)
	t.call(args)
	args.rows, args.limit = table, limit
}

func (t *tileCall) call(args *tileArgs) {
	if t.grain.planes == 2 {
		amxHigh(args)
	} else {
		amxMedium(args)
	}
}

// planes returns pointers to an element of a map's planes.
func planes(m *kernel.Map, at int) (unsafe.Pointer, unsafe.Pointer) {
	switch m.Format {
	case kernel.F32:
		return unsafe.Pointer(&m.F32[at]), nil
	case kernel.BF16:
		return unsafe.Pointer(&m.Hi[at]), nil
	default:
		return unsafe.Pointer(&m.Hi[at]), unsafe.Pointer(&m.Lo[at])
	}
}

// bounds returns the interval to which an activation clips, all numbers for those that do more.
func bounds(a kernel.Activation) (low, high float32) {
	low, high = float32(math.Inf(-1)), float32(math.Inf(1))
	switch a {
	case kernel.ReLU:
		low = 0
	case kernel.ReLU6:
		low, high = 0, 6
	}
	return low, high
}
