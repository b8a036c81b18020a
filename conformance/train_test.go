package conformance

import (
	"context"
	"math"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/internal/reference"
)

// TestGoldenTraining takes the optimiser steps of every training golden. Package engine/train has the same cases in its own tests, so that they
// run here only when all is asked for.
func TestGoldenTraining(t *testing.T) {
	if !all() {
		t.Skip("runs with ZOO_CONFORMANCE=all")
	}
	cases, err := golden.TrainCases()
	if err != nil {
		t.Fatal(err)
	}
	pool := work.New(0)
	defer pool.Close()
	var results table
	defer results.print()
	for _, c := range cases {
		t.Run(c.Model+"_"+c.Optimizer.Name, func(t *testing.T) { steps(t, c, pool, &results) })
	}
}

func steps(t *testing.T, c golden.Train, pool *work.Pool, results *table) {
	_, m := find(t, c.Model)
	g, err := m.Graph(c.Batch.Shape(), c.Classes, nil)
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
	trainer, err := train.New(g, golden.Fill(g, c.Gain), train.Options{
		Pool: pool, Precision: engine.Highest, NoDropout: true, Trainable: func(p *graph.Param) bool { return !frozen(p) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var params []*train.Param
	for _, p := range trainer.All() {
		if p.Trainable() {
			params = append(params, p)
		}
	}
	o := c.Optimizer
	optimizer, err := train.NewOptimizer(train.Algorithm{Name: o.Name, Momentum: o.Momentum, WeightDecay: o.WeightDecay},
		train.Group{Params: params, LRScale: 1, WeightDecay: o.WeightDecay})
	if err != nil {
		t.Fatal(err)
	}

	n, shape := c.Batch.N(), c.Batch.Shape()
	losses, gradients := 0.0, 0.0
	for i, name := range c.Inputs {
		trainer.ZeroGrad()
		r, err := trainer.Accumulate(context.Background(), reference.NHWC(golden.Input(name, n, shape), n, shape), n, train.Targets{Labels: c.Labels}, 1)
		if err != nil {
			t.Fatal(err)
		}
		losses = worst(losses, math.Abs(r.Loss-c.Losses[i])/math.Abs(c.Losses[i]))
		if i == 0 {
			gradients = gradientError(t, c, params)
		}
		if err := optimizer.Step(o.LR); err != nil {
			t.Fatal(err)
		}
	}
	n, shape = c.EvalInput.N(), c.EvalInput.Shape()
	logits, err := trainer.Evaluate(context.Background(), reference.NHWC(golden.Input("input", n, shape), n, shape), n)
	if err != nil {
		t.Fatal(err)
	}

	tolerance := c.Tolerances()
	r := row{model: c.Model, input: c.Batch.String(), precision: engine.Highest}
	for _, q := range []struct {
		what             string
		error, tolerance float64
	}{
		{"losses, " + o.Name, losses, tolerance.Losses},
		{"gradient norms", gradients, tolerance.GradL2},
		{"logits after training", golden.RelL2(logits, c.EvalLogits), tolerance.EvalLogits},
	} {
		r.what, r.error, r.tolerance = q.what, q.error, q.tolerance
		results.add(t, r)
	}
}

// worst is the larger error; NaN is infinite.
func worst(a, b float64) float64 {
	if math.IsNaN(b) {
		return math.Inf(1)
	}
	return max(a, b)
}

// gradientError returns the largest relative error of the norms of the larger gradients.
func gradientError(t *testing.T, c golden.Train, params []*train.Param) float64 {
	largest, e := 0.0, 0.0
	for _, v := range c.GradL2 {
		largest = max(largest, v)
	}
	if len(params) != len(c.GradL2) {
		t.Errorf("%d parameters are trained, %d in the golden", len(params), len(c.GradL2))
	}
	for _, p := range params {
		want, ok := c.GradL2[p.Name()]
		if !ok {
			t.Errorf("%s is trained and not in the golden", p.Name())
		}
		if want >= golden.GradFloor*largest {
			e = worst(e, math.Abs(norm32(p.Gradient())-want)/want)
		}
	}
	return e
}

// norm32 is torch.Tensor.norm as the goldens' PyTorch computes it: eight float32 sums, one a vector lane. Exact summation differs by up to
// 1 % for a parameter of 10⁸ values, where a term is far below the sum it is added to.
func norm32(x []float32) float64 {
	var lanes [8]float32
	for i, v := range x {
		lanes[i%len(lanes)] += v * v
	}
	var sum float32
	for _, v := range lanes {
		sum += v
	}
	return math.Sqrt(float64(sum))
}
