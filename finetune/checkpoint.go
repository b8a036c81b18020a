package finetune

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/weights"
)

// Names of the files of a run.
const (
	FileConfig  = "config.json"
	FileLast    = "last.safetensors"
	FileBest    = "best.safetensors"
	FileMetrics = "metrics.jsonl"
	FileModel   = "model.safetensors"
	FileReport  = "report.html"
	// FileLock is held by the process that trains.
	FileLock = ".lock"
	// PrefixEvents begins the name of TensorBoard's file.
	PrefixEvents = "events.out.tfevents."
)

// state is where a run is, besides the values of its parameters. It is the metadata of last.safetensors.
type state struct {
	Epoch int `json:"epoch"` // the current one, from 0
	Batch int `json:"batch"` // of the epoch, the next one to run
	Step  int `json:"step"`  // steps of the optimiser taken so far

	// Sums over the images of the epoch so far.
	Images  int     `json:"images"`
	LossSum float64 `json:"loss_sum"`
	Hits    int     `json:"hits"`
	// LR is the rate of the newest step, and Trained how many seconds the epoch's steps have taken.
	LR      float64 `json:"lr"`
	Trained float64 `json:"trained"`

	Batches   uint64  `json:"batches"` // that the trainer has seen since Stage began: the position in the dropout masks
	Plateau   plateau `json:"plateau"`
	BestScore float64 `json:"best_score"`
	BestEpoch int     `json:"best_epoch"` // from 1; 0: none yet
	Stale     int     `json:"stale"`      // epochs since
	EMASteps  int     `json:"ema_steps"`
	Finished  bool    `json:"finished"`

	// Network, Weights (the pretrained ones' digest) and Classes are what the run is of.
	Network string   `json:"network"`
	Weights string   `json:"weights"`
	Classes []string `json:"classes"`

	// Strategy is what was chosen, so that a resumed run does not ask again.
	Strategy Strategy `json:"strategy"`
	Why      string   `json:"why,omitempty"`

	History []EpochResult `json:"history"`
	// Sizes of the logs, which are cut back to what the checkpoint saw.
	MetricsSize int64  `json:"metrics_size"`
	EventsSize  int64  `json:"events_size"`
	EventsFile  string `json:"events_file"`
	// Updates counts the optimiser's updates of each parameter.
	Updates map[string]int `json:"updates"`
	// Skipped are the errors about images that could not be read so far.
	Skipped []string `json:"skipped,omitempty"`
	// Seconds is how long the run has taken so far.
	Seconds float64 `json:"seconds"`
}

// Prefixes of the tensors in last.safetensors.
const (
	prefixWeights = "weights/"
	prefixFirst   = "first/"
	prefixSecond  = "second/"
	prefixAverage = "average/"
	stateKey      = "state"
)

// saveLast writes everything that is needed to go on.
func (r *run) saveLast() error {
	s := r.state
	s.Updates = map[string]int{}
	var list []weights.Tensor
	for _, p := range r.trainer.All() {
		if !r.changes(p.Name()) {
			continue // the model's file has it
		}
		list = append(list, weights.FromFloat32(prefixWeights+p.Name(), p.Spec.Shape, p.Values()))
		m, ok := p.Moments()
		if !ok {
			continue
		}
		s.Updates[p.Name()] = m.Steps
		if m.First != nil {
			list = append(list, weights.FromFloat32(prefixFirst+p.Name(), p.Spec.Shape, m.First))
		}
		if m.Second != nil {
			list = append(list, weights.FromFloat32(prefixSecond+p.Name(), p.Spec.Shape, m.Second))
		}
	}
	if r.average != nil {
		for _, p := range r.trainer.All() {
			list = append(list, weights.FromFloat32(prefixAverage+p.Name(), p.Spec.Shape, r.average.values[p.Name()]))
		}
		s.EMASteps = r.average.steps
	}
	s.Batches = r.trainer.Steps()
	r.tellSkipped()
	s.Skipped = slices.Sorted(maps.Keys(r.skipped))
	if err := r.flushLogs(&s); err != nil {
		return err
	}
	data, err := json.Marshal(s)
	if err != nil {
		return err
	}
	path := filepath.Join(r.dir, FileLast)
	if err := writeFile(path, func(w io.Writer) error {
		return weights.WriteSafetensors(w, list, map[string]string{stateKey: string(data)})
	}); err != nil {
		return r.diskAdvice(err)
	}
	r.emit(Event{Kind: KindCheckpoint, Epoch: s.Epoch + 1, Step: s.Step, Path: path})
	return nil
}

// diskAdvice says what to do after a failure to write.
func (r *run) diskAdvice(err error) error {
	return fmt.Errorf("%w: nothing written before is lost; make room and continue with --resume", err)
}

// saveBest writes the weights that a better epoch gave.
func (r *run) saveBest(name string, metadata map[string]string) error {
	list, err := tensors(r.graph, r.candidate())
	if err != nil {
		return err
	}
	path := filepath.Join(r.dir, name)
	if err := writeFile(path, func(w io.Writer) error { return weights.WriteSafetensors(w, list, metadata) }); err != nil {
		return r.diskAdvice(err)
	}
	return nil
}

// checkpoint is an open last.safetensors.
type checkpoint struct {
	state
	file *weights.File
}

// openCheckpoint opens the newest checkpoint of a run, nil if it has none yet.
func openCheckpoint(dir string) (*checkpoint, error) {
	path := filepath.Join(dir, FileLast)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	f, err := weights.Open(path)
	if err != nil {
		return nil, err
	}
	c := &checkpoint{file: f}
	if err := json.Unmarshal([]byte(f.Metadata()[stateKey]), &c.state); err != nil {
		return nil, fmt.Errorf("%s is no checkpoint of a run: %w%s", path, err, closing(f))
	}
	return c, nil
}

// group returns the tensors below a prefix as parameters, copied, nil if there are none.
func (c *checkpoint) group(prefix string) (engine.ParamMap, error) {
	var m engine.ParamMap
	for t := range c.file.All() {
		name, ok := strings.CutPrefix(t.Name, prefix)
		if !ok {
			continue
		}
		v, err := t.Float32()
		if err != nil {
			return nil, err
		}
		if m == nil {
			m = engine.ParamMap{}
		}
		m[name] = append([]float32(nil), v...)
	}
	return m, nil
}

// restoreMoments gives the optimiser its memory back.
func (c *checkpoint) restoreMoments(params *train.Params) error {
	first, err := c.group(prefixFirst)
	if err != nil {
		return err
	}
	second, err := c.group(prefixSecond)
	if err != nil {
		return err
	}
	for _, p := range params.All() {
		if n, ok := c.Updates[p.Name()]; ok {
			if err := p.SetMoments(train.Moments{First: first[p.Name()], Second: second[p.Name()], Steps: n}); err != nil {
				return err
			}
		}
	}
	return nil
}
