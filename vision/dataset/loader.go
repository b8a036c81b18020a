package dataset

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/go-modelzoo/zoo/vision"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

// LoaderConfig says how a Loader makes batches.
type LoaderConfig struct {
	BatchSize int
	DropLast  bool // leave out a last batch that is not full
	Sampling  Sampling
	Seed      uint64

	// Prepare, if not nil, is the deterministic beginning of the transforms: its result is what is kept between epochs.
	Prepare transforms.Transform
	// Transform, if not nil, follows, and may be random. Its result must have Width x Height pixels.
	Transform     transforms.Transform
	Width, Height int
	// Normalize makes values of the pixels; Erase, if not nil, comes last.
	Normalize transforms.Normalize
	Erase     *transforms.RandomErasing

	// CacheBytes is the memory for decoded (and prepared) images kept between epochs. What does not fit is decoded anew.
	CacheBytes int64
	Workers    int // goroutines that decode; 0 means GOMAXPROCS
	Prefetch   int // batches made ahead of the one in use; 0 means 2
	Limits     vision.Limits
	// SkipBad leaves unreadable images out of their batch, which is smaller for it. Loader.Bad tells which. Otherwise they are
	// errors.
	SkipBad bool
}

// Batch is a batch of images. It is valid until the iteration goes on.
type Batch struct {
	Images                     []float32 // NHWC
	N, Height, Width, Channels int
	Labels                     []int // N class indices
	Index                      []int // N indices into the samples of the dataset
	Number                     int   // of the batch in its epoch, from 0: one of which no image can be read is left out
}

// BadImage is an image that could not be read.
type BadImage struct {
	Path string
	Err  error // names the file
}

// Loader makes batches of a dataset. It is safe for concurrent use; it has no goroutines but those of running iterations.
type Loader struct {
	data   *Dataset
	config LoaderConfig
	size   int // values of an image

	mu        sync.Mutex
	cache     map[int]*vision.Image // by index of the sample
	cacheFree int64
	bad       map[int]error
	spare     []*ring // buffers of finished iterations
}

// NewLoader returns a loader for the samples of d.
func NewLoader(d *Dataset, c LoaderConfig) (*Loader, error) {
	if len(d.Samples) == 0 {
		return nil, errors.New("the data holds no image")
	}
	if c.BatchSize < 1 {
		return nil, fmt.Errorf("batch size %d is not positive", c.BatchSize)
	}
	if c.Width < 1 || c.Height < 1 {
		return nil, fmt.Errorf("image size %dx%d is not positive", c.Width, c.Height)
	}
	if c.Workers <= 0 {
		c.Workers = runtime.GOMAXPROCS(0)
	}
	if c.Prefetch <= 0 {
		c.Prefetch = 2
	}
	return &Loader{
		data: d, config: c, size: c.Normalize.Len(c.Width, c.Height),
		cache: map[int]*vision.Image{}, cacheFree: c.CacheBytes, bad: map[int]error{},
	}, nil
}

// Batches returns the number of batches of an epoch.
func (l *Loader) Batches() int {
	n := len(l.data.Samples)
	if l.config.DropLast {
		return n / l.config.BatchSize
	}
	return (n + l.config.BatchSize - 1) / l.config.BatchSize
}

