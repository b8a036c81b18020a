package finetune

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/vision/dataset"
	"github.com/go-modelzoo/zoo/weights"
)

// chooseCache decides whether the frozen part's results are computed once and kept.
func (r *run) chooseCache() error {
	c := &r.config
	if c.CacheFeatures == On && c.Views == 0 && c.Augment.Policy == AugmentAuto {
		r.augment = Augment{Policy: AugmentNone, MixUp: r.augment.MixUp, CutMix: r.augment.CutMix} // no augmentation was asked for in words
	}
	why := ""
	if cut := cutPoint(r.graph, r.plan.start); cut == nil {
		why = "nothing that the images pass first is frozen"
	} else if r.plan.varies(c.Epochs) {
		why = "the frozen part begins to train later"
	} else if r.augment.random() && c.Views == 0 {
		why = "augmented images differ every time: choose how many versions of each to keep with --views"
	} else if r.augment.MixUp > 0 || r.augment.CutMix > 0 {
		why = "mixup and cutmix blend images before the frozen part"
	} else if part, err := behind(r.graph, cut); err != nil {
		why = err.Error()
	} else if c.CacheFeatures != Off {
		r.cut, r.part = cut, part
		return nil
	}
	r.part = r.graph
	if c.CacheFeatures == On {
		return fmt.Errorf("features cannot be cached: %s", why)
	}
	if c.Views > 0 {
		return fmt.Errorf("there are no cached features to keep %d views of: %s", c.Views, why)
	}
	return nil
}

// openFeeders opens what feeds the training and the validation.
func (r *run) openFeeders(ctx context.Context) error {
	if r.cut == nil {
		train, err := r.loader(r.train, loaderTrain)
		if err != nil {
			return err
		}
		val, err := r.loader(r.val, loaderPlain)
		if err != nil {
			return err
		}
		r.trainData, r.valData = imageFeeder{train}, imageFeeder{val}
		return nil
	}
	views, kind := 1, loaderPlain
	if r.augment.random() {
		views, kind = r.config.Views, loaderViews
	}
	train, err := r.openFeatures(ctx, r.train, kind, views)
	if err != nil {
		return err
	}
	r.trainData = train
	train.size, train.how, train.seed, train.drop = r.config.BatchSize, r.sampling(), r.config.Seed, r.dropLast()
	val, err := r.openFeatures(ctx, r.val, loaderPlain, 1)
	if err != nil {
		return err
	}
	r.valData = val
	val.size = evalBatch
	return nil
}

// features are the results of the frozen part for every image of a dataset, in files mapped into memory.
type features struct {
	data      *dataset.Dataset // the readable images
	positions []int            // of them in the dataset asked for
	unread    []string         // errors about the others
	views     int
	shape     graph.Shape
	perShard  int
	shards    [][]float32
	files     []*weights.File

	size int
	how  dataset.Sampling
	seed uint64
	drop bool
}

// openFeatures opens the cached features of a dataset, computing what is missing.
func (r *run) openFeatures(ctx context.Context, d *dataset.Dataset, kind loaderKind, views int) (*features, error) {
	key, err := r.featureKey(ctx, d, kind, views)
	if err != nil {
		return nil, err
	}
	root := r.config.CacheDir
	if root == "" {
		root = filepath.Join(r.dir, "features")
	}
	dir := filepath.Join(root, key)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	manifest := filepath.Join(dir, FileFeatures)
	var m featureManifest
	data, err := files.ReadAll(manifest, maxManifest)
	if err == nil {
		err = json.Unmarshal(data, &m)
	} else if errors.Is(err, fs.ErrNotExist) {
		m, err = r.computeFeatures(ctx, d, kind, views, dir)
	}
	if err != nil {
		return nil, err
	}
	if now := time.Now(); os.Chtimes(manifest, now, now) != nil {
		r.note("the time of %s cannot be set: zoo cache prune will take the features for unused", manifest)
	}
	f := &features{views: m.Views, shape: m.Shape, perShard: m.PerShard, data: &dataset.Dataset{Classes: d.Classes}}
	for i, s := range d.Samples {
		if text, bad := m.Bad[i]; bad {
			f.unread = append(f.unread, text)
			continue
		}
		f.data.Samples = append(f.data.Samples, s)
		f.positions = append(f.positions, i)
	}
	for i := range m.Shards {
		file, err := weights.Open(shardPath(dir, i))
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		f.files = append(f.files, file)
		values, err := file.Param(shardFeatures)
		if err != nil {
			return nil, errors.Join(err, f.close())
		}
		f.shards = append(f.shards, values)
	}
	return f, nil
}

