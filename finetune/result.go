package finetune

import (
	"cmp"
	"context"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-modelzoo/zoo/graph"
)

// Result is what a run gave.
type Result struct {
	// Path is the weights file, a safetensors state dict.
	Path    string      `json:"path"`
	Report  string      `json:"report"`
	Classes []string    `json:"classes"`
	Input   graph.Shape `json:"input"`
	// Strategy is what was done, with the reason.
	Strategy Strategy `json:"strategy"`
	Why      string   `json:"why,omitempty"`
	// Best is the epoch, from 1, whose weights are the result, and Metrics its validation results. Last are the last epoch's, without
	// those of the classes.
	Best    int           `json:"best"`
	Metrics *Metrics      `json:"metrics"`
	Last    *Metrics      `json:"last"`
	History []EpochResult `json:"history"`
	// TrainImages and ValImages count the images; Skipped lists those that could not be read.
	TrainImages int      `json:"train_images"`
	ValImages   int      `json:"val_images"`
	Skipped     []string `json:"skipped,omitempty"`
	// Params is the number of trainable values of the network and Trained how many of them were trained.
	Params  int64 `json:"params"`
	Trained int64 `json:"trained"`
	MACs    int64 `json:"macs"`
	// Seconds is the time that all parts of the run took, and ImagesPerSecond the rate of the training epochs.
	Seconds         float64 `json:"seconds"`
	ImagesPerSecond float64 `json:"images_per_s"`
	Config          Config  `json:"config"`
}

// Percent returns a copy with shares in percent, as the command line prints it and metrics.jsonl has its epochs: accuracies, precision, recall and F1.
func (r *Result) Percent() *Result {
	p := *r
	p.Metrics, p.Last = r.Metrics.percent(), r.Last.percent()
	p.History = slices.Clone(r.History)
	for i := range p.History {
		p.History[i] = p.History[i].percent()
	}
	return &p
}

// EpochResult is what an epoch gave, and, with shares in percent, a line of metrics.jsonl.
type EpochResult struct {
	Epoch           int     `json:"epoch"`
	Step            int     `json:"step"`
	LR              float64 `json:"lr"`
	Loss            float64 `json:"loss"`
	Accuracy        float64 `json:"accuracy"`
	Val             Metrics `json:"val"`
	Best            bool    `json:"best"`
	Images          int     `json:"images"`
	Seconds         float64 `json:"seconds"` // of training, without validation
	ImagesPerSecond float64 `json:"images_per_s"`
}

func (e EpochResult) percent() EpochResult {
	e.Accuracy, e.Val = 100*e.Accuracy, *e.Val.percent()
	return e
}

// finish writes the result and the report.
func (r *run) finish(ctx context.Context) (*Result, error) {
	res := &Result{
		Path: filepath.Join(r.dir, FileModel), Report: filepath.Join(r.dir, FileReport),
		Classes: r.train.Classes, Input: r.model.Input, Strategy: r.state.Strategy, Why: r.state.Why,
		Best: r.state.BestEpoch, Metrics: r.best.metrics, Last: &r.state.History[len(r.state.History)-1].Val, History: r.state.History,
		TrainImages: len(r.train.Samples), ValImages: r.best.metrics.Images, Params: r.graph.NumParams(), MACs: r.graph.MACs(),
		Seconds: r.before + time.Since(r.began).Seconds(), Config: r.config,
	}
	res.Skipped = slices.Sorted(maps.Keys(r.skipped))
	for _, p := range r.trainer.All() {
		if !p.Spec.Role.Buffer() && r.changes(p.Name()) {
			res.Trained += int64(len(p.Values()))
		}
	}
	images, seconds := 0, 0.0
	for _, e := range r.state.History {
		images, seconds = images+e.Images, seconds+e.Seconds
	}
	res.ImagesPerSecond = float64(images) / max(seconds, 1e-9)
	err := copyFile(filepath.Join(r.dir, FileBest), res.Path)
	if err != nil {
		return nil, r.diskAdvice(err)
	}
	mistakes := worstMistakes(r.best.logits, r.best.labels, func(i int) string { return r.val.Samples[r.best.index[i]].Path }, r.train.Classes, 24)
	if err := writeReport(res, mistakes, r.model); err != nil {
		return nil, r.diskAdvice(err)
	}
	r.emit(Event{Kind: KindDone, Path: res.Path, Metrics: res.Metrics, Epoch: res.Best, Epochs: r.config.Epochs, ImagesPerSecond: res.ImagesPerSecond})
	return res, nil
}

// copyFile copies a file of the run to another name.
func copyFile(from, to string) (err error) {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { err = cmp.Or(err, f.Close()) }()
	return writeFile(to, func(w io.Writer) error { _, err := io.Copy(w, f); return err })
}
