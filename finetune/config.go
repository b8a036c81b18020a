package finetune

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/internal/strictjson"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

// Config says how to train. Make one with Defaults or ScratchDefaults and change what should differ.
type Config struct {
	// Data is a folder with a folder of images for each class, or one with two such folders, train and val; or a CSV file of lines
	// "path,label".
	Data string `json:"data"`
	// Val is the validation data, in the same forms. Empty: Data's own val folder, else ValFraction of each class of Data, drawn by Seed.
	Val         string  `json:"val,omitempty"`
	ValFraction float64 `json:"val_fraction"`
	// SkipBad leaves images out that cannot be read. Otherwise the first is an error.
	SkipBad bool `json:"skip_bad,omitempty"`

	// Seed decides everything random: the split, the order, augmentation, new weights, dropout.
	Seed uint64 `json:"seed"`

	// Strategy is what to train; see Strategy. Freeze, if given, replaces it.
	Strategy Strategy `json:"strategy"`
	// Freeze are patterns of what stays as it is: "features", the name of a layer group, a module or parameter, a glob over parameter
	// names, or "until:NAME": all that comes before NAME.
	Freeze []string `json:"freeze,omitempty"`
	// UnfreezeAt is the epoch, from 0, at which everything begins to train; 0 never.
	UnfreezeAt int `json:"unfreeze_at,omitempty"`
	// GradualUnfreeze is after how many epochs each next layer group, from the output on, begins to train; 0 never.
	GradualUnfreeze int `json:"gradual_unfreeze,omitempty"`

	Epochs int `json:"epochs"`
	// BatchSize images make a batch, Accumulate batches a step of the optimiser.
	BatchSize  int `json:"batch_size"`
	Accumulate int `json:"accumulate"`
	// Optimizer is the update rule; its LR is below.
	Optimizer train.Algorithm `json:"optimizer"`
	// LR is the base learning rate, above 0. With AutoLR it is the strategy's instead.
	LR     float64 `json:"lr"`
	AutoLR bool    `json:"auto_lr,omitempty"`
	// LayerDecay multiplies the learning rate of each layer group by this power of its distance to the last, in (0, 1]; 1 is off.
	LayerDecay float64 `json:"layer_decay"`
	// NoDecayNorms takes biases and the parameters of norms out of weight decay.
	NoDecayNorms bool     `json:"no_decay_norms,omitempty"`
	Schedule     Schedule `json:"schedule"`
	// ClipNorm bounds the norm of all gradients together; 0 does not.
	ClipNorm float64 `json:"clip_norm,omitempty"`
	// LabelSmoothing is in [0, 1).
	LabelSmoothing float64 `json:"label_smoothing,omitempty"`
	// ClassWeights weighs the loss of a class by the inverse of its size; Balanced draws every class equally often instead.
	ClassWeights bool `json:"class_weights,omitempty"`
	Balanced     bool `json:"balanced,omitempty"`
	// EMA is the decay, in [0, 1), of the moving average of the weights that is validated and kept; 0 is off.
	EMA float64 `json:"ema,omitempty"`

	Augment Augment `json:"augment"`
	// CacheFeatures computes the frozen part once for each image and keeps the result on disk. Auto does where nothing random happens to the
	// images before.
	CacheFeatures Switch `json:"cache_features"`
	// Views is how many augmented versions of each image are cached.
	Views int `json:"views,omitempty"`
	// CacheDir is where cached features are kept; empty means in the run's folder.
	CacheDir string `json:"cache_dir,omitempty"`

	// Metric decides which epoch is the best: accuracy, loss, f1, kappa or auc.
	Metric Metric `json:"metric"`
	// Ordered says that the classes are ordered, such as grades: the quadratic weighted kappa is then reported.
	Ordered bool `json:"ordered,omitempty"`
	// Patience ends the run after so many epochs without a better Metric; 0 does not.
	Patience int `json:"patience,omitempty"`
	// CheckpointSeconds is how often a checkpoint is saved within an epoch, besides the one at its end.
	CheckpointSeconds float64 `json:"checkpoint_seconds"`

	// Command is the command line that asked for the run, for the report.
	Command []string `json:"command,omitempty"`
}

