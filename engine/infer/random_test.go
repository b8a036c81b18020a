package infer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/reference"
)

// double is a family's own operator with a parameter: out = in[0]*p[0] + in[1].
type double struct{}

func (double) Kind() string                                { return "double" }
func (double) MACs([]graph.Shape, graph.Shape) int64       { return 0 }
func (double) Infer(in []graph.Shape) (graph.Shape, error) { return in[0], nil }
func (double) Backward(_, _ [][]float32, _ []float32, _ [][]float32, _ [][]float32, _ []graph.Shape, _ int) {
}
func (double) Forward(out []float32, in [][]float32, params [][]float32, _ []graph.Shape, _ int) {
	for i := range out {
		out[i] = in[0][i]*params[0][0] + in[1][i]
	}
}

// randomGraph builds a network of the given number of random layers that uses every operator.
func randomGraph(r *rand.Rand, layers int) (*graph.Graph, error) {
	side := 3 + r.IntN(10)
	if layers < 10 {
		side += 10 // maps with borders: those of small ones would be too much of them
	}
	b := graph.NewBuilder(graph.Shape{C: 3, H: side, W: side + r.IntN(4)}, 7)
	pick := func(list []*graph.Node, ok func(*graph.Node) bool) *graph.Node {
		var fit []*graph.Node
		for _, n := range list {
			if ok(n) {
				fit = append(fit, n)
			}
		}
		if len(fit) == 0 {
			return nil
		}
		return fit[r.IntN(len(fit))]
	}
	maps := []*graph.Node{b.Input()}
	any := func(*graph.Node) bool { return true }
	functions := []graph.Function{graph.ReLU, graph.ReLU6, graph.HardSwish, graph.HardSigmoid, graph.SiLU, graph.GELU, graph.Sigmoid, graph.Tanh}
	norm := func(name string, x *graph.Node) *graph.Node {
		if r.IntN(2) == 0 {
			x = b.BatchNorm(name+"bn", x)
		}
		if r.IntN(2) == 0 {
			x = b.Activation(x, functions[r.IntN(len(functions))])
		}
		return x
	}
	for i := range layers {
		// The newest maps are the likeliest operands, so that the network is deep.
		x := maps[len(maps)-1]
		if r.IntN(3) == 0 {
			x = pick(maps, any)
		}
		name := fmt.Sprintf("l%d", i)
		c, small := x.Shape.C, min(x.Shape.H, x.Shape.W)
		same := func() *graph.Node {
			return pick(maps, func(n *graph.Node) bool { return n.Shape == x.Shape })
		}
		var y *graph.Node
		switch op := r.IntN(36); {
		case op < 5:
			k := 1 + r.IntN(min(3, small))
			conv := graph.Conv{Out: 1 + r.IntN(40), Kernel: graph.Square(k), Stride: graph.Square(1 + r.IntN(2)), Pad: graph.Square(k / 2), Bias: r.IntN(2) == 0, Same: r.IntN(4) == 0}
			if g := 1 + r.IntN(3); c%g == 0 {
				conv.Groups = g
				conv.Out *= g
			}
			y = norm(name, b.Conv2d(name, x, conv))
		case op < 7:
			k := []int{3, 5, 7}[r.IntN(3)]
			if r.IntN(2) == 0 { // a map that nothing else reads
				c = 2 + r.IntN(30)
				x = norm(name+"c", b.Conv2d(name+"c", x, graph.Conv{Out: c}))
			}
			if c == 1 {
				continue
			}
			y = norm(name, b.Conv2d(name, x, graph.Conv{Out: c, Groups: c, Kernel: graph.Square(k), Stride: graph.Square(1 + r.IntN(2)), Pad: graph.Square(k / 2), Bias: r.IntN(2) == 0}))
		case op == 7:
			y = b.BatchNorm(name, x)
		case op == 8:
			y = b.LayerNorm(name, x)
		case op == 9:
			y = b.LocalResponseNorm(x, graph.LocalResponseNorm{Size: 1 + r.IntN(5), Alpha: 0.1, Beta: 0.75, K: 1})
		case op == 10 || op == 11:
			k := 1 + r.IntN(min(3, small))
			p := graph.Pool{Kernel: graph.Square(k), Stride: graph.Square(1 + r.IntN(2)), Pad: graph.Square(r.IntN(k/2 + 1)), Ceil: r.IntN(2) == 0, ExcludePad: r.IntN(2) == 0}
			if op == 10 {
				y = b.MaxPool(x, p)
			} else {
				y = b.AvgPool(x, p)
			}
		case op == 12:
			y = b.AdaptiveAvgPool(x, graph.HW(1+r.IntN(4), 1+r.IntN(4)))
		case op == 13:
			y = b.Activation(x, functions[r.IntN(len(functions))])
		case op < 17:
			y = b.Add(x, same())
			if r.IntN(4) == 0 {
				y = b.Add(x, same(), same())
			}
			if r.IntN(2) == 0 {
				y = b.ReLU(y)
			}
		case op == 17:
			s := b.GlobalAvgPool(x)
			s = b.Activation(b.Conv2d(name, s, graph.Conv{Out: c, Bias: true}), graph.Sigmoid)
			y = b.Mul(x, s)
		case op == 18:
			y = b.Mul(x, same())
		case op < 21:
			z := pick(maps, func(n *graph.Node) bool { return n.Shape.H == x.Shape.H && n.Shape.W == x.Shape.W && n.Shape.C+c < 100 })
			if z == nil {
				continue
			}
			y = b.Concat(z, x)
			if r.IntN(2) == 0 {
				y = b.Concat(x, z, x)
			}
			if r.IntN(2) == 0 {
				y = b.ReLU(y)
			}
		case op == 21:
			g := 1 + r.IntN(4)
			if c%g != 0 {
				continue
			}
			y = b.ChannelShuffle(x, g)
			if z := same(); r.IntN(2) == 0 {
				y = b.ChannelShuffle(b.Concat(x, z), 2)
			} else if z = pick(maps, func(n *graph.Node) bool {
				return n.Shape.H == x.Shape.H && n.Shape.W == x.Shape.W && (n.Shape.C+c)%2 == 0
			}); z.Shape.C+c < 100 {
				y = b.ChannelShuffle([]*graph.Node{b.Concat(x, z), b.Concat(x, z, x, z)}[r.IntN(2)], 2)
			}
		case op == 22:
			from := r.IntN(c)
			y = b.Slice(x, from, from+1+r.IntN(c-from))
		case op == 23:
			y = b.Subsample(x, 1+r.IntN(2), r.IntN(3), r.IntN(3))
		case op == 24:
			y = b.LayerScale(name, b.Linear(name+"fc", x, graph.Fc{Out: 1 + r.IntN(30)}), 0.5)
		case op == 25: // the pooling branch of an Inception block
			y = b.AvgPool(x, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(1), Pad: graph.Square(1), ExcludePad: r.IntN(2) == 0})
			if r.IntN(4) == 0 {
				maps = append(maps, y)
			}
			if r.IntN(4) == 0 {
				y = b.BatchNorm(name+"cbn", y)
			}
			y = norm(name, b.Conv2d(name, y, graph.Conv{Out: 1 + r.IntN(c), Bias: r.IntN(4) == 0}))
		case op == 26: // the first block of a ResNet's stage
			stride, out := graph.Square(1+r.IntN(2)), 1+r.IntN(60)
			y = norm(name, b.Conv2d(name, x, graph.Conv{Out: 1 + r.IntN(40), Kernel: graph.Square(3), Stride: stride, Pad: graph.Square(1)}))
			y = b.BatchNorm(name+"cbn", b.Conv2d(name+"c", y, graph.Conv{Out: out}))
			y = b.ReLU(b.Add(y, b.Conv2d(name+"d", x, graph.Conv{Out: out, Stride: stride, Bias: r.IntN(2) == 0})))
		case op == 27 || op == 28: // a window that no network there is has
			conv := graph.Conv{Out: 1 + r.IntN(40), Kernel: graph.HW(1+r.IntN(x.Shape.H), 1+r.IntN(x.Shape.W)), Stride: graph.HW(1+r.IntN(3), 1+r.IntN(3)), Pad: graph.HW(r.IntN(4), r.IntN(4)),
				Dilation: graph.HW(1+r.IntN(3), 1+r.IntN(3)), Bias: r.IntN(2) == 0, Same: r.IntN(4) == 0}
			if reach := graph.HW((conv.Kernel.H-1)*conv.Dilation.H, (conv.Kernel.W-1)*conv.Dilation.W); reach.H >= x.Shape.H || reach.W >= x.Shape.W {
				conv.Dilation = graph.Square(1)
			}
			if g := []int{1, 2, 4, 8, 16, c}[r.IntN(6)]; c%g == 0 && c > 1 {
				conv.Groups, conv.Out = g, c
			}
			y = norm(name, b.Conv2d(name, x, conv))
		case op == 30: // a transition of a DenseNet, and what looks like one
			k := []int{1, 1, 1, min(3, small)}[r.IntN(4)]
			y = b.Conv2d(name, x, graph.Conv{Out: 1 + r.IntN(2*c), Kernel: graph.Square(k), Stride: graph.Square(1 + r.IntN(4)/3), Pad: graph.Square(r.IntN(4) / 3), Bias: r.IntN(2) == 0})
			if min(y.Shape.H, y.Shape.W) > 1 {
				y = b.AvgPool(y, graph.Pool{Kernel: graph.Square(2), Stride: graph.Square(2), Pad: graph.Square(r.IntN(4) / 3), Ceil: r.IntN(4) == 0, ExcludePad: r.IntN(2) == 0})
			}
		case op == 31: // an activation behind the pooling
			k := 1 + r.IntN(min(3, small))
			y = b.MaxPool(b.BatchNorm(name+"bn", b.Conv2d(name, x, graph.Conv{Out: 1 + r.IntN(40)})), graph.Pool{Kernel: graph.Square(k), Stride: graph.Square(1 + r.IntN(2)), Pad: graph.Square(r.IntN(k/2 + 1))})
			y = b.Activation(y, functions[r.IntN(len(functions))])
		case op == 32: // a dense block
			all := []*graph.Node{x}
			for _, layer := range []string{name, name + "c", name + "d"} {
				all = append(all, b.Conv2d(layer, b.Concat(all...), graph.Conv{Out: 1 + r.IntN(8)}))
			}
			y = b.Concat(all...)
		case op == 33: // a pool with gaps
			k := graph.HW(1+r.IntN((x.Shape.H+1)/2), 1+r.IntN((x.Shape.W+1)/2))
			y = b.MaxPool(x, graph.Pool{Kernel: k, Stride: graph.Square(1 + r.IntN(2)), Dilation: graph.Square(2)})
		case op == 34: // a vector, and windows on it
			if x.Shape.Elements() > 300 {
				continue
			}
			if y = b.Flatten(x); r.IntN(2) == 0 {
				k := 1 + 2*r.IntN(2)
				y = norm(name, b.Conv2d(name, y, graph.Conv{Out: 1 + r.IntN(40), Kernel: graph.Square(k), Pad: graph.Square(k/2 + r.IntN(2)), Stride: graph.Square(1 + r.IntN(2))}))
			}
		case op == 35: // a vector of any map scales any other, or a map itself
			z := pick(maps, func(n *graph.Node) bool { return n.Shape == graph.Shape{C: c, H: 1, W: 1} || n.Shape == x.Shape })
			y = norm(name, b.Mul(x, z))
			if z = same(); r.IntN(2) == 0 {
				y = b.Add(y, x, y, z)
			}
		default:
			y = b.Custom(name, double{}, []graph.CustomParam{{Name: "weight", Shape: []int{1}, Init: graph.Constant(0.5)}}, x, same())
		}
		if y.Shape.C > 128 {
			continue
		}
		maps = append(maps, b.Dropout(y, 0.1))
	}
	x := maps[len(maps)-1]
	b.Tap("first", maps[len(maps)/2])
	b.Tap("second", x)
	b.Features(x)
	if r.IntN(2) == 0 {
		x = b.Affine(x, constants(r, x.Shape.C), constants(r, x.Shape.C))
	}
	x = b.Flatten(x)
	modules := []string{"fc"}
	if x.Shape.C <= 256 && r.IntN(2) == 0 { // what else may read a flattened map
		modules = append(modules, "hidden", "hiddenbn")
		x = b.Add(x, b.Linear("hidden", x, graph.Fc{Out: x.Shape.C}))
		if r.IntN(2) == 0 {
			x = b.BatchNorm("hiddenbn", x)
		}
	} else if r.IntN(2) == 0 {
		modules = append(modules, "hiddenbn")
		x = b.BatchNorm("hiddenbn", x)
	}
	x = b.Linear("fc", x, graph.Fc{Out: 7})
	b.Classifier("fc")
	for i := range layers {
		modules = append(modules, fmt.Sprintf("l%d", i), fmt.Sprintf("l%dbn", i), fmt.Sprintf("l%dfc", i), fmt.Sprintf("l%dc", i), fmt.Sprintf("l%dcbn", i), fmt.Sprintf("l%dd", i))
	}
	b.Group("all", modules...)
	return b.Finish(x)
}

