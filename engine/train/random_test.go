package train_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/reference"
)

// mix is a family's own operator with a parameter: out = in[0]*p[0] + in[1].
type mix struct{}

func (mix) Kind() string                                { return "mix" }
func (mix) MACs([]graph.Shape, graph.Shape) int64       { return 0 }
func (mix) Infer(in []graph.Shape) (graph.Shape, error) { return in[0], nil }
func (mix) Forward(out []float32, in [][]float32, params [][]float32, _ []graph.Shape, _ int) {
	for i := range out {
		out[i] = in[0][i]*params[0][0] + in[1][i]
	}
}
func (mix) Backward(gradIn, gradParams [][]float32, gradOut []float32, in [][]float32, params [][]float32, _ []graph.Shape, _ int) {
	for i, g := range gradOut {
		if gradIn[0] != nil {
			gradIn[0][i] += g * params[0][0]
		}
		if gradIn[1] != nil {
			gradIn[1][i] += g
		}
		if gradParams[0] != nil {
			gradParams[0][0] += g * in[0][i]
		}
	}
}

// randomGraph builds a network of the given number of random layers. With apart each layer reads a copy of the one before, so that nothing is
// computed together with anything else, and no gradient lies where another was.
func randomGraph(r *rand.Rand, layers int, apart bool) (*graph.Graph, error) {
	side := 4 + r.IntN(7)
	b := graph.NewBuilder(graph.Shape{C: 3, H: side, W: side + r.IntN(4)}, 5)
	var modules []string
	module := func(name string) string {
		modules = append(modules, name)
		return name
	}
	part := func(x *graph.Node) *graph.Node {
		if apart {
			return b.Slice(x, 0, x.Shape.C)
		}
		return x
	}
	functions := []graph.Function{graph.ReLU, graph.ReLU6, graph.HardSwish, graph.HardSigmoid, graph.SiLU, graph.GELU, graph.Sigmoid, graph.Tanh}
	act := func(x *graph.Node) *graph.Node {
		if r.IntN(3) == 0 {
			return x
		}
		return part(b.Activation(x, functions[r.IntN(len(functions))]))
	}
	conv := func(name string, x *graph.Node, c graph.Conv) *graph.Node {
		c.Bias = r.IntN(2) == 0
		return part(b.Conv2d(module(name), x, c))
	}
	maps := []*graph.Node{b.Input()}
	for i := range layers {
		x := maps[len(maps)-1] // the newest is the likeliest operand, so that the network is deep
		if r.IntN(3) == 0 {
			x = maps[r.IntN(len(maps))]
		}
		name, c := fmt.Sprintf("l%d", i), x.Shape.C
		same := func() *graph.Node {
			var fit []*graph.Node
			for _, m := range maps {
				if m.Shape == x.Shape {
					fit = append(fit, m)
				}
			}
			return fit[r.IntN(len(fit))]
		}
		k := []int{1, 3}[r.IntN(2)]
		window := graph.Conv{Kernel: graph.Square(k), Pad: graph.Square(k / 2)}
		var y *graph.Node
		switch r.IntN(25) {
		case 0, 1:
			window.Out, window.Stride = 1+r.IntN(20), graph.Square(1+r.IntN(2))
			y = act(conv(name, x, window))
		case 2:
			g := 2 + r.IntN(2)
			if c%g != 0 {
				continue
			}
			window.Out, window.Groups = g*(1+r.IntN(4)), g
			y = act(conv(name, x, window))
		case 3:
			if c == 1 {
				continue
			}
			window.Out, window.Groups = c, c
			y = act(conv(name, x, window))
		case 4, 5:
			y = act(part(b.BatchNorm(module(name), x)))
		case 6, 7: // the end of a residual block
			window.Out = c
			y = part(b.BatchNorm(module(name+"n"), conv(name, x, window)))
			if r.IntN(2) == 0 {
				y = b.Add(y, same())
			} else {
				y = b.Add(same(), y)
			}
			y = act(part(y))
		case 8: // a fire module
			f := functions[r.IntN(2)]
			window.Out = 1 + r.IntN(9)
			left := part(b.Activation(conv(name+"a", x, window), f))
			window.Out = 1 + r.IntN(9)
			y = part(b.Concat(left, part(b.Activation(conv(name+"b", same(), window), f))))
		case 9:
			y = act(part(b.Concat(x, same())))
		case 10:
			y = act(part(b.Add(x, same())))
		case 11:
			y = act(part(b.Add(x, same(), same())))
		case 12:
			y = part(b.Mul(x, same()))
		case 13:
			s := part(b.Activation(conv(name, part(b.GlobalAvgPool(x)), graph.Conv{Kernel: graph.Square(1), Out: c}), graph.Sigmoid))
			y = part(b.Mul(x, s))
		case 14:
			y = part(b.LayerNorm(module(name), x))
		case 15:
			k := graph.HW(1+r.IntN(min(3, x.Shape.H)), 1+r.IntN(min(3, x.Shape.W)))
			p := graph.Pool{Kernel: k, Stride: graph.HW(1+r.IntN(2), 1+r.IntN(3)), Pad: graph.HW(r.IntN(k.H/2+1), r.IntN(k.W/2+1)), Same: r.IntN(4) == 0,
				Ceil: r.IntN(2) == 0, ExcludePad: r.IntN(2) == 0}
			if y = b.AvgPool(x, p); r.IntN(2) == 0 {
				y = b.MaxPool(x, p)
			}
			y = part(y)
		case 16:
			y = part(b.LayerScale(module(name), part(b.LocalResponseNorm(x, graph.LocalResponseNorm{Size: 3, Alpha: 0.1, Beta: 0.75, K: 1})), 0.5))
		case 17:
			from := r.IntN(c)
			y = part(b.Slice(x, from, from+1+r.IntN(c-from)))
		case 18:
			if y = b.Dropout(x, 0.3); r.IntN(2) == 0 {
				y = b.Add(part(y), part(b.StochasticDepth(same(), 0.3)))
			}
			y = part(y)
		case 19, 20: // a window that no network there is has
			window = graph.Conv{Out: 1 + r.IntN(20), Kernel: graph.HW(1+r.IntN(min(5, x.Shape.H)), 1+r.IntN(min(5, x.Shape.W))), Pad: graph.HW(r.IntN(3), r.IntN(3)), Same: r.IntN(3) == 0}
			if d := graph.HW(1+r.IntN(3), 1+r.IntN(3)); r.IntN(2) == 0 {
				window.Stride = d
			} else if (window.Kernel.H-1)*d.H < x.Shape.H && (window.Kernel.W-1)*d.W < x.Shape.W {
				window.Dilation = d
			}
			if g := []int{1, 2, c}[r.IntN(3)]; c%g == 0 && r.IntN(2) == 0 {
				window.Groups, window.Out = g, c*(1+r.IntN(2))
			}
			y = act(conv(name, x, window))
		case 21: // a vector, and what it scales
			if x.Shape.Elements() > 200 {
				continue
			}
			v := part(b.Linear(module(name), part(b.Flatten(x)), graph.Fc{Out: c, NoBias: r.IntN(2) == 0}))
			maps = append(maps, v)
			y = part(b.Mul(x, v))
		case 22:
			y = part(b.AdaptiveAvgPool(x, graph.HW(1+r.IntN(4), 1+r.IntN(4))))
		case 23:
			if y = b.Subsample(x, 1+r.IntN(2), r.IntN(3), r.IntN(3)); c%2 == 0 && r.IntN(2) == 0 {
				y = b.ChannelShuffle(x, 2)
			}
			y = act(part(y))
		default:
			y = part(b.Custom(module(name), mix{}, []graph.CustomParam{{Name: "weight", Shape: []int{1}, Init: graph.Constant(0.5)}}, x, same()))
		}
		if y.Shape.C <= 48 {
			maps = append(maps, y)
		}
	}
	x := maps[len(maps)-1]
	b.Features(x)
	if other := maps[r.IntN(len(maps))]; r.IntN(3) == 0 {
		b.Aux("aux", b.Linear(module("aux"), b.GlobalAvgPool(other), graph.Fc{Out: 5}), 0.4)
		b.Classifier("aux")
	}
	b.Classifier(module("fc"))
	x = b.Linear("fc", b.Flatten(x), graph.Fc{Out: 5})
	b.Group("all", modules...)
	return b.Finish(x)
}

