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