// Bad returns the unreadable images met so far, by path.
func (l *Loader) Bad() []BadImage {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []BadImage
	for i, err := range l.bad {
		all = append(all, BadImage{l.data.Samples[i].Path, err})
	}
	slices.SortFunc(all, func(a, b BadImage) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// Epoch iterates over the batches of an epoch from the given one on, in an order and with contents that depend on the dataset,
// the seed and the epoch alone. The iteration ends with an error when ctx does, or at an image that cannot be read. Its
// goroutines end before the range statement does.
func (l *Loader) Epoch(ctx context.Context, epoch, firstBatch int) iter.Seq2[*Batch, error] {
	return func(yield func(*Batch, error) bool) {
		order := l.data.Order(l.config.Sampling, l.config.Seed, epoch)
		order = order[:min(l.Batches()*l.config.BatchSize, len(order))]
		first := firstBatch * l.config.BatchSize
		if firstBatch < 0 || first >= len(order) {
			return
		}
		r := l.takeRing()
		defer l.giveRing(r)
		run := &iteration{loader: l, epoch: epoch, first: first, order: order[first:], ring: r}
		run.cond.L = &run.mu
		defer run.start(ctx)()
		images := 0
		for n := range run.batches() {
			b, err := run.wait(ctx, n)
			if err != nil {
				yield(nil, err)
				return
			}
			b.Number = firstBatch + n
			if images += b.N; b.N > 0 && !yield(b, nil) {
				return
			}
			run.release()
		}
		if bad := l.Bad(); images == 0 && firstBatch == 0 && len(bad) > 0 {
			yield(nil, fmt.Errorf("none of the images could be read; the first: %w", bad[0].Err))
		}
	}
}

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

// load makes the values of one image, with randomness of the epoch and the draw. bad says that it is to be skipped.
func (l *Loader) load(index, epoch, draw int, dst []float32, s *transforms.Scratch) (bad bool, err error) {
	c := &l.config
	img, err := l.image(index, s)
	if err != nil {
		if c.SkipBad {
			return true, nil
		}
		return false, err
	}
	s.Seed(c.Seed, epoch, draw)
	if c.Transform != nil {
		if img, err = c.Transform.Apply(img, s); err != nil {
			return false, fmt.Errorf("image %s: %w", l.data.Samples[index].Path, err)
		}
	}
	if img.Width != c.Width || img.Height != c.Height {
		return false, fmt.Errorf("image %s: transforms gave %dx%d pixels, want %dx%d", l.data.Samples[index].Path, img.Width, img.Height, c.Width, c.Height)
	}
	if err := c.Normalize.Apply(img, dst); err != nil {
		return false, err
	}
	if c.Erase != nil {
		return false, c.Erase.Apply(dst, c.Width, c.Height, len(dst)/(c.Width*c.Height), s)
	}
	return false, nil
}

// image returns the decoded and prepared image from the cache or from its file. The error names the file.
func (l *Loader) image(index int, s *transforms.Scratch) (*vision.Image, error) {
	l.mu.Lock()
	img, err := l.cache[index], l.bad[index]
	l.mu.Unlock()
	if img != nil || err != nil {
		return img, err
	}
	path := l.data.Samples[index].Path
	img, err = vision.DecodeFile(path, l.config.Limits)
	prepared := false
	if err == nil && l.config.Prepare != nil {
		decoded := img
		if img, err = l.config.Prepare.Apply(decoded, s); err != nil {
			err = fmt.Errorf("image %s: %w", path, err)
		}
		prepared = img != decoded
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.bad[index] = err
		return nil, err
	}
	if bytes := int64(len(img.Pix)); bytes <= l.cacheFree && l.cache[index] == nil {
		if prepared { // lies in the scratch
			img = &vision.Image{Pix: slices.Clone(img.Pix), Width: img.Width, Height: img.Height}
		}
		l.cacheFree -= bytes
		l.cache[index] = img
	}
	return img, nil
}

// Unreadable decodes every sample and returns those that cannot be read, in the order of the dataset. It ends early, with
// the error of ctx, when that is done.
func (d *Dataset) Unreadable(ctx context.Context, limits vision.Limits) ([]BadImage, error) {
	errs := make([]error, len(d.Samples))
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(errs) && ctx.Err() == nil; i += workers {
				_, errs[i] = vision.DecodeFile(d.Samples[i].Path, limits)
			}
		})
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	var bad []BadImage
	for i, err := range errs {
		if err != nil {
			bad = append(bad, BadImage{d.Samples[i].Path, err})
		}
	}
	return bad, nil
}

// Without returns the dataset without the given images.
func (d *Dataset) Without(bad []BadImage) *Dataset {
	drop := make(map[string]bool, len(bad))
	for _, b := range bad {
		drop[b.Path] = true
	}
	out := &Dataset{Classes: d.Classes, Ignored: d.Ignored}
	for _, s := range d.Samples {
		if !drop[s.Path] {
			out.Samples = append(out.Samples, s)
		}
	}
	return out
}