// Switch is on, off, or auto.
type Switch string

// Values of a Switch.
const (
	Auto Switch = "auto"
	On   Switch = "on"
	Off  Switch = "off"
)

// Defaults returns a configuration that suits a pretrained network: PyTorch's transfer-learning recipe.
func Defaults() Config {
	return Config{
		ValFraction: 0.2, Strategy: StrategyAuto, Epochs: 10, BatchSize: 8, Accumulate: 1,
		Optimizer: train.Algorithm{Name: "sgd", Momentum: 0.9}, LR: 1e-3, LayerDecay: 1,
		Schedule:      Schedule{Name: ScheduleStep, StepEpochs: DefaultStepEpochs, Gamma: DefaultGamma},
		Augment:       Augment{Policy: AugmentAuto},
		CacheFeatures: Auto, Metric: MetricAccuracy, CheckpointSeconds: 60,
	}
}

// ScratchDefaults returns a configuration that suits random weights.
func ScratchDefaults() Config {
	c := Defaults()
	c.Strategy, c.Epochs, c.BatchSize = StrategyScratch, 30, 128
	c.Optimizer = train.Algorithm{Name: "sgd", Momentum: 0.9, WeightDecay: 5e-4, Nesterov: true}
	c.LR, c.Schedule = 0.1, Schedule{Name: ScheduleCosine, WarmupEpochs: 1}
	return c
}

// maxConfig bounds the configuration in a run's folder, in bytes.
const maxConfig = 1 << 20

// ParseConfig reads a configuration over the given one. Unknown fields are errors, and so is anything behind the object.
func ParseConfig(data []byte, into *Config) error {
	if err := strictjson.Unmarshal(data, into); err != nil {
		return fmt.Errorf("training configuration: %w", err)
	}
	return nil
}

