//go:build !noasm

package gemm

import (
	"slices"
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
	// Where all weights are more than coldWeights, they come from L3 or memory at every inference. They are then used for all
	// blocks of a band (at most groupBlocks) in chunks of chunkWeights, while the next is being prefetched.
	coldWeights  = 512 << 10
	chunkWeights = 64 << 10
	chunkFew     = 16 << 10 // for one or two blocks: these do little else than fetch
	groupBlocks  = 32
	// tileStageCycles is the time to stage 64 bytes, which come from L3 in a network with many images.
	tileStageCycles = 8
	// projectStageCycles is the same for what a projection reads: every second pixel of every second row. 14x14 of 512 channels, high,
	// took 17.
	projectStageCycles = 16
	// fetchBytes is what one prefetch of the kernel asks for.
	fetchBytes = 256
	// callCycles limits one call of the assembly, during which the goroutine cannot be preempted: 60 µs at 3 GHz, unless a
	// panel alone takes longer.
	callCycles = 180e3
)

var tileGrain = grain{element: 2, planes: 1, block: tileValues, rows: tileBlock, panel: tilePanel, tier: cpu.AMX, least: tileRows}

// tileArgs are the arguments of the AMX kernels, and their state. The offsets of the fields are known to
// _gen/gemm/tile.go.
type tileArgs struct {
	config     *tileConfig
	a          unsafe.Pointer // first position, hi plane
	tiles      *int32         // byte offsets of the two tiles of each block
	aStride    int            // bytes between rows of a tile
	aLow       int            // bytes from the hi plane to the lo plane
	offsets    *int32         // byte offset of each step from its row
	steps      int
	chunk      int            // steps whose weights are used for a whole group before the next
	skip       int            // steps whose sums an earlier call has left in acc
	until      int            // steps left to a later call, for which the sums are kept in acc
	b          unsafe.Pointer // packed weights of the first panel
	bStep      int            // bytes from the end of the steps of a panel to those of the next
	panels     int
	blocks     int // of a group
	groups     int
	rows       *rowEntry
	starts     *int32 // of the first block
	limit      int    // valid entries of rows
	dst        unsafe.Pointer
	dstLow     unsafe.Pointer
	res        unsafe.Pointer // nil without residual
	resLow     unsafe.Pointer
	bias       *float32       // 16 even and 16 odd channels for each panel
	sums       unsafe.Pointer // 2*sumsBytes, aligned to 2*sumsBytes
	acc        unsafe.Pointer // sumsBytes for each block, unless chunk == steps
	accStep    int            // bytes from the sums of a panel to those of the next
	share      int            // strips finished per step
	fetch      [8]uint8       // prefetches of fetchBytes at each place in a step that has them
	ahead      int            // bytes from the weights of a chunk to those that are prefetched meanwhile
	format     int            // kernel.Format of dst and res
	activation int
	low, high  float32        // bounds of the activations that clip
	mask       int            // channels of the last panel as bits
	rowLoop    int            // that finishes rows: see rowLoopOf
	rowsAt     [4]int32       // bytes of the entries of rows that are finished at each place in a step where that is done
	awake      unsafe.Pointer // 1 KiB to which a tile is stored now and then
	// What Winograd's method needs besides.
	products   unsafe.Pointer // of the point and the panel
	points     unsafe.Pointer // products of an earlier panel at point 0, which are being finished
	pointStep  int            // bytes between points
	strips     *strip         // next to be finished: the kernels count on
	stripCount int
	// Where the last besideSteps steps read rows of A that lie elsewhere: as a, aStride and aLow.
	beside       unsafe.Pointer
	besideStride int
	besideLow    int
	besideTiles  int // bytes from the offsets of a block's tiles to those of the same positions there
	besideSteps  int
	_            [29]uint64 // what the kernels keep between the rows
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

// multiply computes the products of operands of one or two planes.
func (a *tileArgs) multiply(planes int) {
	a.rowLoop = rowLoopOf(kernel.Format(a.format), a.res != nil, kernel.Activation(a.activation))
	if planes == 2 {
		amxHigh(a)
	} else {
		amxMedium(a)
	}
}

// finishWithin divides the rows of a block among so many steps: the same number in each, some of them among the products and the rest behind
// these, for the processor looks ahead over no more than some 15 rows, and should always find a product to compute. At medium, whose
// products take a third of the time, long activations are kept apart from them: together they slow the clock (see docs/performance.md).
func (a *tileArgs) finishWithin(steps, planes int) {
	const entry = int(unsafe.Sizeof(rowEntry{}))
	rows := (tileBlock + steps - 1) / steps
	places := planes + 1
	a.rowsAt = [4]int32{}
	if planes == 1 && kernel.Activation(a.activation) > kernel.ReLU6 {
		a.rowsAt[places-1] = int32(rows * entry)
		return
	}
	for i := range places {
		a.rowsAt[i] = int32((rows*(i+1)/places - rows*i/places) * entry)
	}
}

// rowLoopOf returns the number of the loop that finishes rows of a map of a format: one of those in _gen/gemm/rows.go, or the general one.
func rowLoopOf(f kernel.Format, residual bool, a kernel.Activation) int {
	const general = 8
	if f == kernel.F32 || a > kernel.ReLU6 {
		return general
	}
	loop := 0
	if a == kernel.ReLU6 {
		loop += 1
	}
	if residual {
		loop += 2
	}
	if f == kernel.Split {
		loop += 4
	}
	return loop
}

// tileConv is a convolution packed for AMX.
type tileConv struct {
	spec   ConvSpec
	depth  depth
	grain  grain
	step   int // input values in a step, at most tileValues and even
	steps  []tileStep
	panels int // per bundle
	// weights is [bundle][panel][step][plane][parity][16 pairs of values][16 channels][2 values]. The two tiles of a panel
	// hold its even and its odd channels: see finishRow in _gen/gemm/rows.go.
	weights []uint16
	bias    []float32 // [bundle][panel][parity][16]
	config  tileConfig
	// projection is that of the residual, whose steps are the last of each panel, or nil.
	projection *tileProjection
}

// tileStep is a step of up to tileValues of a run.
type tileStep struct {
	run  int
	from int // first value
}

// stepWidth returns how many values of each run a step sums. It is 32, unless 1×1 runs over another number of channels
// divide into equal steps: then tiles can be read from the map itself without looking at a neighbour's channels. Runs that are
// shorter have steps of their own size, for the rows of tiles begin at any byte there, and shorter ones lie in fewer cache lines.
func stepWidth(s *ConvSpec, d *depth) (width int, direct bool) {
	if s.Projection.In > 0 {
		return tileValues, s.In%tileValues == 0
	}
	if s.KernelH*s.KernelW != 1 {
		return min((d.runs[0].n+1)&^1, tileValues), false
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

func newTileConv(s ConvSpec) *tileConv {
	c := &tileConv{spec: s, grain: tileGrain}
	if s.Precision == engine.High {
		c.grain.planes = 2
	}
	c.depth = newDepth(s, c.grain)
	d := &c.depth
	c.step, _ = stepWidth(&s, d)
	c.steps = listSteps(d, c.step)
	if s.Projection.In > 0 {
		c.projection = newTileProjection(&s, c.grain)
	}
	c.panels = (d.bundleOut + tilePanel - 1) / tilePanel
	c.config = fullTiles()
	for t := 4; t < 6; t++ {
		c.config.columns[t] = uint16(2 * c.step)
		c.config.rows[t+2] = uint8(c.step / 2)
	}
	c.bias = make([]float32, d.bundles*c.panels*tilePanel)
	return c
}

// listSteps divides the runs into steps.
func listSteps(d *depth, width int) (steps []tileStep) {
	for i, r := range d.runs {
		for from := 0; from < r.n; from += width {
			steps = append(steps, tileStep{i, from})
		}
	}
	return steps
}

// stepBytes is the size of the packed weights of a step of a panel, panelBytes that of all its steps.
func (c *tileConv) stepBytes() int  { return c.grain.planes * 2 * 1024 }
func (c *tileConv) panelBytes() int { return c.stepCount() * c.stepBytes() }

// stepCount returns the steps of a panel, those of the projection included.
func (c *tileConv) stepCount() int {
	if c.projection == nil {
		return len(c.steps)
	}
	return len(c.steps) + len(c.projection.steps)
}

func (c *tileConv) bytes() int { return c.depth.bundles * c.panels * c.panelBytes() }

func (c *tileConv) pack(each parallel, memory []byte, w *weights, bias []float32) {
	c.weights = words(memory)
	packTileBias(c.bias, bias, c.depth.bundleOut)
	each(c.depth.bundles*c.panels, func(panel int) { c.packPanel(w, panel) })
}

// packTileBias is packBias with the even channels of a panel before its odd ones.
func packTileBias(to, bias []float32, bundleOut int) {
	packBias(to, bias, bundleOut, tilePanel)
	for panel := to; len(panel) > 0; panel = panel[tilePanel:] {
		for i, v := range [tilePanel]float32(panel) { // a copy
			panel[i%2*16+i/2] = v
		}
	}
}

// packPanel packs one panel: it gathers 32 values of 32 channels at a time and turns them into the tiles of a step.
func (c *tileConv) packPanel(w *weights, panel int) {
	d := &c.depth
	to := c.weights[panel*c.panelBytes()/2:]
	bundle, first := panel/c.panels, panel%c.panels*tilePanel
	n := min(tilePanel, d.bundleOut-first)
	var packer stepPacker
	add := func(s *ConvSpec, d *depth, steps []tileStep, w *weights) {
		for _, st := range steps {
			for o := range n {
				d.gather(packer.values[o][:c.step], s, w, bundle, d.runs[st.run], st.from, first+o)
			}
			to = packer.pack(to, c.grain.planes)
		}
	}
	add(&c.spec, d, c.steps, w)
	if p := c.projection; p != nil {
		add(&p.spec, &p.depth, p.steps, p.weights(&c.spec, w))
	}
}

// stepPacker packs the weights of a step and a panel, with the kernels that pack matrices.
type stepPacker struct {
	values [tilePanel][tileValues]float32   // of each output channel; zeros where there are none
	rows   [2][tilePanel][tileValues]uint16 // their planes
}

// pack writes the tiles of the values: for each plane that of the even channels and that of the odd ones. It returns the rest of to.
func (p *stepPacker) pack(to []uint16, planes int) []uint16 {
	args := stageArgs{
		dst: unsafe.Pointer(&p.rows), src: unsafe.Pointer(&p.values), pixels: tilePanel, srcStep: 4 * tileValues, dstStep: 2 * tileValues,
		chunks: 1, loadMask: 1<<tileValues - 1, storeMask: 1<<tileValues - 1, low: int(unsafe.Sizeof(p.rows[0])),
	}
	args.convert(planes)
	for plane := range planes {
		for parity := range 2 {
			transpose16(unsafe.Pointer(&to[0]), 64, unsafe.Pointer(&p.rows[plane][parity]), 4*tileValues)
			to = to[tileRows*tileValues:]
		}
	}
	return to
}

// tileCall is a tileConv bound to maps.
type tileCall struct {
	*tileConv
	geometry
	offsets []int32  // byte offset of each step
	parts   int      // divisions of the panels
	aStride int      // bytes between positions
	tiles   []int32  // byte offsets of the two tiles of each block of a band
	tails   []tail   // of the last bands
	group   int      // blocks that pass together
	chunk   int      // steps whose weights are used for a group before the next
	fetch   [8]uint8 // as in tileArgs, as is ahead
	ahead   int
	// projected is what the projection reads. The offsets of its tiles are behind those of the tiles of each block.
	projected *projected
}

// tail is what differs in a band whose last block reaches beyond the end of a map that tiles are read from.
type tail struct {
	tiles []int32
	rows  []rowEntry
}

func (c *tileConv) bind(spec *ConvSpec, src, dst kernel.Map, residual *kernel.Map, workers int) runner {
	t := &tileCall{tileConv: c}
	_, directable := stepWidth(spec, &c.depth)
	var source *kernel.Map // of the projection
	if c.projection != nil {
		source, residual = residual, nil
	}
	t.geometry = newGeometry(spec, &c.depth, c.grain, &src, &dst, residual, directable && src.Format == c.grain.format())
	cost := costs{
		perBlock: c.panelCycles(), panels: c.depth.bundles * c.panels, panelBytes: c.panelBytes(), cold: c.cold(),
		stage: tileStageCycles, sumsBytes: sumsBytes, chunkBytes: chunkWeights,
	}
	if source != nil {
		t.projected = t.project(source, &dst)
		cost.beside, cost.stage = t.projected.bytes(c.grain), projectStageCycles
		cost.sumsBytes = 0 // neither slices nor images side by side, for the positions must be the pixels of the output in their order
	}
	t.parts = t.choose(c.grain, &c.depth, cost, workers)
	t.listRows(c.grain, &dst, residual, tilePanel*4)
	t.aStride = t.stride * t.pixel
	if t.direct {
		step, _ := uniform(&src)
		t.aStride = step * 2
	}
	t.offsets = make([]int32, len(c.steps))
	for i, st := range c.steps {
		t.offsets[i] = int32(2 * st.from)
		if !t.direct {
			t.offsets[i] += int32(t.offset(spec, c.depth.runs[st.run]))
		}
	}
	if source != nil {
		for _, st := range c.projection.steps {
			t.offsets = append(t.offsets, int32(2*st.from))
		}
	}
	blocks := c.grain.blocks(t.positions)
	t.divide(blocks)
	t.tiles = make([]int32, 2*blocks)
	listTiles(t.tiles, t.aStride)
	if t.direct {
		t.listTails()
	}
	if source != nil {
		t.tiles = t.projected.tiles(t.tiles, t.aStride)
		for i := range t.tails {
			t.tails[i].tiles = t.projected.tiles(t.tails[i].tiles, t.aStride)
		}
	}
	return t
}

// listTiles writes the byte offsets of tiles that follow each other.
func listTiles(tiles []int32, aStride int) {
	for i := range tiles {
		tiles[i] = int32(i * tileRows * aStride)
	}
}

// divide chooses the order of the product. Small weights stay in L2: then each block passes over all panels, so that its
// input stays in L1 and its output is written in the order of memory.
func (t *tileCall) divide(blocks int) {
	t.group, t.chunk = 1, len(t.offsets)
	if !t.cold() {
		return
	}
	if t.sliced() {
		t.group, t.chunk = blocks, t.slice*t.blockSteps()
		t.fetch = fetches(t.grain.planes, t.stepBytes(), blocks)
		return
	}
	t.group = evenly(blocks, groupBlocks)
	t.fetch = fetches(t.grain.planes, t.stepBytes(), t.group)
	switch {
	case blocks == 1: // no other block needs these weights, so they are one chunk
		t.ahead = fetchAhead
		return
	case t.group <= fewBlocks:
		t.chunk = evenly(t.chunk, chunkFew/t.stepBytes())
	default:
		t.chunk = evenly(t.chunk, chunkWeights/t.stepBytes())
	}
	t.ahead = t.chunk * t.stepBytes()
}

// fetches divides what has to be fetched in a step, so that as much as its weights are fetched while blocks pass, among the places in
// the step where the kernels do that.
func fetches(planes, stepBytes, blocks int) (spots [8]uint8) {
	n, each := 1, max(1, stepBytes/fetchBytes/blocks)
	if planes == 2 {
		n = 4
	}
	for i := range n {
		spots[i] = uint8(each*(i+1)/n - each*i/n)
	}
	return spots
}

// cold reports whether the weights are too many to stay in L2 from one inference to the next.
func (c *tileConv) cold() bool { return c.depth.bundles*c.panels*c.panelBytes() >= coldWeights }

// evenly returns the size of the parts of n that are at most most and as equal as can be.
func evenly(n, most int) int {
	parts := (n + most - 1) / most
	return (n + parts - 1) / parts
}

// listTails finds the bands whose last block reaches beyond the last position of the map. Its tiles begin earlier
// instead: some positions are computed twice, and stored once.
func (t *tileCall) listTails() {
	positions := t.n * t.oh * t.ow
	for i := t.bands - 1; i >= 0; i-- {
		b := t.band(i)
		first, blocks := t.firstPosition(b), t.grain.blocks(b.positions)
		if first+blocks*tileBlock <= positions {
			break
		}
		last := tail{tiles: slices.Clone(t.tiles[:2*blocks]), rows: slices.Clone(t.geometry.rows[:b.entries])}
		for tile := 2 * (blocks - 1); tile < 2*blocks; tile++ {
			last.tiles[tile] = int32(min(tile*tileRows, positions-first-tileRows) * t.aStride)
		}
		for r := t.starts[blocks-1]; int(r) < b.entries; r++ {
			e := &last.rows[r]
			row := int(e.sums) / (tilePanel * 4)
			position := (blocks-1)*tileBlock + row
			tile := row / tileRows
			begin := min((2*(blocks-1)+tile)*tileRows, positions-first-tileRows)
			e.sums = int32((tile*tileRows + position - begin) * tilePanel * 4)
		}
		t.tails = append(t.tails, last)
	}
	slices.Reverse(t.tails)
}

// panelCycles is the time of a block and a panel.
func (c *tileConv) panelCycles() float64 { return tileBlockCycles(c.spec.Precision, c.stepCount()) }

func (t *tileCall) tasks() int { return t.bands * t.parts }

func (t *tileCall) scratch() int {
	n := 4*sumsBytes + awakeBytes + t.accBytes() + align64(t.stagedBytes(t.grain))
	if t.projected != nil {
		n += t.grain.planes * t.projected.planeSize(t.grain, t.positions)
	}
	return n
}

// sliced reports whether the channels are divided into slices. Then the chunks of weights are slices too, and the order is: slices, of
// which each is staged before its products, panels, blocks. So every weight is fetched once and every input copied once by a
// task whose whole input would not fit in L2.
func (t *tileCall) sliced() bool { return t.slice < t.depth.blocks }

// blockSteps returns the steps of a channel block.
func (t *tileCall) blockSteps() int { return len(t.offsets) / t.depth.blocks }

// accBytes is the memory for the sums between chunks.
func (t *tileCall) accBytes() int {
	if t.sliced() {
		return t.group * ((t.panels + t.parts - 1) / t.parts) * sumsBytes
	}
	if t.chunk == len(t.offsets) {
		return 0
	}
	return t.group * sumsBytes
}

func (t *tileCall) run(task int, src, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	d := &t.depth
	b, from, to := t.share(task, d.bundles*t.panels, t.parts, t.cold())
	if from == to {
		return
	}
	scratch = align(scratch, 2*sumsBytes)
	args := tileArgs{
		config:     &t.config,
		aStride:    t.aStride,
		offsets:    &t.offsets[0],
		steps:      len(t.offsets),
		chunk:      t.chunk,
		fetch:      t.fetch,
		ahead:      t.ahead,
		limit:      b.entries,
		sums:       unsafe.Pointer(&scratch[0]),
		awake:      unsafe.Pointer(&scratch[2*sumsBytes]),
		format:     int(dst.Format),
		activation: int(t.spec.Activation),
	}
	args.low, args.high = bounds(t.spec.Activation)
	last := len(t.offsets) % t.chunk // steps of the shortest chunk, in which rows are finished
	if last == 0 {
		last = t.chunk
	}
	args.finishWithin(last, t.grain.planes)
	scratch = scratch[2*sumsBytes+awakeBytes:]
	args.acc = unsafe.Pointer(&scratch[0])
	scratch = scratch[t.accBytes():]
	tiles, rows := t.tiles, t.geometry.rows
	if i := b.number - (t.bands - len(t.tails)); i >= 0 {
		tiles, rows = t.tails[i].tiles, t.tails[i].rows
	}
	args.rows = &rows[0]
	firstBundle, lastBundle := from/t.panels, (to-1)/t.panels
	if t.direct {
		args.a, args.aLow = operand(&src)
		args.a = unsafe.Add(args.a, t.firstPosition(b)*t.aStride)
	} else if args.aLow = t.planeBytes; !t.sliced() {
		stage(&t.geometry, d, t.grain, &src, b, scratch, firstBundle, lastBundle+1)
	}
	if t.projected != nil {
		t.readProjected(&args, b, tiles, residual, scratch[align64(t.stagedBytes(t.grain)):])
		residual = nil
	}
	out := tileOutput{t: t, dst: &dst, dstAt: t.origin(&dst, b), res: residual}
	if residual != nil {
		out.resAt = t.origin(residual, b)
	}
	if t.sliced() {
		t.runSlices(&args, b, from, to, &src, &out, scratch)
		return
	}
	blocks := t.grain.blocks(b.positions)
	for bundle := firstBundle; bundle <= lastBundle; bundle++ {
		if !t.direct {
			args.a = unsafe.Pointer(&scratch[bundle*d.blocks*t.blockBytes])
		}
		p0, p1 := max(from-bundle*t.panels, 0), min(to-bundle*t.panels, t.panels)
		most := t.callPanels(t.group, len(t.offsets)) // groups and panels in a call
		for block := 0; block < blocks; block += args.blocks * args.groups {
			args.blocks = min(t.group, blocks-block)
			args.tiles = &tiles[2*block]
			args.starts = &t.starts[block]
			panels := min(most, p1-p0)
			args.groups = min(max(1, most/panels), (blocks-block)/args.blocks)
			for p := p0; p < p1; p += panels {
				args.panels = min(panels, p1-p)
				out.panels(&args, bundle, p)
				args.b = unsafe.Pointer(&t.weights[(bundle*t.panels+p)*t.panelBytes()/2])
				args.multiply(t.grain.planes)
			}
		}
	}
}

// runSlices computes the panels [from, to) of a band slice by slice.
func (t *tileCall) runSlices(args *tileArgs, b band, from, to int, src *kernel.Map, out *tileOutput, scratch []byte) {
	steps := len(t.offsets)
	acc := args.acc
	args.a, args.tiles, args.starts = unsafe.Pointer(&scratch[0]), &t.tiles[0], &t.starts[0]
	args.blocks, args.groups = t.grain.blocks(b.positions), 1
	args.accStep = args.blocks * sumsBytes
	for first := 0; first < steps; first += t.chunk {
		stageSlice(&t.geometry, &t.depth, t.grain, src, b, scratch, first/t.chunk)
		n := min(t.chunk, steps-first)
		args.offsets = &t.offsets[first]
		args.skip, args.until = first, steps-first-n
		args.bStep = (steps - n) * t.stepBytes()
		most := t.callPanels(args.blocks, n)
		for p := from; p < to; p += args.panels {
			// Behind the last panel comes the first one's next slice.
			args.panels, args.ahead = 1, (from-p)*t.panelBytes()+n*t.stepBytes()
			if rest := to - 1 - p; rest > 0 {
				args.panels, args.ahead = min(most, rest), t.panelBytes()
			}
			out.panels(args, 0, p)
			args.b = unsafe.Pointer(&t.weights[(p*t.panelBytes()+first*t.stepBytes())/2])
			args.acc = unsafe.Add(acc, (p-from)*args.accStep)
			args.multiply(t.grain.planes)
		}
	}
}

// callPanels returns how many panels of a group a call may compute.
func (t *tileCall) callPanels(blocks, steps int) int {
	return max(1, int(callCycles/(tileBlockCycles(t.spec.Precision, steps)*float64(blocks))))
}

// tileOutput is where a task's results go.
type tileOutput struct {
	t            *tileCall
	dst, res     *kernel.Map // res may be nil
	dstAt, resAt int         // elements of the band's first pixel
}

// panels sets the arguments that belong to the output for args.panels panels of a bundle.
func (o *tileOutput) panels(args *tileArgs, bundle, first int) {
	out := o.t.depth.bundleOut
	channel := bundle*out + first*tilePanel
	args.bias = &o.t.bias[(bundle*o.t.panels+first)*tilePanel]
	args.dst, args.dstLow = planes(o.dst, o.dstAt+channel)
	if o.res != nil {
		args.res, args.resLow = planes(o.res, o.resAt+channel)
	}
	rest := out - (first+args.panels-1)*tilePanel
	args.mask = 1<<min(rest, tilePanel) - 1
}

// firstPosition returns the number of the first position of a band among those of all images.
func (t *tileCall) firstPosition(b band) int { return (b.image*t.imageRows + b.row) * t.pitch }

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

// operand returns where tiles read a map itself, and how many bytes its lo plane, if it has one, lies behind the hi plane.
func operand(m *kernel.Map) (a unsafe.Pointer, low int) {
	a, lo := planes(m, m.Off)
	if lo != nil {
		low = int(uintptr(lo) - uintptr(a))
	}
	return a, low
}
