package classifier

import (
	"context"
	"fmt"
	"iter"
)

// Evaluation is the accuracy of a model on labelled images.
type Evaluation struct {
	N    int     `json:"n"`
	Top1 float64 `json:"top1"` // percent
	Top5 float64 `json:"top5"` // percent
	// Confusion counts images by true class (row) and predicted class (column); only on request.
	Confusion [][]int `json:"confusion,omitempty"`
	// Skipped names the images that could not be read.
	Skipped []string `json:"skipped,omitempty"`
}

// EvalOptions say what Evaluate does besides counting.
type EvalOptions struct {
	Confusion bool
	// SkipBad counts images that cannot be read as skipped; otherwise the first ends the evaluation.
	SkipBad bool
	// Progress is called after each image, also after one that is skipped; it may be nil.
	Progress func(done int)
}

// Evaluate runs labelled images and counts how often the label is the most probable class, and among the five most probable. A label that is
// no index of a class is an error.
func (m *Model) Evaluate(ctx context.Context, items iter.Seq[Item], o EvalOptions) (Evaluation, error) {
	var e Evaluation
	if m.logits < 0 {
		return e, ErrNoLogits
	}
	if o.Progress == nil {
		o.Progress = func(int) {}
	}
	var first, five int
	if o.Confusion {
		classes := m.Info().Classes // of the network; a card of the caller's own may leave them out
		e.Confusion = make([][]int, classes)
		for i := range e.Confusion {
			e.Confusion[i] = make([]int, classes)
		}
	}
	err := m.Stream(ctx, items, func(r Result) error {
		if r.Err != nil {
			if !o.SkipBad {
				return fmt.Errorf("%w; --skip-bad leaves such images out", r.Err)
			}
			e.Skipped = append(e.Skipped, r.Item.Name)
			o.Progress(e.N + len(e.Skipped))
			return nil
		}
		logits := r.Outputs[m.logits]
		if r.Item.Label < 0 || r.Item.Label >= len(logits) {
			return fmt.Errorf("%s: label %d is outside 0..%d", r.Item.Name, r.Item.Label, len(logits)-1)
		}
		e.N++
		rank, best := rankOf(logits, r.Item.Label)
		if rank == 0 {
			first++
		}
		if rank < 5 {
			five++
		}
		if o.Confusion {
			e.Confusion[r.Item.Label][best]++
		}
		o.Progress(e.N + len(e.Skipped))
		return nil
	})
	if e.N > 0 {
		e.Top1, e.Top5 = 100*float64(first)/float64(e.N), 100*float64(five)/float64(e.N)
	}
	return e, err
}

// rankOf returns how many logits are above the label's (of equal ones those of lower index), and the index of the largest.
func rankOf(logits []float32, label int) (rank, best int) {
	v := logits[label]
	for i, x := range logits {
		if x > v || x == v && i < label {
			rank++
		}
		if x > logits[best] {
			best = i
		}
	}
	return rank, best
}
