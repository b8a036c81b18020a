package finetune

import (
	"context"
	"iter"

	"github.com/go-modelzoo/zoo/vision/dataset"
)

// batch is what a step learns from: images or cached features, NHWC. It is valid until the iteration goes on. One of which no image could be
// read has none.
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

// epoch gives all batches, also those that the loader leaves out because nothing of them can be read: the position in the epoch counts them.
func (f imageFeeder) epoch(ctx context.Context, epoch, first int) iter.Seq2[*batch, error] {
	return func(yield func(*batch, error) bool) {
		next := first
		for b, err := range f.Loader.Epoch(ctx, epoch, first) {
			if err != nil {
				yield(nil, err)
				return
			}
			for ; next < b.Number; next++ {
				if !yield(&batch{}, nil) {
					return
				}
			}
			if !yield(&batch{b.Images, b.N, b.Labels, b.Index}, nil) {
				return
			}
			next++
		}
		for ; next < f.batches() && ctx.Err() == nil; next++ {
			if !yield(&batch{}, nil) {
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