func constants(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = 0.5 + r.Float32()
	}
	return v
}

// randomParams fills parameters so that values keep their size from layer to layer.
func randomParams(r *rand.Rand, g *graph.Graph) engine.ParamMap {
	params := engine.ParamMap(g.Initialise(r.Uint64()))
	for _, p := range g.Params {
		for i := range params[p.Name] {
			switch p.Role {
			case graph.Bias, graph.RunningMean:
				params[p.Name][i] = r.Float32() - 0.5
			case graph.RunningVar, graph.Scale:
				params[p.Name][i] = 0.5 + r.Float32()
			}
		}
	}
	return params
}

func tiers() []cpu.Tier {
	var list []cpu.Tier
	for t := cpu.Generic; t <= cpu.Best(); t++ {
		list = append(list, t)
	}
	return list
}

// TestRandomNetworksAgreeWithReference compares every output of plans for random networks with a plain evaluation of the graph.
func TestRandomNetworksAgreeWithReference(t *testing.T) {
	pools := []*work.Pool{work.New(3), work.New(2)} // so that batches of 2, 3 and 4 images are divided into shards, and others are not
	for _, pool := range pools {
		defer pool.Close()
	}
	networks := 150
	if testing.Short() {
		networks = 30
	}
	for seed := range uint64(networks) {
		r := rand.New(rand.NewPCG(seed, 1))
		g, err := randomGraph(r, 1+int(seed)%25)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		params := randomParams(r, g)
		n := 1 + r.IntN(4)
		in := make([]float32, n*g.Input.Elements())
		for i := range in {
			in[i] = 4*r.Float32() - 2
		}
		want, err := reference.Run(g, params, in, n, g.Output, g.Features, g.Features, g.Taps[0].Node, g.Taps[1].Node)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, tier := range tiers() {
			for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
				checkNetwork(t, fmt.Sprintf("seed %d, %v, %v", seed, tier, precision), g, params, in, n, want, tier, precision, pools[seed%2])
			}
		}
		if t.Failed() {
			return
		}
	}
}

