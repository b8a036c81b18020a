package finetune

import (
	"context"
	"iter"

	"github.com/go-modelzoo/zoo/vision/dataset"
)

// batch is what a step learns from: images or cached features, NHWC. It is valid until the iteration goes on.
type batch struct {
	images []float32
	n      int
	labels []int
	index  []int
}

// feeder gives the batches of an epoch in an order that depends on the seed and the epoch alone.
type feeder interface {
	epoch(ctx context.Context, epoch, first int) iter.Seq2[*batch, error]
	batches() int
	bad() []string // errors about images left out, each naming its file
	close() error
}

// imageFeeder decodes and augments images while the network computes.
type imageFeeder struct{ *dataset.Loader }

func (f imageFeeder) batches() int { return f.Loader.Batches() }

func (f imageFeeder) epoch(ctx context.Context, epoch, first int) iter.Seq2[*batch, error] {
	return func(yield func(*batch, error) bool) {
		for b, err := range f.Loader.Epoch(ctx, epoch, first) {
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(&batch{b.Images, b.N, b.Labels, b.Index}, nil) {
				return
			}
		}
	}
}

func (f imageFeeder) bad() []string {
	var list []string
	for _, b := range f.Loader.Bad() {
		list = append(list, b.Err.Error())
	}
	return list
}

func (f imageFeeder) close() error { return nil }
