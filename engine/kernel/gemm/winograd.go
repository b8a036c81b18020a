package gemm

import (
	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// This file holds what Winograd's method is, the transformation of the weights, and when it pays.
//
// A 3×3 convolution with stride 1 is computed in tiles of m×m outputs from n×n inputs, n = m+2. Inputs and weights are
// transformed into n² points each, Bᵀ d B and G g Gᵀ; at each point the convolution is a product of a matrix of tiles by input
// channels with one of input channels by output channels; and Aᵀ M A of the products are the outputs. (Winograd 1980; Lavin and
// Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.) That is 16 multiplications instead of 36 for m = 2, and 36
// instead of 144 for m = 4, and 16/9 and 4 times as many weights.
//
// Lavin's points for m = 4, 0, ±1 and ±2, make errors six times those of a sum in float32. With 0, ±3/4 and ±3/2, whose powers
// are exact too, it is three times (relative error of 256 channels 4.7e-7 instead of 1.6e-7); m = 2 has no more than direct sums.
//
// At the precisions High and Medium AMX computes it along the rows only, in strips of 1×4 outputs (winograd_strip_amd64.go): half of
// the products, twice the weights. Its error is 2.2 and 2 times that of direct sums, as the transformed operands are rounded; tiles
// of 2×2 would have 1.7 times, of 4×4 five times.

// winogradTiles are the sizes of tiles that there are kernels for, largest first.
var winogradTiles = []int{4, 2}

// winogradG returns the n×3 matrix that transforms weights, for tiles of m×m outputs.
func winogradG(m int) [][3]float64 {
	if m == 2 {
		return [][3]float64{{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}}
	}
	const a, b = 0.75, 1.5
	g := [][3]float64{{1 / (a * a * b * b), 0, 0}}
	for _, x := range []float64{a, -a, b, -b} {
		// 1 over the product of the distances to the other points: x·2x·(x²-y²), y the other of a and b.
		y := a + b - max(x, -x)
		f := 1 / (2 * x * x * (x*x - y*y))
		g = append(g, [3]float64{f, f * x, f * x * x})
	}
	return append(g, [3]float64{0, 0, 1})
}

// transformWeights returns G g Gᵀ; point j*n+i of the result is row i, column j.
func transformWeights(to []float32, g [][3]float64, w *[9]float64) {
	n := len(g)
	for i := range n {
		var row [3]float64
		for x := range row {
			row[x] = g[i][0]*w[x] + g[i][1]*w[3+x] + g[i][2]*w[6+x]
		}
		for j := range n {
			to[j*n+i] = float32(row[0]*g[j][0] + row[1]*g[j][1] + row[2]*g[j][2])
		}
	}
}

// transformable reports whether Winograd's method can compute the convolution.
func (s *ConvSpec) transformable() bool {
	return s.KernelH == 3 && s.KernelW == 3 && max(s.StrideH, s.StrideW, s.DilationH, s.DilationW, s.Groups) <= 1 && !s.Linear &&
		s.Tier >= cpu.AVX2
}

// Winograd returns which ConvSpec.Winograd is expected to be the fastest for outputs of h×w pixels: 0 if the convolution is
// better computed directly. It supposes one image: more of them make use of the same weights, which favours Winograd's method.
func Winograd(s ConvSpec, h, w int) int {
	if !winogradKernels || !s.transformable() || s.In < 16 || s.Out < 16 {
		return 0
	}
	if s.tiled() {
		if stripCycles(&s, h, w) < tileCycles(&s, h, w) {
			return stripOutputs
		}
		return 0
	}
	direct := directCycles(&s, h*w)
	best := 0
	for _, m := range winogradTiles {
		tiles := ((h + m - 1) / m) * ((w + m - 1) / m)
		if c := newWinogradCosts(m, &s).cycles(tiles); c < direct {
			direct, best = c, m
		}
	}
	return best
}

// Tiles of AMX kernels, in cycles.
const (
	productCycles = 16 // of one tile product
	stepOverhead  = 80 // per block and panel beside the products
)

const (
	stripOutputs = 4 // of a strip
	stripPoints  = stripOutputs + 2
)

// What strips, Winograd's tiles of 1×4 outputs in AMX tiles, are estimated to cost beside tile products, in cycles.
const (
	stripInput  = 75 // to transform the input of one, for 32 input channels
	stripOutput = 50 // to transform its products to outputs, for 32 output channels
	// stripSlower is how much longer their tile products take. Transformed inputs have no zeros, as the outputs of a ReLU do, and the
	// processor's clock depends on that; and both operands come from L2, where direct sums find their input in L1.
	stripSlower = 1.38
)

// tileBlockCycles is the time of a block of 32 positions and 32 output channels whose sum runs over so many steps of 32 input values.
func tileBlockCycles(p engine.Precision, steps int) float64 {
	products := 4
	if p == engine.High {
		products = 12
	}
	return float64(steps*products*productCycles + stepOverhead)
}

// tileCycles estimates the cycles of one core for a 3×3 convolution that AMX tiles compute directly, were it to do all the work.
func tileCycles(s *ConvSpec, h, w int) float64 {
	p := Resolve(s.Precision, s.Tier)
	panels, blocks := (s.Out+31)/32, (h*(w+1)+31)/32
	steps := (9*s.In + 31) / 32
	if s.In >= 32 {
		steps = 9 * ((s.In + 31) / 32)
	}
	return float64(blocks*panels)*tileBlockCycles(p, steps) + tileWeights(p, steps*panels)
}

// stripCycles is tileCycles for strips.
func stripCycles(s *ConvSpec, h, w int) float64 {
	p := Resolve(s.Precision, s.Tier)
	panels, channels, strips := (s.Out+31)/32, (s.In+31)/32, h*((w+stripOutputs-1)/stripOutputs)
	products := float64(stripPoints*((strips+31)/32)*panels) * tileBlockCycles(p, 3*channels) * stripSlower
	return products + float64(strips*(channels*stripInput+panels*stripOutput)) + tileWeights(p, stripPoints*3*channels*panels)
}

// tileWeights is the time that the weights of so many steps and panels take from L3 or memory.
func tileWeights(p engine.Precision, steps int) float64 {
	bytes := steps * 2048
	if p == engine.High {
		bytes *= 2
	}
	return float64(bytes) / weightBytesPerCycle * weightsUnhidden
}

// What float32 vectors are estimated to take for a value of a row and a panel of two vectors of channels, beside what the processor needs
// at least.
const (
	// directRow is more than the lineRow of products with weights from L2, as they mostly come from memory: with lineRow here, layers
	// with 7×7 outputs would be computed directly that take 4 to 24 % less time in tiles of 2×2 on two threads.
	directRow = 1.25
	// pointRow is what the products at the points of Winograd's method take.
	pointRow = 1.2
)

// directCycles estimates the cycles of one core for a 3×3 convolution that vectors compute directly, were it to do all the work.
func directCycles(s *ConvSpec, positions int) float64 {
	m, width := machineOf(s.Tier), productsOf(s.Tier).panel()
	panels := (s.Out + width - 1) / width
	products, bytes := float64(positions*9*s.In*panels)*directRow*m.panel, float64(9*4*s.In*width*panels)
	if s.paired() {
		products, bytes = products/2, bytes/2
	}
	return m.both(products, bytes, m.fetch)
}

// winogradCosts are estimates for Winograd's method in float32, in cycles of one core.
type winogradCosts struct {
	machine
	input, output float64 // to transform one tile, all input channels; one panel of output channels
	product       float64 // of one tile and one panel, all points
	panels        int
	weights       float64 // bytes of a panel
}

func newWinogradCosts(m int, s *ConvSpec) winogradCosts {
	n, size := m+2, productsOf(s.Tier)
	vectors, channels, width := (s.In+size.lanes-1)/size.lanes, (s.In+3)&^3, size.panel()
	machine := machineOf(s.Tier)
	return winogradCosts{
		machine: machine,
		input:   float64(vectors*n*n*3 + 100),
		output:  float64(2*n*n*5 + 60),
		product: float64(n*n*channels) * pointRow * machine.panel,
		panels:  (s.Out + width - 1) / width,
		weights: float64(n * n * channels * width * 4),
	}
}

// cycles estimates the cycles of one core for the given number of tiles.
func (c winogradCosts) cycles(tiles int) float64 {
	p := float64(c.panels)
	return float64(tiles)*(c.input+p*c.output) + c.both(float64(tiles)*p*c.product, p*c.weights, c.fetch)
}
