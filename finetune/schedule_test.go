package finetune

import (
	"encoding/json"
	"math"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/vision/transforms"
)

// torch runs a Python program with PyTorch and decodes the JSON that it prints; without PyTorch the test is skipped.
func torch(t *testing.T, program string, result any) {
	t.Helper()
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import torch").Run(); err != nil {
		t.Skipf("%s with PyTorch is needed (Debian: python3-torch): %v", python, err)
	}
	out, err := exec.Command(python, "-W", "ignore", "-c", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, result); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

func TestSchedulesEqualPyTorch(t *testing.T) {
	const stepsPerEpoch, epochs = 7, 9
	var want map[string][]float64
	torch(t, `
import torch, json
from torch.optim import lr_scheduler as s
def run(make, every=1):
    o = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    sched = make(o); out = []
    for i in range(63):
        out.append(o.param_groups[0]["lr"]); o.step()
        if (i + 1) % every == 0 and i < 62: sched.step()
    return out
print(json.dumps({
  "step": run(lambda o: s.StepLR(o, 2, 0.5), 7),
  "cosine": run(lambda o: s.CosineAnnealingLR(o, 63, 0.01)),
  "one-cycle": run(lambda o: s.OneCycleLR(o, 0.3, total_steps=63, cycle_momentum=False)),
  "constant": run(lambda o: s.LinearLR(o, 0.01, 1.0, 14)),
  "warm step": run(lambda o: s.SequentialLR(o, [s.LinearLR(o, 0.01, 1.0, 21), s.StepLR(o, 14, 0.5)], [21])),
}))`, &want)
	for name, s := range map[string]Schedule{
		"step":      {Name: ScheduleStep, StepEpochs: 2, Gamma: 0.5},
		"cosine":    {Name: ScheduleCosine, MinLR: 0.01},
		"one-cycle": {Name: ScheduleOneCycle},
		"constant":  {Name: ScheduleConstant, WarmupEpochs: 2},
		"warm step": {Name: ScheduleStep, StepEpochs: 2, Gamma: 0.5, WarmupEpochs: 3},
	} {
		for step, w := range want[name] {
			if got := s.rate(0.3, step, stepsPerEpoch, epochs); math.Abs(got-w) > 1e-12 {
				t.Errorf("%s, step %d: %.12g, PyTorch has %.12g", name, step, got, w)
				break
			}
		}
	}
}

func TestPlateauEqualsPyTorch(t *testing.T) {
	scores := []float64{.5, .6, .6, .60001, .59, .7, .7, .7, .7, .7, .7, .69, .71, .5, .5, .5, .5, .5}
	var want []float64
	data, err := json.Marshal(scores)
	if err != nil {
		t.Fatal(err)
	}
	torch(t, `
import torch, json
o = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
s = torch.optim.lr_scheduler.ReduceLROnPlateau(o, mode="max", factor=0.5, patience=2)
out = []
for v in `+string(data)+`:
    s.step(v); out.append(o.param_groups[0]["lr"])
print(json.dumps(out))`, &want)
	s := Schedule{Name: SchedulePlateau, Gamma: 0.5, PlateauEpochs: 2}
	var p plateau
	for i, v := range scores {
		p.observe(&s, v)
		if got := p.limit(&s, 0.3); math.Abs(got-want[i]) > 1e-12 {
			t.Errorf("after epoch %d: %g, PyTorch has %g", i+1, got, want[i])
		}
	}
}

