package gemm

import "math"

// What the estimates of all kernels have in common, for one core.
const (
	taskCycles          = 3000 // dispatch, tile configuration, a cold start
	stageCycles         = 3    // for 64 bytes of staged input, beside products of float32
	weightBytesPerCycle = 4    // that come from L3 or memory
	weightsUnhidden     = 0.7  // share of the time of fetching weights in which nothing is computed
	imbalance           = 0.2  // share of a task by which the last worker is late
	lateCycles          = 1e5  // by which it is late at most
	keepCycles          = 300  // to keep the sums of a block and a panel in memory for a while
	// stagedMax is how much the copied input of a band should take, to stay in L2 beside the weights and what the band writes; overL2
	// is what a larger band is taken to cost.
	stagedMax = 768 << 10
	overL2    = 1.3
	// What the input of a slice, the sums of a band and the weights of a slice and of the next take together should not be more than
	// keptMax. As much again costs overKept.
	keptMax  = 1 << 20
	overKept = 0.05
	// Inputs of less than slicedLeast, and bands of few blocks, which do little else than fetch weights, have no slices.
	slicedLeast = 512 << 10
	fewBlocks   = 2
	// fetchBound is up to how many times as long as fetching a panel its products take where bands are not made small for the input's sake.
	fetchBound = 1.5
)

// weightsInL2 is how much of the packed weights is used for all positions of a band before the next is begun: half of
// the 2 MB of L2 that processors with AMX have, for the staged input needs its place there too.
const weightsInL2 = 1 << 20

// costs are what choose needs to know about a kernel.
type costs struct {
	perBlock   float64 // cycles of a block of positions and a panel
	panels     int
	panelBytes int
	cold       bool    // weights come from L3 or memory, and are fetched while a band's blocks pass
	stage      float64 // cycles for 64 bytes of staged input
	// Where sums can be kept in memory while others are computed, and so the channels be divided into slices:
	sumsBytes  int // of a block and a panel
	chunkBytes int // of cold weights for which sums are computed at a time if there are no slices
	beside     int // bytes a position of what is staged besides
}

// choose divides the output into bands and the channels into slices, and returns into how many parts the panels are divided: the
// choice with the least estimated time of the worker that is last to finish.
func (p *geometry) choose(g grain, d *depth, c costs, workers int) (parts int) {
	best := math.Inf(1)
	var chosen geometry
	p.eachDivision(g, workers, func(rows, images int) {
		p.eachOrder(d, c, images, func(slice, across int) {
			q := *p
			q.slice, q.across = slice, across
			q.setBands(rows, images, d, g)
			for n := 1; n <= min(c.panels, 4*workers); n++ {
				if cost := q.cost(g, d, c, workers, n); cost < best {
					best, chosen, parts = cost, q, n
				}
			}
		})
	})
	*p = chosen
	return parts
}

// cost estimates the time of the worker that is last to finish, where the panels are divided into parts.
func (p *geometry) cost(g grain, d *depth, c costs, workers, parts int) float64 {
	// Where tiles are read from the map, bands smaller than stagedMax cost nothing and gain much on maps larger than L2
	// (1×1, 56×56, 64 to 256 channels, high: 450 µs with bands of 400 KB, 330 with 230); copied bands overlap.
	const directMax = 300 << 10
	staged, blocks := p.stagedBytes(g)+p.positions*c.beside, g.blocks(p.positions)
	input, most := staged, stagedMax
	if p.direct {
		input += g.planes * p.positions * d.bundleIn * g.element
	}
	if staged == 0 {
		most = directMax
	}
	if c.cold && float64(blocks)*c.perBlock < fetchBound*float64(c.panelBytes)/weightBytesPerCycle {
		// Blocks must pass while the weights come: those of a small band would wait for most of them.
		most = weightsInL2
	}
	per := (c.panels + parts - 1) / parts
	slices := (d.blocks + p.slice - 1) / p.slice
	penalty, keep := 1.0, 0.0
	if input > most {
		penalty = overL2
	}
	if slices > 1 {
		if blocks <= fewBlocks || staged*slices < slicedLeast {
			return math.Inf(1)
		}
		kept := staged + blocks*per*c.sumsBytes + 2*p.slice*c.panelBytes/d.blocks
		penalty += overKept * max(0, float64(kept)/keptMax-1)
		keep = keepCycles * float64(slices-1)
	} else if c.cold && blocks > 1 && c.chunkBytes > 0 {
		keep = keepCycles / 2 * float64((c.panelBytes-1)/c.chunkBytes) // in L1
	}
	stage := float64(staged*slices) / 64 * c.stage
	if d.bundles > 1 {
		stage *= float64(per) / float64(c.panels)
	}
	task := float64(blocks*per)*(c.perBlock+keep) + stage + taskCycles
	rounds, fetches := p.rounds(parts, workers, per*c.panelBytes)
	fetch := float64(per*c.panelBytes) / weightBytesPerCycle
	load := fetch * weightsUnhidden
	if c.cold {
		// What a band computes hides most of as much fetching.
		load = max(fetch*(1-weightsUnhidden), fetch-weightsUnhidden*float64(blocks*per)*c.perBlock)
	}
	load *= float64(fetches)
	late := 0.0
	if workers > 1 {
		late = min(imbalance*task, lateCycles)
	}
	return penalty * (float64(rounds)*task + late + load)
}

// rounds returns how many tasks the worker that is last to finish computes, and for how many of these it fetches weights, of which a task
// has so many bytes. Its tasks are neighbours, which have the same panels where weights count: they stay in L2 if they fit there.
func (p *geometry) rounds(parts, workers, weights int) (tasks, fetches int) {
	tasks = (p.bands*parts + workers - 1) / workers
	if weights > weightsInL2 {
		return tasks, tasks
	}
	return tasks, (tasks + p.bands - 1) / p.bands
}

// eachOrder calls try with the orders of a band's input that come into question: with every number of channel blocks in a slice, all
// of them and, where sums can be kept, equal shares; and with the images above each other and, where every band has as many, side by side.
func (p *geometry) eachOrder(d *depth, c costs, images int, try func(slice, across int)) {
	each := func(slice int) {
		try(slice, 1)
		if c.sumsBytes > 0 && !p.direct && images > 1 && p.n%images == 0 {
			try(slice, images)
		}
	}
	each(d.blocks)
	if c.sumsBytes == 0 || !c.cold || p.direct || !d.blocked || d.bundles > 1 {
		return
	}
	last := d.blocks
	for n := 2; n <= d.blocks; n++ {
		if slice := (d.blocks + n - 1) / n; slice != last {
			last = slice
			each(slice)
		}
	}
}

// eachDivision calls try with the rows and images of a band for every division that comes into question. Of a flat map the rows are
// whole kernel steps, and may be more than there are.
func (p *geometry) eachDivision(g grain, workers int, try func(rows, images int)) {
	if p.flat {
		total := g.blocks(p.oh)
		for n := 1; n <= min(total, 64*workers); n++ {
			try((total+n-1)/n*g.rows, 1)
		}
		return
	}
	last := 0
	for n := p.oh; n >= 1; n-- {
		if rows := (p.oh + n - 1) / n; rows != last {
			last = rows
			try(rows, 1)
		}
	}
	for n := 2; n <= p.n; n++ {
		try(p.oh, n)
	}
}
