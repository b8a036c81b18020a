package finetune

import (
	"errors"
	"fmt"
	"math"
)

// Schedule says how the learning rate moves from step to step.
type Schedule struct {
	// Name is constant, step, cosine, one-cycle or plateau.
	Name ScheduleName `json:"name"`
	// StepEpochs and Gamma are for step: the rate is multiplied by Gamma every StepEpochs epochs (torch's StepLR). Gamma is also plateau's factor
	// (torch's ReduceLROnPlateau, threshold 1e-4 relative). Zero means DefaultStepEpochs and DefaultGamma.
	StepEpochs int     `json:"step_epochs,omitempty"`
	Gamma      float64 `json:"gamma,omitempty"`
	// MinLR is where cosine (torch's CosineAnnealingLR, by step) ends, and plateau's lower bound.
	MinLR float64 `json:"min_lr,omitempty"`
	// PlateauEpochs is how many epochs without a better metric plateau accepts; 0 means 3.
	PlateauEpochs int `json:"plateau_epochs,omitempty"`
	// WarmupEpochs begins with a linear rise from a hundredth of the rate, before the schedule starts: its epochs are counted from there. Not for
	// one-cycle, which has its own.
	WarmupEpochs float64 `json:"warmup_epochs,omitempty"`
}

// What zero means in a Schedule.
const (
	DefaultStepEpochs = 7
	DefaultGamma      = 0.1
)

// ScheduleName names a schedule.
type ScheduleName string

// The schedules. One-cycle is torch's OneCycleLR with LR as its maximum, 30 % of the steps rising, cosine annealing, and without cycling the
// momentum.
const (
	ScheduleConstant ScheduleName = "constant"
	ScheduleStep     ScheduleName = "step"
	ScheduleCosine   ScheduleName = "cosine"
	ScheduleOneCycle ScheduleName = "one-cycle"
	SchedulePlateau  ScheduleName = "plateau"
)

var schedules = []ScheduleName{ScheduleConstant, ScheduleStep, ScheduleCosine, ScheduleOneCycle, SchedulePlateau}

const (
	warmupFactor   = 0.01
	oneCycleRising = 0.3
	oneCycleStart  = 1. / 25
	oneCycleEnd    = oneCycleStart / 1e4
	// plateauThreshold is the relative change of a metric that counts as better.
	plateauThreshold = 1e-4
)

func (s *Schedule) validate() error {
	errs := []error{oneOf("schedule", s.Name, schedules)}
	if !(s.Gamma >= 0 && s.Gamma < 1) {
		errs = append(errs, fmt.Errorf("schedule %s: factor %v is not in [0, 1)", s.Name, s.Gamma))
	}
	if s.StepEpochs < 0 || s.PlateauEpochs < 0 {
		errs = append(errs, fmt.Errorf("schedule %s: a number of epochs is below 0", s.Name))
	}
	if !(s.MinLR >= 0 && s.MinLR <= math.MaxFloat64) {
		errs = append(errs, fmt.Errorf("schedule %s: lowest learning rate %v is not a number from 0 on", s.Name, s.MinLR))
	}
	if !(s.WarmupEpochs >= 0 && s.WarmupEpochs <= math.MaxFloat64) {
		errs = append(errs, fmt.Errorf("schedule %s: %v epochs of warm-up are not a number from 0 on", s.Name, s.WarmupEpochs))
	}
	if s.WarmupEpochs > 0 && s.Name == ScheduleOneCycle {
		errs = append(errs, errors.New("schedule one-cycle has a warm-up of its own: leave the other out"))
	}
	return errors.Join(errs...)
}

// rate returns the learning rate of a step, as a factor of the base rate lr. Steps count from 0 over the whole run.
func (s *Schedule) rate(lr float64, step, stepsPerEpoch, epochs int) float64 {
	total := stepsPerEpoch * epochs
	if s.Name == ScheduleOneCycle {
		return lr * oneCycle(step, total)
	}
	warmup := s.warmup(stepsPerEpoch, epochs)
	if step < warmup {
		return lr * (warmupFactor + (1-warmupFactor)*float64(step)/float64(warmup))
	}
	switch s.Name {
	case ScheduleStep:
		every, gamma := orDefault(s.StepEpochs, DefaultStepEpochs), orDefault(s.Gamma, DefaultGamma)
		return lr * math.Pow(gamma, float64((step-warmup)/stepsPerEpoch/every))
	case ScheduleCosine:
		t := float64(step-warmup) / float64(total-warmup)
		return s.MinLR + (lr-s.MinLR)*(1+math.Cos(math.Pi*t))/2
	}
	return lr
}

// warmup counts the steps of the rise.
func (s *Schedule) warmup(stepsPerEpoch, epochs int) int {
	return int(min(math.Round(s.WarmupEpochs*float64(stepsPerEpoch)), float64(stepsPerEpoch*epochs)))
}

// oneCycle is torch.optim.lr_scheduler.OneCycleLR relative to its max_lr.
func oneCycle(step, total int) float64 {
	rise := oneCycleRising*float64(total) - 1
	fall := float64(total-1) - rise
	anneal := func(from, to, share float64) float64 { return to + (from-to)/2*(1+math.Cos(math.Pi*share)) }
	t := float64(step)
	if t <= rise {
		return anneal(oneCycleStart, 1, t/rise)
	}
	return anneal(1, oneCycleEnd, (t-rise)/fall)
}

func orDefault[T int | float64](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// plateau is the state of the schedule of that name: torch's ReduceLROnPlateau.
type plateau struct {
	Best   float64 `json:"best"`
	Bad    int     `json:"bad"`
	Factor float64 `json:"factor"` // of the base rate
	Begun  bool    `json:"begun"`
}

// observe takes the metric of an epoch, in which more is better, and lowers the rate if it has not improved for too long.
func (p *plateau) observe(s *Schedule, score float64) {
	if !p.Begun {
		*p = plateau{Best: math.Inf(-1), Factor: 1, Begun: true}
	}
	if better := p.Best + math.Abs(p.Best)*plateauThreshold; score > better || math.IsInf(p.Best, -1) {
		p.Best, p.Bad = score, 0
		return
	}
	if p.Bad++; p.Bad > orDefault(s.PlateauEpochs, 3) {
		p.Factor *= orDefault(s.Gamma, DefaultGamma)
		p.Bad = 0
	}
}

// limit applies the state to a rate.
func (p *plateau) limit(s *Schedule, lr float64) float64 {
	if s.Name != SchedulePlateau || !p.Begun {
		return lr
	}
	return max(lr*p.Factor, s.MinLR)
}
