package finetune

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/go-modelzoo/zoo/vision/dataset"
)

// openData finds the images.
func (r *run) openData() error {
	c := &r.config
	var err error
	if r.train, r.val, err = readData(c.Data); err != nil {
		return err
	}
	if err := r.train.CheckTrainable(); err != nil {
		return err
	}
	switch {
	case c.Val != "":
		val, err := readLabelled(c.Val, r.train.Classes)
		if err != nil {
			return err
		}
		if r.val, err = val.WithClasses(r.train.Classes); err != nil {
			return fmt.Errorf("validation data %s: %w", c.Val, err)
		}
	case r.val == nil:
		if r.train, r.val, err = r.train.Split(c.ValFraction, c.Seed); err != nil {
			return err
		}
	}
	if c.Metric == MetricAUC && len(r.train.Classes) != 2 {
		return fmt.Errorf("metric auc is for two classes, the data has %d: use accuracy or f1", len(r.train.Classes))
	}
	if i := slices.Index(r.val.Counts(), 0); c.Metric == MetricAUC && i >= 0 {
		return fmt.Errorf("metric auc needs validation images of both classes, there is none of %s: use accuracy or f1, or add some", r.val.Classes[i])
	}
	if c.Metric == MetricKappa {
		c.Ordered = true
	}
	return nil
}

// readData reads a folder, with or without parts for training and validation, or a CSV file.
func readData(path string) (train, val *dataset.Dataset, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, fmt.Errorf("data: %w", err)
	}
	if info.IsDir() {
		return dataset.TrainVal(path)
	}
	train, err = dataset.CSV(path, nil)
	return train, nil, err
}

// readLabelled reads validation data.
func readLabelled(path string, classes []string) (*dataset.Dataset, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("validation data: %w", err)
	}
	if info.IsDir() {
		return dataset.ImageFolder(path)
	}
	return dataset.CSV(path, classes)
}

// loaderKind is a use of images.
type loaderKind uint8

const (
	loaderTrain loaderKind = iota // random order, augmented
	loaderPlain                   // in order, as for evaluation
	loaderViews                   // in order, augmented
)

// imageCache is the memory for decoded images that are kept between epochs.
const imageCache = 1 << 30

// evalBatch is how many images are evaluated at a time.
const evalBatch = 32

func (r *run) loader(d *dataset.Dataset, kind loaderKind) (*dataset.Loader, error) {
	p := r.model.Preprocess
	c := dataset.LoaderConfig{
		BatchSize: evalBatch, Seed: r.config.Seed, Width: r.model.Input.W, Height: r.model.Input.H, Normalize: p.Normalize(),
		CacheBytes: imageCache, SkipBad: r.config.SkipBad, Prepare: p.Transform(),
	}
	if kind != loaderPlain {
		c.Prepare, c.Transform, c.Erase = r.augment.pipeline(p, r.model.Input.H)
	}
	if kind == loaderTrain {
		c.BatchSize = r.config.BatchSize
		c.Sampling = r.sampling()
		c.DropLast = r.dropLast()
	}
	return dataset.NewLoader(d, c)
}

func (r *run) sampling() dataset.Sampling {
	if r.config.Balanced {
		return dataset.Balanced
	}
	return dataset.Shuffled
}

// dropLast reports whether the last batch of an epoch would be a single image, of which batch norms can learn nothing.
func (r *run) dropLast() bool {
	return r.config.BatchSize > 1 && len(r.train.Samples)%r.config.BatchSize == 1
}

// explain adds what to do to an error about an image.
func (r *run) explain(err error) error {
	if r.config.SkipBad || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w; --skip-bad leaves unreadable images out", err)
}
