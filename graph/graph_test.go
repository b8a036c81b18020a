package graph_test

import (
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
)

var image = graph.Shape{C: 3, H: 32, W: 48}

// finish completes a graph around the node: pooled, one linear layer, one group.
func finish(b *graph.Builder, x *graph.Node) (*graph.Graph, error) {
	x = b.Features(x)
	x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: b.Classes()})
	b.Group("all", "conv", "other", "norm", "fc")
	b.Classifier("fc")
	return b.Finish(x)
}

func TestShapeDiffersFromPyTorch(t *testing.T) {
	sq := graph.Square
	for name, c := range map[string]struct {
		in   graph.Shape
		op   graph.Op
		want graph.Shape // of torch 1.13
	}{
		"padded stride":                 {graph.Shape{C: 3, H: 224, W: 223}, graph.Conv2d{Window: graph.Window{Kernel: sq(7), Stride: sq(2), Pad: sq(3), Dilation: sq(1)}, In: 3, Out: 64, Groups: 1}, graph.Shape{C: 64, H: 112, W: 112}},
		"dilation":                      {graph.Shape{C: 3, H: 10, W: 12}, graph.Conv2d{Window: graph.Window{Kernel: sq(3), Stride: sq(1), Dilation: sq(2)}, In: 3, Out: 1, Groups: 1}, graph.Shape{C: 1, H: 6, W: 8}},
		"same, even size":               {graph.Shape{C: 3, H: 8, W: 7}, graph.Conv2d{Window: graph.Window{Kernel: sq(3), Stride: sq(2), Dilation: sq(1), Same: true}, In: 3, Out: 3, Groups: 3}, graph.Shape{C: 3, H: 4, W: 4}},
		"same, stride beyond kernel":    {graph.Shape{C: 3, H: 8, W: 9}, graph.Conv2d{Window: graph.Window{Kernel: sq(1), Stride: sq(2), Dilation: sq(1), Same: true}, In: 3, Out: 3, Groups: 1}, graph.Shape{C: 3, H: 4, W: 5}},
		"ceil hangs over":               {graph.Shape{C: 1, H: 112, W: 111}, graph.MaxPool{graph.Window{Kernel: sq(3), Stride: sq(2), Dilation: sq(1)}, true}, graph.Shape{C: 1, H: 56, W: 55}},
		"ceil with kernel beyond map":   {graph.Shape{C: 1, H: 2, W: 2}, graph.MaxPool{graph.Window{Kernel: sq(3), Stride: sq(2), Dilation: sq(1)}, true}, graph.Shape{C: 1, H: 1, W: 1}},
		"ceil window wholly in padding": {graph.Shape{C: 1, H: 4, W: 4}, graph.MaxPool{graph.Window{Kernel: sq(2), Stride: sq(3), Pad: sq(1), Dilation: sq(1)}, true}, graph.Shape{C: 1, H: 2, W: 2}},
		"adaptive beyond map":           {graph.Shape{C: 5, H: 1, W: 2}, graph.AdaptiveAvgPool{sq(7)}, graph.Shape{C: 5, H: 7, W: 7}},
		"subsample of odd size":         {graph.Shape{C: 16, H: 33, W: 32}, graph.Subsample{Stride: 2, Before: 8, After: 8}, graph.Shape{C: 32, H: 17, W: 16}},
		"flatten":                       {graph.Shape{C: 2, H: 3, W: 4}, graph.Flatten{}, graph.Shape{C: 24, H: 1, W: 1}},
	} {
		got, err := c.op.Infer([]graph.Shape{c.in})
		if err != nil || got != c.want {
			t.Errorf("%s: %v gives %v (%v), want %v", name, c.in, got, err, c.want)
		}
	}
}

