package gemm

import "math"

// What the estimates of all kernels have in common, for one core.
const (
	taskCycles          = 3000 // dispatch, tile configuration, a cold start
	stageCycles         = 3    // for 64 bytes of staged input
	weightBytesPerCycle = 4    // that come from L3 or memory
	weightsUnhidden     = 0.7  // share of the time of fetching weights in which nothing is computed
	imbalance           = 0.2  // share of a task by which the last worker is late
	// stagedMax is how much the copied input of a band should take, to stay in L2 beside the weights and what the band writes; overL2
	// is what a larger band is taken to cost.
	stagedMax = 768 << 10
	overL2    = 1.3
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
	cold       bool // weights come from L3 or memory, and are fetched while a band's blocks pass
}

// choose divides the output into bands, and returns into how many parts the panels are divided: the choice with the
// least estimated time of the worker that is last to finish.
func (p *geometry) choose(g grain, d *depth, c costs, workers int) (parts int) {
	const (
		// Where tiles are read from the map, bands smaller than stagedMax cost nothing and gain much on maps larger than L2
		// (1×1, 56×56, 64 to 256 channels, high: 450 µs with bands of 400 KB, 330 with 230); copied bands overlap.
		directMax = 300 << 10
	)
	best := math.Inf(1)
	var bestRows, bestImages int
	p.eachDivision(g, workers, func(rows, images int) {
		q := *p
		q.setBands(rows, images, d, g)
		staged := q.stagedBytes(g)
		blocks := g.blocks(q.positions)
		input, most := staged, stagedMax
		if p.direct {
			input, most = g.planes*q.positions*d.bundleIn*g.element, directMax
		}
		if c.cold && float64(blocks)*c.perBlock < fetchBound*float64(c.panelBytes)/weightBytesPerCycle {
			// Blocks must pass while the weights come: those of a small band would wait for most of them.
			most = weightsInL2
		}
		penalty := 1.0
		if input > most {
			penalty = overL2
		}
		for n := 1; n <= min(c.panels, 4*workers); n++ {
			per := (c.panels + n - 1) / n
			stage := float64(staged) / 64 * stageCycles
			if d.bundles > 1 {
				stage *= float64(per) / float64(c.panels)
			}
			task := float64(blocks*per)*c.perBlock + stage + taskCycles
			rounds := (q.bands*n + workers - 1) / workers
			// A worker's tasks are neighbours, and neighbours have the same panels. They read them anew unless those fit in L2.
			fetches := (rounds + q.bands - 1) / q.bands
			if per*c.panelBytes > weightsInL2 {
				fetches = rounds
			}
			fetch := float64(per*c.panelBytes) / weightBytesPerCycle
			load := fetch * weightsUnhidden
			if c.cold {
				// What a band computes hides most of as much fetching.
				load = max(fetch*(1-weightsUnhidden), fetch-weightsUnhidden*float64(blocks*per)*c.perBlock)
			}
			load *= float64(fetches)
			if cost := penalty * (float64(rounds)*task + imbalance*task + load); cost < best {
				best, bestRows, bestImages, parts = cost, rows, images, n
			}
		}
	})
	p.setBands(bestRows, bestImages, d, g)
	return parts
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
