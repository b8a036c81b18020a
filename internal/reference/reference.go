// Package reference computes a graph with plain loops in float64. It is slow and meant to be obviously right: the engines are compared
// with it on random graphs, and it is compared with PyTorch's goldens.
//
// Run is a pure function and safe for concurrent use.
package reference

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
)

// Map is a batch of feature maps, NHWC: value (n, y, x, c) is Data[((n*H+y)*W+x)*C+c].
type Map struct {
	N int
	graph.Shape
	Data []float64
}

func newMap(n int, s graph.Shape) *Map {
	return &Map{N: n, Shape: s, Data: make([]float64, n*s.Elements())}
}

// pixel returns the channels of a pixel.
func (m *Map) pixel(n, y, x int) []float64 {
	i := ((n*m.H+y)*m.W + x) * m.C
	return m.Data[i : i+m.C]
}

// Float32 rounds the values.
func (m *Map) Float32() []float32 {
	v := make([]float32, len(m.Data))
	for i, x := range m.Data {
		v[i] = float32(x)
	}
	return v
}

// NHWC converts n images from NCHW.
func NHWC(x []float32, n int, s graph.Shape) []float32 {
	out := make([]float32, len(x))
	pixels := s.H * s.W
	for i := range n {
		for c := range s.C {
			for p := range pixels {
				out[(i*pixels+p)*s.C+c] = x[(i*s.C+c)*pixels+p]
			}
		}
	}
	return out
}

// Run evaluates the graph as in inference on n images (NHWC) and returns the maps of the given nodes, or of the graph's output if none is
// given.
func Run(g *graph.Graph, params engine.Params, x []float32, n int, nodes ...*graph.Node) ([]*Map, error) {
	if len(x) != n*g.Input.Elements() {
		return nil, fmt.Errorf("reference: %d values are not %d images of %v", len(x), n, g.Input)
	}
	if len(nodes) == 0 {
		nodes = []*graph.Node{g.Output}
	}
	values := make([]*Map, len(g.Nodes))
	for _, node := range g.InferenceNodes(nodes...) {
		in := make([]*Map, len(node.Inputs))
		for i, operand := range node.Inputs {
			in[i] = values[operand.ID]
		}
		weights := make([][]float32, len(node.Params))
		for i, p := range node.Params {
			if p.Role == graph.NumBatchesTracked {
				continue
			}
			v, err := params.Param(p.Name)
			if err != nil {
				return nil, fmt.Errorf("reference: %w", err)
			}
			if len(v) != p.Elements() {
				return nil, fmt.Errorf("reference: parameter %s has %d values, want %d", p.Name, len(v), p.Elements())
			}
			weights[i] = v
		}
		out := newMap(n, node.Shape)
		if node.ID == 0 {
			for i, v := range x {
				out.Data[i] = float64(v)
			}
		} else if err := apply(node.Op, out, in, weights); err != nil {
			return nil, fmt.Errorf("reference: node %s: %w", node.Name, err)
		}
		values[node.ID] = out
	}
	result := make([]*Map, len(nodes))
	for i, node := range nodes {
		result[i] = values[node.ID]
	}
	return result, nil
}

