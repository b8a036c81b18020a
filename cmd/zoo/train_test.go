package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/finetune"
)

// photos makes a folder of two classes, bright and dark pictures of 32×32 pixels.
func photos(t *testing.T, perClass int) string {
	t.Helper()
	dir := t.TempDir()
	for name, base := range map[string]int{"bright": 190, "dark": 30} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		for i := range perClass {
			img := image.NewGray(image.Rect(0, 0, 32, 32))
			for k := range img.Pix {
				img.Pix[k] = color.Gray{Y: uint8(base + (k*31+i*17)%60)}.Y
			}
			var b bytes.Buffer
			if err := png.Encode(&b, img); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name, string(rune('a'+i))+".png"), b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

func TestTrainedModelIsAModelLikeAnyOther(t *testing.T) {
	home, data := t.TempDir(), photos(t, 10)
	var r trainedResult
	text := must(t, home, "train", "resnet20", "--data", data, "--epochs", "3", "--batch", "4", "--lr", "0.02", "--size", "32", "--out", "shades", "-o", "json")
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if r.Model != "shades" || r.Result == nil || r.Metrics.Images != 4 || len(r.History) != 3 {
		t.Fatalf("result %s", text)
	}
	must(t, home, "eval", "shades", "--data", data)
	if out := must(t, home, "predict", "shades", filepath.Join(data, "dark", "a.png")); !strings.Contains(out, "dark") || !strings.Contains(out, "bright") {
		t.Errorf("predictions lack the classes: %s", out)
	}
	// Fine-tuned from there into a folder, features frozen.
	folder := filepath.Join(t.TempDir(), "again") + string(filepath.Separator)
	must(t, home, "finetune", "shades", "--data", data, "--freeze", "features", "--cache-features", "--epochs", "2", "--out", folder)
	must(t, home, "predict", folder, filepath.Join(data, "dark", "a.png"))
	for _, name := range []string{"card.json", "model.safetensors", "report.html", "metrics.jsonl"} {
		if _, err := os.Stat(filepath.Join(folder, name)); err != nil {
			t.Error(err)
		}
	}
	refused(t, home, exitFailure, []string{"holds a run", "--resume", "--overwrite"}, "train", "resnet20", "--data", data, "--out", "shades", "--size", "32")
	must(t, home, "finetune", "shades", "--data", data, "--freeze", "features", "--cache-features", "--epochs", "2", "--out", folder, "--resume")
	cachedFeaturesCanBeRemoved(t, home)
	// Its weights were thrown away before they were read.
	refused(t, home, exitFailure, []string{"begins with", "--out"}, "finetune", folder, "--data", data, "--out", folder, "--overwrite")
	must(t, home, "predict", folder, filepath.Join(data, "dark", "a.png"))
}

func cachedFeaturesCanBeRemoved(t *testing.T, home string) {
	t.Helper()
	list := func() (features []string) {
		t.Helper()
		var entries []cacheResult
		if err := json.Unmarshal([]byte(must(t, home, "cache", "ls", "-o", "json")), &entries); err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Features {
				if e.Bytes == 0 || e.Partial || time.Since(e.Used) > time.Hour {
					t.Errorf("entry %+v", e)
				}
				features = append(features, e.Reference)
			}
		}
		return features
	}
	all := list()
	if len(all) != 2 {
		t.Fatalf("%d entries of features, want those of training and validation", len(all))
	}
	must(t, home, "cache", "prune") // no age is not the age of 0
	must(t, home, "cache", "prune", "--older-than", "1h")
	must(t, home, "cache", "prune", "--older-than", "1ns", "--dry-run")
	if now := list(); len(now) != 2 {
		t.Errorf("%v is left of %v although nothing was old", now, all)
	}
	if out := must(t, home, "cache", "rm", all[0]); !strings.Contains(out, "removed "+all[0]) || strings.Contains(out, "\n0 B") {
		t.Errorf("%s", out)
	}
	refused(t, home, exitFailure, []string{"zoo cache ls"}, "cache", "rm", all[0])
	if now := list(); len(now) != 1 || now[0] != all[1] {
		t.Errorf("%v is left of %v", now, all)
	}
	if out := must(t, home, "cache", "prune", "--older-than", "1ns"); !strings.Contains(out, "removed "+all[1]) || strings.Contains(out, "\n0 B") {
		t.Errorf("%s", out)
	}
	if now := list(); len(now) != 0 {
		t.Errorf("%v is left", now)
	}
}

