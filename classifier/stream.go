package classifier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/vision"
)

// Item is an image to run: decoded, or to be read from Open, or from the file Name. Open is called on another goroutine, several at a time.
type Item struct {
	Name  string
	Label int // carried along for whoever needs it
	Image *vision.Image
	Open  func() (io.ReadCloser, error)
}

// decode gives up when ctx ends. What it leaves then is one goroutine, until a pipe that nobody writes to, or a disk that is gone, answers.
func (it Item) decode(ctx context.Context) (*vision.Image, error) {
	if it.Image != nil {
		return it.Image, nil
	}
	type decoded struct {
		img *vision.Image
		err error
	}
	done := make(chan decoded, 1)
	go func() {
		img, err := it.read(ctx)
		done <- decoded{img, err}
	}()
	select {
	case d := <-done:
		return d.img, d.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (it Item) read(ctx context.Context) (*vision.Image, error) {
	if it.Open == nil {
		return vision.DecodeFile(it.Name, vision.Limits{})
	}
	r, err := it.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	img, err := vision.Decode(files.Reader(ctx, r), vision.Limits{})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", it.Name, err)
	}
	return img, nil
}

// Result is what the network gave for an Item: for each output, in the order of LoadOptions.Outputs, its values, float32 HWC; or an error that
// names the item. The values may be kept.
type Result struct {
	Item    Item
	Outputs [][]float32
	Shapes  []graph.Shape
	Err     error
}

// streamBatch is how many images of one size run together unless LoadOptions say otherwise: enough to fill the matrix units on small maps, few enough that the first
// results come soon.
const streamBatch = 8

// Stream decodes, preprocesses and runs images, and calls each with the results in the order of the items. An image that cannot be read gives
// a Result with an error and does not stop the others; an error of each does. The next batch is prepared while one runs: items is called on
// another goroutine, each on the caller's. Stream returns when items has, which is told to end when ctx does.
func (m *Model) Stream(ctx context.Context, items iter.Seq[Item], each func(Result) error) (err error) {
	running, stop := context.WithCancel(ctx)
	ready := make(chan *batch, 1)
	var prepared error // set before ready is closed
	go func() {
		defer close(ready)
		prepared = m.prepare(running, items, ready)
	}()
	defer func() { // also where each panics or ends its goroutine, as a failing test does
		stop()
		for b := range ready { // left over where the stream ended early
			err = errors.Join(err, b.release())
		}
	}()
	report := func(r Result) error {
		if r.Err != nil && ctx.Err() != nil { // what ended everything is not the image's fault
			return context.Cause(ctx)
		}
		return each(r)
	}
	for b := range ready {
		if err := m.runBatch(running, b, report); err != nil {
			return err
		}
	}
	return prepared
}

// batch is a number of preprocessed images of one size; those that could not be read have an error and no place in the tensor.
type batch struct {
	items  []Item
	errs   []error
	slot   []int // the item's image in the tensor
	tensor *host.Tensor
	shape  graph.Shape
}

// release gives the tensor back, if there is one.
func (b *batch) release() error {
	if b.tensor == nil {
		return nil
	}
	return b.tensor.Release()
}

func (m *Model) prepare(ctx context.Context, items iter.Seq[Item], ready chan<- *batch) error {
	size := m.batch
	p := m.Preprocess()
	if p.Crop == 0 && !p.Squash {
		size = 1 // every image keeps its own size
	}
	var pending []Item
	flush := func() error {
		b, err := m.load(ctx, pending)
		if err != nil {
			return errors.Join(err, b.release())
		}
		pending = nil
		select {
		case ready <- b:
			return nil
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), b.release())
		}
	}
	for it := range items {
		pending = append(pending, it)
		if len(pending) == size {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if len(pending) > 0 {
		return flush()
	}
	return nil
}

// load decodes and preprocesses the items into one tensor. The batch is to be released also if there is an error.
func (m *Model) load(ctx context.Context, items []Item) (*batch, error) {
	b := &batch{items: items, errs: make([]error, len(items)), slot: make([]int, len(items))}
	images := make([]*vision.Image, len(items))
	if err := parallel(ctx, len(items), func(i int) { images[i], b.errs[i] = items[i].decode(ctx) }); err != nil {
		return b, err
	}
	p := m.Preprocess()
	good := 0
	for i, img := range images {
		if b.errs[i] == nil {
			b.slot[i] = good
			good++
			w, h := p.OutputSize(img.Width, img.Height)
			b.shape = graph.Shape{C: m.Card.Input[0], H: h, W: w}
		}
	}
	if good == 0 {
		return b, nil
	}
	t, err := m.session.NewTensor(ctx, good, b.shape)
	if err != nil {
		return b, err
	}
	b.tensor = t
	e := b.shape.Elements()
	return b, parallel(ctx, len(items), func(i int) {
		if b.errs[i] == nil {
			if err := p.Apply(images[i], t.Data[b.slot[i]*e:(b.slot[i]+1)*e]); err != nil {
				b.errs[i] = fmt.Errorf("%s: %w", items[i].Name, err)
				clear(t.Data[b.slot[i]*e : (b.slot[i]+1)*e])
			}
		}
	})
}

func parallel(ctx context.Context, n int, f func(i int)) error {
	var g errgroup.Group
	g.SetLimit(max(runtime.GOMAXPROCS(0), 1))
	for i := range n {
		g.Go(func() error {
			if ctx.Err() == nil {
				f(i)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return context.Cause(ctx)
}

func (m *Model) runBatch(ctx context.Context, b *batch, each func(Result) error) error {
	var outputs []host.Output
	if b.tensor != nil {
		var err error
		outputs, err = m.infer(ctx, b.tensor)
		if e := b.release(); err == nil {
			err = e
		}
		if err != nil {
			if len(b.items) == 1 && ctx.Err() == nil {
				return each(Result{Item: b.items[0], Err: fmt.Errorf("%s: %w", b.items[0].Name, err)})
			}
			return err
		}
	}
	for i, it := range b.items {
		r := Result{Item: it, Err: b.errs[i]}
		if r.Err == nil {
			for _, o := range outputs {
				e, k := o.Shape.Elements(), b.slot[i]
				r.Outputs = append(r.Outputs, o.Data[k*e:(k+1)*e:(k+1)*e]) // who appends to it leaves the next image's alone
				r.Shapes = append(r.Shapes, o.Shape)
			}
			if nan(r.Outputs) {
				r.Err = fmt.Errorf("%s: the network's output is not a number: check the weights with `zoo verify %s`", it.Name, m.Name)
			}
		}
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

func nan(outputs [][]float32) bool {
	for _, o := range outputs {
		for _, v := range o {
			if math.IsNaN(float64(v)) {
				return true
			}
		}
	}
	return false
}
