package dataset

import (
	"context"
	"sync"

	"github.com/go-modelzoo/zoo/vision/transforms"
)

// ring holds the buffers of the batches that are being made or used.
type ring struct{ slots []slot }

type slot struct {
	batch   Batch
	skip    []bool // by position in the batch
	pending int    // images still to come
}

func (l *Loader) takeRing() *ring {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.spare); n > 0 {
		r := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return r
	}
	r := &ring{slots: make([]slot, l.config.Prefetch+1)}
	for i := range r.slots {
		channels := l.size / (l.config.Width * l.config.Height)
		r.slots[i] = slot{
			batch: Batch{
				Images: make([]float32, l.config.BatchSize*l.size), Height: l.config.Height, Width: l.config.Width, Channels: channels,
				Labels: make([]int, l.config.BatchSize), Index: make([]int, l.config.BatchSize),
			},
			skip: make([]bool, l.config.BatchSize),
		}
	}
	return r
}

// restore undoes the shortening of a batch to the images that are in it.
func (b *Batch) restore() {
	b.Images, b.Labels, b.Index = b.Images[:cap(b.Images)], b.Labels[:cap(b.Labels)], b.Index[:cap(b.Index)]
}

func (l *Loader) giveRing(r *ring) {
	for i := range r.slots {
		r.slots[i].batch.restore()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.spare = append(l.spare, r)
}

// iteration is one run over an epoch. Workers take images in order and stay at most a ring ahead of the consumer.
type iteration struct {
	loader *Loader
	epoch  int
	first  int   // images of the epoch before order
	order  []int // indices into the samples
	ring   *ring

	mu       sync.Mutex
	cond     sync.Cond // any change of what follows
	next     int       // position in order of the next image to make
	consumed int       // batches released
	stopped  bool
	err      error // of the image first in order among the failed
	errAt    int
}

func (r *iteration) batches() int {
	return (len(r.order) + r.loader.config.BatchSize - 1) / r.loader.config.BatchSize
}

// length returns the number of images of batch n.
func (r *iteration) length(n int) int {
	return min(r.loader.config.BatchSize, len(r.order)-n*r.loader.config.BatchSize)
}

func (r *iteration) slot(n int) *slot { return &r.ring.slots[n%len(r.ring.slots)] }

// start starts the workers and returns what stops them and waits for their end.
func (r *iteration) start(ctx context.Context) (stop func()) {
	for n := range min(len(r.ring.slots), r.batches()) {
		r.slot(n).pending = r.length(n)
	}
	end := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stopped = true
		r.cond.Broadcast()
	}
	cancel := context.AfterFunc(ctx, end)
	var wg sync.WaitGroup
	for range min(r.loader.config.Workers, len(r.order)) {
		wg.Go(r.work)
	}
	return func() {
		cancel()
		end()
		wg.Wait()
	}
}

func (r *iteration) work() {
	size, batch := r.loader.size, r.loader.config.BatchSize
	scratch := transforms.NewScratch()
	for {
		r.mu.Lock()
		for !r.stopped && r.next < len(r.order) && r.next/batch >= r.consumed+len(r.ring.slots) {
			r.cond.Wait()
		}
		if r.stopped || r.next >= len(r.order) {
			r.mu.Unlock()
			return
		}
		at := r.next
		r.next++
		r.mu.Unlock()

		s, i, index := r.slot(at/batch), at%batch, r.order[at]
		draw := index
		if r.loader.config.Sampling == Balanced { // the same sample may come again: not with the same augmentation
			draw = r.first + at
		}
		bad, err := r.loader.load(index, r.epoch, draw, s.batch.Images[i*size:(i+1)*size], scratch)
		s.skip[i] = bad
		s.batch.Labels[i], s.batch.Index[i] = r.loader.data.Samples[index].Label, index

		r.mu.Lock()
		if err != nil && (r.err == nil || at < r.errAt) {
			r.err, r.errAt = err, at
		}
		s.pending--
		if s.pending == 0 {
			r.cond.Broadcast()
		}
		r.mu.Unlock()
	}
}

// wait returns batch n when it is complete, without its bad images.
func (r *iteration) wait(ctx context.Context, n int) (*Batch, error) {
	s := r.slot(n)
	r.mu.Lock()
	for s.pending > 0 && !r.stopped {
		r.cond.Wait()
	}
	err, errAt := r.err, r.errAt
	r.mu.Unlock()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil && errAt/r.loader.config.BatchSize <= n { // an error further on is reported when its batch is due
		return nil, err
	}
	b, size := &s.batch, r.loader.size
	b.N = 0
	for i := range r.length(n) {
		if s.skip[i] {
			continue
		}
		if b.N != i {
			copy(b.Images[b.N*size:(b.N+1)*size], b.Images[i*size:(i+1)*size])
			b.Labels[b.N], b.Index[b.N] = b.Labels[i], b.Index[i]
		}
		b.N++
	}
	b.Images, b.Labels, b.Index = b.Images[:b.N*size], b.Labels[:b.N], b.Index[:b.N]
	return b, nil
}

// release gives the oldest batch's buffers back to the workers.
func (r *iteration) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slot(r.consumed)
	s.batch.restore()
	if n := r.consumed + len(r.ring.slots); n < r.batches() {
		s.pending = r.length(n)
	}
	r.consumed++
	r.cond.Broadcast()
}
