package train_test

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os/exec"
	"testing"

	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// optimizers are compared with PyTorch's; torch is the constructor.
var optimizers = []struct {
	torch string
	a     train.Algorithm
}{
	{"SGD(p, lr=0.1)", train.Algorithm{Name: "sgd"}},
	{"SGD(p, lr=0.1, weight_decay=0.05)", train.Algorithm{Name: "sgd", WeightDecay: 0.05}},
	{"SGD(p, lr=0.1, momentum=0.9, weight_decay=0.05)", train.Algorithm{Name: "sgd", Momentum: 0.9, WeightDecay: 0.05}},
	{"SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.05)", train.Algorithm{Name: "sgd", Momentum: 0.9, Nesterov: true, WeightDecay: 0.05}},
	{"Adam(p, lr=0.1)", train.Algorithm{Name: "adam"}},
	{"Adam(p, lr=0.1, betas=(0.8, 0.95), eps=1e-4, weight_decay=0.05)", train.Algorithm{Name: "adam", Beta1: 0.8, Beta2: 0.95, Eps: 1e-4, WeightDecay: 0.05}},
	{"AdamW(p, lr=0.1, weight_decay=0.05)", train.Algorithm{Name: "adamw", WeightDecay: 0.05}},
	{"RMSprop(p, lr=0.1)", train.Algorithm{Name: "rmsprop"}},
	{"RMSprop(p, lr=0.1, alpha=0.9, momentum=0.9, eps=1e-3, weight_decay=0.05)", train.Algorithm{Name: "rmsprop", Alpha: 0.9, Momentum: 0.9, Eps: 1e-3, WeightDecay: 0.05}},
}

const (
	updateValues = 333
	updateSteps  = 5
)

// updates returns the values after each step, from given gradients.
func updates(t *testing.T, a train.Algorithm, values []float32, gradients [][]float32, lr float64) [][]float32 {
	t.Helper()
	p := work.New(2)
	defer p.Close()
	b := graph.NewBuilder(graph.Shape{C: updateValues, H: 1, W: 1}, 1)
	x := b.Linear("fc", b.Input(), graph.Fc{Out: 1, NoBias: true})
	b.Features(b.Input())
	b.Classifier("fc")
	b.Group("all", "fc")
	g, err := b.Finish(x)
	if err != nil {
		t.Fatal(err)
	}
	tr := newTrainer(t, g, train.Options{Pool: p})
	param := tr.All()[0]
	copy(param.Values(), values)
	opt, err := train.NewOptimizer(a, train.Group{Params: tr.All(), LRScale: 1, WeightDecay: a.WeightDecay})
	if err != nil {
		t.Fatal(err)
	}
	var after [][]float32
	for _, g := range gradients {
		tr.ZeroGrad()
		param.AccGrad(param) // says that there is a gradient
		copy(param.Gradient(), g)
		if err := opt.Step(lr); err != nil {
			t.Fatal(err)
		}
		after = append(after, append([]float32(nil), param.Values()...))
	}
	return after
}

func updateData() (values []float32, gradients [][]float32) {
	r := rand.New(rand.NewPCG(4, 4))
	draw := func() []float32 {
		v := make([]float32, updateValues)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		return v
	}
	values = draw()
	for range updateSteps {
		gradients = append(gradients, draw())
	}
	return values, gradients
}

// TestOptimizersDifferFromPyTorch takes five steps with each.
func TestOptimizersDifferFromPyTorch(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import torch").Run(); err != nil {
		t.Skipf("PyTorch is needed for comparison (Debian package python3-torch): %v", err)
	}
	values, gradients := updateData()
	var names []string
	for _, o := range optimizers {
		names = append(names, o.torch)
	}
	input, err := json.Marshal(map[string]any{"values": values, "gradients": gradients, "optimizers": names})
	if err != nil {
		t.Fatal(err)
	}
	const program = `
import json, sys, torch
data = json.load(sys.stdin)
out = []
for name in data["optimizers"]:
    p = [torch.tensor(data["values"], dtype=torch.float32, requires_grad=True)]
    o = eval("torch.optim." + name)
    steps = []
    for g in data["gradients"]:
        p[0].grad = torch.tensor(g, dtype=torch.float32)
        o.step()
        steps.append(p[0].tolist())
    out.append(steps)
json.dump(out, sys.stdout)
`
	cmd := exec.Command(python, "-c", program)
	cmd.Stdin = bytes.NewReader(input)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var want [][][]float32
	if err := json.Unmarshal(out, &want); err != nil {
		t.Fatal(err)
	}
	for i, o := range optimizers {
		for step, got := range updates(t, o.a, values, gradients, 0.1) {
			if d := distance(got, want[i][step]); !(d < 2e-6) {
				t.Errorf("%s: step %d is off by %g", o.torch, step+1, d)
			}
		}
	}
}