func TestSettingsOutOfRange(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Schedule.Gamma = 1 }, "factor 1 "}, {func(c *Config) { c.Schedule.Gamma = -0.1 }, "factor -0.1 "},
		{func(c *Config) { c.Schedule.Gamma = nan }, "factor NaN "},
		{func(c *Config) { c.Schedule.StepEpochs = -1 }, "number of epochs"}, {func(c *Config) { c.Schedule.PlateauEpochs = -1 }, "number of epochs"},
		{func(c *Config) { c.Schedule.MinLR = -1 }, "learning rate -1 "}, {func(c *Config) { c.AutoLR, c.Schedule.MinLR = true, inf }, "learning rate +Inf "},
		{func(c *Config) { c.Schedule.WarmupEpochs = -1 }, "-1 epochs of warm-up"},
		{func(c *Config) { c.Schedule = Schedule{Name: ScheduleOneCycle, WarmupEpochs: 1} }, "warm-up of its own"},
		{func(c *Config) { c.UnfreezeAt = c.Epochs }, "after the last of 10 epochs"},
		{func(c *Config) { c.GradualUnfreeze = c.Epochs }, "after the last of 10 epochs"},
		{func(c *Config) { c.LR = inf }, "learning rate +Inf"},
		{func(c *Config) { c.ValFraction = 0 }, "validation fraction 0"}, {func(c *Config) { c.ValFraction = 1 }, "validation fraction 1"},
		{func(c *Config) { c.Epochs = 1<<24 + 1 }, "too many"}, {func(c *Config) { c.Patience = -1 }, "patience: -1"},
		{func(c *Config) { c.UnfreezeAt, c.GradualUnfreeze = 1, 1 }, "exclude each other"},
		{func(c *Config) { c.LayerDecay = 0 }, "decay 0 "}, {func(c *Config) { c.LayerDecay = 1.1 }, "decay 1.1 "},
		{func(c *Config) { c.LabelSmoothing = 1 }, "smoothing 1 "}, {func(c *Config) { c.LabelSmoothing = -0.1 }, "smoothing -0.1 "},
		{func(c *Config) { c.EMA = 1 }, "average 1 "}, {func(c *Config) { c.EMA = -0.1 }, "average -0.1 "},
		{func(c *Config) { c.ClipNorm = -1 }, "limit -1 "}, {func(c *Config) { c.ClipNorm = nan }, "limit NaN "},
		{func(c *Config) { c.CheckpointSeconds = 2e9 }, "checkpoints 2e+09 "},
		{func(c *Config) { c.Strategy, c.Freeze = StrategyScratch, []string{"features"} }, "must not be frozen"},
		{func(c *Config) { c.Augment = Augment{Policy: AugmentNone, Erase: 0.1} }, "leaves no room"},
		{func(c *Config) { c.Augment = Augment{Policy: AugmentNone, Jitter: [4]float64{0, 0, 0, 0.1}} }, "leaves no room"},
		{func(c *Config) { c.Augment.Crop = "centre" }, "random crop"}, {func(c *Config) { c.Augment.Jitter[3] = 0.6 }, "hue 0.6"},
		{func(c *Config) { c.Augment.Erase = nan }, "erasing probability NaN"}, {func(c *Config) { c.Augment.MixUp = -1 }, "mixup alpha -1"},
		{func(c *Config) { c.ClassWeights, c.Augment.MixUp = true, 0.2 }, "do not go together"},
		{func(c *Config) { c.ClassWeights, c.Augment.CutMix = true, 0.2 }, "do not go together"},
		{func(c *Config) { c.ClassWeights, c.Balanced = true, true }, "choose one"},
	} {
		config := Defaults()
		config.Data = "images"
		if err := config.Validate(); err != nil {
			t.Fatal(err)
		}
		c.change(&config)
		if err := config.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one about %q", err, c.want)
		}
	}
}

func TestGoodSettingsRefused(t *testing.T) {
	for i, change := range []func(*Config){
		func(c *Config) { *c = ScratchDefaults(); c.Data = "images" },
		func(c *Config) { c.Val, c.ValFraction = "other images", 0 },
		func(c *Config) { c.Freeze = []string{"features"} }, func(c *Config) { c.UnfreezeAt = c.Epochs - 1 }, func(c *Config) { c.GradualUnfreeze = 1 },
		func(c *Config) { c.Augment = Augment{Policy: AugmentNone, MixUp: 0.2, CutMix: 1} },
		func(c *Config) {
			c.Augment = Augment{Policy: AugmentCustom, Jitter: [4]float64{1, 1, 1, 0.5}, Erase: 1, CropScale: 1}
		},
		func(c *Config) { c.ClassWeights = true }, func(c *Config) { c.Balanced, c.Augment.MixUp = true, 0.2 },
		func(c *Config) { c.AutoLR, c.LR, c.Schedule.MinLR = true, 1e-6, 1e-5 }, // the rate is the strategy's
		func(c *Config) { c.Schedule.MinLR = c.LR }, func(c *Config) { c.ClipNorm, c.CheckpointSeconds = 1e9, 0 },
	} {
		c := Defaults()
		c.Data = "images"
		change(&c)
		if err := c.Validate(); err != nil {
			t.Errorf("settings %d: %v", i, err)
		}
	}
}

