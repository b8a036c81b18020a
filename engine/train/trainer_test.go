package train_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/reference"
)

// network is a small one with most of what training has: fused sums, depthwise and grouped convolutions, dropout, or without batch norm
// and dropout.
func network(t testing.TB, s graph.Shape, plain bool) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder(s, 10)
	norm := func(name string, x *graph.Node) *graph.Node {
		if plain {
			return b.Activation(x, graph.Tanh)
		}
		return b.BatchNorm(name, x)
	}
	conv := func(name string, x *graph.Node, out, kernel, stride, groups int) *graph.Node {
		return norm(name+"bn", b.Conv2d(name, x, graph.Conv{Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Pad: graph.Square(kernel / 2), Groups: groups}))
	}
	groups := []string{"stem", "expand", "depthwise", "project", "grouped", "fc"}
	if !plain {
		for _, g := range groups[:5] {
			groups = append(groups, g+"bn")
		}
	}
	x := b.ReLU(conv("stem", b.Input(), 16, 3, 2, 1))
	y := b.Activation(conv("expand", x, 64, 1, 1, 1), graph.HardSwish)
	y = b.Activation(conv("depthwise", y, 64, 3, 1, 64), graph.SiLU)
	y = conv("project", b.Mul(y, b.Activation(b.GlobalAvgPool(y), graph.Sigmoid)), 16, 1, 1, 1)
	x = b.ReLU(b.Add(y, x))
	x = b.Concat(x, b.ReLU(conv("grouped", x, 16, 3, 1, 2)))
	b.Features(x)
	if !plain {
		x = b.Dropout(x, 0.3)
	}
	x = b.Linear("fc", b.GlobalAvgPool(x), graph.Fc{Out: 10})
	b.Classifier("fc")
	b.Group("all", groups...)
	g, err := b.Finish(x)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func newTrainer(t testing.TB, g *graph.Graph, o train.Options) *train.Trainer {
	t.Helper()
	tr, err := train.New(g, randomParams(rand.New(rand.NewPCG(1, 1)), g), o)
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

func accumulate(t testing.TB, tr *train.Trainer, images []float32, labels []int, scale float64) train.Result {
	t.Helper()
	r, err := tr.Accumulate(context.Background(), images, len(labels), train.Targets{Labels: labels}, scale)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func gradients(tr *train.Trainer) []float32 {
	var all []float32
	for _, p := range tr.All() {
		all = append(all, p.Gradient()...)
	}
	return all
}

func distance(a, b []float32) float64 {
	var d, n float64
	for i := range a {
		d += (float64(a[i]) - float64(b[i])) * (float64(a[i]) - float64(b[i]))
		n += float64(b[i]) * float64(b[i])
	}
	return math.Sqrt(d / max(n, 1e-300))
}

func randomBatch(seed uint64, n, classes int, s graph.Shape) ([]float32, []int) {
	r := rand.New(rand.NewPCG(seed, 5))
	labels := make([]int, n)
	for i := range labels {
		labels[i] = r.IntN(classes)
	}
	return randomImages(r, n, s), labels
}

// TestRunsDiffer trains the same network twice: every bit must be the same.
func TestRunsDiffer(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	s := graph.Shape{C: 3, H: 17, W: 22}
	for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
		run := func() []float32 {
			g := network(t, s, false)
			tr := newTrainer(t, g, train.Options{Pool: p, Precision: precision, Seed: 3})
			opt, err := train.NewOptimizer(train.Algorithm{Name: "sgd", Momentum: 0.9}, train.Group{Params: tr.All(), LRScale: 1})
			if err != nil {
				t.Fatal(err)
			}
			for step := range 5 {
				images, labels := randomBatch(uint64(step), 6, 10, s)
				tr.ZeroGrad()
				accumulate(t, tr, images, labels, 1)
				tr.ClipGradNorm(1)
				if err := opt.Step(0.05); err != nil {
					t.Fatal(err)
				}
			}
			var all []float32
			for _, p := range tr.All() {
				all = append(all, p.Values()...)
			}
			return all
		}
		first, second := run(), run()
		for i := range first {
			if math.Float32bits(first[i]) != math.Float32bits(second[i]) {
				t.Fatalf("%v: value %d is %g in one run and %g in the next", precision, i, first[i], second[i])
			}
		}
	}
}

func TestAccumulationDiffersFromLargerBatch(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	s := graph.Shape{C: 3, H: 16, W: 19}
	g := network(t, s, true)
	images, labels := randomBatch(1, 6, 10, s)
	whole := newTrainer(t, g, train.Options{Pool: p, Precision: engine.Highest})
	want := accumulate(t, whole, images, labels, 1)
	parts := newTrainer(t, g, train.Options{Pool: p, Precision: engine.Highest})
	loss := 0.0
	for i := range 3 {
		loss += accumulate(t, parts, images[i*2*s.Elements():(i+1)*2*s.Elements()], labels[i*2:(i+1)*2], 1.0/3).Loss / 3
	}
	if math.Abs(loss-want.Loss) > 1e-6 {
		t.Errorf("three batches of two have a loss of %g, one of six %g", loss, want.Loss)
	}
	if d := distance(gradients(parts), gradients(whole)); !(d < 1e-5) {
		t.Errorf("gradients of three batches of two and of one of six differ by %g", d)
	}
}

func TestClippingKeepsDirection(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	s := graph.Shape{C: 3, H: 16, W: 16}
	tr := newTrainer(t, network(t, s, false), train.Options{Pool: p})
	images, labels := randomBatch(1, 4, 10, s)
	accumulate(t, tr, images, labels, 1)
	before := gradients(tr)
	sum := 0.0
	for _, v := range before {
		sum += float64(v) * float64(v)
	}
	norm := math.Sqrt(sum)
	if got := tr.ClipGradNorm(2 * norm); math.Abs(got-norm) > 1e-6*norm {
		t.Errorf("norm %g, want %g", got, norm)
	}
	if d := distance(gradients(tr), before); d != 0 {
		t.Errorf("a limit above the norm changed the gradient by %g", d)
	}
	tr.ClipGradNorm(norm / 4)
	if got := tr.GradNorm(); math.Abs(got-norm/4) > 1e-4*norm {
		t.Errorf("clipped norm %g, want %g", got, norm/4)
	}
	after := gradients(tr)
	for i := range after {
		after[i] *= 4
	}
	if d := distance(after, before); d > 1e-4 {
		t.Errorf("clipping turned the gradient by %g", d)
	}
}

// TestFrozenTrunkDiffersFromOperators freezes the layers before a point: the plan must give what training's own operators give, and no frozen
// value, statistics included, may move.
func TestFrozenTrunkDiffersFromOperators(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	s := graph.Shape{C: 3, H: 18, W: 21}
	g := network(t, s, false)
	images, labels := randomBatch(1, 4, 10, s)
	for _, first := range []string{"fc", "grouped", "project", "expand"} {
		ok := false
		live := map[string]bool{}
		for _, p := range g.Params {
			ok = ok || strings.HasPrefix(p.Name, first)
			live[p.Name] = ok
		}
		tr := newTrainer(t, g, train.Options{Pool: p, Precision: engine.Highest, NoDropout: true, Trainable: func(p *graph.Param) bool { return live[p.Name] }})
		before := map[string][]float32{}
		for _, p := range tr.All() {
			before[p.Name()] = append([]float32(nil), p.Values()...)
		}
		accumulate(t, tr, images, labels, 1)
		// With the trunk's first convolution trained, nothing is static, and all else stays the same: batch norms are frozen by their weight.
		whole := newTrainer(t, g, train.Options{Pool: p, Precision: engine.Highest, NoDropout: true, Trainable: func(p *graph.Param) bool { return live[p.Name] || p.Name == "stem.weight" }})
		accumulate(t, whole, images, labels, 1)
		for i, p := range tr.All() {
			if !live[p.Name()] {
				for k, v := range p.Values() {
					if v != before[p.Name()][k] {
						t.Fatalf("%s first: frozen %s moved", first, p.Name())
					}
				}
				continue
			}
			if d := distance(p.Gradient(), whole.All()[i].Gradient()); !(d < 2e-5) {
				t.Errorf("%s first: the gradient of %s differs by %g from that without a plan", first, p.Name(), d)
			}
		}
	}
}

// TestFrozenLayerNamedLikeAnOutput freezes layers that are called as outputs which every network has: what follows once read the values of
// another frozen layer.
func TestFrozenLayerNamedLikeAnOutput(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	for _, name := range []string{graph.LogitsOutput, graph.FeaturesOutput, graph.EmbeddingOutput} {
		b := graph.NewBuilder(graph.Shape{C: 3, H: 6, W: 5}, 5)
		x := b.Conv2d("stem", b.Input(), graph.Conv{Out: 4, Kernel: graph.Square(3)})
		y := b.Conv2d(name, x, graph.Conv{Out: 4})
		x = b.Features(b.Add(b.Conv2d("first", x, graph.Conv{Out: 4}), b.Conv2d("second", y, graph.Conv{Out: 4})))
		b.Classifier("fc")
		b.Group("all", "stem", name, "first", "second", "fc")
		g, err := b.Finish(b.Linear("fc", b.Flatten(x), graph.Fc{Out: 5}))
		if err != nil {
			t.Fatal(err)
		}
		params := randomParams(rand.New(rand.NewPCG(1, 3)), g)
		images, _ := randomBatch(1, 3, 5, g.Input)
		want, err := reference.Run(g, params, images, 3)
		if err != nil {
			t.Fatal(err)
		}
		tr, err := train.New(g, params, train.Options{Pool: p, Precision: engine.Highest, Trainable: func(p *graph.Param) bool {
			return p.Name != "stem.weight" && p.Name != name+".weight"
		}})
		if err != nil {
			t.Fatal(err)
		}
		got, err := tr.Evaluate(t.Context(), images, 3)
		if err != nil {
			t.Fatal(err)
		}
		if d := distance(got, want[0].Float32()); !(d < 1e-4) {
			t.Errorf("with a frozen layer called %s the logits differ by %g", name, d)
		}
	}
}

// TestTwoLossesOfOneNode has the logits in the loss three times, with weights of 1, 1/4 and 3/4.
func TestTwoLossesOfOneNode(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	var once []float32
	for _, weights := range [][]float64{nil, {0.25, 0.75}} {
		b := graph.NewBuilder(graph.Shape{C: 3, H: 5, W: 4}, 4)
		x := b.Linear("fc", b.Flatten(b.Features(b.Input())), graph.Fc{Out: 4})
		for i, w := range weights {
			b.Aux(fmt.Sprint(i), x, w)
		}
		b.Classifier("fc")
		b.Group("all", "fc")
		g, err := b.Finish(x)
		if err != nil {
			t.Fatal(err)
		}
		tr := newTrainer(t, g, train.Options{Pool: p, Precision: engine.Highest})
		images, labels := randomBatch(2, 3, 4, g.Input)
		accumulate(t, tr, images, labels, 1)
		if weights == nil {
			once = gradients(tr)
			continue
		}
		for i, v := range gradients(tr) {
			if math.Abs(float64(v-2*once[i])) > 1e-5 {
				t.Fatalf("gradient %d is %g, not twice %g", i, v, once[i])
			}
		}
	}
}

// TestAuxiliaryClassifiersCount compares the loss of networks with auxiliary classifiers with that of their parts.
func TestAuxiliaryClassifiersCount(t *testing.T) {
	if testing.Short() {
		t.Skip("two networks of 75 and 96 pixels")
	}
	p := work.New(2)
	defer p.Close()
	for name, side := range map[string]int{"googlenet": 96, "inception_v3": 107} {
		model, ok := find(name)
		if !ok {
			t.Fatalf("no family has %s", name)
		}
		s := graph.Shape{C: 3, H: side, W: side}
		g, err := model.Graph(s, 10, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(g.Aux) == 0 {
			t.Fatalf("%s has no auxiliary classifier", name)
		}
		images, labels := randomBatch(2, 2, 10, s)
		params := randomParams(rand.New(rand.NewPCG(1, 1)), g)
		tr, err := train.New(g, params, train.Options{Pool: p, NoDropout: true})
		if err != nil {
			t.Fatal(err)
		}
		whole := accumulate(t, tr, images, labels, 1)
		// The main classifier's share, from its logits.
		share := 0.0
		for i, l := range labels {
			row := whole.Logits[i*10 : (i+1)*10]
			sum := 0.0
			for _, v := range row {
				sum += math.Exp(float64(v - row[l]))
			}
			share += math.Log(sum) / float64(len(labels))
		}
		weights := 0.0
		for _, a := range g.Aux {
			weights += a.Weight
		}
		if !(whole.Loss > share+0.01*weights) {
			t.Errorf("%s: the loss %g does not count the auxiliary classifiers: the main one alone has %g", name, whole.Loss, share)
		}
		reached := 0
		for _, p := range tr.All() {
			if strings.Contains(strings.ToLower(p.Name()), "aux") && p.Trainable() {
				sum := 0.0
				for _, v := range p.Gradient() {
					sum += math.Abs(float64(v))
				}
				if sum > 0 {
					reached++
				}
			}
		}
		if reached == 0 {
			t.Errorf("%s: no parameter of an auxiliary classifier has a gradient", name)
		}
	}
}

// TestLossDiffersFromDefinition computes torch.nn.CrossEntropyLoss from the logits: with label smoothing, weights of classes, whose mean is taken
// over the weights of the labels, and targets that are distributions.
func TestLossDiffersFromDefinition(t *testing.T) {
	p := work.New(1)
	defer p.Close()
	const n, classes = 4, 10
	s := graph.Shape{C: 3, H: 16, W: 16}
	images, labels := randomBatch(1, n, classes, s)
	weights := []float64{1, 2, 0.5, 3, 1, 1, 4, 0.25, 1, 2}
	soft := make([]float32, n*classes)
	for i, l := range labels {
		soft[i*classes+l] += 0.75
		soft[i*classes+(l+3)%classes] += 0.25
	}
	for name, c := range map[string]struct {
		loss train.Loss
		soft []float32
	}{
		"labels": {}, "smoothed": {loss: train.Loss{LabelSmoothing: 0.2}}, "weighted": {loss: train.Loss{ClassWeights: weights}},
		"smoothed and weighted": {loss: train.Loss{LabelSmoothing: 0.2, ClassWeights: weights}}, "distributions": {soft: soft},
		"smoothed distributions": {loss: train.Loss{LabelSmoothing: 0.2}, soft: soft},
	} {
		tr := newTrainer(t, network(t, s, true), train.Options{Pool: p, Precision: engine.Highest, Loss: c.loss})
		got, err := tr.Accumulate(context.Background(), images, n, train.Targets{Labels: labels, Soft: c.soft}, 1)
		if err != nil {
			t.Fatal(err)
		}
		sum, total := 0.0, 0.0
		for i, l := range labels {
			x, norm := got.Logits[i*classes:][:classes], 0.0
			for _, v := range x {
				norm += math.Exp(float64(v))
			}
			for k, v := range x {
				target, weight := 0.0, 1.0
				if k == l {
					target = 1
				}
				if c.soft != nil {
					target = float64(c.soft[i*classes+k])
				}
				if c.loss.ClassWeights != nil {
					weight = c.loss.ClassWeights[k]
				}
				target = (1-c.loss.LabelSmoothing)*target + c.loss.LabelSmoothing/classes
				sum -= weight * target * (float64(v) - math.Log(norm))
			}
			if c.loss.ClassWeights != nil {
				total += c.loss.ClassWeights[l]
			} else {
				total++
			}
		}
		if want := sum / total; math.Abs(got.Loss-want) > 1e-6*want {
			t.Errorf("%s: loss %.9g, want %.9g", name, got.Loss, want)
		}
	}
}

// TestDropoutKeepsAnotherShare reads the masks from logits: of ones, and of weights that tell one mask from another.
func TestDropoutKeepsAnotherShare(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	const channels, n, steps, share = 2000, 3, 20, 0.25
	for name, layer := range map[string]func(b *graph.Builder, x *graph.Node) *graph.Node{
		"dropout":          func(b *graph.Builder, x *graph.Node) *graph.Node { return b.Dropout(x, share) },
		"stochastic depth": func(b *graph.Builder, x *graph.Node) *graph.Node { return b.StochasticDepth(x, share) },
	} {
		b := graph.NewBuilder(graph.Shape{C: channels, H: 1, W: 1}, 2)
		b.Features(b.Input())
		b.Classifier("fc")
		b.Group("all", "fc")
		g, err := b.Finish(b.Linear("fc", layer(b, b.Input()), graph.Fc{Out: 2, NoBias: true}))
		if err != nil {
			t.Fatal(err)
		}
		tr := newTrainer(t, g, train.Options{Pool: p, Precision: engine.Highest, Seed: 1})
		for i := range channels {
			w := tr.All()[0].Values()
			w[i], w[channels+i] = 1, float32(i%97)
		}
		images := make([]float32, n*channels)
		for i := range images {
			images[i] = 1
		}
		kept, masks := 0.0, map[float32]int{}
		for range steps {
			r := accumulate(t, tr, images, []int{0, 1, 0}, 1)
			for i := range n {
				part := float64(r.Logits[2*i]) * (1 - share) / channels
				if name == "stochastic depth" && math.Abs(part*(1-part)) > 1e-5 {
					t.Errorf("%s keeps %g of an image, want all or nothing", name, part)
				}
				kept += part / (n * steps)
				masks[r.Logits[2*i+1]]++
			}
		}
		least, slack := n*steps-1, 0.01
		if name == "stochastic depth" {
			least, slack = 2, 0.15 // 60 draws
		}
		if math.Abs(kept-(1-share)) > slack || len(masks) < least {
			t.Errorf("%s keeps %.3f of the values, want %.3f, with %d masks in %d images", name, kept, 1-share, len(masks), n*steps)
		}
	}
}

// TestGroupLearnsAtAnotherRate has two groups, one at a tenth of the rate and without weight decay.
func TestGroupLearnsAtAnotherRate(t *testing.T) {
	p := work.New(1)
	defer p.Close()
	s := graph.Shape{C: 3, H: 16, W: 16}
	tr := newTrainer(t, network(t, s, true), train.Options{Pool: p})
	var slow, fast []*train.Param
	before := map[string][]float32{}
	for _, p := range tr.All() {
		before[p.Name()] = slices.Clone(p.Values())
		if strings.HasPrefix(p.Name(), "fc") {
			fast = append(fast, p)
		} else {
			slow = append(slow, p)
		}
	}
	images, labels := randomBatch(1, 2, 10, s)
	accumulate(t, tr, images, labels, 1)
	opt, err := train.NewOptimizer(train.Algorithm{Name: "sgd", WeightDecay: 9}, train.Group{Params: slow, LRScale: 0.1}, train.Group{Params: fast, LRScale: 1, WeightDecay: 0.5})
	if err != nil {
		t.Fatal(err)
	}
	if err := opt.Step(0.2); err != nil {
		t.Fatal(err)
	}
	for _, p := range tr.All() {
		rate, decay := 0.02, 0.0
		if strings.HasPrefix(p.Name(), "fc") {
			rate, decay = 0.2, 0.5
		}
		for i, w := range before[p.Name()] {
			want := float64(w) - rate*(float64(p.Gradient()[i])+decay*float64(w))
			if math.Abs(float64(p.Values()[i])-want) > 1e-5 {
				t.Fatalf("%s, value %d: %g, want %g", p.Name(), i, p.Values()[i], want)
			}
		}
	}
}

func TestNotANumberStopsBackward(t *testing.T) {
	p := work.New(1)
	defer p.Close()
	s := graph.Shape{C: 3, H: 16, W: 16}
	tr := newTrainer(t, network(t, s, false), train.Options{Pool: p})
	images, labels := randomBatch(1, 2, 10, s)
	images[7] = float32(math.NaN())
	if r := accumulate(t, tr, images, labels, 1); !math.IsNaN(r.Loss) {
		t.Errorf("loss %g of a batch with not-a-number", r.Loss)
	}
	if n := tr.GradNorm(); n != 0 {
		t.Errorf("gradient of norm %g after a loss that is not a number", n)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	p := work.New(1)
	defer p.Close()
	s := graph.Shape{C: 3, H: 16, W: 16}
	g := network(t, s, false)
	params := randomParams(rand.New(rand.NewPCG(1, 1)), g)
	for _, c := range []struct {
		o    train.Options
		want string
	}{
		{train.Options{}, "Pool"},
		{train.Options{Pool: p, Trainable: func(*graph.Param) bool { return false }}, "frozen"},
		{train.Options{Pool: p, Loss: train.Loss{ClassWeights: []float64{1}}}, "class weights"},
	} {
		if _, err := train.New(g, params, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one about %q", err, c.want)
		}
	}
	tr := newTrainer(t, g, train.Options{Pool: p})
	images, labels := randomBatch(1, 2, 10, s)
	for _, c := range []struct {
		images []float32
		n      int
		t      train.Targets
		want   string
	}{
		{images[1:], 2, train.Targets{Labels: labels}, "values"},
		{images, 2, train.Targets{Labels: labels[:1]}, "labels"},
		{images, 2, train.Targets{Labels: []int{1, 10}}, "label 10"},
		{images, 2, train.Targets{Soft: make([]float32, 3)}, "soft"},
	} {
		if _, err := tr.Accumulate(context.Background(), c.images, c.n, c.t, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one about %q", err, c.want)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := tr.Accumulate(ctx, images, 2, train.Targets{Labels: labels}, 1); err == nil {
		t.Error("a cancelled context trained on")
	}
}

// endingAfter is a context that ends when it has been asked so often.
type endingAfter struct {
	context.Context
	left int
}

func (c *endingAfter) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// TestInterruptedBatchLeavesNothing ends a batch before each of its operators.
func TestInterruptedBatchLeavesNothing(t *testing.T) {
	p := work.New(2)
	defer p.Close()
	s := graph.Shape{C: 3, H: 16, W: 16}
	tr := newTrainer(t, network(t, s, false), train.Options{Pool: p})
	images, labels := randomBatch(1, 2, 10, s)
	values := func() []float32 {
		var all []float32
		for _, p := range tr.All() {
			all = append(all, p.Values()...)
		}
		return all
	}
	before := values()
	for left := 0; ; left++ {
		_, err := tr.Accumulate(&endingAfter{context.Background(), left}, images, 2, train.Targets{Labels: labels}, 1)
		if err == nil {
			if left < 10 || tr.Steps() != 1 || slices.Equal(values(), before) || tr.GradNorm() == 0 {
				t.Errorf("the batch that was not interrupted, the %dth, did nothing", left)
			}
			return
		}
		if tr.Steps() != 0 || !slices.Equal(values(), before) || tr.GradNorm() != 0 {
			t.Fatalf("a batch that was interrupted at point %d changed the network", left)
		}
	}
}

// TestBatchNormOfOneValueRefused has a batch norm behind the global pooling: of a single image it would learn the variance 0.
func TestBatchNormOfOneValueRefused(t *testing.T) {
	p := work.New(1)
	defer p.Close()
	s := graph.Shape{C: 3, H: 4, W: 4}
	b := graph.NewBuilder(s, 3)
	x := b.BatchNorm("bn", b.GlobalAvgPool(b.Conv2d("conv", b.Input(), graph.Conv{Out: 5, Kernel: graph.Square(1)})))
	b.Features(x)
	b.Classifier("fc")
	b.Group("all", "conv", "bn", "fc")
	g, err := b.Finish(b.Linear("fc", b.Flatten(x), graph.Fc{Out: 3}))
	if err != nil {
		t.Fatal(err)
	}
	images, labels := randomBatch(1, 2, 3, s)
	tr := newTrainer(t, g, train.Options{Pool: p})
	if _, err := tr.Accumulate(context.Background(), images[:s.Elements()], 1, train.Targets{Labels: labels[:1]}, 1); err == nil || tr.LeastBatch() != 2 {
		t.Errorf("least batch %d, error %v", tr.LeastBatch(), err)
	}
	accumulate(t, tr, images, labels, 1)
	tr = newTrainer(t, g, train.Options{Pool: p, Trainable: func(p *graph.Param) bool { return p.Name != "bn.weight" }})
	if tr.LeastBatch() != 1 {
		t.Errorf("with the batch norm frozen the least batch is %d", tr.LeastBatch())
	}
	accumulate(t, tr, images[:s.Elements()], labels[:1], 1)
}