func TestSamePaddingAtTheWrongEnd(t *testing.T) {
	w := graph.Window{Kernel: graph.Square(3), Stride: graph.Square(2), Dilation: graph.Square(1), Same: true}
	if got, want := w.Pads(graph.Shape{C: 1, H: 8, W: 7}), (graph.Pads{Top: 0, Left: 1, Bottom: 1, Right: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// own is an operator of a family's own that changes nothing.
type own struct {
	graph.Custom
	kind string
}

func (o own) Kind() string                              { return o.kind }
func (own) Infer(in []graph.Shape) (graph.Shape, error) { return in[0], nil }

func TestErrorDoesNotNameNodeAndShapes(t *testing.T) {
	for name, c := range map[string]struct {
		build func(b *graph.Builder, x *graph.Node) *graph.Node
		words []string
	}{
		"kernel too large": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Scope("block").Conv2d("conv", x, graph.Conv{Out: 8, Kernel: graph.Square(33)})
		}, []string{"block.conv", "conv2d", "3x32x48", "33×33"}},
		"groups do not divide": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Conv2d("conv", x, graph.Conv{Out: 8, Groups: 2})
		}, []string{"conv", "3x32x48", "2 groups"}},
		"sum of two shapes": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Scope("block").Add(x, b.Conv2d("conv", x, graph.Conv{Out: 4}))
		}, []string{"block.add", "3x32x48", "4x32x48"}},
		"concatenation of two sizes": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Concat(x, b.MaxPool(x, graph.Pool{Kernel: graph.Square(2)}))
		}, []string{"concat", "3x32x48", "3x16x24"}},
		"factor of another width": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Mul(x, b.Conv2d("conv", b.GlobalAvgPool(x), graph.Conv{Out: 4}))
		}, []string{"mul", "4x1x1", "3x32x48"}},
		"slice beyond the channels":    {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Slice(x, 1, 4) }, []string{"slice", "1 to 4", "3x32x48"}},
		"shuffle that does not divide": {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.ChannelShuffle(x, 2) }, []string{"channel_shuffle", "3 channels"}},
		"dropout of everything":        {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Dropout(x, 1) }, []string{"dropout", "probability 1"}},
		"node of another graph": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			other := graph.NewBuilder(image, 2)
			return b.ReLU(other.ReLU(other.Input()))
		}, []string{"another graph"}},
		"no node": {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Add(x, nil) }, []string{"add", "input 1 is nil"}},
		"no node in a convolution": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Conv2d("conv", nil, graph.Conv{Out: 8})
		}, []string{"node conv (conv2d)", "input 0 is nil"}},
		"no node in a linear layer": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Linear("other", nil, graph.Fc{Out: 8})
		}, []string{"node other (linear)", "input 0 is nil"}},
		"no node in a batch norm":  {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.BatchNorm("norm", nil) }, []string{"node norm (batch_norm)", "is nil"}},
		"no node in a layer norm":  {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.LayerNorm("norm", nil) }, []string{"node norm (layer_norm)", "is nil"}},
		"no node in a layer scale": {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.LayerScale("other", nil, 1) }, []string{"node other (layer_scale)", "is nil"}},
		"operator of its own without an input": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Custom("act", own{kind: "own"}, nil)
		}, []string{"act (own)", "no input"}},
		"fewer groups than none": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Conv2d("conv", x, graph.Conv{Out: 8, Groups: -3})
		}, []string{"conv", "-3 groups"}},
		"weight larger than memory": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Linear("other", b.Conv2d("conv", x, graph.Conv{Out: 1 << 26}), graph.Fc{Out: 1 << 26})
		}, []string{"other.weight", "[67108864 67108864]"}},
		"padding whose sum wraps around": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Subsample(x, 1, math.MaxInt, math.MaxInt)
		}, []string{"subsample", "channel padding"}},
		"dropout of no number": {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Dropout(x, math.NaN()) }, []string{"dropout", "probability NaN"}},
		"two layer groups of one name": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			b.Group("all", "conv")
			return x
		}, []string{"two layer groups are called all"}},
		"tap of another graph": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			b.Tap("t", graph.NewBuilder(image, 2).Input())
			return x
		}, []string{"tap t", "another graph"}},
		"features of another graph": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			b.Features(graph.NewBuilder(image, 2).Input())
			return x
		}, []string{"Features", "another graph"}},
		"auxiliary output that is a map": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			b.Aux("aux", b.Conv2d("conv", x, graph.Conv{Out: 2}), 0.3)
			return x
		}, []string{"aux", "2x32x48", "2 classes"}},
		"auxiliary output of no node": {func(b *graph.Builder, x *graph.Node) *graph.Node { b.Aux("aux", nil, 0.3); return x }, []string{"aux", "is nil"}},
		// A host reads the kind from the wire: it would list, and export to ONNX, its own operator of that name.
		"operator of its own with a kind of zoo's": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Scope("block").Custom("act", own{kind: "gelu"}, nil, x)
		}, []string{"block.act", `"gelu"`, "a name"}},
		"operator of its own with a layer's kind": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Custom("act", own{kind: "layer_scale"}, nil, x)
		}, []string{"act", `"layer_scale"`}},
		"operator of its own without a kind": {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Custom("act", own{}, nil, x) }, []string{"act", `""`}},
		"operator of its own with an empty parameter": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Custom("act", own{kind: "own"}, []graph.CustomParam{{Name: "weight", Shape: []int{x.Shape.C / 16}}}, x)
		}, []string{"act (own)", "weight", "[0]"}},
		"two layers of one name": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Conv2d("conv", b.Conv2d("conv", x, graph.Conv{Out: 3}), graph.Conv{Out: 3})
		}, []string{"conv.weight", "twice"}},
		"two layer scales of one name": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.LayerScale("other", b.LayerScale("other", x, 1), 1)
		}, []string{"other", "twice"}},
		"average pooling with dilation": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.AvgPool(x, graph.Pool{Kernel: graph.Square(2), Dilation: graph.Square(2)})
		}, []string{"average pooling", "dilation"}},
		"more channels than a map may have": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Conv2d("conv", x, graph.Conv{Out: 1 << 27})
		}, []string{"conv", "out of range"}},
		"tap named as an output": {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Tap("features", x) }, []string{"called features"}},
		"two taps of one name":   {func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Tap("t", b.Tap("t", x)) }, []string{"called t"}},
		"first error wins": {func(b *graph.Builder, x *graph.Node) *graph.Node {
			b.Errorf("option width is wrong")
			return b.Slice(x, 1, 4)
		}, []string{"option width is wrong"}},
	} {
		b := graph.NewBuilder(image, 2)
		_, err := finish(b, c.build(b, b.Input()))
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, word := range c.words {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%s: %q does not contain %q", name, err, word)
			}
		}
	}
}