// TestOddWindows has convolutions that no network there is has, and that an import or a family of one's own may have.
func TestOddWindows(t *testing.T) {
	for name, add := range map[string]func(*graph.Builder, *graph.Node) *graph.Node{
		"depthwise, first and last windows in the padding alone": func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Conv2d("odd", x, graph.Conv{Out: 8, Groups: 8, Stride: graph.Square(4), Pad: graph.Square(7)})
		},
		"dense, first and last windows in the padding alone": func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Conv2d("odd", x, graph.Conv{Out: 9, Kernel: graph.Square(3), Pad: graph.Square(7)})
		},
		"a kernel as large as the map, dilated across its one column": func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Conv2d("odd", b.AdaptiveAvgPool(x, graph.HW(3, 1)), graph.Conv{Out: 9, Kernel: graph.HW(3, 1), Dilation: graph.HW(1, 2)})
		},
	} {
		b := graph.NewBuilder(graph.Shape{C: 3, H: 24, W: 13}, 7)
		x := b.Tap("first", b.ReLU(b.Conv2d("stem", b.Conv2d("root", b.Input(), graph.Conv{Out: 8}), graph.Conv{Out: 8})))
		x = b.Tap("second", b.Conv2d("last", add(b, x), graph.Conv{Out: 5, Bias: true}))
		b.Classifier("fc")
		b.Group("all", "root", "stem", "odd", "last", "fc")
		g, err := b.Finish(b.Linear("fc", b.Flatten(b.Features(x)), graph.Fc{Out: 7}))
		if err != nil {
			t.Fatal(err)
		}
		r := rand.New(rand.NewPCG(4, 4))
		params := randomParams(r, g)
		for _, threads := range []int{1, 3} {
			pool := work.New(threads)
			in := images(5, 1, g.Input.H, g.Input.W).Data
			want, err := reference.Run(g, params, in, 1, g.Output, g.Features, g.Features, g.Taps[0].Node, g.Taps[1].Node)
			if err != nil {
				t.Fatal(err)
			}
			for _, tier := range tiers() {
				for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
					checkNetwork(t, fmt.Sprintf("%s: %d threads, %v, %v", name, threads, tier, precision), g, params, in, 1, want, tier, precision, pool)
				}
			}
			pool.Close()
		}
	}
}