func apply(op graph.Op, out *Map, in []*Map, w [][]float32) error {
	switch op := op.(type) {
	case graph.Conv2d:
		conv(op, out, in[0], w)
	case graph.Linear:
		linear(op, out, in[0], w)
	case graph.BatchNorm:
		weight, bias, mean, variance := w[0], w[1], w[2], w[3]
		eachPixel(out, func(y []float64, n, r, c int) {
			for i, x := range in[0].pixel(n, r, c) {
				y[i] = (x-float64(mean[i]))/math.Sqrt(float64(variance[i])+op.Eps)*float64(weight[i]) + float64(bias[i])
			}
		})
	case graph.LayerNorm:
		eachPixel(out, func(y []float64, n, r, c int) { layerNorm(y, in[0].pixel(n, r, c), w[0], w[1], op.Eps) })
	case graph.LocalResponseNorm:
		eachPixel(out, func(y []float64, n, r, c int) { responseNorm(op, y, in[0].pixel(n, r, c)) })
	case graph.MaxPool:
		pool(op.Window, out, in[0], func(y []float64, window [][]float64, _ int) {
			for i := range y {
				y[i] = math.Inf(-1)
				for _, x := range window {
					y[i] = max(y[i], x[i])
				}
			}
		})
	case graph.AvgPool:
		pool(op.Window, out, in[0], func(y []float64, window [][]float64, padded int) {
			count := len(window)
			if op.CountIncludePad {
				count = padded
			}
			mean(y, window, count)
		})
	case graph.AdaptiveAvgPool:
		adaptive(out, in[0])
	case graph.Activation:
		for i, x := range in[0].Data {
			out.Data[i] = activate(op.Function, x)
		}
	case graph.Add:
		for _, operand := range in {
			for i, x := range operand.Data {
				out.Data[i] += x
			}
		}
	case graph.Mul:
		factor := in[1]
		eachPixel(out, func(y []float64, n, r, c int) {
			f := factor.pixel(n, min(r, factor.H-1), min(c, factor.W-1))
			for i, x := range in[0].pixel(n, r, c) {
				y[i] = x * f[i]
			}
		})
	case graph.Concat:
		eachPixel(out, func(y []float64, n, r, c int) {
			for _, operand := range in {
				y = y[copy(y, operand.pixel(n, r, c)):]
			}
		})
	case graph.ChannelShuffle:
		eachPixel(out, func(y []float64, n, r, c int) {
			x, size := in[0].pixel(n, r, c), out.C/op.Groups
			for i := range y {
				y[i] = x[i%op.Groups*size+i/op.Groups]
			}
		})
	case graph.Slice:
		eachPixel(out, func(y []float64, n, r, c int) { copy(y, in[0].pixel(n, r, c)[op.From:op.To]) })
	case graph.Subsample:
		eachPixel(out, func(y []float64, n, r, c int) { copy(y[op.Before:], in[0].pixel(n, r*op.Stride, c*op.Stride)) })
	case graph.Dropout, graph.StochasticDepth:
		copy(out.Data, in[0].Data)
	case graph.Flatten:
		flatten(out, in[0])
	case graph.LayerScale:
		eachPixel(out, func(y []float64, n, r, c int) {
			for i, x := range in[0].pixel(n, r, c) {
				y[i] = x * float64(w[0][i])
			}
		})
	case graph.Affine:
		eachPixel(out, func(y []float64, n, r, c int) {
			for i, x := range in[0].pixel(n, r, c) {
				y[i] = x*float64(op.Scale[i]) + float64(op.Shift[i])
			}
		})
	case graph.Custom:
		custom(op, out, in, w)
	default:
		return fmt.Errorf("operator %s is unknown", op.Kind())
	}
	return nil
}

// eachPixel calls f for every pixel of a map, rows in parallel.
func eachPixel(m *Map, f func(y []float64, n, r, c int)) {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				row := int(next.Add(1)) - 1
				if row >= m.N*m.H {
					return
				}
				n, r := row/m.H, row%m.H
				for c := range m.W {
					f(m.pixel(n, r, c), n, r, c)
				}
			}
		})
	}
	wg.Wait()
}

// conv multiplies, for each tap inside the map, the input's channels with the tap's weights, laid out [group][tap][input][output].
func conv(op graph.Conv2d, out, in *Map, params [][]float32) {
	k := op.Kernel
	ci, co, area := op.In/op.Groups, op.Out/op.Groups, k.H*k.W
	weight := make([]float64, len(params[0]))
	for i, v := range params[0] { // OIHW
		o, c, tap := i/(ci*area), i/area%ci, i%area
		weight[((o/co*area+tap)*ci+c)*co+o%co] = float64(v)
	}
	pads := op.Pads(in.Shape)
	eachPixel(out, func(y []float64, n, r, c int) {
		if op.Bias {
			for i, v := range params[1] {
				y[i] = float64(v)
			}
		}
		for tap := range area {
			row := r*op.Stride.H + tap/k.W*op.Dilation.H - pads.Top
			col := c*op.Stride.W + tap%k.W*op.Dilation.W - pads.Left
			if row < 0 || row >= in.H || col < 0 || col >= in.W {
				continue
			}
			x := in.pixel(n, row, col)
			for g := range op.Groups {
				yg := y[g*co : (g+1)*co]
				for i, v := range x[g*ci : (g+1)*ci] {
					w := weight[((g*area+tap)*ci+i)*co:]
					for j := range yg {
						yg[j] += v * w[j]
					}
				}
			}
		}
	})
}

