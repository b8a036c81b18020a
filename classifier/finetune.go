package classifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/vision/dataset"
)

// FinetuneOptions say where a training goes.
type FinetuneOptions struct {
	// Out is a name for the store, or, if it contains a path separator, a folder for the model.
	Out string
	// Resume continues what was begun under Out; Overwrite throws that away.
	Resume, Overwrite bool
	// Scratch begins with random weights.
	Scratch bool
	// License is that of the result; empty means the base model's, or unknown.
	License string
	// Sink is told what happens; may be nil.
	Sink func(finetune.Event)
}

// Finetuned is a trained model.
type Finetuned struct {
	// Model is what to ask for it by: a name or a folder.
	Model string `json:"model"`
	// Folder holds the run: model, card, report, metrics, checkpoints.
	Folder string `json:"folder"`
	*finetune.Result
	// Stopped says that the run was interrupted: this is the best up to there.
	Stopped bool `json:"stopped,omitempty"`
}

// ErrNothingKept says that a training ended before there was anything to continue from. Its folder is gone.
var ErrNothingKept = errors.New("it ended before the first checkpoint: the same command begins it again")

// Finetune trains a checkpoint in its family's process. When ctx ends, the run is saved, and the best so far is returned with the context's
// error if there is one. A run that fails before its first checkpoint leaves nothing behind, and its error wraps ErrNothingKept if ctx ended. A
// folder that holds a run, unless that is to be continued or thrown away, is refused with finetune.ErrRunExists.
func (c *Client) Finetune(ctx context.Context, ck *Checkpoint, config finetune.Config, o FinetuneOptions) (_ *Finetuned, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	folder, inStore, err := c.runFolder(o.Out)
	if err != nil {
		return nil, err
	}
	if err := c.free(ctx, folder, inStore, o); err != nil {
		return nil, err
	}
	before, err := filesOf(folder)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err == nil {
			return
		}
		kept, failed := discardStart(folder, before)
		if !kept && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ErrNothingKept, err)
		}
		err = errors.Join(err, failed)
	}()
	spec, err := c.trainSpec(ck, config, folder, o)
	if err != nil {
		return nil, err
	}
	if o.Overwrite && before != nil { // now that the data can be read
		if file := spec.Weights.Path; file != "" && sameFolder(folder, filepath.Dir(file)) {
			return nil, fmt.Errorf("%s holds the model that the training begins with: choose another --out", folder)
		}
		if before, err = throwAway(ctx, folder); err != nil {
			return nil, err
		}
	}
	var mistake error
	answer, err := c.Host.Train(ctx, spec, func(data json.RawMessage) {
		var e finetune.Event
		if err := json.Unmarshal(data, &e); err != nil {
			mistake = fmt.Errorf("the plugin reported what is no event: %w", err)
		} else if o.Sink != nil {
			o.Sink(e)
		}
	})
	stopped := err != nil && ctx.Err() != nil
	if err != nil && (!stopped || len(answer) == 0) {
		return nil, err
	}
	if mistake != nil {
		return nil, mistake
	}
	var r *finetune.Result
	if err := json.Unmarshal(answer, &r); err != nil {
		return nil, fmt.Errorf("the plugin's result: %w", err)
	}
	if r == nil { // stopped before the first epoch was over
		return nil, err
	}
	if err := ownResult(folder, r); err != nil {
		return nil, err
	}
	k, cardErr := c.trainedCard(ctx, ck, r, o, stopped)
	if cardErr != nil {
		return nil, cardErr
	}
	if writeErr := writeCard(folder, k); writeErr != nil {
		return nil, writeErr
	}
	out := &Finetuned{Model: folder, Folder: folder, Result: r, Stopped: stopped}
	if inStore {
		m, importErr := c.Hub.Import(context.WithoutCancel(ctx), filepath.Join(folder, FolderWeights), k, hub.ImportOptions{Overwrite: o.Resume || o.Overwrite}) // free looked, but long ago
		if importErr != nil {
			return nil, fmt.Errorf("the model is in %s, but not in the store: %w", folder, importErr)
		}
		out.Model = c.reference(ctx, m)
	}
	return out, err
}