func TestBadInputPanics(t *testing.T) {
	for _, c := range []struct {
		input   graph.Shape
		classes int
	}{{graph.Shape{}, 2}, {graph.Shape{C: 3, H: -1, W: 4}, 2}, {graph.Shape{C: 3, H: math.MaxInt, W: 4}, 2}, {image, 0}, {image, math.MaxInt}} {
		b := graph.NewBuilder(c.input, c.classes)
		want := fmt.Sprintf("graph: input %v is outside", c.input)
		if c.input == image {
			want = fmt.Sprintf("graph: %d classes is outside", c.classes)
		}
		if _, err := finish(b, b.Conv2d("conv", b.Input(), graph.Conv{Out: 4})); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v and %d classes: %v", c.input, c.classes, err)
		}
	}
}

func TestFinishAcceptsIncompleteGraph(t *testing.T) {
	type builder = graph.Builder
	for name, c := range map[string]struct {
		finish func(b *builder, x *graph.Node) (*graph.Graph, error)
		words  string
	}{
		"no features": {func(b *builder, x *graph.Node) (*graph.Graph, error) {
			b.Group("all", "conv", "fc")
			b.Classifier("fc")
			return b.Finish(b.Linear("fc", b.GlobalAvgPool(x), graph.Fc{Out: 2}))
		}, "Features"},
		"no classifier": {func(b *builder, x *graph.Node) (*graph.Graph, error) {
			b.Group("all", "conv", "fc")
			return b.Finish(b.Linear("fc", b.GlobalAvgPool(b.Features(x)), graph.Fc{Out: 2}))
		}, "call Builder.Classifier"},
		"no group": {func(b *builder, x *graph.Node) (*graph.Graph, error) {
			b.Classifier("fc")
			return b.Finish(b.Linear("fc", b.GlobalAvgPool(b.Features(x)), graph.Fc{Out: 2}))
		}, "Group"},
		"no node": {func(b *builder, x *graph.Node) (*graph.Graph, error) { return finish(b, nil) }, "Builder.Features is nil"},
		"logits are nil": {func(b *builder, x *graph.Node) (*graph.Graph, error) {
			b.Features(x)
			return b.Finish(nil)
		}, "output is nil"},
		"classifier that is no layer": {func(b *builder, x *graph.Node) (*graph.Graph, error) {
			b.Group("all", "conv", "fc")
			b.Classifier("head", "conv.fc")
			return b.Finish(b.Linear("fc", b.GlobalAvgPool(b.Features(x)), graph.Fc{Out: 2}))
		}, "no layer is called head or conv.fc"},
		"logits of another width": {func(b *builder, x *graph.Node) (*graph.Graph, error) {
			return b.Finish(b.Linear("fc", b.GlobalAvgPool(b.Features(x)), graph.Fc{Out: 3}))
		}, "2 classes"},
	} {
		b := graph.NewBuilder(image, 2)
		_, err := c.finish(b, b.Conv2d("conv", b.Input(), graph.Conv{Out: 4}))
		if err == nil || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// small is conv 3×3 stride 2, norm, ReLU, a tap, another conv, an auxiliary classifier.
func small(t *testing.T) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder(image, 10)
	x := b.Conv2d("conv", b.Input(), graph.Conv{Out: 8, Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)})
	x = b.Tap("stage1", b.ReLU(b.BatchNorm("norm", x)))
	side := b.Scope("aux").Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: 10})
	b.Aux("aux", side, 0.3)
	x = b.Conv2d("other", x, graph.Conv{Out: 4, Kernel: graph.Square(3), Stride: graph.Square(2), Groups: 4, Bias: true})
	b.Tap("stage2", x)
	b.Group("aux", "aux")
	b.Classifier("aux.fc")
	g, err := finish(b, x)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestTotalsAreWrong(t *testing.T) {
	g := small(t)
	// conv 8·3·9, norm 2·8, aux 8·10+10, other 4·2·9+4, fc 4·10+10
	if got, want := g.NumParams(), int64(216+16+90+76+50); got != want {
		t.Errorf("%d parameters, want %d", got, want)
	}
	// conv 16·24·216, other 7·11·72, fc 40; the auxiliary classifier does not count
	if got, want := g.MACs(), int64(16*24*216+7*11*72+40); got != want {
		t.Errorf("%d multiply-accumulates, want %d", got, want)
	}
	for _, r := range g.Summary() {
		if want := strings.HasPrefix(r.Node.Name, "aux"); r.Training != want && len(r.Node.Params) > 0 {
			t.Errorf("%s: training only is %v", r.Node.Name, r.Training)
		}
	}
}