// TestLAMBDiffersFromFormula follows You et al., 2020, algorithm 2, in float64.
func TestLAMBDiffersFromFormula(t *testing.T) {
	values, gradients := updateData()
	const lr, b1, b2, eps, decay = 0.02, 0.9, 0.999, 1e-6, 0.1
	w, m, v := make([]float64, updateValues), make([]float64, updateValues), make([]float64, updateValues)
	for i, x := range values {
		w[i] = float64(x)
	}
	for step, got := range updates(t, train.Algorithm{Name: "lamb", WeightDecay: decay}, values, gradients, lr) {
		u := make([]float64, updateValues)
		var normW, normU float64
		for i, g := range gradients[step] {
			m[i] = b1*m[i] + (1-b1)*float64(g)
			v[i] = b2*v[i] + (1-b2)*float64(g)*float64(g)
			k := float64(step + 1)
			u[i] = m[i]/(1-math.Pow(b1, k))/(math.Sqrt(v[i]/(1-math.Pow(b2, k)))+eps) + decay*w[i]
			normW += w[i] * w[i]
			normU += u[i] * u[i]
		}
		want := make([]float32, updateValues)
		for i := range w {
			w[i] -= lr * math.Sqrt(normW/normU) * u[i]
			want[i] = float32(w[i])
		}
		if d := distance(got, want); !(d < 2e-6) {
			t.Errorf("step %d is off by %g", step+1, d)
		}
	}
}

// TestLAMBOfNothing has weights of 0, as new biases are, whose norm would keep them there, and gradients of 0, whose norm divides.
func TestLAMBOfNothing(t *testing.T) {
	values, gradients := updateData()
	for step, got := range updates(t, train.Algorithm{Name: "lamb"}, make([]float32, updateValues), gradients[:1], 0.1) {
		for i, v := range got {
			if want := -math.Copysign(0.1, float64(gradients[step][i])); math.Abs(float64(v)-want) > 1e-3 {
				t.Fatalf("value %d of 0 becomes %g, want %g", i, v, want)
			}
		}
	}
	for _, got := range updates(t, train.Algorithm{Name: "lamb"}, values, [][]float32{make([]float32, updateValues)}, 0.1) {
		if d := distance(got, values); d != 0 {
			t.Errorf("without a gradient the values move by %g", d)
		}
	}
}

func TestMomentsOfAnotherSizeRefused(t *testing.T) {
	p := work.New(1)
	defer p.Close()
	param := newTrainer(t, network(t, graph.Shape{C: 3, H: 16, W: 16}, true), train.Options{Pool: p}).All()[0]
	n := len(param.Values())
	for _, m := range []train.Moments{{First: make([]float32, n-1)}, {First: make([]float32, n), Second: make([]float32, n+1)}} {
		if err := param.SetMoments(m); err == nil {
			t.Errorf("%d and %d moments of %d values were taken", len(m.First), len(m.Second), n)
		}
	}
	if err := param.SetMoments(train.Moments{First: make([]float32, n), Steps: 3}); err != nil {
		t.Error(err)
	}
	if m, ok := param.Moments(); !ok || m.Steps != 3 || len(m.First) != n || m.Second != nil {
		t.Errorf("%d steps, %d and %d moments", m.Steps, len(m.First), len(m.Second))
	}
}

func TestOptimizerMistakesAreNamed(t *testing.T) {
	for _, a := range []train.Algorithm{
		{Name: "adamax"}, {Name: "sgd", Momentum: 1}, {Name: "sgd", Momentum: math.NaN()}, {Name: "sgd", Nesterov: true}, {Name: "adam", Beta1: -1},
	} {
		if _, err := train.NewOptimizer(a); err == nil {
			t.Errorf("%+v was accepted", a)
		}
	}
}
