package train_test

import (
	"context"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

// TestGoldenTraining takes the three optimiser steps of every golden file and compares losses, gradient norms and the logits
// afterwards with PyTorch's.
func TestGoldenTraining(t *testing.T) {
	cases, err := golden.TrainCases()
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) == 0 {
		t.Fatal("no training goldens found")
	}
	pool := work.New(0)
	defer pool.Close()
	for _, c := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(c.Path), ".json"), func(t *testing.T) { testGolden(t, c, pool) })
	}
}

func testGolden(t *testing.T, c golden.Train, pool *work.Pool) {
	model, ok := find(c.Model)
	if !ok {
		t.Fatalf("no family has %s", c.Model)
	}
	g, err := model.Graph(c.Batch.Shape(), c.Classes, nil)
	if err != nil {
		t.Fatal(err)
	}
	frozen := func(p *graph.Param) bool {
		for _, prefix := range c.FrozenPrefixes {
			if strings.HasPrefix(p.Name, prefix) {
				return true
			}
		}
		return false
	}
	tr, err := train.New(g, golden.Fill(g, c.Gain), train.Options{
		Pool: pool, Precision: engine.Highest, NoDropout: true,
		Trainable: func(p *graph.Param) bool { return !frozen(p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	o := c.Optimizer
	var params []*train.Param
	for _, p := range tr.All() {
		if p.Trainable() {
			params = append(params, p)
		}
	}
	opt, err := train.NewOptimizer(train.Algorithm{Name: o.Name, Momentum: o.Momentum, WeightDecay: o.WeightDecay},
		train.Group{Params: params, LRScale: 1, WeightDecay: o.WeightDecay})
	if err != nil {
		t.Fatal(err)
	}
	n := c.Batch.N()
	for i, name := range c.Inputs {
		tr.ZeroGrad()
		r, err := tr.Accumulate(context.Background(), nhwc(golden.Input(name, n, c.Batch.Shape()), n, c.Batch.Shape()), n, train.Targets{Labels: c.Labels}, 1)
		if err != nil {
			t.Fatal(err)
		}
		tol := c.Tolerances().Losses
		if e := math.Abs(r.Loss-c.Losses[i]) / math.Abs(c.Losses[i]); !(e <= tol) {
			t.Errorf("loss before step %d is %.7g, want %.7g (error %.2g, tolerance %.2g)", i+1, r.Loss, c.Losses[i], e, tol)
		}
		if i == 0 {
			compareGradients(t, c, params)
		}
		if err := opt.Step(o.LR); err != nil {
			t.Fatal(err)
		}
	}
	en := c.EvalInput.N()
	logits, err := tr.Evaluate(context.Background(), nhwc(golden.Input("input", en, c.EvalInput.Shape()), en, c.EvalInput.Shape()), en)
	if err != nil {
		t.Fatal(err)
	}
	tol := c.Tolerances().EvalLogits
	e := golden.RelL2(logits, c.EvalLogits)
	if !(e <= tol) {
		t.Errorf("logits after training: error %.2g, tolerance %.2g", e, tol)
	}
	t.Logf("eval logits error %.2g (tolerance %.2g)", e, tol)
}

func compareGradients(t *testing.T, c golden.Train, params []*train.Param) {
	largest := 0.0
	for _, v := range c.GradL2 {
		largest = max(largest, v)
	}
	tol, worst, compared := c.Tolerances().GradL2, 0.0, 0
	for _, p := range params {
		want, ok := c.GradL2[p.Name()]
		if !ok {
			t.Errorf("parameter %s is trained here and not in the golden", p.Name())
			continue
		}
		if want < golden.GradFloor*largest {
			continue
		}
		got := torchNorm(p.Gradient())
		e := math.Abs(got-want) / want
		worst = max(worst, e)
		compared++
		if !(e <= tol) {
			t.Errorf("gradient norm of %s is %.7g, want %.7g (error %.2g, tolerance %.2g)", p.Name(), got, want, e, tol)
		}
	}
	t.Logf("%d gradient norms, largest error %.2g (tolerance %.2g)", compared, worst, tol)
}

// torchNorm is torch.Tensor.norm as the goldens' PyTorch computes it on a CPU: eight float32 sums, one a vector lane. Exact summation
// differs by up to 1 % for a parameter of 10⁸ values, since a term is then far below the sum it is added to.
func torchNorm(x []float32) float64 {
	var lanes [8]float32
	for ; len(x) >= len(lanes); x = x[len(lanes):] {
		for l := range lanes {
			lanes[l] += x[l] * x[l]
		}
	}
	for l, v := range x {
		lanes[l] += v * v
	}
	var sum float32
	for _, v := range lanes {
		sum += v
	}
	return math.Sqrt(float64(sum))
}

func find(name string) (sdk.Model, bool) {
	for _, f := range plugins.All() {
		if m, ok := f.Model(name); ok {
			return m, true
		}
	}
	return sdk.Model{}, false
}

// nhwc turns NCHW into NHWC.
func nhwc(x []float32, n int, s graph.Shape) []float32 {
	out := make([]float32, len(x))
	for i := range n {
		for c := range s.C {
			for p := range s.H * s.W {
				out[(i*s.H*s.W+p)*s.C+c] = x[(i*s.C+c)*s.H*s.W+p]
			}
		}
	}
	return out
}
