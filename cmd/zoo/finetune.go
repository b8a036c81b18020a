package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/internal/ui"
)

func newFinetune(a *app) *cobra.Command {
	config := finetune.Defaults()
	var f trainFlags
	cmd := &cobra.Command{
		Use:   "finetune MODEL --data DIR --out NAME",
		Short: "Fit a pretrained model to images of your own",
		Long: `Fit a pretrained model to images of your own: a folder a class (or two such folders, train and val), or a CSV file of lines "path,class".
The classifier is replaced to fit the classes. The result is a model like any other, under the name given with --out; a path with a separator
leaves it in a folder.`,
		Example: `  zoo finetune resnet50 --data photos --freeze features --out my-photos
  zoo finetune resnet50 --data photos --freeze features --cache-features --epochs 50 --schedule cosine --out my-photos
  zoo finetune mobilenet_v2 --data photos --layer-decay 0.8 --schedule cosine --mixup 0.2 --out ./my-photos/`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 && slices.Contains([]finetune.Switch{finetune.Auto, finetune.On, finetune.Off}, finetune.Switch(args[1])) {
				return fmt.Errorf("%q is no model: write --cache-features=%s", args[1], args[1])
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error { return a.train(cmd, args[0], &config, &f) },
	}
	f.add(cmd, &config)
	fl := cmd.Flags()
	fl.StringVar((*string)(&config.Strategy), "strategy", string(config.Strategy), "auto, feature-extract, head, finetune or scratch; auto looks at the data and says why")
	fl.StringArrayVar(&config.Freeze, "freeze", nil, "keep as it is what the `PATTERN` means: features, a layer group, a glob over parameter names, or until:NAME (repeatable)")
	fl.IntVar(&config.UnfreezeAt, "unfreeze-at", 0, "epoch (from 1) in which everything begins to train")
	fl.IntVar(&config.GradualUnfreeze, "gradual-unfreeze", 0, "every so many epochs the next layer group, from the output on, begins to train")
	fl.StringVar((*string)(&config.CacheFeatures), "cache-features", string(finetune.Auto), "compute the frozen part once for each image: auto, on or off; on means no augmentation unless --views says otherwise")
	fl.Lookup("cache-features").NoOptDefVal = string(finetune.On)
	fl.IntVar(&config.Views, "views", 0, "cache so many augmented versions of each image")
	return cmd
}

// trainFlags are what finetune and train share, besides what goes straight into the configuration.
type trainFlags struct {
	classifier.FinetuneOptions
	augment string
	jitter  []float64
	size    int
	options map[string]string
	dryRun  bool
}

func (f *trainFlags) add(cmd *cobra.Command, c *finetune.Config) {
	rate, licence := "learning rate; unless it is given, --strategy auto sets one that suits what it trains", "SPDX identifier of the result's licence (default: the base model's)"
	if f.Scratch {
		rate, licence = "learning rate", "SPDX identifier of the result's licence (default: unknown)"
	}
	fl := cmd.Flags()
	fl.StringVar(&c.Data, "data", "", "images: a folder with a folder for each class, or a CSV file of lines path,class")
	fl.StringVar(&c.Val, "val", "", "validation images (default: the data's own val folder, else a part of the data)")
	fl.Float64Var(&c.ValFraction, "val-fraction", c.ValFraction, "part of the data held back for validation")
	fl.StringVar(&f.Out, "out", "", "name of the result in the store, or a path with a separator for a folder")
	fl.BoolVar(&f.Resume, "resume", false, "continue the run that was begun under --out")
	fl.BoolVar(&f.Overwrite, "overwrite", false, "throw away what was begun under --out, and replace the model of that name")
	fl.StringVar(&f.License, "license", "", licence)
	fl.BoolVar(&c.SkipBad, "skip-bad", false, "leave out images that cannot be read, and name them")
	fl.IntVar(&c.Epochs, "epochs", c.Epochs, "how often every image is seen")
	fl.IntVar(&c.BatchSize, "batch", c.BatchSize, "images a batch")
	fl.IntVar(&c.Accumulate, "accumulate", c.Accumulate, "batches a step")
	fl.Float64Var(&c.LR, "lr", c.LR, rate)
	fl.StringVar(&c.Optimizer.Name, "optimizer", c.Optimizer.Name, "sgd, adam, adamw, rmsprop or lamb")
	fl.Float64Var(&c.Optimizer.Momentum, "momentum", c.Optimizer.Momentum, "momentum of sgd and rmsprop")
	fl.BoolVar(&c.Optimizer.Nesterov, "nesterov", c.Optimizer.Nesterov, "Nesterov's momentum")
	fl.Float64Var(&c.Optimizer.WeightDecay, "weight-decay", c.Optimizer.WeightDecay, "weight decay")
	fl.BoolVar(&c.NoDecayNorms, "no-decay-norms", false, "no weight decay for biases and norms")
	fl.Float64Var(&c.LayerDecay, "layer-decay", c.LayerDecay, "factor of the learning rate from each layer group to the one before it")
	fl.StringVar((*string)(&c.Schedule.Name), "schedule", string(c.Schedule.Name), "learning rate: constant, step, cosine, one-cycle or plateau")
	fl.IntVar(&c.Schedule.StepEpochs, "step-epochs", c.Schedule.StepEpochs, "step: epochs between reductions")
	fl.Float64Var(&c.Schedule.Gamma, "gamma", c.Schedule.Gamma, "step and plateau: factor of a reduction")
	fl.Float64Var(&c.Schedule.MinLR, "min-lr", c.Schedule.MinLR, "cosine and plateau: lowest rate")
	fl.Float64Var(&c.Schedule.WarmupEpochs, "warmup", c.Schedule.WarmupEpochs, "epochs of linear warm-up")
	fl.Float64Var(&c.ClipNorm, "clip-norm", 0, "bound of the norm of all gradients together")
	fl.Float64Var(&c.LabelSmoothing, "label-smoothing", 0, "share of each target spread over all classes")
	fl.BoolVar(&c.ClassWeights, "class-weights", false, "weigh classes by the inverse of their size")
	fl.BoolVar(&c.Balanced, "balanced", false, "draw all classes equally often")
	fl.Float64Var(&c.EMA, "ema", 0, "decay of a moving average of the weights, such as 0.999, which is then the result")
	fl.StringVar(&f.augment, "augment", string(c.Augment.Policy), "auto (crop and flip), none, or a list of: crop, pad, flip, vflip, rand")
	fl.Float64SliceVar(&f.jitter, "jitter", nil, "colour jitter `B,C,S,H`: of brightness, contrast, saturation and hue")
	fl.Float64Var(&c.Augment.Erase, "erase", 0, "probability of random erasing")
	fl.Float64Var(&c.Augment.MixUp, "mixup", 0, "alpha of mixup")
	fl.Float64Var(&c.Augment.CutMix, "cutmix", 0, "alpha of cutmix")
	fl.StringVar((*string)(&c.Metric), "metric", string(c.Metric), "what makes an epoch the best: accuracy, loss, f1, kappa or auc")
	fl.BoolVar(&c.Ordered, "ordered", false, "the classes are ordered: report the quadratic weighted kappa")
	fl.IntVar(&c.Patience, "patience", 0, "stop after so many epochs without a better one")
	fl.Float64Var(&c.CheckpointSeconds, "checkpoint-seconds", c.CheckpointSeconds, "save a checkpoint so often, besides every epoch; 0: epochs only")
	fl.IntVar(&f.size, "size", 0, "train on images of this side (default: the model's)")
	fl.StringToStringVar(&f.options, "option", nil, "model option `NAME=VALUE` (repeatable)")
	fl.BoolVar(&f.dryRun, "dry-run", false, "train for a few seconds, keep nothing, and say how much memory and time all of it will take")
	cmd.MarkFlagRequired("data")
}

// complete moves flags that are more than a value into the configuration.
func (f *trainFlags) complete(cmd *cobra.Command, c *finetune.Config) error {
	if f.Out == "" && !f.dryRun {
		return usagef("say what the result is called: --out NAME, or --out DIR/ for a folder")
	}
	if f.size < 0 {
		return usagef("--size %d is below 0", f.size)
	}
	if f.Resume && f.Overwrite {
		return usagef("--resume continues what --overwrite throws away: give one of them")
	}
	c.Command = append([]string{"zoo"}, os.Args[1:]...)
	changed := cmd.Flags().Changed
	c.AutoLR = c.Strategy == finetune.StrategyAuto && !changed("lr")
	if c.Schedule.Name == finetune.ScheduleOneCycle && !changed("warmup") { // it has one of its own, and a default is not the user's mistake
		c.Schedule.WarmupEpochs = 0
	}
	if c.Optimizer.Momentum == 0 && !changed("nesterov") { // there is none without momentum
		c.Optimizer.Nesterov = false
	}
	if err := withoutEffect(changed, c); err != nil {
		return err
	}
	if c.UnfreezeAt > 0 {
		c.UnfreezeAt-- // people count from 1
		if c.UnfreezeAt == 0 {
			return usagef("--unfreeze-at 1 freezes nothing: leave --freeze out")
		}
	}
	switch f.augment {
	case "auto", "none":
		c.Augment.Policy = finetune.AugmentPolicy(f.augment)
	default:
		c.Augment.Policy = finetune.AugmentCustom
		for name := range strings.SplitSeq(f.augment, ",") {
			switch strings.TrimSpace(name) {
			case "crop":
				c.Augment.Crop = "resized"
			case "pad":
				c.Augment.Crop = "pad"
			case "flip":
				c.Augment.Flip = true
			case "vflip":
				c.Augment.VerticalFlip = true
			case "rand":
				c.Augment.RandAugment = true
			default:
				return usagef("--augment %s: use auto, none, or a list of crop, pad, flip, vflip, rand", f.augment)
			}
		}
	}
	if len(f.jitter) > 4 {
		return usagef("--jitter takes at most four numbers: brightness,contrast,saturation,hue")
	}
	copy(c.Augment.Jitter[:], f.jitter)
	if err := c.Validate(); err != nil {
		return &usageError{err}
	}
	return nil
}

// withoutEffect reports a flag that the chosen optimizer or schedule does not look at.
func withoutEffect(changed func(flag string) bool, c *finetune.Config) error {
	optimizer, schedule := "--optimizer "+c.Optimizer.Name, "--schedule "+string(c.Schedule.Name)
	for _, f := range []struct {
		flag, choice string
		with         []string
	}{
		{"momentum", optimizer, []string{"--optimizer sgd", "--optimizer rmsprop"}},
		{"nesterov", optimizer, []string{"--optimizer sgd"}},
		{"step-epochs", schedule, []string{"--schedule step"}},
		{"gamma", schedule, []string{"--schedule step", "--schedule plateau"}},
		{"min-lr", schedule, []string{"--schedule cosine", "--schedule plateau"}},
	} {
		if changed(f.flag) && !slices.Contains(f.with, f.choice) {
			return usagef("--%s has no effect with %s: leave it out, or choose %s", f.flag, f.choice, strings.Join(f.with, " or "))
		}
	}
	return nil
}

func (a *app) train(cmd *cobra.Command, model string, config *finetune.Config, f *trainFlags) error {
	if err := f.complete(cmd, config); err != nil {
		return err
	}
	c, err := a.open()
	if err != nil {
		return err
	}
	find := c.Find
	if f.Scratch {
		find = c.Architecture
	}
	ck, err := find(cmd.Context(), model)
	if err != nil {
		return err
	}
	k := &ck.Card
	overrideCard(k, graph.Shape{}, f.options, 0)
	if f.size > 0 {
		k.Input[1], k.Input[2] = f.size, f.size
		k.Preprocess.Crop, k.Preprocess.Resize = f.size, f.size
		if f.size > 64 {
			k.Preprocess.Resize = f.size * 8 / 7
		}
		if k.Preprocess.Interpolation == "" {
			k.Preprocess.Interpolation = "bilinear"
		}
	}
	if f.dryRun {
		e, err := c.EstimateFinetune(cmd.Context(), ck, *config, f.FinetuneOptions)
		if err != nil {
			return err
		}
		return a.Print(e, func(w io.Writer) error { return printEstimate(w, e) })
	}
	show := &trainingView{app: a, bars: a.Progress()}
	defer show.close()
	f.Sink = show.event
	r, err := c.Finetune(cmd.Context(), ck, *config, f.FinetuneOptions)
	show.close()
	if r == nil {
		if errors.Is(err, classifier.ErrNothingKept) {
			return fmt.Errorf("stopped: %w", classifier.ErrNothingKept)
		}
		if err != nil && cmd.Context().Err() != nil {
			return fmt.Errorf("stopped; the run so far is saved: continue with the same command and --resume")
		}
		return err
	}
	shown := trainedResult{Finetuned: *r, Input: [3]int{r.Input.C, r.Input.H, r.Input.W}}
	shown.Result = r.Percent()
	printErr := a.Print(shown, func(w io.Writer) error {
		m, how := r.Metrics, string(r.Strategy)
		if len(r.Config.Freeze) > 0 { // which takes precedence
			how = "--freeze " + strings.Join(r.Config.Freeze, " --freeze ")
		}
		fmt.Fprintf(w, "%s: %.2f %% of %s right (epoch %d of %d, %s)\n", r.Model, 100*m.Top1, plural.Count(m.Images, "image", "images"), r.Best, len(r.History), how)
		for _, s := range r.Skipped {
			fmt.Fprintf(w, "skipped: %s\n", s)
		}
		_, err := fmt.Fprintf(w, "report: %s\ntry: zoo predict %s IMAGE\n", r.Report, r.Model)
		return err
	})
	if err != nil {
		return fmt.Errorf("stopped; the best so far is %s, and the same command with --resume continues", r.Model)
	}
	return printErr
}

// trainedResult is a training in JSON, with shares in percent and the input as everywhere.
type trainedResult struct {
	classifier.Finetuned
	Input [3]int `json:"input"`
}

func printEstimate(w io.Writer, e *classifier.Estimate) error {
	for _, n := range e.Notes {
		fmt.Fprintln(w, n)
	}
	what := fmt.Sprintf("%s of %s", plural.Count(e.Epochs, "epoch", "epochs"), plural.Count(e.Images, "image", "images"))
	if e.Features {
		what = fmt.Sprintf("the features of %s, without the epochs that follow", plural.Count(e.Images, "image", "images"))
	}
	memory := "unknown: this system does not tell"
	if e.Memory > 0 {
		memory = fmt.Sprintf("%s at batch %d", ui.Bytes(e.Memory), e.Batch)
	}
	return ui.Table(w, nil, [][]string{
		{"memory", memory},
		{"time", fmt.Sprintf("about %v for %s", time.Duration(e.Seconds*float64(time.Second)).Round(time.Second), what)},
		{"pace", fmt.Sprintf("%.0f images/s, measured over %.0f s", e.ImagesPerSecond, e.Tried)},
	})
}

// trainingView shows a run: a bar for the epoch under way, a line for each that is over.
type trainingView struct {
	*app
	bars *ui.Progress

	mu     sync.Mutex
	latest finetune.Event
	meter  *ui.Meter
	of     string // what the meter counts
}

func (v *trainingView) event(e finetune.Event) {
	switch e.Kind {
	case finetune.KindNote:
		v.restart()
		v.Note("%s", e.Text)
	case finetune.KindFeatures:
		v.show("features", e)
	case finetune.KindStep:
		v.show(fmt.Sprintf("epoch %d/%d", e.Epoch, e.Epochs), e)
	case finetune.KindEpoch:
		v.restart()
		best := ""
		if e.Best {
			best = " *"
		}
		v.Note("epoch %2d/%d  train loss %.4f acc %5.2f %%  val loss %.4f acc %5.2f %%  lr %.3g  %.0f images/s%s",
			e.Epoch, e.Epochs, e.Loss, 100*e.Accuracy, e.Metrics.Loss, 100*e.Metrics.Top1, e.LR, e.ImagesPerSecond, best)
	}
}

// show moves the bar of what is under way.
func (v *trainingView) show(what string, e finetune.Event) {
	v.mu.Lock()
	v.latest = e
	v.mu.Unlock()
	if v.of != what {
		v.restart()
		v.of = what
		v.meter = v.bars.Live(int64(e.Total), func() string { return what + " " }, func() string {
			v.mu.Lock()
			e := v.latest
			v.mu.Unlock()
			if e.Kind == finetune.KindFeatures {
				return fmt.Sprintf(" %d/%d images", e.Done, e.Total)
			}
			left := time.Duration(e.Remaining * float64(time.Second)).Round(time.Second)
			return fmt.Sprintf(" loss %.4f  acc %.1f %%  %.0f images/s  %v left", e.Loss, 100*e.Accuracy, e.ImagesPerSecond, left)
		})
	}
	v.meter.Set(int64(e.Done), int64(e.Total))
}

// restart ends the bar under way, so that a line can be printed.
func (v *trainingView) restart() {
	if v.meter == nil {
		return
	}
	v.bars.Close()
	v.bars = v.Progress()
	v.meter, v.of = nil, ""
}

func (v *trainingView) close() { v.bars.Close() }
