package infer

import (
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
)

// tensor is a batch of maps in float64, NHWC: the plain meaning of a node.
type tensor struct {
	n    int
	s    graph.Shape
	data []float64
}

func newTensor(n int, s graph.Shape) *tensor {
	return &tensor{n, s, make([]float64, n*s.Elements())}
}

func (t *tensor) at(n, y, x, c int) *float64 {
	return &t.data[((n*t.s.H+y)*t.s.W+x)*t.s.C+c]
}

// each sets every value to f of its position.
func (t *tensor) each(f func(n, y, x, c int) float64) *tensor {
	i := 0
	for n := range t.n {
		for y := range t.s.H {
			for x := range t.s.W {
				for c := range t.s.C {
					t.data[i] = f(n, y, x, c)
					i++
				}
			}
		}
	}
	return t
}

// reference evaluates a graph node by node in float64.
func reference(g *graph.Graph, params engine.ParamMap, in []float32, n int) map[*graph.Node]*tensor {
	of := map[*graph.Node]*tensor{}
	for _, node := range g.Nodes {
		args := make([]*tensor, len(node.Inputs))
		for i, x := range node.Inputs {
			args[i] = of[x]
		}
		if _, ok := node.Op.(graph.InputOp); ok {
			t := newTensor(n, g.Input)
			for i, v := range in {
				t.data[i] = float64(v)
			}
			of[node] = t
			continue
		}
		of[node] = evaluate(node, args, params, n)
	}
	return of
}