func TestTrainingMistakesAreOneLine(t *testing.T) {
	home, data := imported(t), photos(t, 3)
	bad := photos(t, 4)
	if err := os.WriteFile(filepath.Join(bad, "dark", "b.png"), []byte("no picture"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		code  int
		words []string
		args  []string
	}{
		{exitUsage, []string{"learning rate 0"}, []string{"mine", "--data", data, "--out", "x", "--lr", "0"}},
		{exitUsage, []string{"--size -5"}, []string{"mine", "--data", data, "--out", "x", "--size", "-5"}},
		{exitUsage, []string{`optimizer "sdg"`}, []string{"mine", "--data", data, "--out", "x", "--optimizer", "sdg"}},
		{exitUsage, []string{"--augment blur"}, []string{"mine", "--data", data, "--out", "x", "--augment", "blur"}},
		{exitUsage, []string{"--resume", "--overwrite"}, []string{"mine", "--data", data, "--out", "x", "--resume", "--overwrite"}},
		{exitUsage, []string{"--out NAME"}, []string{"mine", "--data", data}},
		{exitUsage, []string{"--unfreeze-at 1"}, []string{"mine", "--data", data, "--out", "x", "--freeze", "features", "--unfreeze-at", "1"}},
		{exitUsage, []string{"--jitter"}, []string{"mine", "--data", data, "--out", "x", "--jitter", "0,0,0,0,0"}},
		{exitUsage, []string{"scratch", "frozen"}, []string{"mine", "--data", data, "--out", "x", "--strategy", "scratch", "--freeze", "features"}},
		{exitUsage, []string{"none", "random erasing"}, []string{"mine", "--data", data, "--out", "x", "--augment", "none", "--erase", "0.1"}},
		{exitFailure, []string{"no folder in it"}, []string{"mine", "--data", t.TempDir(), "--out", "x"}},
		{exitFailure, []string{"matches nothing", "layer1"}, []string{"mine", "--data", data, "--out", "x", "--freeze", "layer11"}},
		{exitFailure, []string{"b.png", "--skip-bad"}, []string{"mine", "--data", bad, "--out", "y", "--freeze", "features", "--batch", "2"}},
		{exitFailure, []string{"is no name for a model"}, []string{"mine", "--data", data, "--out", "No Name"}},
	} {
		o := zoo(t, home, nil, append([]string{"finetune"}, c.args...)...)
		lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
		last := lines[len(lines)-1]
		if o.code != c.code || !strings.HasPrefix(last, "zoo: ") {
			t.Errorf("%v: exit %d: %s", c.args, o.code, o.stderr)
		}
		for _, w := range c.words {
			if !strings.Contains(last, w) {
				t.Errorf("%v: %q lacks %q", c.args, last, w)
			}
		}
	}
	// What failed before is no run: the mistake mended, it begins.
	must(t, home, "finetune", "mine", "--data", bad, "--out", "y", "--freeze", "features", "--batch", "2", "--epochs", "1", "--skip-bad")
}

// The model that a training begins with must not be lost to its result.
func TestModelsOfTheStoreAreNotReplacedUnasked(t *testing.T) {
	home, data := imported(t), photos(t, 3)
	train := []string{"finetune", "mine", "--data", data, "--freeze", "features", "--epochs", "1", "--batch", "2", "--out", "mine"}
	refused(t, home, exitFailure, []string{"mine:local", "--out", "--overwrite"}, train...)
	refused(t, home, exitFailure, []string{"mine:local", "--out", "--overwrite"}, append(train, "--resume")...) // no run was begun under that name
	must(t, home, append(train, "--overwrite")...)
	must(t, home, append(train, "--resume")...)
}

func TestNameOfTheIndexIsGivenWithItsTag(t *testing.T) {
	home, data := imported(t), photos(t, 3)
	text := must(t, home, "finetune", "mine", "--data", data, "--freeze", "features", "--epochs", "1", "--batch", "2", "--out", "resnet50")
	if !strings.Contains(text, "zoo predict resnet50:local IMAGE") {
		t.Errorf("the result is %s", text)
	}
	must(t, home, "predict", "resnet50:local", data)
	if text := must(t, home, "import", checkpoint(t, nil), "--as", "vgg16", "--model", "resnet20"); !strings.HasPrefix(text, "vgg16:local: ") {
		t.Errorf("import says %s", text)
	}
	refused(t, home, exitFailure, []string{"vgg16:local"}, "predict", "vgg16", data, "--offline")
}

// A base's options say what its weights mean: one that is given must not drop the others.
func TestOptionOfATrainingKeepsTheOthers(t *testing.T) {
	home, data := t.TempDir(), photos(t, 3)
	base := []string{"train", "resnet_custom", "--data", data, "--size", "32", "--epochs", "1", "--batch", "2", "--lr", "0.001", "--option", "layers=1,1", "--option", "widths=8,8"}
	must(t, home, append(base, "--out", "tiny")...)
	must(t, home, "finetune", "tiny", "--data", data, "--freeze", "features", "--epochs", "1", "--batch", "2", "--out", "tinier", "--option", "widths=8,8")
	var info modelInfo
	if err := json.Unmarshal([]byte(must(t, home, "info", "tinier", "-o", "json")), &info); err != nil {
		t.Fatal(err)
	}
	if info.Options["layers"] != "1,1" {
		t.Errorf("options are %v", info.Options)
	}
}

func TestFailedTrainingLeavesNothingBehind(t *testing.T) {
	home, data := imported(t), photos(t, 5)
	broken := t.TempDir()
	for _, name := range []string{"a/1.png", "a/2.png", "b/1.png", "b/2.png"} {
		path := filepath.Join(broken, filepath.FromSlash(name))
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("no picture"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	mine := t.TempDir()
	notes := filepath.Join(mine, "notes.txt")
	if err := os.WriteFile(notes, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	failing := [][]string{
		{"--data", broken},
		{"--data", data, "--freeze", "nonsense"},
	}
	if runtime.GOOS == "linux" { // where the ceiling binds
		failing = append(failing, []string{"--data", data, "--plugin-memory", "40MB"})
	}
	for _, args := range failing {
		args = append(args, "--epochs", "1", "--out")
		for _, out := range []string{"shades", mine + string(filepath.Separator)} {
			if o := zoo(t, home, nil, slices.Concat([]string{"finetune", "mine"}, args, []string{out})...); o.code != exitFailure {
				t.Errorf("zoo %v: exit %d: %s", args, o.code, o.stderr)
			}
		}
		runs, err := os.ReadDir(filepath.Join(home, "runs"))
		if err != nil || len(runs) > 0 {
			t.Errorf("zoo %v leaves %v, %v", args, runs, err)
		}
		if left, err := os.ReadDir(mine); err != nil || len(left) != 1 {
			t.Errorf("zoo %v leaves %v in a folder that was there, %v", args, left, err)
		}
	}

	// A checkpoint is kept, whatever happens then.
	must(t, home, "finetune", "mine", "--data", data, "--epochs", "1", "--out", "shades")
	if o := zoo(t, home, nil, "finetune", "mine", "--data", broken, "--epochs", "1", "--out", "shades", "--resume"); o.code != exitFailure {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
	refused(t, home, exitFailure, []string{"nowhere"}, "finetune", "mine", "--data", filepath.Join(data, "nowhere"), "--out", "shades", "--overwrite")
	for _, name := range []string{finetune.FileConfig, finetune.FileLast, finetune.FileModel} {
		if _, err := os.Stat(filepath.Join(home, "runs", "shades", name)); err != nil {
			t.Error(err)
		}
	}

	// A file that is no run's is not replaced.
	config := filepath.Join(mine, finetune.FileConfig)
	if err := os.WriteFile(config, []byte(`{"my": "settings"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, home, exitFailure, []string{config, "--out"}, "finetune", "mine", "--data", data, "--epochs", "1", "--out", mine+string(filepath.Separator))
	if text, err := os.ReadFile(config); err != nil || string(text) != `{"my": "settings"}` {
		t.Errorf("it is now %s, %v", text, err)
	}
}

func TestGreyNetworkIsTrainedAndUsed(t *testing.T) {
	home, data := t.TempDir(), photos(t, 5)
	must(t, home, "train", "lenet5", "--data", data, "--epochs", "1", "--batch", "4", "--out", "grey")
	if out := must(t, home, "predict", "grey", filepath.Join(data, "dark", "a.png")); !strings.Contains(out, "dark") {
		t.Error(out)
	}
	file := filepath.Join(t.TempDir(), "grey.safetensors")
	must(t, home, "export", "grey", file)
	must(t, home, "import", file, "--as", "again", "--model", "lenet5", "--classes", "2")
}

func TestDefaultsOfTrainGiveWayToWhatIsAskedFor(t *testing.T) {
	home, data := t.TempDir(), photos(t, 5)
	train := []string{"train", "resnet20", "--data", data, "--epochs", "1", "--batch", "4", "--size", "32", "--overwrite", "--out", "shades"}
	must(t, home, append(train, "--schedule", "one-cycle")...) // train warms up for an epoch unless told otherwise
	must(t, home, append(train, "--momentum", "0")...)         // and takes Nesterov's momentum
	refused(t, home, exitUsage, []string{"one-cycle", "warm-up"}, append(train, "--schedule", "one-cycle", "--warmup", "2")...)
	refused(t, home, exitUsage, []string{"Nesterov", "momentum"}, append(train, "--momentum", "0", "--nesterov")...)
}

func TestFlagsWithoutEffectRefused(t *testing.T) {
	home, data := t.TempDir(), photos(t, 5)
	for _, c := range [][]string{
		{"--optimizer adam", "--momentum", "0.9"}, {"--optimizer rmsprop", "--nesterov"}, {"--schedule plateau", "--step-epochs", "4"},
		{"--schedule cosine", "--gamma", "0.5"}, {"--schedule step", "--min-lr", "0.0001"},
	} {
		args := append([]string{"train", "resnet20", "--data", data, "--out", "shades"}, strings.Fields(c[0])...)
		refused(t, home, exitUsage, []string{c[0], c[1], "no effect"}, append(args, c[1:]...)...)
	}
}

func TestFrozenTrainingIsNotCalledFinetune(t *testing.T) {
	home, data := imported(t), photos(t, 5)
	out := must(t, home, "finetune", "mine", "--data", data, "--freeze", "features", "--epochs", "1", "--out", "shades")
	if !strings.Contains(out, "(epoch 1 of 1, --freeze features)") {
		t.Error(out)
	}
}

func TestFlagOfATrainingThatIsNotPassedOn(t *testing.T) {
	home, data, val := imported(t), photos(t, 5), photos(t, 3)
	for _, dir := range []*string{&data, &val} {
		var err error
		if *dir, err = filepath.EvalSymlinks(*dir); err != nil {
			t.Fatal(err)
		}
	}
	given := map[string]bool{"help": true, "dry-run": true, "resume": true, "option": true} // other tests'
	for _, c := range []struct {
		args []string
		want func(*finetune.Config)
	}{
		{[]string{
			"--val", val, "--val-fraction", "0.3", "--skip-bad", "--seed", "7", "--freeze", "stem", "--freeze", "layer1", "--unfreeze-at", "2", "--epochs", "3",
			"--batch", "3", "--accumulate", "2", "--optimizer", "rmsprop", "--momentum", "0.8", "--weight-decay", "0.01", "--lr", "0.002", "--layer-decay", "0.9",
			"--no-decay-norms", "--schedule", "plateau", "--gamma", "0.5", "--min-lr", "0.0001", "--warmup", "0.5", "--clip-norm", "2",
			"--label-smoothing", "0.1", "--balanced", "--ema", "0.9", "--augment", "crop, flip", "--erase", "0.1", "--mixup", "0.2", "--cutmix", "0.3",
			"--cache-features=off", "--metric", "loss", "--ordered", "--patience", "5", "--checkpoint-seconds", "9", "--size", "40", "--license", "MIT",
		}, func(c *finetune.Config) {
			c.Val, c.ValFraction, c.SkipBad, c.Seed, c.Freeze, c.UnfreezeAt, c.Epochs = val, 0.3, true, 7, []string{"stem", "layer1"}, 1, 3
			c.BatchSize, c.Accumulate, c.Optimizer = 3, 2, train.Algorithm{Name: "rmsprop", Momentum: 0.8, WeightDecay: 0.01}
			c.LR, c.LayerDecay, c.NoDecayNorms = 0.002, 0.9, true
			c.Schedule = finetune.Schedule{Name: finetune.SchedulePlateau, StepEpochs: finetune.DefaultStepEpochs, Gamma: 0.5, MinLR: 0.0001, WarmupEpochs: 0.5}
			c.ClipNorm, c.LabelSmoothing, c.Balanced, c.EMA = 2, 0.1, true, 0.9
			c.Augment = finetune.Augment{Policy: finetune.AugmentCustom, Crop: "resized", Flip: true, Erase: 0.1, MixUp: 0.2, CutMix: 0.3}
			c.CacheFeatures, c.Metric, c.Ordered, c.Patience, c.CheckpointSeconds = finetune.Off, finetune.MetricLoss, true, 5, 9
		}},
		{[]string{
			"--strategy", "head", "--cache-features", "--views", "2", "--class-weights", "--nesterov", "--step-epochs", "4", "--augment", "pad,vflip,rand",
			"--jitter", "0.1,0.2,0.3,0.05", "--epochs", "1",
		}, func(c *finetune.Config) {
			c.Strategy, c.CacheFeatures, c.Views, c.ClassWeights, c.Optimizer.Nesterov = finetune.StrategyHead, finetune.On, 2, true, true
			c.Schedule.StepEpochs = 4
			c.Augment = finetune.Augment{Policy: finetune.AugmentCustom, Crop: "pad", VerticalFlip: true, RandAugment: true, Jitter: [4]float64{0.1, 0.2, 0.3, 0.05}}
			c.Epochs = 1
		}},
		{[]string{"--gradual-unfreeze", "1", "--augment", "none", "--epochs", "2"}, func(c *finetune.Config) {
			c.GradualUnfreeze, c.Augment.Policy, c.Epochs, c.AutoLR = 1, finetune.AugmentNone, 2, true
		}},
	} {
		args := append([]string{"finetune", "mine", "--data", data, "--out", "flags", "--overwrite", "-o", "json"}, c.args...)
		var r trainedResult
		text := must(t, home, args...)
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		want := finetune.Defaults()
		c.want(&want)
		want.Data, want.CacheDir, want.Command = data, r.Config.CacheDir, append([]string{"zoo"}, args...)
		if want.Strategy == finetune.StrategyAuto { // or what it chose
			want.Strategy = r.Config.Strategy
		}
		if !reflect.DeepEqual(r.Config, want) {
			t.Errorf("%v:\n%+v, want\n%+v", c.args, r.Config, want)
		}
		if side := r.Input[1]; (side == 40) != slices.Contains(c.args, "--size") {
			t.Errorf("%v: images of %d pixels", c.args, side)
		}
		if info := must(t, home, "info", "flags", "-o", "json"); strings.Contains(info, `"license":"MIT"`) != slices.Contains(c.args, "--license") {
			t.Errorf("%v: %s", c.args, info)
		}
		for _, word := range args {
			name, _, _ := strings.Cut(strings.TrimPrefix(word, "--"), "=")
			given[name] = true
		}
	}
	cmd, _, err := newRoot(t.Context()).Find([]string{"finetune"})
	if err != nil {
		t.Fatal(err)
	}
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !given[f.Name] {
			t.Errorf("--%s is not tested: add it to a row", f.Name)
		}
	})
}
