package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/internal/ui"
)

func newBench(a *app) *cobra.Command {
	var batch, runs int
	var duration time.Duration
	var explain, training bool
	var freeze []string
	cmd := &cobra.Command{
		Use:   "bench MODEL...",
		Short: "Measure speed: one JSON line a model with ms per image, images a second and peak memory",
		Long: `Measure speed through the host, tensors in and logits out. Works without pulled weights (random ones are as fast). The time is the
median over the runs.

With --train it measures training steps instead, in the process that ` + "`zoo finetune`" + ` trains in: forward, backward and SGD with
momentum on random images, with a classifier of 1000 classes unless the model has more. --freeze keeps a part as it is, as it does there.`,
		Example: `  zoo bench resnet50 --batch 8
  zoo bench resnet18 --train --batch 16 --freeze features`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if batch < 1 || runs < 1 {
				return usagef("--batch and --runs must be at least 1")
			}
			if training && explain {
				return usagef("--explain prints the steps of inference: leave out --train")
			}
			if !training && len(freeze) > 0 {
				return usagef("--freeze is for training: add --train")
			}
			o := classifier.BenchOptions{Batch: batch, Warmup: 3, Runs: runs, Duration: duration}
			c, err := a.open()
			if err != nil {
				return err
			}
			for _, name := range args {
				ck, err := c.Architecture(cmd.Context(), name)
				if err != nil {
					return err
				}
				if training {
					o.Warmup = 2
					err = a.benchTraining(cmd, c, ck, o, freeze)
				} else {
					err = a.bench(cmd, c, ck, o, explain)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().IntVar(&batch, "batch", 1, "images that run together")
	cmd.Flags().IntVar(&runs, "runs", 10, "time at least this many runs")
	cmd.Flags().DurationVar(&duration, "duration", 2*time.Second, "and at least this long")
	cmd.Flags().BoolVar(&explain, "explain", false, "print what each step of the plan takes")
	cmd.Flags().BoolVar(&training, "train", false, "measure training steps")
	cmd.Flags().StringSliceVar(&freeze, "freeze", nil, "with --train: what stays as it is, as for finetune")
	return cmd
}

func (a *app) benchTraining(cmd *cobra.Command, c *classifier.Client, ck *classifier.Checkpoint, o classifier.BenchOptions, freeze []string) error {
	r, err := c.BenchTraining(cmd.Context(), ck, o, freeze...)
	if err != nil {
		return err
	}
	return json.NewEncoder(a.Out).Encode(r)
}

func (a *app) bench(cmd *cobra.Command, c *classifier.Client, ck *classifier.Checkpoint, o classifier.BenchOptions, explain bool) error {
	m, err := c.Open(cmd.Context(), ck, classifier.LoadOptions{})
	if err != nil {
		return err
	}
	defer m.Close()
	r, err := m.Bench(cmd.Context(), o)
	if err != nil {
		return err
	}
	if !explain {
		return json.NewEncoder(a.Out).Encode(r)
	}
	rows, err := m.Session().Profile(cmd.Context(), o.Batch, ck.Network().Input)
	if err != nil {
		return err
	}
	steps := make([]stepResult, len(rows))
	for i, p := range rows {
		steps[i] = stepResult{Name: p.Name, Operator: p.Op, Kernel: p.Kernel, Milliseconds: 1000 * p.Duration.Seconds(), MACs: p.MACs}
	}
	return a.Print(struct {
		classifier.Measurement
		Steps []stepResult `json:"steps"`
	}{r, steps}, func(w io.Writer) error { return printProfile(w, r, rows) })
}

// stepResult is a step of a plan in JSON, for the whole batch.
type stepResult struct {
	Name         string  `json:"name"`
	Operator     string  `json:"operator"`
	Kernel       string  `json:"kernel"`
	Milliseconds float64 `json:"ms"`
	MACs         int64   `json:"macs"`
}

func printProfile(w io.Writer, r classifier.Measurement, rows []host.ProfileRow) error {
	var total time.Duration
	for _, p := range rows {
		total += p.Duration
	}
	var table [][]string
	for _, p := range rows {
		s := p.Duration.Seconds()
		gflops := ""
		if p.MACs > 0 && s > 0 {
			gflops = fmt.Sprintf("%.0f", 2*float64(p.MACs)/s/1e9)
		}
		table = append(table, []string{p.Name, p.Op, p.Kernel, fmt.Sprintf("%.3f", 1000*s), gflops, fmt.Sprintf("%.1f %%", 100*s/max(total.Seconds(), 1e-12))})
	}
	if err := ui.Table(w, []string{"step", "operator", "kernel", "ms", "gflop/s", "share"}, table); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "\n%s: %.3f ms an image at batch %d, %s, %.1f images/s, peak memory %.0f MB\n", r.Model, r.MSPerImage, r.Batch, r.Precision, r.PerSecond, r.PeakRSSMB)
	return err
}
