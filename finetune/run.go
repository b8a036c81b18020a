package finetune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/vision/dataset"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

// Model is what is trained, and on what.
type Model struct {
	// Name is for the report.
	Name string
	// Build makes the network for images of a shape and a number of classes.
	Build func(input graph.Shape, classes int) (*graph.Graph, error)
	// Input is the shape of the images that it is trained on.
	Input graph.Shape
	// Preprocess is what is done to an image for evaluation; its result must have Input's size.
	Preprocess transforms.Preprocess
	// Weights is a file of pretrained weights, in any format that package weights reads; its classifier may be for other classes.
	// Empty: random weights.
	Weights string
	// Digest identifies the content of Weights, for cached features. Empty: they are not shared between runs.
	Digest string

	// Pool computes; nil makes one with all processors for the time of the run.
	Pool      *work.Pool
	Precision engine.Precision
}

// run is a run under way.
type run struct {
	model  Model
	config Config
	dir    string
	sink   func(Event)

	train, val *dataset.Dataset
	graph      *graph.Graph // the whole network
	params     *initial     // values before training
	augment    Augment
	plan       *freezePlan
	cut        *graph.Node // where cached features are taken; nil: not cached
	skipped    map[string]bool

	part      *graph.Graph // what trains: the network, or what follows the cut
	trainer   *train.Trainer
	optimizer *train.Optimizer
	frozen    map[string]bool
	average   *average
	trainData feeder
	valData   feeder
	state     state
	logs      logs
	best      *evaluation // of the best epoch; nil after a resumption
	largest   largestGradient
	began     time.Time
	before    float64 // seconds of earlier parts of the run
}

// ErrRunExists says that a folder holds a run already.
var ErrRunExists = errors.New("holds a run: continue it with --resume, throw it away with --overwrite, or choose another --out")

// Run trains. It writes into dir, which is made if need be, and tells sink (which may be nil) what happens. When ctx ends it saves a checkpoint
// and returns the context's error with the result so far.
func Run(ctx context.Context, m Model, c Config, dir string, sink func(Event)) (*Result, error) {
	return start(ctx, m, c, dir, sink, false)
}

// Resume continues a run from its newest checkpoint with the configuration that it was begun with; what is given must agree with it.
// Without a checkpoint, and without a result, it begins anew. Another model and other classes are refused too.
func Resume(ctx context.Context, m Model, c Config, dir string, sink func(Event)) (*Result, error) {
	return start(ctx, m, c, dir, sink, true)
}

// CheckNew returns an error that wraps ErrRunExists if a folder holds a run. A start that failed before its first checkpoint does not count.
func CheckNew(dir string) error {
	for _, name := range []string{FileLast, FileModel} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("%s %w", dir, ErrRunExists)
		}
	}
	return nil
}

// LockRun locks a folder for who trains in it, or throws away the run that it holds. Closing the result unlocks it.
func LockRun(ctx context.Context, dir string) (io.Closer, error) {
	lock := flock.New(filepath.Join(dir, FileLock))
	waiting, cancel := context.WithTimeout(ctx, 10*time.Second) // a killed host's plugin takes a moment to notice
	defer cancel()
	switch ok, err := lock.TryLockContext(waiting, 100*time.Millisecond); {
	case err == nil && ok:
		return lock, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case waiting.Err() == nil: // it cannot be locked, which says nothing of other runs
		return nil, fmt.Errorf("%w: choose another --out", err)
	}
	return nil, fmt.Errorf("%s is in use by another run: wait until it ends, or choose another --out", dir)
}

