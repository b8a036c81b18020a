package finetune

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/kernel/gemm"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/clock"
	"github.com/go-modelzoo/zoo/internal/rss"
)

// Bench says how to measure training steps: forward, backward and SGD with momentum, on random images in memory.
type Bench struct {
	Batch   int `json:"batch"`
	Classes int `json:"classes"`
	// Freeze is as in Config.
	Freeze []string `json:"freeze,omitempty"`
	// Warmup steps come first; then steps are timed, at least Runs of them and for at least Duration.
	Warmup   int           `json:"warmup"`
	Runs     int           `json:"runs"`
	Duration time.Duration `json:"duration"`
}

// StepTime is what Measure gives.
type StepTime struct {
	// Step is the median over the steps, in seconds.
	Step      float64 `json:"step"`
	Precision string  `json:"precision"`
	// Params is the number of trainable values of the network and Trained how many of them were trained.
	Params  int64 `json:"params"`
	Trained int64 `json:"trained"`
	// PeakRSS is the most memory in bytes that this process has had, 0 where that is not known.
	PeakRSS int64 `json:"peak_rss"`
}

// benchRate is a learning rate at which random images and labels cannot make the weights grow: speed does not depend on it, but a loss
// that is not a number would leave out the backward pass.
const benchRate = 1e-6

// Measure times training steps of a network. Nothing is written.
func Measure(ctx context.Context, m Model, b Bench, seed uint64) (result *StepTime, err error) {
	if b.Batch < 1 || b.Runs < 1 || b.Classes < 2 || b.Warmup < 0 {
		return nil, fmt.Errorf("measuring %d steps of %d images and %d classes: at least 1, 1 and 2 are needed", b.Runs, b.Batch, b.Classes)
	}
	if m.Pool == nil {
		m.Pool = work.New(work.DefaultThreads())
		defer m.Pool.Close()
	}
	g, err := m.Build(m.Input, b.Classes)
	if err != nil {
		return nil, err
	}
	values, err := openParams(g, m.Weights, seed)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, values.Close()) }()
	plan, err := newFreezePlan(g, b.Freeze, 0, 0)
	if err != nil {
		return nil, err
	}
	t, err := train.New(g, values, train.Options{
		Pool: m.Pool, Precision: m.Precision, Seed: seed,
		Trainable: func(p *graph.Param) bool { return !plan.start[p.Name] },
	})
	if err != nil {
		return nil, err
	}
	if least := t.LeastBatch(); b.Batch < least {
		return nil, fmt.Errorf("%s cannot be trained on batches of %d: give at least %d images a batch", m.Name, b.Batch, least)
	}
	r := &StepTime{Precision: gemm.Resolve(m.Precision, cpu.Best()).String()}
	var params []*train.Param
	for _, p := range t.All() {
		if p.Spec.Role.Buffer() {
			continue
		}
		r.Params += int64(len(p.Values()))
		if p.Trainable() {
			params = append(params, p)
			r.Trained += int64(len(p.Values()))
		}
	}
	optimizer, err := train.NewOptimizer(train.Algorithm{Name: "sgd", Momentum: 0.9}, train.Group{Params: params, LRScale: 1})
	if err != nil {
		return nil, err
	}
	random := rand.New(rand.NewPCG(seed, 1))
	images, labels := make([]float32, b.Batch*m.Input.Elements()), make([]int, b.Batch)
	for i := range images {
		images[i] = float32(random.NormFloat64())
	}
	for i := range labels {
		labels[i] = random.IntN(b.Classes)
	}
	step := func() error {
		t.ZeroGrad()
		if _, err := t.Accumulate(ctx, images, b.Batch, train.Targets{Labels: labels}, 1); err != nil {
			return err
		}
		if params[0].HasGrad() {
			return optimizer.Step(benchRate)
		}
		return errors.New("the loss of random images is no number: give --precision highest, or other weights")
	}
	for range b.Warmup {
		if err := step(); err != nil {
			return nil, err
		}
	}
	var times []float64
	for began := time.Now(); len(times) < b.Runs || time.Since(began) < b.Duration; {
		start := clock.Now()
		if err := step(); err != nil {
			return nil, err
		}
		times = append(times, (clock.Now() - start).Seconds())
	}
	slices.Sort(times)
	r.Step = times[len(times)/2]
	r.PeakRSS, err = rss.Peak("self")
	return r, err
}
