package classifier

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/go-modelzoo/zoo/graph"
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
	// Warmup runs come first; then runs are timed for at least Runs times and Duration.
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
		if _, err := m.session.Infer(ctx, t); err != nil {
			return Measurement{}, err
		}
	}
	var times []time.Duration
	for begin := time.Now(); len(times) < o.Runs || time.Since(begin) < o.Duration; {
		start := time.Now()
		if _, err := m.session.Infer(ctx, t); err != nil {
			return Measurement{}, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	ms := times[len(times)/2].Seconds() * 1000 / float64(o.Batch)
	rss, err := m.session.PeakRSS(ctx)
	return Measurement{
		Model: m.Name, Batch: o.Batch, Precision: info.Precision.String(), Device: info.Device,
		MSPerImage: ms, PerSecond: 1000 / ms, PeakRSSMB: float64(rss) / 1e6,
	}, err
}

// noise fills x with values in [-2, 2), as large as normalised pixels.
func noise(x []float32) {
	s := uint64(1)
	for i := range x {
		s = s*6364136223846793005 + 1442695040888963407
		x[i] = float32(s>>40)/(1<<22) - 2
	}
}
