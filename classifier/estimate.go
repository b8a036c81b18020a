package classifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/vision/dataset"
)

// Estimate is what a training will take, judged by its first steps.
type Estimate struct {
	Model  string `json:"model"`
	Images int    `json:"images"` // of an epoch of training
	Epochs int    `json:"epochs"`
	Batch  int    `json:"batch"`
	// Memory is the most that the plugin had resident, in bytes; 0 where the system does not tell.
	Memory int64 `json:"memory_bytes"`
	// ImagesPerSecond is the rate of training, or, where Features is set, of computing the features that will be cached.
	ImagesPerSecond float64 `json:"images_per_s"`
	Features        bool    `json:"features,omitempty"`
	// Seconds is the estimate for the whole run, and Tried how long it was tried.
	Seconds float64 `json:"seconds"`
	Tried   float64 `json:"tried_seconds"`
	// Notes are what the run said of itself, such as the strategy that it chose.
	Notes []string `json:"notes,omitempty"`
}

// How long a training is tried: until its pace is known, but not for ever.
const (
	trialPace  = 3 * time.Second
	trialLimit = time.Minute
)

// trialPrefix begins the names of trials' folders.
const trialPrefix = ".trial-"

// errTried ends a trial.
var errTried = errors.New("tried for long enough")

// EstimateFinetune begins the training that Finetune would do in a folder that it removes, for some seconds, and says what all of it will take. Features
// that it computes meanwhile stay in the cache.
func (c *Client) EstimateFinetune(ctx context.Context, ck *Checkpoint, config finetune.Config, o FinetuneOptions) (_ *Estimate, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	runs := filepath.Join(c.config.Hub.Home, "runs")
	if err := os.MkdirAll(runs, 0o755); err != nil {
		return nil, fmt.Errorf("%w: set ZOO_HOME to a folder of yours", err)
	}
	if err := removeTrials(runs, time.Now().Add(-time.Hour)); err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(runs, trialPrefix)
	if err != nil {
		return nil, fmt.Errorf("%w: set ZOO_HOME to a folder of yours", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	o.Resume = false
	spec, err := c.trainSpec(ck, config, folder, o)
	if err != nil {
		return nil, err
	}
	trial, stop := context.WithTimeoutCause(ctx, trialLimit, errTried)
	defer stop()
	limited, enough := context.WithCancelCause(trial)
	defer enough(nil)
	t := &trialView{began: time.Now(), enough: func() { enough(errTried) }}
	e := &Estimate{Model: ck.Name, Epochs: config.Epochs, Batch: config.BatchSize}
	spec.Peak = func(bytes int64) { e.Memory = max(e.Memory, bytes) }
	answer, err := c.Host.Train(limited, spec, func(data json.RawMessage) {
		var event finetune.Event
		if json.Unmarshal(data, &event) == nil { // what is no event tells nothing
			t.event(event)
		}
	})
	if err != nil && !errors.Is(err, errTried) {
		return nil, err
	}
	e.Tried, e.Notes = time.Since(t.began).Seconds(), t.notes
	if err == nil { // it was over sooner
		var r finetune.Result
		if err := json.Unmarshal(answer, &r); err != nil {
			return nil, fmt.Errorf("the plugin's result: %w", err)
		}
		e.Images, e.ImagesPerSecond, e.Seconds = r.TrainImages, r.ImagesPerSecond, e.Tried
		return e, nil
	}
	return e, t.complete(e, validationShare(config))
}

// removeTrials removes what trials left that were killed before a time.
func removeTrials(runs string, before time.Time) error {
	entries, err := os.ReadDir(runs)
	for _, e := range entries {
		if info, failed := e.Info(); failed == nil && strings.HasPrefix(e.Name(), trialPrefix) && info.ModTime().Before(before) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(runs, e.Name())))
		}
	}
	return err
}

// validationShare is how many images are validated for each one that is trained on, as far as the configuration tells.
func validationShare(config finetune.Config) float64 {
	train, val, err := listSamples(config.Data)
	if err == nil && config.Val != "" {
		var more []dataset.Sample
		val, more, err = listSamples(config.Val)
		val = append(val, more...)
	}
	switch {
	case err != nil || len(train) == 0:
		return 0 // the run itself has read it
	case val == nil:
		return config.ValFraction / max(1-config.ValFraction, 0.01)
	}
	return float64(len(val)) / float64(len(train))
}

// trialView takes the pace of a run from its events.
type trialView struct {
	began  time.Time
	enough func()

	features, steps, epochs span
	setup                   time.Duration // before the first step
	notes                   []string
}

// span is the first and the latest event of a kind.
type span struct{ first, last finetune.Event }

func (s *span) add(e finetune.Event) {
	if s.first.Kind == "" {
		s.first = e
	}
	s.last = e
}

func (s *span) seconds() float64 { return s.last.Time.Sub(s.first.Time).Seconds() }

// images counts those between the events. Whole epochs in between count too.
func (s *span) images() int {
	return s.last.Done - s.first.Done + (s.last.Epoch-s.first.Epoch)*s.last.Total
}

func (t *trialView) event(e finetune.Event) {
	switch e.Kind {
	case finetune.KindNote:
		t.notes = append(t.notes, e.Text)
		return
	case finetune.KindFeatures:
		t.features.add(e)
		return
	case finetune.KindStep:
		t.steps.add(e)
	case finetune.KindEpoch:
		t.epochs.add(e)
	default:
		return
	}
	if t.setup == 0 {
		t.setup = time.Since(t.began)
	}
	if max(t.steps.seconds(), t.epochs.seconds()) >= trialPace.Seconds() {
		t.enough()
	}
}

// validationCost is the time of validating an image in that of training on it: forward, in place of forward and backward with respect to inputs and
// weights.
const validationCost = 1.0 / 3

// complete fills in what the events tell.
func (t *trialView) complete(e *Estimate, validation float64) error {
	var s span
	images := 1.0 // all that are run, in images of training
	switch {
	case t.epochs.images() > 0: // validation is in between
		s, images = t.epochs, float64(e.Epochs)
	case t.steps.images() > 0:
		s, images = t.steps, float64(e.Epochs)*(1+validation*validationCost)
	default:
		s, e.Features = t.features, true
	}
	if s.images() <= 0 || s.seconds() <= 0 {
		return fmt.Errorf("the training did not get far enough within %v to tell how long it takes", trialLimit)
	}
	e.Images, e.ImagesPerSecond = s.last.Total, float64(s.images())/s.seconds()
	e.Seconds = t.setup.Seconds() + images*float64(e.Images)/e.ImagesPerSecond
	return nil
}