// featureKey is the digest of all that the features depend on.
func (r *run) featureKey(ctx context.Context, d *dataset.Dataset, kind loaderKind, views int) (string, error) {
	files, err := digests(ctx, d)
	if err != nil {
		return "", err
	}
	computes, err := fingerprint(r.graph, r.graph.InferenceNodes(r.cut)) // the same weights may be of several networks: padding is an option
	if err != nil {
		return "", err
	}
	what := struct {
		Weights, Network, Node, Precision, Preprocess string
		Input, Shape                                  graph.Shape
		Augment                                       string
		Seed                                          uint64
		Views                                         int
		SkipBad                                       bool
		Files                                         []string
	}{
		Weights: r.model.Digest, Network: computes, Node: r.cut.Name, Precision: r.model.Precision.String(), Input: r.model.Input,
		Shape: r.cut.Shape, Views: views, SkipBad: r.config.SkipBad, Files: files,
	}
	if what.Weights == "" { // not shared between runs, but between parts of one
		what.Weights = fmt.Sprint(r.dir, " ", r.model.Weights, " ", r.config.Seed)
	}
	p, err := json.Marshal(r.model.Preprocess)
	if err != nil {
		return "", err
	}
	what.Preprocess = string(p)
	if kind == loaderViews {
		a, err := json.Marshal(r.augment)
		if err != nil {
			return "", err
		}
		what.Augment, what.Seed = string(a), r.config.Seed
	}
	data, err := json.Marshal(what)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

// digests returns the SHA-256 of every file of a dataset; of one that cannot be read, nothing.
func digests(ctx context.Context, d *dataset.Dataset) ([]string, error) {
	list := make([]string, len(d.Samples))
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for w := range workers {
		wg.Go(func() {
			h := sha256.New()
			for i := w; i < len(list) && ctx.Err() == nil; i += workers {
				f, err := os.Open(d.Samples[i].Path)
				if err != nil {
					continue // the loader reports it
				}
				h.Reset()
				if _, err := io.Copy(h, f); err == nil {
					list[i] = hex.EncodeToString(h.Sum(nil))
				}
				f.Close() // was opened for reading
			}
		})
	}
	wg.Wait()
	return list, ctx.Err()
}

// cutOutput is the name under which the frozen part's plan gives its result.
const cutOutput = "finetune.cut"

// computeFeatures runs all images through the frozen part and writes the results, view by view. It goes on where an earlier call was interrupted.
func (r *run) computeFeatures(ctx context.Context, d *dataset.Dataset, kind loaderKind, views int, dir string) (m featureManifest, err error) {
	model, err := infer.New(func(s graph.Shape) (*graph.Graph, error) {
		g, err := r.buildFull(s)
		if err != nil {
			return nil, err
		}
		g.Taps = []graph.Tap{{Name: cutOutput, Node: g.Nodes[r.cut.ID]}}
		return g, nil
	}, r.params, infer.Options{Precision: r.model.Precision, Pool: r.model.Pool, Outputs: []string{cutOutput}})
	if err != nil {
		return m, err
	}
	defer model.Close()
	loader, err := r.loader(d, kind)
	if err != nil {
		return m, err
	}
	w := newFeatureWriter(dir, d, views, r.cut.Shape, loader.Bad)
	for view := w.rows() / w.Images; view < views; view++ {
		first := view * w.Images // row
		for b, err := range loader.Epoch(ctx, view, (w.rows()-first)/evalBatch) {
			if err != nil {
				return m, r.explain(err)
			}
			out, err := model.Run(ctx, infer.Input{Data: b.Images, N: b.N, H: b.Height, W: b.Width, C: b.Channels})
			if err != nil {
				return m, err
			}
			for i, at := range b.Index {
				if err := w.add(first+at, out[0].Data[i*w.size():][:w.size()]); err != nil {
					return m, err
				}
			}
			r.emit(Event{Kind: KindFeatures, Done: w.rows(), Total: w.total()})
		}
		if err := ctx.Err(); err != nil {
			return m, err
		}
		if err := w.padTo(first + w.Images); err != nil {
			return m, err
		}
	}
	return w.featureManifest, w.finish()
}

func (f *features) count() int {
	n := len(f.data.Samples)
	if f.drop && n%f.size == 1 {
		n--
	}
	return n
}

func (f *features) batches() int { return (f.count() + f.size - 1) / f.size }

func (f *features) bad() []string { return f.unread }

func (f *features) epoch(ctx context.Context, epoch, first int) iter.Seq2[*batch, error] {
	return func(yield func(*batch, error) bool) {
		order := f.data.Order(f.how, f.seed, epoch)[:f.count()]
		d, images := f.shape.Elements(), len(f.positions)+len(f.unread)
		view := epoch % f.views
		b := &batch{images: make([]float32, f.size*d)}
		for at := first * f.size; at < len(order); at += f.size {
			if err := ctx.Err(); err != nil {
				yield(nil, err)
				return
			}
			b.labels, b.index, b.n = b.labels[:0], b.index[:0], 0
			b.images = b.images[:cap(b.images)]
			for _, i := range order[at:min(at+f.size, len(order))] {
				row := view*images + f.positions[i]
				copy(b.images[b.n*d:][:d], f.shards[row/f.perShard][row%f.perShard*d:])
				b.labels = append(b.labels, f.data.Samples[i].Label)
				b.index = append(b.index, f.positions[i])
				b.n++
			}
			b.images = b.images[:b.n*d]
			if !yield(b, nil) {
				return
			}
		}
	}
}

func (f *features) close() error {
	var errs []error
	for _, file := range f.files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}