// Validate reports every mistake, a line each.
func (c *Config) Validate() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	within := func(name string, v, low, top float64, hint string) {
		if !(v >= low && v <= top) { // NaN too
			fail("%s %v is outside %v to %v%s", name, v, low, top, hint)
		}
	}
	if c.Data == "" {
		fail("no data: give a folder with a folder of images for each class")
	}
	if c.Val == "" && !(c.ValFraction > 0 && c.ValFraction < 1) {
		fail("validation fraction %v is not between 0 and 1", c.ValFraction)
	}
	if !(c.LR > 0) || math.IsInf(c.LR, 0) {
		fail("learning rate %v is not above 0: 0.001 is a start for fine-tuning, 0.1 for training from scratch", c.LR)
	}
	if c.LR > 0 && !c.AutoLR && c.Schedule.MinLR > c.LR {
		fail("lowest learning rate %v is above the learning rate %v", c.Schedule.MinLR, c.LR)
	}
	for _, n := range []struct {
		name     string
		v, least int
	}{
		{"epochs", c.Epochs, 1}, {"batch size", c.BatchSize, 1}, {"accumulated batches", c.Accumulate, 1}, {"unfreeze-at epoch", c.UnfreezeAt, 0},
		{"epochs of gradual unfreezing", c.GradualUnfreeze, 0}, {"views", c.Views, 0}, {"patience", c.Patience, 0},
	} {
		if n.v < n.least {
			fail("%s: %d is below %d", n.name, n.v, n.least)
		}
		if n.v > 1<<24 {
			fail("%s: %d is too many", n.name, n.v)
		}
	}
	if c.UnfreezeAt > 0 && c.UnfreezeAt >= c.Epochs {
		fail("unfreezing would come after the last of %s: let it come earlier, or leave it out", plural.Count(c.Epochs, "epoch", "epochs"))
	}
	if c.GradualUnfreeze > 0 && c.GradualUnfreeze >= c.Epochs {
		fail("gradual unfreezing would begin after the last of %s: let it come earlier, or leave it out", plural.Count(c.Epochs, "epoch", "epochs"))
	}
	if c.UnfreezeAt > 0 && c.GradualUnfreeze > 0 {
		fail("unfreezing at an epoch and gradual unfreezing exclude each other")
	}
	if !(c.LayerDecay > 0 && c.LayerDecay <= 1) {
		fail("layer-wise learning-rate decay %v is not in (0, 1]", c.LayerDecay)
	}
	if !(c.LabelSmoothing >= 0 && c.LabelSmoothing < 1) {
		fail("label smoothing %v is not in [0, 1)", c.LabelSmoothing)
	}
	if !(c.EMA >= 0 && c.EMA < 1) {
		fail("decay of the weights' average %v is not in [0, 1)", c.EMA)
	}
	within("gradient norm limit", c.ClipNorm, 0, 1e9, "; 0 is off")
	within("seconds between checkpoints", c.CheckpointSeconds, 0, 1e9, "")
	if _, err := train.NewOptimizer(c.Optimizer); err != nil {
		errs = append(errs, err)
	}
	if c.Strategy == StrategyScratch && len(c.Freeze) > 0 {
		fail("strategy scratch begins with random weights, which must not be frozen: choose another strategy, or freeze nothing")
	}
	if a := &c.Augment; a.Policy == AugmentNone && (a.Jitter != [4]float64{} || a.Erase > 0) {
		fail("augmentation none leaves no room for colour jitter and random erasing: choose auto or a list")
	}
	if c.ClassWeights && (c.Augment.MixUp > 0 || c.Augment.CutMix > 0) {
		fail("class weights do not go together with mixup or cutmix: use balanced sampling")
	}
	if c.ClassWeights && c.Balanced {
		fail("class weights and balanced sampling do the same twice: choose one")
	}
	errs = append(errs,
		oneOf("strategy", c.Strategy, strategies), oneOf("metric", c.Metric, metrics), oneOf("feature cache", c.CacheFeatures, []Switch{Auto, On, Off}),
		c.Schedule.validate(), c.Augment.validate(),
	)
	return errors.Join(errs...)
}

// oneOf reports a name that is none of the known.
func oneOf[T ~string](what string, v T, known []T) error {
	names := make([]string, len(known))
	for i, k := range known {
		if v == k {
			return nil
		}
		names[i] = string(k)
	}
	return fmt.Errorf("%s %q is unknown: use %s", what, v, strings.Join(names, ", "))
}

// changed names the settings in which a resumed run would differ from the one that was begun.
func (c *Config) changed(began *Config) ([]string, error) {
	fields := func(c Config) (map[string]json.RawMessage, error) {
		c.Command, c.CacheDir, c.CheckpointSeconds = nil, "", 0 // free to differ
		data, err := json.Marshal(c)
		if err != nil {
			return nil, err
		}
		var m map[string]json.RawMessage
		return m, json.Unmarshal(data, &m)
	}
	a, err := fields(*c)
	if err != nil {
		return nil, err
	}
	b, err := fields(*began)
	if err != nil {
		return nil, err
	}
	var names []string
	for k, v := range a {
		if !bytes.Equal(v, b[k]) {
			names = append(names, k)
		}
	}
	for k := range b {
		if _, ok := a[k]; !ok {
			names = append(names, k)
		}
	}
	return names, nil
}

// Augment says what happens to training images at random, by torchvision's names.
type Augment struct {
	// Policy is auto (crop and flip), none, or custom (the fields below alone decide).
	Policy AugmentPolicy `json:"policy"`
	// Crop is resized (RandomResizedCrop), pad (RandomCrop after padding by an eighth of the side), or empty: none.
	Crop string `json:"crop,omitempty"`
	// CropScale is the smallest part of the image's area that RandomResizedCrop takes; 0 means torchvision's 0.08.
	CropScale    float64 `json:"crop_scale,omitempty"`
	Flip         bool    `json:"flip,omitempty"`
	VerticalFlip bool    `json:"vertical_flip,omitempty"`
	// Jitter is brightness, contrast, saturation and hue of ColorJitter.
	Jitter      [4]float64 `json:"jitter,omitzero"`
	RandAugment bool       `json:"rand_augment,omitempty"`
	// Erase is RandomErasing's probability.
	Erase float64 `json:"erase,omitempty"`
	// MixUp and CutMix are the alphas of their Beta distributions; with both, each batch takes one or the other.
	MixUp  float64 `json:"mixup,omitempty"`
	CutMix float64 `json:"cutmix,omitempty"`
}