func TestShapeThatIsNoneRead(t *testing.T) {
	if s, err := graph.ParseShape("3x224x131072"); err != nil || s != (graph.Shape{C: 3, H: 224, W: 131072}) {
		t.Errorf("%v %v", s, err)
	}
	for text, want := range map[string]string{
		"3x224": "such as", "3x224x224x1": "such as", "3 224 224": "such as", "03x224x224": "such as", "3x224x": "such as", "": "such as",
		"3x0x224": "between 1", "-3x224x224": "between 1", "3x224x131073": "between 1", "131073x1x1": "between 1",
	} {
		if _, err := graph.ParseShape(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestLayersBeginOtherwiseThanPyTorch has the defaults of torch.nn.
func TestLayersBeginOtherwiseThanPyTorch(t *testing.T) {
	b := graph.NewBuilder(image, 2)
	x := b.Conv2d("conv", b.Input(), graph.Conv{Out: 8, Kernel: graph.Square(3), Bias: true})
	x = b.BatchNorm("norm", b.LayerNorm("other.layer", b.BatchNorm("other.batch", x)), graph.Norm{Eps: 1e-3, Momentum: 0.01, Init: graph.Constant(0)})
	x = b.Linear("other.fc", x, graph.Fc{Out: 64, NoBias: true})
	if b.Dropout(x, 0) != x || b.StochasticDepth(x, 0) != x {
		t.Error("a dropout of nothing is there")
	}
	g, err := finish(b, b.StochasticDepth(b.Dropout(x, 0.5), 0.2))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]graph.Op{
		"other.batch": graph.BatchNorm{Channels: 8, Eps: 1e-5, Momentum: 0.1}, "other.layer": graph.LayerNorm{Channels: 8, Eps: 1e-5},
		"norm": graph.BatchNorm{Channels: 8, Eps: 1e-3, Momentum: 0.01}, "dropout": graph.Dropout{P: 0.5}, "stochastic_depth": graph.StochasticDepth{P: 0.2},
	} {
		if n := g.Node(name); n == nil || n.Op != want {
			t.Errorf("%s is %+v, want %+v", name, n, want)
		}
	}
	values := g.Initialise(1)
	for name, want := range map[string]float32{
		"other.batch.weight": 1, "other.batch.bias": 0, "other.batch.running_mean": 0, "other.batch.running_var": 1, "other.batch.num_batches_tracked": 0,
		"other.layer.weight": 1, "other.layer.bias": 0, "norm.weight": 0,
	} {
		if v := values[name]; len(v) == 0 || slices.Min(v) != want || slices.Max(v) != want {
			t.Errorf("%s begins with %v, want %g", name, v, want)
		}
	}
	if g.Param("other.fc.bias") != nil {
		t.Error("a linear layer without bias has one")
	}
	// A bias is as small as the weights beside it: within 1/√fan_in of theirs.
	for name, fanIn := range map[string]float64{"conv.bias": 27, "fc.bias": 64} {
		bound := float32(1 / math.Sqrt(fanIn))
		spread := float32(0)
		for seed := range uint64(20) {
			for _, v := range g.Param(name).Initialise(seed) {
				spread = max(spread, v, -v)
			}
		}
		if spread > bound || spread < 0.85*bound {
			t.Errorf("%s reaches ±%g, want nearly ±%g", name, spread, bound)
		}
	}
}

func TestGroupWithoutParametersKept(t *testing.T) {
	b := graph.NewBuilder(image, 2)
	b.Group("stochastic", "other")
	g, err := finish(b, b.Conv2d("conv", b.Input(), graph.Conv{Out: 4}))
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Groups) != 1 || g.Groups[0].Name != "all" {
		t.Errorf("layer groups %+v: rates that decay from group to group would count one more", g.Groups)
	}
}

func TestReceptiveFieldIsWrong(t *testing.T) {
	g := small(t)
	rows := g.Summary()
	for name, want := range map[string]graph.Pair{
		"conv":  graph.Square(3),
		"other": graph.Square(3 + 2*2), // r + (k-1)·j
	} {
		if got := rows[g.Node(name).ID].ReceptiveField; got != want {
			t.Errorf("%s sees %v, want %v", name, got, want)
		}
	}
	if got := rows[g.Output.ID].ReceptiveField; got != (graph.Pair{H: 32, W: 48}) {
		t.Errorf("the logits see %v of the image", got)
	}
	for i, want := range []int{2, 4} {
		if got := g.Taps[i].Stride; got != want {
			t.Errorf("tap %s has stride %d, want %d", g.Taps[i].Name, got, want)
		}
	}
}

// TestReceptiveFieldOfPoolings follows a map through what makes it coarser besides convolutions.
func TestReceptiveFieldOfPoolings(t *testing.T) {
	b := graph.NewBuilder(image, 2)
	sq := graph.Square
	conv := b.Conv2d("conv", b.Input(), graph.Conv{Out: 4, Kernel: sq(3), Pad: sq(2), Dilation: sq(2)})
	mean := b.AvgPool(conv, graph.Pool{Kernel: sq(2)})
	top := b.MaxPool(mean, graph.Pool{Kernel: graph.HW(3, 1), Stride: sq(2), Pad: graph.HW(1, 0)})
	sub := b.Subsample(top, 2, 0, 0)
	bins := b.AdaptiveAvgPool(sub, graph.HW(2, 3)) // of 4x6
	scaled := b.Tap("scaled", b.Mul(bins, b.Activation(b.GlobalAvgPool(bins), graph.Sigmoid)))
	g, err := finish(b, scaled)
	if err != nil {
		t.Fatal(err)
	}
	rows := g.Summary()
	for _, c := range []struct {
		n    *graph.Node
		want graph.Pair // r + (k-1)·j
	}{{conv, sq(5)}, {mean, sq(6)}, {top, graph.HW(10, 6)}, {sub, graph.HW(10, 6)}, {bins, graph.HW(18, 14)}, {scaled, graph.HW(32, 46)}} {
		if got := rows[c.n.ID].ReceptiveField; got != c.want {
			t.Errorf("%s sees %v, want %v", c.n.Name, got, c.want)
		}
	}
	if got := g.Taps[0].Stride; got != 16 { // a factor of the channels has no raster
		t.Errorf("stride %d, want 16", got)
	}
}

func TestPartsOverlap(t *testing.T) {
	g := small(t)
	for name, want := range map[string][2]bool{ // features, classifier
		"conv.weight": {true, false}, "norm.running_mean": {true, false}, "other.bias": {true, false},
		"fc.weight": {false, true}, "aux.fc.bias": {false, true},
	} {
		p := g.Param(name)
		if p == nil {
			t.Fatalf("there is no %s", name)
		}
		if got := [2]bool{g.InFeatures(p), g.InClassifier(p)}; got != want {
			t.Errorf("%s: in features and classifier: %v, want %v", name, got, want)
		}
	}
	for _, n := range g.InferenceNodes() {
		if strings.HasPrefix(n.Name, "aux") {
			t.Errorf("inference computes %s", n.Name)
		}
	}
}

func TestLayerScaleOutOfStateDictOrder(t *testing.T) {
	b := graph.NewBuilder(image, 2)
	s := b.Scope("other")
	x := s.Scope("block").Conv2d("0", b.Conv2d("conv", b.Input(), graph.Conv{Out: 3}), graph.Conv{Out: 3})
	g, err := finish(b, s.LayerScale("layer_scale", x, 1e-6))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range g.Params {
		names = append(names, p.Name)
	}
	want := []string{"conv.weight", "other.layer_scale", "other.block.0.weight", "fc.weight", "fc.bias"}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("parameters are %v, want %v", names, want)
	}
	if got := g.Param("other.layer_scale").Shape; !reflect.DeepEqual(got, []int{3, 1, 1}) {
		t.Errorf("layer_scale has shape %v", got)
	}
}

