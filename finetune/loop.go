package finetune

import (
	"context"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

// loop runs the epochs that are left.
func (r *run) loop(ctx context.Context) error {
	for !r.state.Finished {
		if err := r.epoch(ctx); err != nil {
			return err
		}
		if err := r.saveLast(); err != nil {
			return err
		}
	}
	return nil
}

// progress is for the steps' events.
type progress struct {
	began  time.Time
	images int       // in this process
	step   time.Time // the end of the newest
	told   time.Time
	saved  time.Time
}

// stepsPerEpoch counts the optimiser's steps of an epoch.
func (r *run) stepsPerEpoch() int {
	return (r.trainData.batches() + r.config.Accumulate - 1) / r.config.Accumulate
}

// rate is the learning rate of the next step.
func (r *run) rate() float64 {
	return r.state.Plateau.limit(&r.config.Schedule, r.config.Schedule.rate(r.config.LR, r.state.Step, r.stepsPerEpoch(), r.config.Epochs))
}

// epoch trains the rest of an epoch, validates, and moves the state to the next.
func (r *run) epoch(ctx context.Context) error {
	s, c := &r.state, &r.config
	if !maps.Equal(r.plan.frozen(s.Epoch), r.frozen) {
		if err := r.openTrainer(r.values(), s.Epoch); err != nil {
			return err
		}
		trained := 0
		for _, p := range r.trainer.All() {
			if p.Trainable() {
				trained++
			}
		}
		r.note("epoch %d: %d parameter tensors train from now on", s.Epoch+1, trained)
	}
	now := time.Now()
	p := &progress{began: now, step: now, told: now, saved: now}
	batches := r.trainData.batches()
	var lr float64 // of the step under way
	for b, err := range r.trainData.epoch(ctx, s.Epoch, s.Batch) {
		if err != nil {
			return r.interrupted(ctx, r.explain(err))
		}
		first := s.Batch % c.Accumulate
		if first == 0 {
			r.trainer.ZeroGrad()
			lr = r.rate()
		}
		group := min(c.Accumulate, batches-(s.Batch-first))
		if b.n >= r.trainer.LeastBatch() { // unless unreadable images leave too few
			if err := r.accumulate(ctx, b, 1/float64(group)); err != nil {
				return r.interrupted(ctx, err)
			}
		}
		s.Batch++
		p.images += b.n
		if first+1 == group {
			if err := r.step(lr); err != nil {
				return err
			}
			if err := r.between(p); err != nil {
				return err
			}
		}
	}
	if ctx.Err() != nil {
		return r.interrupted(ctx, ctx.Err())
	}
	return r.endEpoch(ctx)
}

// interrupted saves where the run is when err came of the end of its context. The position is that of the last whole step.
func (r *run) interrupted(ctx context.Context, err error) error {
	if within := r.state.Batch%r.config.Accumulate != 0 && r.state.Batch < r.trainData.batches(); within || ctx.Err() == nil {
		return err // in the middle of a step the checkpoint before stands
	}
	if saveErr := r.saveLast(); saveErr != nil {
		return saveErr
	}
	return ctx.Err()
}

// accumulate runs a batch forward and backward.
func (r *run) accumulate(ctx context.Context, b *batch, scale float64) error {
	s := &r.state
	targets := train.Targets{Labels: b.labels}
	if err := r.mix(b, &targets); err != nil {
		return err
	}
	res, err := r.trainer.Accumulate(ctx, b.images, b.n, targets, scale)
	if err != nil {
		return err
	}
	if math.IsNaN(res.Loss) || math.IsInf(res.Loss, 0) {
		return r.diverged(res.Loss, s.Step+1, r.rate())
	}
	s.Images += b.n
	s.LossSum += res.Loss * float64(b.n)
	classes := len(r.train.Classes)
	for i, label := range b.labels {
		if highest(res.Logits[i*classes:][:classes]) == label {
			s.Hits++
		}
	}
	return nil
}

// diverged is the error about a loss that is no number.
func (r *run) diverged(loss float64, step int, lr float64) error {
	_, err := os.Stat(filepath.Join(r.dir, FileLast))
	return &DivergedError{Step: step, Loss: loss, LR: lr, Parameter: r.largest.name, Gradient: r.largest.value, Saved: err == nil}
}

// mix applies mixup or cutmix. The generator depends on seed, epoch and batch.
func (r *run) mix(b *batch, t *train.Targets) error {
	a := r.augment
	if a.MixUp == 0 && a.CutMix == 0 {
		return nil
	}
	rng := rand.New(rand.NewPCG(r.config.Seed^0x6d6978, uint64(r.state.Epoch)<<32|uint64(r.state.Batch)))
	classes := len(r.train.Classes)
	t.Soft = make([]float32, b.n*classes)
	for i, label := range b.labels {
		t.Soft[i*classes+label] = 1
	}
	mixed := &transforms.Batch{Images: b.images, N: b.n, Height: r.part.Input.H, Width: r.part.Input.W, Channels: r.part.Input.C, Targets: t.Soft}
	var err error
	if a.CutMix > 0 && (a.MixUp == 0 || rng.IntN(2) == 0) {
		_, err = transforms.CutMix{Alpha: a.CutMix}.Apply(mixed, rng)
	} else {
		_, err = transforms.MixUp{Alpha: a.MixUp}.Apply(mixed, rng)
	}
	return err
}

// step moves the parameters.
func (r *run) step(lr float64) error {
	r.largest.observe(r.state.Step, r.trainer.All())
	if r.config.ClipNorm > 0 {
		r.trainer.ClipGradNorm(r.config.ClipNorm)
	}
	if err := r.optimizer.Step(lr); err != nil {
		return err
	}
	r.state.Step++
	r.state.LR = lr
	if r.average != nil {
		r.average.update(&r.trainer.Params)
	}
	return nil
}

// tellEvery is the time between events of steps.
const tellEvery = 250 * time.Millisecond

// between tells how the run goes and saves a checkpoint when it is time.
func (r *run) between(p *progress) error {
	s, now := &r.state, time.Now()
	s.Trained += now.Sub(p.step).Seconds()
	p.step = now
	if now.Sub(p.told) >= tellEvery && s.Images > 0 {
		p.told = now
		rate := float64(p.images) / max(now.Sub(p.began).Seconds(), 1e-9)
		total := len(r.train.Samples)
		left := float64(total-s.Images+total*(r.config.Epochs-s.Epoch-1)) / rate
		r.emit(Event{
			Kind: KindStep, Epoch: s.Epoch + 1, Epochs: r.config.Epochs, Step: s.Step, Steps: r.stepsPerEpoch() * r.config.Epochs, LR: s.LR,
			Loss: s.LossSum / float64(s.Images), Accuracy: share(s.Hits, s.Images), Done: s.Images, Total: total,
			ImagesPerSecond: rate, Remaining: left,
		})
	}
	if every := r.config.CheckpointSeconds; every > 0 && now.Sub(p.saved).Seconds() >= every {
		if err := r.saveLast(); err != nil {
			return err
		}
		p.saved = time.Now()
	}
	return nil
}

// endEpoch validates and decides whether to go on.
func (r *run) endEpoch(ctx context.Context) error {
	s, c := &r.state, &r.config
	if s.Images == 0 {
		return fmt.Errorf("epoch %d had no image to learn from", s.Epoch+1)
	}
	eval, err := r.evaluate(ctx, r.candidate())
	if err != nil {
		return r.interrupted(ctx, r.explain(err))
	}
	if loss := eval.metrics.Loss; math.IsNaN(loss) || math.IsInf(loss, 0) {
		return r.diverged(loss, s.Step, s.LR)
	}
	score := eval.metrics.Score(c.Metric)
	if s.Step >= c.Schedule.warmup(r.stepsPerEpoch(), c.Epochs) {
		s.Plateau.observe(&c.Schedule, score)
	}
	best := s.BestEpoch == 0 || score > s.BestScore
	s.Stale++
	if best {
		s.BestScore, s.BestEpoch, s.Stale = score, s.Epoch+1, 0
		r.best = eval
		if err := r.saveBest(FileBest, map[string]string{"epoch": fmt.Sprint(s.BestEpoch), "top1": fmt.Sprint(eval.metrics.Top1)}); err != nil {
			return err
		}
	}
	e := EpochResult{
		Epoch: s.Epoch + 1, Step: s.Step, LR: s.LR, Loss: s.LossSum / float64(s.Images), Accuracy: share(s.Hits, s.Images),
		Val: *eval.metrics, Best: best, Images: s.Images, Seconds: s.Trained, ImagesPerSecond: float64(s.Images) / max(s.Trained, 1e-9),
	}
	if err := r.log(&e); err != nil {
		return r.diskAdvice(err)
	}
	e.Val.Classes, e.Val.Confusion = nil, nil
	s.History = append(s.History, e)
	r.emit(Event{
		Kind: KindEpoch, Epoch: e.Epoch, Epochs: c.Epochs, Step: s.Step, LR: e.LR, Loss: e.Loss, Accuracy: e.Accuracy,
		Done: e.Images, Total: len(r.train.Samples), ImagesPerSecond: e.ImagesPerSecond, Metrics: eval.metrics, Best: best,
	})
	s.Epoch++
	s.Batch, s.Images, s.LossSum, s.Hits, s.Trained = 0, 0, 0, 0, 0
	switch {
	case s.Epoch >= c.Epochs:
		s.Finished = true
	case c.Patience > 0 && s.Stale >= c.Patience:
		s.Finished = true
		r.note("stopping early: %s has not improved for %s", c.Metric, plural.Count(s.Stale, "epoch", "epochs"))
	}
	return nil
}