// trainSpec is what the host is asked for. It makes the folder.
func (c *Client) trainSpec(ck *Checkpoint, config finetune.Config, folder string, o FinetuneOptions) (host.TrainSpec, error) {
	if err := ck.Card.Preprocess.Validate(ck.Card.Input[0]); err != nil { // its result's card would be refused, hours later
		return host.TrainSpec{}, fmt.Errorf("%s: %w", ck.Name, err)
	}
	read, err := dataPaths(&config)
	if err != nil {
		return host.TrainSpec{}, err
	}
	var write []string // besides the folder
	if config.CacheFeatures != finetune.Off {
		config.CacheDir = c.featuresDir()
		write = append(write, config.CacheDir)
	}
	for _, dir := range append(write, folder) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return host.TrainSpec{}, fmt.Errorf("%w: set ZOO_HOME, or --out, to a folder of yours", err)
		}
	}
	config.Seed = c.config.Seed
	job, err := json.Marshal(finetune.Job{Config: config, Preprocess: transform(ck.Card.Preprocess, ck.Card.Input[0])})
	if err != nil {
		return host.TrainSpec{}, err
	}
	spec := host.TrainSpec{
		Spec: host.Spec{
			Network: ck.Network(), Weights: host.Weights{Path: ck.Path, SHA256: ck.SHA256, NewClassifier: true},
			Seed: c.config.Seed, Precision: c.config.Precision, Threads: c.config.Threads, Device: c.config.Device,
		},
		Config: job, Batch: config.BatchSize, RunDir: folder, Read: read, Write: write, Resume: o.Resume,
	}
	if o.Scratch {
		spec.Weights = host.Weights{}
	} else if ck.Path == "" {
		return host.TrainSpec{}, fmt.Errorf("%s has no weights to start from: `zoo train` begins with random ones", ck.Name)
	}
	return spec, nil
}

// runFolder is where a run keeps its files, and whether its result goes into the store.
func (c *Client) runFolder(out string) (dir string, inStore bool, err error) {
	switch {
	case out == "":
		return "", false, errors.New("no name for the result: give --out NAME, or --out DIR/ for a folder")
	case strings.ContainsRune(out, '/') || strings.ContainsRune(out, filepath.Separator):
		dir, err = filepath.Abs(out)
		return dir, false, err
	case !registry.ValidName(out):
		return "", false, fmt.Errorf("%q is no name for a model: use lower-case letters, digits, and . _ - between them, or a path with a separator for a folder", out)
	}
	return filepath.Join(c.config.Hub.Home, "runs", out), true, nil
}

// free refuses a folder that holds a run, as finetune.Run does in the plugin, and the name of a model that the store has, unless these are to be
// replaced. A run that is to be continued, and has not begun, is as any other.
func (c *Client) free(ctx context.Context, folder string, inStore bool, o FinetuneOptions) error {
	if o.Overwrite {
		return nil
	}
	err := finetune.CheckNew(folder)
	if _, begun := os.Stat(filepath.Join(folder, finetune.FileConfig)); o.Resume && (begun == nil || errors.Is(err, finetune.ErrRunExists)) {
		return nil
	}
	if err != nil || !inStore {
		return err
	}
	_, err = c.Hub.Local(ctx, o.Out+":"+hub.TagLocal)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("the store has a model %s:%s: choose another name with --out, or replace it with --overwrite", o.Out, hub.TagLocal)
}