func TestInitialValuesHaveTheWrongSpread(t *testing.T) {
	for name, c := range map[string]struct {
		init      graph.Init
		mean, std float64
		low, high float64
	}{
		// A convolution of 64 to 128 channels, 3×3: fan_in 576, fan_out 1152.
		"default":                  {graph.DefaultInit, 0, 1 / math.Sqrt(3*576), -1. / 24, 1. / 24},
		"kaiming normal, fan out":  {graph.KaimingNormalFanOut, 0, math.Sqrt(2. / 1152), -1, 1},
		"kaiming normal, fan in":   {graph.KaimingNormalFanIn, 0, math.Sqrt(2. / 576), -1, 1},
		"kaiming uniform, fan in":  {graph.KaimingUniformFanIn, 0, math.Sqrt(2. / 576), -math.Sqrt(6. / 576), math.Sqrt(6. / 576)},
		"uniform, fan out":         {graph.UniformFanOut, 0, 1 / math.Sqrt(3*1152), -math.Sqrt(1. / 1152), math.Sqrt(1. / 1152)},
		"kaiming uniform, fan out": {graph.KaimingUniformFanOutSigmoid, 0, 1 / math.Sqrt(1152), -math.Sqrt(3. / 1152), math.Sqrt(3. / 1152)},
		"normal":                   {graph.Normal(0.01), 0, 0.01, -1, 1},
		"truncated normal":         {graph.TruncNormal(1.5), 0, 1.0413, -2, 2}, // of scipy.stats.truncnorm
		"uniform":                  {graph.Uniform(0.5), 0, 0.5 / math.Sqrt(3), -0.5, 0.5},
		"constant":                 {graph.Constant(3), 3, 0, 3, 3},
	} {
		b := graph.NewBuilder(graph.Shape{C: 64, H: 9, W: 9}, 2)
		g, err := finish(b, b.Conv2d("conv", b.Input(), graph.Conv{Out: 128, Kernel: graph.Square(3), Init: c.init}))
		if err != nil {
			t.Fatal(err)
		}
		values := g.Param("conv.weight").Initialise(7)
		var mean, square float64
		low, high := math.Inf(1), math.Inf(-1)
		for _, v := range values {
			mean += float64(v) / float64(len(values))
			square += float64(v) * float64(v) / float64(len(values))
			low, high = min(low, float64(v)), max(high, float64(v))
		}
		std := math.Sqrt(max(square-mean*mean, 0))
		if math.Abs(mean-c.mean) > 0.02*c.std+1e-5 || math.Abs(std-c.std) > 0.02*c.std+1e-5 || low < c.low-1e-6 || high > c.high+1e-6 {
			t.Errorf("%s: mean %.4g, deviation %.4g, range %.4g to %.4g; want %.4g, %.4g, within %.4g to %.4g", name, mean, std, low, high, c.mean, c.std, c.low, c.high)
		}
	}
}

func TestInitialValuesDependOnMoreThanSeedAndName(t *testing.T) {
	a, b := small(t).Initialise(1), small(t).Initialise(1)
	if !reflect.DeepEqual(a, b) {
		t.Error("two graphs of one seed differ")
	}
	if reflect.DeepEqual(a["conv.weight"], small(t).Initialise(2)["conv.weight"]) {
		t.Error("two seeds give the same values")
	}
}

func FuzzParseShape(f *testing.F) {
	f.Add("3x224x224")
	f.Add("3x-1x9")
	f.Add("1x1x99999999999999999999")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := graph.ParseShape(text)
		if err == nil && (s.String() != text || s.Elements() <= 0) {
			t.Errorf("%q is read as %v", text, s)
		}
	})
}