func TestAugmentationThatWasAskedForLeftOut(t *testing.T) {
	p := transforms.ImageNet(256, 224)
	p.Interpolation = transforms.Bicubic
	whole := p.Transform()
	custom := func(a Augment) Augment { a.Policy = AugmentCustom; return a }
	for name, c := range map[string]struct {
		a       Augment
		side    int
		prepare transforms.Transform
		random  transforms.Compose
		erase   *transforms.RandomErasing
	}{
		"auto": {Augment{Policy: AugmentAuto}, 65, nil, transforms.Compose{
			transforms.RandomResizedCrop{Size: 65, Interpolation: transforms.Bicubic}, transforms.RandomHorizontalFlip{}}, nil},
		"auto on small images": {Augment{Policy: AugmentAuto}, 64, whole, transforms.Compose{
			transforms.RandomCrop{Width: 64, Height: 64, Padding: 8}, transforms.RandomHorizontalFlip{}}, nil},
		"auto with a crop of its own": {Augment{Policy: AugmentAuto, Crop: "pad"}, 224, whole, transforms.Compose{
			transforms.RandomCrop{Width: 224, Height: 224, Padding: 28}, transforms.RandomHorizontalFlip{}}, nil},
		"none":          {Augment{Policy: AugmentNone, Flip: true}, 224, whole, nil, nil},
		"nothing":       {custom(Augment{}), 224, whole, nil, nil},
		"part":          {custom(Augment{Crop: "resized", CropScale: 0.5}), 224, nil, transforms.Compose{transforms.RandomResizedCrop{Size: 224, Scale: [2]float64{0.5, 1}, Interpolation: transforms.Bicubic}}, nil},
		"flip":          {custom(Augment{Flip: true}), 224, whole, transforms.Compose{transforms.RandomHorizontalFlip{}}, nil},
		"vertical flip": {custom(Augment{VerticalFlip: true}), 224, whole, transforms.Compose{transforms.RandomVerticalFlip{}}, nil},
		"RandAugment":   {custom(Augment{RandAugment: true}), 224, whole, transforms.Compose{transforms.RandAugment{}}, nil},
		"jitter":        {custom(Augment{Jitter: [4]float64{1, 2, 3, 0.4}}), 224, whole, transforms.Compose{transforms.ColorJitter{Brightness: 1, Contrast: 2, Saturation: 3, Hue: 0.4}}, nil},
		"erasing":       {custom(Augment{Erase: 0.25}), 224, whole, nil, &transforms.RandomErasing{P: 0.25}},
	} {
		a := c.a.resolve(c.side)
		prepare, random, erase := a.pipeline(p, c.side)
		list, _ := random.(transforms.Compose)
		if !reflect.DeepEqual(prepare, c.prepare) || !reflect.DeepEqual(list, c.random) || !reflect.DeepEqual(erase, c.erase) {
			t.Errorf("%s: first %+v, then %+v, at last %+v", name, prepare, random, erase)
		}
		if want := c.random != nil || c.erase != nil; a.random() != want || (random == nil) != (c.random == nil) { // else their features would be computed once
			t.Errorf("%s: images differ from epoch to epoch: %v, want %v", name, a.random(), want)
		}
	}
	if a := (Augment{Policy: AugmentNone, MixUp: 0.1, CutMix: 0.2}).resolve(224); a.MixUp != 0.1 || a.CutMix != 0.2 {
		t.Errorf("mixup and cutmix are no augmentation of an image: %+v", a)
	}
}