func linear(op graph.Linear, out, in *Map, params [][]float32) {
	dot := func(y, x []float64, from, to int) {
		for o := from; o < to; o++ {
			sum := 0.0
			if op.Bias {
				sum = float64(params[1][o])
			}
			for i, w := range params[0][o*op.In : (o+1)*op.In] {
				sum += x[i] * float64(w)
			}
			y[o] = sum
		}
	}
	if !in.IsVector() {
		eachPixel(out, func(y []float64, n, r, c int) { dot(y, in.pixel(n, r, c), 0, op.Out) })
		return
	}
	// Vectors have one row an image: share out the outputs instead.
	part := &Map{N: 1, Shape: graph.Shape{C: 0, H: op.Out, W: 1}}
	eachPixel(part, func(_ []float64, _, o, _ int) {
		for n := range out.N {
			dot(out.pixel(n, 0, 0), in.pixel(n, 0, 0), o, o+1)
		}
	})
}

func layerNorm(y, x []float64, weight, bias []float32, eps float64) {
	var mean, variance float64
	for _, v := range x {
		mean += v / float64(len(x))
	}
	for _, v := range x {
		variance += (v - mean) * (v - mean) / float64(len(x))
	}
	for i, v := range x {
		y[i] = (v-mean)/math.Sqrt(variance+eps)*float64(weight[i]) + float64(bias[i])
	}
}

// responseNorm takes Size/2 channels before and (Size-1)/2 after, as PyTorch does.
func responseNorm(op graph.LocalResponseNorm, y, x []float64) {
	for i, v := range x {
		sum := 0.0
		for j := max(0, i-op.Size/2); j <= min(len(x)-1, i+(op.Size-1)/2); j++ {
			sum += x[j] * x[j]
		}
		y[i] = v / math.Pow(op.K+op.Alpha/float64(op.Size)*sum, op.Beta)
	}
}

// pool calls reduce with the pixels of each window that are inside the map, and with their number when padding counts: a window may
// hang over the padding's end with ceil_mode, and that part never counts.
func pool(w graph.Window, out, in *Map, reduce func(y []float64, window [][]float64, padded int)) {
	pads := w.Pads(in.Shape)
	eachPixel(out, func(y []float64, n, r, c int) {
		var window [][]float64
		padded := 0
		for i := range w.Kernel.H {
			for j := range w.Kernel.W {
				row := r*w.Stride.H + i*w.Dilation.H - pads.Top
				col := c*w.Stride.W + j*w.Dilation.W - pads.Left
				if row < in.H+pads.Bottom && col < in.W+pads.Right {
					padded++
				}
				if row >= 0 && row < in.H && col >= 0 && col < in.W {
					window = append(window, in.pixel(n, row, col))
				}
			}
		}
		reduce(y, window, padded)
	})
}

func mean(y []float64, window [][]float64, count int) {
	for _, x := range window {
		for i, v := range x {
			y[i] += v / float64(count)
		}
	}
}

func adaptive(out, in *Map) {
	eachPixel(out, func(y []float64, n, r, c int) {
		var window [][]float64
		for row := r * in.H / out.H; row < ((r+1)*in.H+out.H-1)/out.H; row++ {
			for col := c * in.W / out.W; col < ((c+1)*in.W+out.W-1)/out.W; col++ {
				window = append(window, in.pixel(n, row, col))
			}
		}
		mean(y, window, len(window))
	})
}

func flatten(out, in *Map) {
	for n := range in.N {
		y := out.pixel(n, 0, 0)
		for r := range in.H {
			for c := range in.W {
				for i, v := range in.pixel(n, r, c) {
					y[(i*in.H+r)*in.W+c] = v
				}
			}
		}
	}
}

func activate(f graph.Function, x float64) float64 {
	switch f {
	case graph.ReLU:
		return max(x, 0)
	case graph.ReLU6:
		return min(max(x, 0), 6)
	case graph.HardSwish:
		return x * min(max(x+3, 0), 6) / 6
	case graph.HardSigmoid:
		return min(max(x+3, 0), 6) / 6
	case graph.SiLU:
		return x / (1 + math.Exp(-x))
	case graph.GELU:
		return x * (1 + math.Erf(x/math.Sqrt2)) / 2
	case graph.Sigmoid:
		return 1 / (1 + math.Exp(-x))
	case graph.Tanh:
		return math.Tanh(x)
	}
	return math.NaN()
}

// custom operators compute in float32.
func custom(op graph.Custom, out *Map, in []*Map, params [][]float32) {
	y := make([]float32, len(out.Data))
	x, shapes := make([][]float32, len(in)), make([]graph.Shape, len(in))
	for i, m := range in {
		x[i], shapes[i] = m.Float32(), m.Shape
	}
	op.Forward(y, x, params, shapes, out.N)
	for i, v := range y {
		out.Data[i] = float64(v)
	}
}