func checkNetwork(t *testing.T, what string, g *graph.Graph, params engine.ParamMap, in []float32, n int, want []*reference.Map, tier cpu.Tier, precision engine.Precision, pool *work.Pool) {
	t.Helper()
	m, err := New(func(graph.Shape) (*graph.Graph, error) { return g, nil }, params,
		Options{Precision: precision, Tier: &tier, Pool: pool, Outputs: []string{graph.LogitsOutput, graph.FeaturesOutput, graph.EmbeddingOutput, "first", "second"}})
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	m.guard = 128
	if n%2 == 1 {
		m.grain = 64 // so that small maps are divided, too
	}
	m.groups = groupLimits{maps: 4 << 10, shard: 4 << 10, reach: 1 << 10, weights: 64 << 10, light: 1 << 10, pixels: 4 << n}
	if n != 2 { // chain whatever can be chained, in bands of few rows
		all := size{band: 1 << (10 + 2*n), weights: 1 << 30}
		m.chains = chainLimits{light: all, dense: all, strips: all.band, most: 1 << 30, seam: 1000, pixels: 1, ops: 1 + 4*n}
	}
	m.check = func(x *pass) {
		x.eachGuard(func(b []byte) {
			if b[0] != canary {
				t.Errorf("%s: a kernel wrote behind its buffer", what)
			}
		})
	}
	tolerance := map[engine.Precision]float64{engine.Highest: 2e-5, engine.High: 2e-4, engine.Medium: 0.15}[precision]
	var out []Output
	for run := range 2 { // the second run finds the buffers full
		if out, err = m.RunInto(context.Background(), Input{in, n, g.Input.H, g.Input.W, g.Input.C}, out); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		for i, o := range out {
			w := want[i].Data
			if o.Name == graph.EmbeddingOutput {
				w = mean(want[i])
			}
			if e := distance(o.Data, w); !(e <= tolerance) {
				t.Errorf("%s, run %d: %s of %v: relative error %.3g", what, run, o.Name, o.Shape, e)
			}
		}
	}
}

// mean averages each image over its pixels.
func mean(x *reference.Map) []float64 {
	out := make([]float64, x.N*x.C)
	pixels := x.H * x.W
	for i, v := range x.Data {
		out[i/x.C/pixels*x.C+i%x.C] += v / float64(pixels)
	}
	return out
}

func distance(got []float32, want []float64) float64 {
	var diff, norm float64
	for i, w := range want {
		d := float64(got[i]) - w
		diff += d * d
		norm += w * w
	}
	return math.Sqrt(diff / (norm + 1e-12))
}
