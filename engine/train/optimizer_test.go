package train

import (
	"encoding/json"
	"fmt"
	"math"
	"os/exec"
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// optimizerSteps is a weight before each of several steps, and the gradients that they take.
type optimizerSteps struct {
	Start  []float32   `json:"start"`
	Grads  [][]float32 `json:"grads"`
	Values [][]float32 `json:"values"`
}

// linearParam returns a parameter of 3×4 values that begins at start.
func linearParam(t *testing.T, start []float32) *Param {
	t.Helper()
	b := graph.NewBuilder(graph.Shape{C: 4, H: 1, W: 1}, 3)
	b.Classifier("fc")
	b.Group("fc", "fc")
	g, err := b.Finish(b.Linear("fc", b.Features(b.Flatten(b.Input())), graph.Fc{Out: 3, NoBias: true}))
	if err != nil {
		t.Fatal(err)
	}
	pool := work.New(1)
	t.Cleanup(pool.Close)
	tr, err := New(g, engine.ParamMap{"fc.weight": start}, Options{Pool: pool})
	if err != nil {
		t.Fatal(err)
	}
	return tr.All()[0]
}

// take applies gradients from step `from` on and compares with what PyTorch had.
func (s *optimizerSteps) take(t *testing.T, p *Param, o *Optimizer, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		p.ZeroGrad()
		p.AccGrad(matrix(slices.Clone(s.Grads[i]), 3, 4))
		if err := o.Step(0.1 / float64(i+1)); err != nil {
			t.Fatal(err)
		}
		for k, v := range p.Values() {
			if w := s.Values[i][k]; math.Abs(float64(v-w)) > 2e-6*(1+math.Abs(float64(w))) {
				t.Fatalf("value %d after step %d is %v, PyTorch has %v", k, i+1, v, w)
			}
		}
	}
}

func TestOptimizersEqualPyTorch(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import torch").Run(); err != nil {
		t.Skipf("%s with PyTorch is needed (Debian: python3-torch): %v", python, err)
	}
	for _, c := range []struct {
		torch string
		a     Algorithm
	}{
		{"SGD(p, 1)", Algorithm{Name: "sgd"}},
		{"SGD(p, 1, weight_decay=0.1)", Algorithm{Name: "sgd", WeightDecay: 0.1}},
		{"SGD(p, 1, momentum=0.9, weight_decay=0.1)", Algorithm{Name: "sgd", Momentum: 0.9, WeightDecay: 0.1}},
		{"SGD(p, 1, momentum=0.9, nesterov=True, weight_decay=0.1)", Algorithm{Name: "sgd", Momentum: 0.9, Nesterov: true, WeightDecay: 0.1}},
		{"Adam(p, 1, weight_decay=0.1)", Algorithm{Name: "adam", WeightDecay: 0.1}},
		{"Adam(p, 1, betas=(0.8, 0.95), eps=1e-3)", Algorithm{Name: "adam", Beta1: 0.8, Beta2: 0.95, Eps: 1e-3}},
		{"AdamW(p, 1, weight_decay=0.1)", Algorithm{Name: "adamw", WeightDecay: 0.1}},
		{"RMSprop(p, 1, weight_decay=0.1)", Algorithm{Name: "rmsprop", WeightDecay: 0.1}},
		{"RMSprop(p, 1, alpha=0.9, momentum=0.9)", Algorithm{Name: "rmsprop", Alpha: 0.9, Momentum: 0.9}},
	} {
		t.Run(c.torch, func(t *testing.T) {
			out, err := exec.Command(python, "-W", "ignore", "-c", fmt.Sprintf(`
import torch, json
torch.manual_seed(3)
w = torch.nn.Parameter(torch.randn(3, 4)); p = [w]
o = torch.optim.%s
s = {"start": w.flatten().tolist(), "grads": [], "values": []}
for i in range(6):
    o.param_groups[0]["lr"] = 0.1 / (i + 1)
    w.grad = torch.randn(3, 4)
    s["grads"].append(w.grad.flatten().tolist())
    o.step()
    s["values"].append(w.detach().flatten().tolist())
print(json.dumps(s))`, c.torch)).Output()
			if err != nil {
				t.Fatal(err)
			}
			var s optimizerSteps
			if err := json.Unmarshal(out, &s); err != nil {
				t.Fatal(err)
			}
			p := linearParam(t, s.Start)
			o, err := NewOptimizer(c.a, Group{Params: []*Param{p}, LRScale: 1, WeightDecay: c.a.WeightDecay})
			if err != nil {
				t.Fatal(err)
			}
			s.take(t, p, o, 0, 3)
			// A checkpoint in the middle: another parameter and optimiser go on from the saved state.
			m, _ := p.Moments()
			q := linearParam(t, p.Values())
			if err := q.SetMoments(m); err != nil {
				t.Fatal(err)
			}
			again, err := NewOptimizer(c.a, Group{Params: []*Param{q}, LRScale: 1, WeightDecay: c.a.WeightDecay})
			if err != nil {
				t.Fatal(err)
			}
			s.take(t, q, again, 3, 6)
		})
	}
}

func TestLambByItsPaper(t *testing.T) {
	// You et al., 2020, algorithm 2, one step by hand: with bias correction the first update is g/(|g|+eps) + decay·w.
	w := []float32{3, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0}
	g := []float32{2, 0, 0, 0, -5, 0, 0, 0, 0, 0, 0, 0}
	p := linearParam(t, w)
	o, err := NewOptimizer(Algorithm{Name: "lamb"}, Group{Params: []*Param{p}, LRScale: 1, WeightDecay: 0.1})
	if err != nil {
		t.Fatal(err)
	}
	p.AccGrad(matrix(slices.Clone(g), 3, 4))
	if err := o.Step(0.01); err != nil {
		t.Fatal(err)
	}
	u0, u1 := 1+0.1*3, -1+0.1*4
	trust := 5 / math.Hypot(u0, u1)
	for i, want := range map[int]float64{0: 3 - 0.01*trust*u0, 4: 4 - 0.01*trust*u1, 1: 0} {
		if got := float64(p.Values()[i]); math.Abs(got-want) > 1e-5 {
			t.Errorf("value %d is %g, want %g", i, got, want)
		}
	}
}

func TestStateOfAnotherShapeRefused(t *testing.T) {
	p := linearParam(t, make([]float32, 12))
	if err := p.SetMoments(Moments{First: make([]float32, 11)}); err == nil {
		t.Error("accepted")
	}
}