func start(ctx context.Context, m Model, c Config, dir string, sink func(Event), resume bool) (result *Result, err error) {
	if c.AutoLR && c.LR == 0 {
		c.LR = 1 // replaced when the strategy is known
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	// An image of any size must come out as the network's input.
	if w, h := m.Preprocess.OutputSize(700, 500); w != m.Input.W || h != m.Input.H {
		return nil, fmt.Errorf("preprocessing makes %d×%d pixels of an image of 700×500, the network takes %d×%d (width × height): train on squares, with --size, or crop to the network's size", w, h, m.Input.W, m.Input.H)
	}
	if sink == nil {
		sink = func(Event) {}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	lock, err := LockRun(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if m.Pool == nil {
		m.Pool = work.New(work.DefaultThreads())
		defer m.Pool.Close()
	}
	r := &run{model: m, config: c, dir: dir, sink: sink, skipped: map[string]bool{}, began: time.Now()}
	defer func() { err = errors.Join(err, r.close()) }()
	var from *checkpoint
	if resume {
		if from, err = openCheckpoint(dir); err != nil {
			return nil, err
		}
		if from == nil && CheckNew(dir) != nil {
			return nil, fmt.Errorf("%s has a result but no checkpoint to continue from: throw it away with --overwrite, or choose another --out", dir)
		}
	} else {
		if err := CheckNew(dir); err != nil {
			return nil, err
		}
	}
	if from == nil { // a resumption without a checkpoint begins too
		if err := foreignConfig(filepath.Join(dir, FileConfig)); err != nil {
			return nil, err
		}
	}
	if err = r.rememberConfig(from != nil); err == nil {
		err = r.prepare(ctx, from)
	}
	if from != nil { // all was copied, and Windows replaces no file that is open
		err = errors.Join(err, from.file.Close())
	}
	if err != nil {
		return nil, err
	}
	err = r.loop(ctx)
	if err != nil && ctx.Err() == nil {
		return nil, err
	}
	stopped := err
	if stopped != nil && r.best == nil {
		return nil, stopped // nothing to show yet
	}
	if r.best == nil { // it was found before this process began
		if err := r.evaluateBest(ctx); err != nil {
			return nil, err
		}
	}
	result, err = r.finish(ctx)
	return result, errors.Join(stopped, err)
}

func (r *run) close() error {
	var errs []error
	if r.params != nil {
		errs = append(errs, r.params.Close())
	}
	for _, f := range []feeder{r.trainData, r.valData} {
		if f != nil {
			errs = append(errs, f.close())
		}
	}
	return errors.Join(append(errs, r.logs.close())...)
}

func (r *run) emit(e Event) {
	e.Time = time.Now()
	r.sink(e)
}

func (r *run) note(format string, args ...any) {
	r.emit(Event{Kind: KindNote, Text: fmt.Sprintf(format, args...)})
}

// foreignConfig refuses to replace a file with the name of the run's configuration that is something else. That of a start that was killed before
// its first checkpoint may be replaced.
func foreignConfig(path string) error {
	data, err := files.ReadAll(path, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = ParseConfig(data, new(Config))
	}
	if err != nil {
		return fmt.Errorf("%s is not the configuration of a run, and would be replaced by it: choose another --out: %w", path, err)
	}
	return nil
}

// rememberConfig keeps the configuration in the run's folder, or compares it with the one kept there.
func (r *run) rememberConfig(resumed bool) error {
	path := filepath.Join(r.dir, FileConfig)
	if resumed {
		data, err := files.ReadAll(path, maxConfig)
		if err != nil {
			return fmt.Errorf("the run's configuration: %w", err)
		}
		var began Config
		if err := ParseConfig(data, &began); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		names, err := r.config.changed(&began)
		if err != nil {
			return err
		}
		if len(names) > 0 {
			slices.Sort(names)
			return fmt.Errorf("the run in %s was begun with other settings of %s: continue it with the same, or begin another", r.dir, strings.Join(names, ", "))
		}
		return nil
	}
	data, err := json.MarshalIndent(r.config, "", "  ")
	if err != nil {
		return err
	}
	return writeFile(path, func(w io.Writer) error { _, err := w.Write(append(data, '\n')); return err })
}

// rememberModel notes what the run is of, or compares it with what the checkpoint's was of.
func (r *run) rememberModel(from *checkpoint) error {
	computes, err := fingerprint(r.graph, r.graph.Nodes)
	if err != nil {
		return err
	}
	s := &r.state
	s.Network, s.Weights, s.Classes = computes, r.model.Digest, r.train.Classes
	switch {
	case from == nil:
	case !slices.Equal(from.Classes, s.Classes):
		return fmt.Errorf("the run in %s was begun with other classes (%s) than %s has now: continue it with the same, or begin another",
			r.dir, plural.Count(len(from.Classes), "class", "classes"), r.config.Data)
	case from.Network != s.Network, from.Weights != s.Weights && !from.Finished: // of a run that is over the result may have taken their place
		return fmt.Errorf("the run in %s was begun with another model, other weights or another size of images than this %s of %v: continue it with the same, or begin another",
			r.dir, r.model.Name, r.model.Input)
	}
	return nil
}

// prepare opens data and network and, from a checkpoint, everything in between.
func (r *run) prepare(ctx context.Context, from *checkpoint) error {
	if err := r.openData(); err != nil {
		return err
	}
	var err error
	if r.graph, err = r.buildFull(r.model.Input); err != nil {
		return err
	}
	if err := r.rememberModel(from); err != nil {
		return err
	}
	if r.params, err = openParams(r.graph, r.model.Weights, r.config.Seed); err != nil {
		return err
	}
	if err := r.chooseStrategy(ctx, from); err != nil {
		return err
	}
	if r.config.Strategy == StrategyScratch && r.params.file != nil {
		if err := r.params.Close(); err != nil {
			return err
		}
		r.params = &initial{graph: r.graph, seed: r.config.Seed}
	}
	patterns := r.config.Freeze
	if len(patterns) == 0 {
		patterns = r.config.Strategy.patterns(r.graph)
	}
	if len(patterns) > 0 && r.params.file == nil && r.config.Strategy != StrategyScratch {
		r.note("freezing %s of a network with random weights: they would need to be trained", strings.Join(patterns, " and "))
	}
	if r.plan, err = newFreezePlan(r.graph, patterns, r.config.UnfreezeAt, r.config.GradualUnfreeze); err != nil {
		return err
	}
	r.augment = r.config.Augment.resolve(r.model.Input.H)
	if err := r.chooseCache(); err != nil {
		return err
	}
	if len(r.params.fresh) > 0 && from == nil {
		r.note("the classifier is new: %s", r.params.describe())
	}
	if err := r.openFeeders(ctx); err != nil {
		return err
	}
	return r.openState(from)
}

func (r *run) buildFull(s graph.Shape) (*graph.Graph, error) {
	return r.model.Build(s, len(r.train.Classes))
}

// chooseStrategy settles Strategy and, with AutoLR, the learning rate.
func (r *run) chooseStrategy(ctx context.Context, from *checkpoint) error {
	c := &r.config
	switch {
	case len(c.Freeze) > 0:
		if c.Strategy == StrategyAuto {
			c.Strategy = StrategyFine
		}
		r.state.Why = "--freeze says what stays"
	case from != nil:
		c.Strategy, r.state.Why = from.Strategy, from.Why
	case c.Strategy == StrategyAuto:
		s, why, err := choose(ctx, r)
		if err != nil {
			return err
		}
		c.Strategy, r.state.Why = s, why
		r.note("strategy %s: %s", s, why)
	}
	r.state.Strategy = c.Strategy
	if c.AutoLR {
		if c.LR = c.autoLR(); c.Schedule.MinLR > c.LR {
			return fmt.Errorf("lowest learning rate %v is above the learning rate %v of strategy %s: lower it, or give both", c.Schedule.MinLR, c.LR, c.Strategy)
		}
	}
	return nil
}

// changes reports whether the run may change a parameter.
func (r *run) changes(name string) bool { return !r.plan.start[name] || r.plan.varies(r.config.Epochs) }

// values are all parameters of the network as they are now.
func (r *run) values() engine.Params { return overlay{live(&r.trainer.Params), r.params} }

// candidate are the parameters that an epoch is judged by and that are kept: the average where there is one.
func (r *run) candidate() engine.Params {
	if r.average != nil {
		return overlay{r.average.values, r.params}
	}
	return r.values()
}

// openState begins the run, or goes back to where a checkpoint was.
func (r *run) openState(from *checkpoint) error {
	values := engine.Params(r.params)
	if from != nil {
		saved, err := from.group(prefixWeights)
		if err != nil {
			return err
		}
		values = overlay{saved, r.params}
		strategy, why := r.state.Strategy, r.state.Why
		r.state = from.state
		r.state.Strategy, r.state.Why = strategy, why
		r.before = from.Seconds
		for _, text := range from.Skipped {
			r.skipped[text] = true
		}
	}
	if err := r.openTrainer(values, r.state.Epoch); err != nil {
		return err
	}
	if r.config.EMA > 0 {
		r.average = newAverage(r.config.EMA, &r.trainer.Params)
	}
	if from != nil {
		r.trainer.SetSteps(from.Batches)
		if err := from.restoreMoments(&r.trainer.Params); err != nil {
			return err
		}
		if r.average != nil {
			saved, err := from.group(prefixAverage)
			if err != nil {
				return err
			}
			for name, v := range saved {
				copy(r.average.values[name], v)
			}
			r.average.steps = from.EMASteps
		}
		if r.state.Finished {
			r.note("the training is over: what is left is to write the result")
		} else {
			r.note("continuing in epoch %d of %d, at step %d", r.state.Epoch+1, r.config.Epochs, r.state.Step)
		}
	}
	return r.openLogs()
}

// openTrainer makes the trainer and the optimiser for an epoch's set of frozen parameters, keeping what the optimiser remembers.
func (r *run) openTrainer(values engine.Params, epoch int) error {
	frozen := r.plan.frozen(epoch)
	o := train.Options{
		Pool: r.model.Pool, Precision: r.model.Precision, Seed: r.config.Seed,
		Trainable: func(p *graph.Param) bool { return !frozen[p.Name] },
		Loss:      train.Loss{LabelSmoothing: r.config.LabelSmoothing},
	}
	if r.config.ClassWeights {
		for _, w := range r.train.ClassWeights() {
			o.Loss.ClassWeights = append(o.Loss.ClassWeights, float64(w))
		}
	}
	t, err := train.New(r.part, values, o)
	if err != nil {
		return err
	}
	groups := parameterGroups(r.graph, t.All(), &r.config)
	optimizer, err := train.NewOptimizer(r.config.Optimizer, groups...)
	if err != nil {
		return err
	}
	if r.trainer != nil {
		old := map[string]*train.Param{}
		for _, p := range r.trainer.All() {
			old[p.Name()] = p
		}
		for _, p := range t.All() {
			if m, ok := old[p.Name()].Moments(); ok {
				if err := p.SetMoments(m); err != nil {
					return err
				}
			}
		}
		t.SetSteps(r.trainer.Steps())
	}
	if least := t.LeastBatch(); r.config.BatchSize < least {
		return fmt.Errorf("%s cannot be trained on batches of %d: the batch norm of a vector needs more than one value; give --batch %d or more, or larger images with --size, or freeze it",
			r.model.Name, r.config.BatchSize, least)
	}
	r.trainer, r.optimizer, r.frozen = t, optimizer, frozen
	return nil
}