// TestRandomNetworksDiffer compares networks whose layers are computed together where they can be, and whose gradients overwrite each other,
// with the same layers apart; and their logits in evaluation mode with a plain evaluation of the graph. Each layer by itself is
// compared with finite differences above.
func TestRandomNetworksDiffer(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	networks := 200
	if testing.Short() {
		networks = 40
	}
	const n = 3
	for seed := range uint64(networks) {
		var trainers [2]*train.Trainer
		var results [2]train.Result
		for i := range trainers {
			r := rand.New(rand.NewPCG(seed, 2))
			g, err := randomGraph(r, 1+int(seed)%20, i == 1)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			params := randomParams(rand.New(rand.NewPCG(seed, 3)), g)
			r = rand.New(rand.NewPCG(seed, 4))
			live := map[*graph.Param]bool{}
			first := r.IntN(len(g.Params)) // of what is trained, where that is the end of the network
			for i, p := range g.Params {
				live[p] = seed%3 == 0 || seed%3 == 1 && i >= first || seed%3 == 2 && r.IntN(2) == 0 || p.Name == "fc.bias"
			}
			tr, err := train.New(g, params, train.Options{Pool: p, Precision: engine.Highest, Seed: 7, Trainable: func(p *graph.Param) bool { return live[p] }})
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			images, labels := randomBatch(seed, n, g.Classes, g.Input)
			logits, err := tr.Evaluate(context.Background(), images, n)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			want, err := reference.Run(g, params, images, n)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			if d := distance(logits, want[0].Float32()); !(d < 1e-4) {
				t.Errorf("seed %d: logits in evaluation mode differ by %g", seed, d)
			}
			for range 2 { // the second adds to the gradient of the first
				results[i] = accumulate(t, tr, images, labels, 1)
			}
			trainers[i] = tr
		}
		if d := distance(results[0].Logits, results[1].Logits); !(d < 1e-3) {
			t.Errorf("seed %d: logits differ by %g", seed, d)
		}
		for i, p := range trainers[0].All() {
			q := trainers[1].All()[i]
			if d := distance(p.Gradient(), q.Gradient()); !(d < 1e-3) {
				t.Errorf("seed %d: the gradient of %s differs by %g", seed, p.Name(), d)
			}
			if d := distance(p.Values(), q.Values()); !(d < 1e-5) { // statistics among them
				t.Errorf("seed %d: %s differs by %g", seed, p.Name(), d)
			}
		}
	}
}