// TestSchedulesWithoutPyTorch has values of the schedules' definitions at a few steps, ten an epoch.
func TestSchedulesWithoutPyTorch(t *testing.T) {
	for _, c := range []struct {
		s            Schedule
		step, epochs int
		want         float64
	}{
		{Schedule{Name: ScheduleConstant}, 99, 10, 2},
		{Schedule{Name: ScheduleStep}, 69, 10, 2}, {Schedule{Name: ScheduleStep}, 70, 10, 0.2}, // every 7 epochs a tenth
		{Schedule{Name: ScheduleStep, StepEpochs: 2, Gamma: 0.5}, 39, 10, 1}, {Schedule{Name: ScheduleStep, StepEpochs: 2, Gamma: 0.5}, 40, 10, 0.5},
		{Schedule{Name: ScheduleCosine}, 50, 10, 1}, {Schedule{Name: ScheduleCosine, MinLR: 0.5}, 50, 10, 1.25}, {Schedule{Name: ScheduleCosine, MinLR: 0.5}, 100, 10, 0.5},
		{Schedule{Name: ScheduleCosine, WarmupEpochs: 2}, 60, 10, 1}, // half of the 80 steps behind the warm-up
		{Schedule{Name: ScheduleStep, StepEpochs: 2, WarmupEpochs: 3}, 49, 10, 2}, {Schedule{Name: ScheduleStep, StepEpochs: 2, WarmupEpochs: 3}, 50, 10, 0.2},
		{Schedule{Name: ScheduleConstant, WarmupEpochs: 2}, 10, 10, 2 * (0.01 + 0.99/2)},
		{Schedule{Name: ScheduleConstant, WarmupEpochs: 20}, 50, 10, 2 * (0.01 + 0.99/2)}, // no longer than the run
		{Schedule{Name: ScheduleOneCycle}, 0, 10, 2. / 25}, {Schedule{Name: ScheduleOneCycle}, 29, 10, 2}, {Schedule{Name: ScheduleOneCycle}, 99, 10, 2. / 25e4},
		{Schedule{Name: ScheduleOneCycle}, 10, 7, 1 + 1./25},    // half of the way from step 0 to 20
		{Schedule{Name: ScheduleOneCycle}, 64, 10, 1 + 1./25e4}, // half of the way from step 29 to 99
	} {
		if got := c.s.rate(2, c.step, 10, c.epochs); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%+v, step %d: %g, want %g", c.s, c.step, got, c.want)
		}
	}
	// A loss has to fall by more than a ten-thousandth of itself: the third epoch after the best lowers the rate, not below the least.
	s := Schedule{Name: SchedulePlateau, Gamma: 0.1, PlateauEpochs: 2, MinLR: 0.05}
	var p plateau
	near(t, "rate before the first epoch", p.limit(&s, 1), 1, 0)
	for i, epoch := range []struct{ loss, want float64 }{
		{1, 1}, {0.99995, 1}, {0.99995, 1}, {0.99995, 0.1}, {0.99995, 0.1}, {0.99995, 0.1}, {0.5, 0.1}, {0.6, 0.1}, {0.6, 0.1}, {0.6, 0.05}, {0.4, 0.05},
	} {
		p.observe(&s, -epoch.loss)
		if got := p.limit(&s, 1); math.Abs(got-epoch.want) > 1e-12 {
			t.Errorf("after epoch %d: %g, want %g", i+1, got, epoch.want)
		}
	}
	near(t, "rate of a schedule that looks at no metric", p.limit(&Schedule{Name: ScheduleConstant}, 1), 1, 0)
}

func TestWarmupThenSchedule(t *testing.T) {
	s := Schedule{Name: ScheduleCosine, WarmupEpochs: 0.5}
	for _, c := range []struct {
		step int
		want float64
	}{{0, 0.01}, {4, 0.01 + 0.99*0.8}, {5, 1}, {100, 0}} {
		if got := s.rate(1, c.step, 10, 10); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("step %d: %g, want %g", c.step, got, c.want)
		}
	}
}
