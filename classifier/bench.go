package classifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/internal/clock"
)

// Measurement is what `zoo bench` prints of a model, a line each.
type Measurement struct {
	Model      string  `json:"model"`
	Batch      int     `json:"batch"`
	Precision  string  `json:"precision"`
	Device     string  `json:"device"`
	MSPerImage float64 `json:"ms_per_image"`
	PerSecond  float64 `json:"images_per_s"`
	PeakRSSMB  float64 `json:"peak_rss_mb"`
}

// BenchOptions say how long to measure.
type BenchOptions struct {
	Batch int
	// Warmup runs come first; then runs are timed, at least one, for at least Runs times and Duration.
	Warmup, Runs int
	Duration     time.Duration
}

// Bench measures inference through the host: a batch of tensors in, logits out. The time is the median over the runs.
func (m *Model) Bench(ctx context.Context, o BenchOptions) (r Measurement, err error) {
	info := m.Info()
	shape := graph.Shape{C: m.Card.Input[0], H: m.Card.Input[1], W: m.Card.Input[2]}
	t, err := m.session.NewTensor(ctx, o.Batch, shape)
	if err != nil {
		return Measurement{}, err
	}
	defer func() { err = errors.Join(err, t.Release()) }()
	noise(t.Data)
	for range o.Warmup {
		if _, err := m.infer(ctx, t); err != nil {
			return Measurement{}, err
		}
	}
	var times []time.Duration
	for begin := time.Now(); len(times) < max(o.Runs, 1) || time.Since(begin) < o.Duration; {
		start := clock.Now()
		if _, err := m.infer(ctx, t); err != nil {
			return Measurement{}, err
		}
		times = append(times, clock.Now()-start)
	}
	slices.Sort(times)
	ms := times[len(times)/2].Seconds() * 1000 / float64(o.Batch)
	rss, err := m.session.PeakRSS(ctx)
	return Measurement{
		Model: m.Name, Batch: o.Batch, Precision: info.Precision.String(), Device: info.Device,
		MSPerImage: ms, PerSecond: 1000 / ms, PeakRSSMB: float64(rss) / 1e6,
	}, err
}

// TrainingMeasurement is what `zoo bench --train` prints of a model, a line each: a step is forward, backward and update.
type TrainingMeasurement struct {
	Measurement
	Train bool `json:"train"` // always: tells the line from one of inference
	// Params is the number of trainable values of the network and Trained how many of them were trained.
	Params  int64 `json:"params"`
	Trained int64 `json:"trained"`
}

// BenchTraining measures training steps in the family's process, as Finetune trains there: forward, backward and SGD with momentum on random
// images, with what freeze selects frozen (see finetune.Config.Freeze). The time is the median over the steps.
func (c *Client) BenchTraining(ctx context.Context, ck *Checkpoint, o BenchOptions, freeze ...string) (r TrainingMeasurement, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return r, err
	}
	defer end(&err)
	job, err := json.Marshal(finetune.Job{Bench: &finetune.Bench{
		Batch: o.Batch, Classes: max(len(ck.Card.Labels), benchClasses), Freeze: freeze, Warmup: o.Warmup, Runs: o.Runs, Duration: o.Duration,
	}})
	if err != nil {
		return r, err
	}
	dir, err := os.MkdirTemp("", "zoo-bench-") // a training has a folder, even if it writes nothing
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	answer, err := c.Host.Train(ctx, host.TrainSpec{
		Spec: host.Spec{
			Network: ck.Network(), Seed: c.config.Seed, Precision: c.config.Precision, Threads: c.config.Threads, Device: c.config.Device,
		},
		Config: job, RunDir: dir,
	}, nil)
	if err != nil {
		return r, err
	}
	var s finetune.StepTime
	if err := json.Unmarshal(answer, &s); err != nil || s.Step <= 0 {
		return r, fmt.Errorf("the plugin's answer is no measurement of training (%s): a plugin built before `bench --train` cannot give one", answer)
	}
	ms := s.Step * 1000 / float64(o.Batch)
	return TrainingMeasurement{
		Measurement: Measurement{
			Model: ck.Name, Batch: o.Batch, Precision: s.Precision, Device: "cpu", MSPerImage: ms, PerSecond: 1000 / ms, PeakRSSMB: float64(s.PeakRSS) / 1e6,
		},
		Train: true, Params: s.Params, Trained: s.Trained,
	}, nil
}

// benchClasses is the number of classes that training is measured with, unless the model has more.
const benchClasses = 1000

// noise fills x with values in [-2, 2), as large as normalised pixels.
func noise(x []float32) {
	s := uint64(1)
	for i := range x {
		s = s*6364136223846793005 + 1442695040888963407
		x[i] = float32(s>>40)/(1<<22) - 2
	}
}