func evaluate(node *graph.Node, in []*tensor, params engine.ParamMap, n int) *tensor {
	param := func(role graph.Role) []float32 {
		if p := node.Param(role); p != nil {
			return params[p.Name]
		}
		return nil
	}
	x, out := in[0], newTensor(n, node.Shape)
	weight, bias := param(graph.Weight), param(graph.Bias)
	window := func(w graph.Window, n, oy, ox int, f func(y, x, ky, kx int)) {
		p := w.Pads(x.s)
		for ky := range w.Kernel.H {
			for kx := range w.Kernel.W {
				y, xx := oy*w.Stride.H-p.Top+ky*w.Dilation.H, ox*w.Stride.W-p.Left+kx*w.Dilation.W
				if y >= 0 && y < x.s.H && xx >= 0 && xx < x.s.W {
					f(y, xx, ky, kx)
				}
			}
		}
	}
	switch op := node.Op.(type) {
	case graph.Conv2d:
		per, perOut := op.In/op.Groups, op.Out/op.Groups
		return out.each(func(n, oy, ox, k int) float64 {
			sum := 0.0
			window(op.Window, n, oy, ox, func(y, xx, ky, kx int) {
				for c := range per {
					sum += *x.at(n, y, xx, k/perOut*per+c) * float64(weight[((k*per+c)*op.Kernel.H+ky)*op.Kernel.W+kx])
				}
			})
			if op.Bias {
				sum += float64(bias[k])
			}
			return sum
		})
	case graph.Linear:
		return out.each(func(n, y, xx, k int) float64 {
			sum := 0.0
			for c := range op.In {
				sum += *x.at(n, y, xx, c) * float64(weight[k*op.In+c])
			}
			if op.Bias {
				sum += float64(bias[k])
			}
			return sum
		})
	case graph.BatchNorm:
		mean, variance := param(graph.RunningMean), param(graph.RunningVar)
		return out.each(func(n, y, xx, c int) float64 {
			return (*x.at(n, y, xx, c)-float64(mean[c]))/math.Sqrt(float64(variance[c])+op.Eps)*float64(weight[c]) + float64(bias[c])
		})
	case graph.LayerNorm:
		return out.each(func(n, y, xx, c int) float64 {
			mean, variance := 0.0, 0.0
			for i := range x.s.C {
				mean += *x.at(n, y, xx, i) / float64(x.s.C)
			}
			for i := range x.s.C {
				d := *x.at(n, y, xx, i) - mean
				variance += d * d / float64(x.s.C)
			}
			return (*x.at(n, y, xx, c)-mean)/math.Sqrt(variance+op.Eps)*float64(weight[c]) + float64(bias[c])
		})
	case graph.LocalResponseNorm:
		return out.each(func(n, y, xx, c int) float64 {
			sum := 0.0
			for i := max(0, c-op.Size/2); i <= min(x.s.C-1, c+(op.Size-1)/2); i++ {
				sum += *x.at(n, y, xx, i) * *x.at(n, y, xx, i)
			}
			return *x.at(n, y, xx, c) / math.Pow(op.K+op.Alpha/float64(op.Size)*sum, op.Beta)
		})
	case graph.MaxPool:
		return out.each(func(n, oy, ox, c int) float64 {
			m := math.Inf(-1)
			window(op.Window, n, oy, ox, func(y, xx, _, _ int) { m = math.Max(m, *x.at(n, y, xx, c)) })
			return m
		})
	case graph.AvgPool:
		p := op.Pads(x.s)
		return out.each(func(n, oy, ox, c int) float64 {
			sum, count := 0.0, 0
			window(op.Window, n, oy, ox, func(y, xx, _, _ int) { sum += *x.at(n, y, xx, c); count++ })
			if op.CountIncludePad {
				y0, x0 := oy*op.Stride.H-p.Top, ox*op.Stride.W-p.Left
				count = (min(y0+op.Kernel.H, x.s.H+p.Bottom) - y0) * (min(x0+op.Kernel.W, x.s.W+p.Right) - x0)
			}
			return sum / float64(count)
		})
	case graph.AdaptiveAvgPool:
		bin := func(i, in, out int) (int, int) { return i * in / out, ((i+1)*in + out - 1) / out }
		return out.each(func(n, oy, ox, c int) float64 {
			y0, y1 := bin(oy, x.s.H, op.Out.H)
			x0, x1 := bin(ox, x.s.W, op.Out.W)
			sum := 0.0
			for y := y0; y < y1; y++ {
				for xx := x0; xx < x1; xx++ {
					sum += *x.at(n, y, xx, c)
				}
			}
			return sum / float64((y1-y0)*(x1-x0))
		})
	case graph.Activation:
		return out.each(func(n, y, xx, c int) float64 { return activate(op.Function, *x.at(n, y, xx, c)) })
	case graph.Add:
		return out.each(func(n, y, xx, c int) float64 {
			sum := 0.0
			for _, v := range in {
				sum += *v.at(n, y, xx, c)
			}
			return sum
		})
	case graph.Mul:
		return out.each(func(n, y, xx, c int) float64 {
			if in[1].s.IsVector() {
				return *x.at(n, y, xx, c) * *in[1].at(n, 0, 0, c)
			}
			return *x.at(n, y, xx, c) * *in[1].at(n, y, xx, c)
		})
	case graph.Concat:
		return out.each(func(n, y, xx, c int) float64 {
			for _, v := range in {
				if c < v.s.C {
					return *v.at(n, y, xx, c)
				}
				c -= v.s.C
			}
			panic("channel beyond the concatenation")
		})
	case graph.ChannelShuffle:
		per := x.s.C / op.Groups
		return out.each(func(n, y, xx, c int) float64 { return *x.at(n, y, xx, c%op.Groups*per+c/op.Groups) })
	case graph.Slice:
		return out.each(func(n, y, xx, c int) float64 { return *x.at(n, y, xx, op.From+c) })
	case graph.Subsample:
		return out.each(func(n, y, xx, c int) float64 {
			if c < op.Before || c >= op.Before+x.s.C {
				return 0
			}
			return *x.at(n, y*op.Stride, xx*op.Stride, c-op.Before)
		})
	case graph.Dropout, graph.StochasticDepth:
		return x
	case graph.Flatten:
		return out.each(func(n, _, _, i int) float64 {
			return *x.at(n, i/x.s.W%x.s.H, i%x.s.W, i/(x.s.H*x.s.W))
		})
	case graph.LayerScale:
		scale := param(graph.Scale)
		return out.each(func(n, y, xx, c int) float64 { return *x.at(n, y, xx, c) * float64(scale[c]) })
	case graph.Affine:
		return out.each(func(n, y, xx, c int) float64 { return *x.at(n, y, xx, c)*float64(op.Scale[c]) + float64(op.Shift[c]) })
	case graph.Custom:
		args := make([][]float32, len(in))
		for i, v := range in {
			args[i] = make([]float32, len(v.data))
			for j, f := range v.data {
				args[i][j] = float32(f)
			}
		}
		var ps [][]float32
		for _, p := range node.Params {
			ps = append(ps, params[p.Name])
		}
		result := make([]float32, len(out.data))
		op.Forward(result, args, ps, node.InputShapes(), n)
		for i, v := range result {
			out.data[i] = float64(v)
		}
		return out
	}
	panic(fmt.Sprintf("no reference for %s", node.Op.Kind()))
}

func activate(f graph.Function, x float64) float64 {
	clamp := func(v float64) float64 { return math.Min(math.Max(v, 0), 6) }
	sigmoid := 1 / (1 + math.Exp(-x))
	switch f {
	case graph.ReLU:
		return math.Max(x, 0)
	case graph.ReLU6:
		return clamp(x)
	case graph.HardSwish:
		return x * clamp(x+3) / 6
	case graph.HardSigmoid:
		return clamp(x+3) / 6
	case graph.SiLU:
		return x * sigmoid
	case graph.GELU:
		return x * (1 + math.Erf(x/math.Sqrt2)) / 2
	case graph.Sigmoid:
		return sigmoid
	case graph.Tanh:
		return math.Tanh(x)
	}
	panic(f)
}
