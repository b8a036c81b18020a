package finetune

import (
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/engine/train"
)

// DivergedError says that the loss is no longer a number.
type DivergedError struct {
	Step int // from 1
	Loss float64
	LR   float64
	// Parameter had the largest gradient, of magnitude Gradient, when it was last looked for: in the step before, or, in networks of many
	// parameters, at most seven earlier.
	Parameter string
	Gradient  float64
	// Saved says that the run's folder has a checkpoint from before.
	Saved bool
}

// Error gives the step, the largest gradient and advice.
func (e *DivergedError) Error() string {
	gradient := "no gradient was seen before"
	if e.Parameter != "" {
		gradient = fmt.Sprintf("the largest gradient before was %.3g, of %s", e.Gradient, e.Parameter)
	}
	kept := "there was no checkpoint yet"
	if e.Saved {
		kept = "the last checkpoint is kept"
	}
	return fmt.Sprintf("the loss is %v at step %d: %s; lower the learning rate (now %g), limit gradients with --clip-norm 1, or add --warmup 1; %s",
		e.Loss, e.Step, gradient, e.LR, kept)
}

// largestGradient is what an error about a diverged loss reports.
type largestGradient struct {
	name  string
	value float64
}

const (
	// manyValues is from how many trained values on gradients are looked at in every sparseSteps-th step only, so that it costs no time.
	manyValues  = 4 << 20
	sparseSteps = 8
)

// observe looks for the largest gradient. One that is not a number counts as the largest.
func (l *largestGradient) observe(step int, params []*train.Param) {
	total := 0
	for _, p := range params {
		total += len(p.Gradient())
	}
	if total > manyValues && step%sparseSteps != 0 {
		return
	}
	top := uint32(0)
	*l = largestGradient{}
	for _, p := range params {
		before := top
		for _, v := range p.Gradient() {
			top = max(top, math.Float32bits(v)&^(1<<31)) // ordered as the magnitudes are, NaN last
		}
		if top > before || l.name == "" && p.Trainable() {
			l.name = p.Name()
		}
	}
	l.value = float64(math.Float32frombits(top))
}
