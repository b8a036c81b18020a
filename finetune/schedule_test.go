package finetune

import (
	"encoding/json"
	"math"
	"os/exec"
	"testing"
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
}))`, &want)
	for name, s := range map[string]Schedule{
		"step":      {Name: ScheduleStep, StepEpochs: 2, Gamma: 0.5},
		"cosine":    {Name: ScheduleCosine, MinLR: 0.01},
		"one-cycle": {Name: ScheduleOneCycle},
		"constant":  {Name: ScheduleConstant, WarmupEpochs: 2},
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