// AugmentPolicy is auto, none or custom.
type AugmentPolicy string

// Values of AugmentPolicy.
const (
	AugmentAuto   AugmentPolicy = "auto"
	AugmentNone   AugmentPolicy = "none"
	AugmentCustom AugmentPolicy = "custom"
)

func (a *Augment) validate() error {
	errs := []error{
		oneOf("augmentation", a.Policy, []AugmentPolicy{AugmentAuto, AugmentNone, AugmentCustom}),
		oneOf("random crop", a.Crop, []string{"", "resized", "pad"}),
	}
	for _, f := range []struct {
		name string
		v    float64
		top  float64
	}{
		{"brightness", a.Jitter[0], 10}, {"contrast", a.Jitter[1], 10}, {"saturation", a.Jitter[2], 10}, {"hue", a.Jitter[3], 0.5},
		{"erasing probability", a.Erase, 1}, {"mixup alpha", a.MixUp, 100}, {"cutmix alpha", a.CutMix, 100}, {"crop scale", a.CropScale, 1},
	} {
		if !(f.v >= 0 && f.v <= f.top) {
			errs = append(errs, fmt.Errorf("%s %v is outside 0 to %v", f.name, f.v, f.top))
		}
	}
	return errors.Join(errs...)
}

// resolve replaces the policy auto by its choices for images of a size.
func (a Augment) resolve(side int) Augment {
	switch a.Policy {
	case AugmentNone:
		return Augment{Policy: AugmentNone, MixUp: a.MixUp, CutMix: a.CutMix}
	case AugmentAuto:
		if a.Flip = true; a.Crop == "" {
			if a.Crop = "resized"; side <= 64 {
				a.Crop = "pad"
			}
		}
	}
	a.Policy = AugmentCustom
	return a
}

// random reports whether an image differs from epoch to epoch.
func (a Augment) random() bool {
	return a.Crop != "" || a.Flip || a.VerticalFlip || a.Jitter != [4]float64{} || a.RandAugment || a.Erase > 0
}

// pipeline returns the transforms for training images: the deterministic beginning, the random part, and erasing.
func (a Augment) pipeline(p transforms.Preprocess, side int) (prepare, random transforms.Transform, erase *transforms.RandomErasing) {
	var list transforms.Compose
	switch a.Crop {
	case "resized":
		t := transforms.RandomResizedCrop{Size: side, Interpolation: p.Interpolation}
		if a.CropScale > 0 {
			t.Scale = [2]float64{a.CropScale, 1}
		}
		list = append(list, t)
	case "pad":
		prepare = p.Transform()
		list = append(list, transforms.RandomCrop{Width: side, Height: side, Padding: side / 8})
	default:
		prepare = p.Transform()
	}
	if a.Flip {
		list = append(list, transforms.RandomHorizontalFlip{})
	}
	if a.VerticalFlip {
		list = append(list, transforms.RandomVerticalFlip{})
	}
	if a.RandAugment {
		list = append(list, transforms.RandAugment{})
	}
	if j := a.Jitter; j != [4]float64{} {
		list = append(list, transforms.ColorJitter{Brightness: j[0], Contrast: j[1], Saturation: j[2], Hue: j[3]})
	}
	if a.Erase > 0 {
		erase = &transforms.RandomErasing{P: a.Erase}
	}
	if len(list) > 0 {
		random = list
	}
	return prepare, random, erase
}