// clearRun removes the files of a run, and nothing else that may be in its folder, nor what is called as one to be kept.
func clearRun(folder string, keep ...string) error {
	names, err := filesOf(folder)
	if err != nil {
		return err
	}
	ofRuns := []string{
		finetune.FileConfig, finetune.FileLast, finetune.FileBest, finetune.FileMetrics, finetune.FileModel, finetune.FileReport, FolderCard,
	}
	for _, name := range names {
		if (slices.Contains(ofRuns, name) || strings.HasPrefix(name, finetune.PrefixEvents)) && !slices.Contains(keep, name) {
			if err := os.Remove(filepath.Join(folder, name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// sameFolder reports whether two paths, which may be links, lead to one folder.
func sameFolder(a, b string) bool {
	first, err := os.Stat(a)
	second, failed := os.Stat(b)
	return err == nil && failed == nil && os.SameFile(first, second)
}

// throwAway removes the files of a run that is not under way, and returns what else there is.
func throwAway(ctx context.Context, folder string) ([]string, error) {
	lock, err := finetune.LockRun(ctx, folder)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(clearRun(folder), lock.Close()); err != nil {
		return nil, err
	}
	return filesOf(folder)
}

// filesOf lists what is in a folder; nil if there is none.
func filesOf(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	names := []string{} // not nil: there is a folder
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

// discardStart removes what a run wrote that failed, and its folder if that is new (before is nil), unless there is something to continue from or
// another process trains there. It reports whether the folder holds anything of worth. What was there before stays.
func discardStart(folder string, before []string) (kept bool, err error) {
	now, err := filesOf(folder)
	if err != nil || now == nil {
		return false, err
	}
	if slices.ContainsFunc(now, func(name string) bool {
		return slices.Contains([]string{finetune.FileLast, finetune.FileBest, finetune.FileModel}, name)
	}) {
		return true, nil
	}
	path := filepath.Join(folder, finetune.FileLock)
	lock := flock.New(path)
	if ok, _ := lock.TryLock(); !ok {
		return true, nil // it is another run's, or none could begin
	}
	err = errors.Join(clearRun(folder, before...), lock.Close())
	if !slices.Contains(before, finetune.FileLock) {
		err = errors.Join(err, os.Remove(path))
	}
	if now, failed := filesOf(folder); err != nil || failed != nil || before != nil || len(now) > 0 {
		return false, errors.Join(err, failed)
	}
	return false, os.Remove(folder)
}

// dataPaths makes the configuration's paths absolute and lists what the plugin must be allowed to read: the data, and where its links lead.
func dataPaths(config *finetune.Config) ([]string, error) {
	read := map[string]bool{}
	for _, path := range []*string{&config.Data, &config.Val} {
		if *path == "" {
			continue
		}
		abs, err := filepath.Abs(*path)
		if err != nil {
			return nil, err
		}
		if *path, err = filepath.EvalSymlinks(abs); err != nil {
			return nil, fmt.Errorf("data cannot be read: %w", err)
		}
		read[*path] = true
		train, val, err := listSamples(*path)
		if err != nil {
			return nil, err
		}
		for _, s := range slices.Concat(train, val) {
			file, err := filepath.EvalSymlinks(s.Path)
			if err != nil {
				continue // the loader reports it by name
			}
			if dir := filepath.Dir(file); !strings.HasPrefix(dir+string(filepath.Separator), *path+string(filepath.Separator)) {
				read[dir] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(read)), nil
}

// listSamples lists the images of a folder or of a CSV file; val are those of a folder's own part for validation, nil if it has none.
func listSamples(path string) (train, val []dataset.Sample, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.IsDir() {
		d, err := dataset.CSV(path, nil)
		if err != nil {
			return nil, nil, err
		}
		return d.Samples, nil, nil
	}
	t, v, err := dataset.TrainVal(path)
	if err != nil {
		return nil, nil, err
	}
	if v != nil {
		val = v.Samples
	}
	return t.Samples, val, nil
}

// ownResult checks that what the plugin says it made is a file of the run's folder. The plugin could write no other, but it could name one, or link
// to one that this process may read.
func ownResult(folder string, r *finetune.Result) error {
	dir, err := filepath.EvalSymlinks(folder)
	if err != nil {
		return err
	}
	if r.Path != filepath.Join(dir, finetune.FileModel) {
		return fmt.Errorf("the plugin says that its result is %q, outside the run's folder %s: it was not read", r.Path, dir)
	}
	info, err := os.Lstat(r.Path)
	if err != nil {
		return fmt.Errorf("the plugin's result: %w", err)
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("the plugin's result %s is no regular file: it was not read", r.Path)
	}
	return nil
}

// trainedCard describes the result of a run.
func (c *Client) trainedCard(ctx context.Context, ck *Checkpoint, r *finetune.Result, o FinetuneOptions, stopped bool) (*card.Card, error) {
	k := ck.Card
	k.Name, k.Tag, k.Variant = filepath.Base(o.Out), hub.TagLocal, ""
	if !registry.ValidName(k.Name) {
		k.Name = "model"
	}
	if k.Family == "" {
		p, _, err := c.Host.Model(ctx, k.Model)
		if err != nil {
			return nil, err
		}
		k.Family = p.Family
	}
	k.Params, k.MACs, k.Classes, k.Labels = r.Params, r.MACs, len(r.Classes), r.Classes
	k.Input = [3]int{r.Input.C, r.Input.H, r.Input.W}
	k.Metrics = map[string]float64{"top1": round(100 * r.Metrics.Top1), "top5": round(100 * r.Metrics.Top5), "f1": round(100 * r.Metrics.F1)}
	k.Recipe = strings.Join(r.Config.Command, " ")
	k.Note = fmt.Sprintf("%s: trained on %s of %s, measured on %s; epoch %d of %d", r.Strategy, plural.Count(r.TrainImages, "image", "images"),
		plural.Count(len(r.Classes), "class", "classes"), plural.Count(r.ValImages, "other", "others"), r.Best, len(r.History))
	if stopped {
		k.Note += "; the run was stopped early"
	}
	k.Origin, k.Base = nil, nil
	scratch := o.Scratch || r.Strategy == finetune.StrategyScratch
	if !scratch && ck.SHA256 != "" && registry.ValidName(ck.Card.Name) {
		k.Base = &card.Base{Name: ck.Card.Name, Tag: ck.Card.Tag, Weights: digest.NewDigestFromEncoded(digest.SHA256, ck.SHA256)}
	}
	switch {
	case o.License != "":
		k.License = o.License
	case scratch || k.License == "":
		k.License = "unknown"
	}
	k.Created = time.Now().UTC().Truncate(time.Second)
	f, err := os.Open(r.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	d, err := digest.SHA256.FromReader(f)
	if err != nil {
		return nil, err
	}
	k.Weights = card.Weights{Digest: d, Size: info.Size()}
	return &k, k.Validate()
}

// round keeps two decimals.
func round(v float64) float64 { return float64(int(v*100+0.5)) / 100 }

// writeCard puts the card beside the weights that it describes.
func writeCard(folder string, k *card.Card) error {
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	return files.Replace(filepath.Join(folder, FolderCard), append(data, '\n'), 0o644)
}
