package finetune

import (
	"context"
	"path/filepath"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/weights"
)

// evaluation is what a network said to the validation images.
type evaluation struct {
	metrics *Metrics
	logits  []float32
	labels  []int
	index   []int // of the samples
}

// evaluate runs the validation images through the network, or through what follows the cached features.
func (r *run) evaluate(ctx context.Context, params engine.Params) (*evaluation, error) {
	build := r.buildFull
	if r.cut != nil {
		build = func(graph.Shape) (*graph.Graph, error) { return r.part, nil }
	}
	m, err := infer.New(build, params, infer.Options{Precision: r.model.Precision, Pool: r.model.Pool})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	e := &evaluation{}
	in := r.part.Input
	for b, err := range r.valData.epoch(ctx, 0, 0) {
		if err != nil {
			return nil, err
		}
		out, err := m.Run(ctx, infer.Input{Data: b.images, N: b.n, H: in.H, W: in.W, C: in.C})
		if err != nil {
			return nil, err
		}
		e.logits = append(e.logits, out[0].Data...)
		e.labels = append(e.labels, b.labels...)
		e.index = append(e.index, b.index...)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r.tellSkipped()
	e.metrics = measure(e.logits, e.labels, r.train.Classes, r.config.Ordered)
	return e, nil
}

// tellSkipped notes which images could not be read so far.
func (r *run) tellSkipped() {
	for _, f := range []feeder{r.trainData, r.valData} {
		if f == nil {
			continue
		}
		for _, text := range f.bad() {
			if !r.skipped[text] {
				r.skipped[text] = true
				r.note("skipped: %s", text)
			}
		}
	}
}

// evaluateBest repeats the validation of the best epoch.
func (r *run) evaluateBest(ctx context.Context) error {
	f, err := weights.Open(filepath.Join(r.dir, FileBest))
	if err != nil {
		return err
	}
	r.best, err = r.evaluate(ctx, f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}
