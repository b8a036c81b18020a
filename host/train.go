package host

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"

	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// TrainSpec says what to train.
type TrainSpec struct {
	Spec
	// Config is the training's configuration, passed on as it is.
	Config json.RawMessage
	// Batch is how many images it takes at once, for messages; 0 if that is not known.
	Batch int
	// RunDir is the folder that the plugin may write. It must exist.
	RunDir string
	// Read are the files and folders of data that the plugin may read, Write further folders that it may write, such as a cache. They must
	// exist.
	Read  []string
	Write []string
	// Resume continues from the newest checkpoint in RunDir.
	Resume bool
	// Grace is how long the plugin may take to save a checkpoint after ctx ended; 0 means 30 seconds.
	Grace time.Duration
	// Peak, unless nil, is told the most memory in bytes that the process has had resident when the training ends, 0 if the
	// system does not tell.
	Peak func(bytes int64)
}

// Train trains a model in its family's process. Each event is passed to sink, which may be nil, as JSON, one at a time. When ctx ends, the plugin saves a
// checkpoint, and Train returns the result so far with the context's error. If the process crashes, it is started again once and
// continues from the last checkpoint.
func (h *Host) Train(ctx context.Context, spec TrainSpec, sink func(json.RawMessage)) (json.RawMessage, error) {
	if sink == nil {
		sink = func(json.RawMessage) {}
	}
	p, err := h.find(ctx, spec.Family, spec.Model)
	if err != nil {
		return nil, err
	}
	pool, err := h.pool(p)
	if err != nil {
		return nil, err
	}
	w, g, err := spec.weights()
	if err != nil {
		return nil, err
	}
	read, err := resolveAll(spec.Read)
	if err != nil {
		return nil, err
	}
	run, err := resolve(spec.RunDir)
	if err != nil {
		return nil, err
	}
	g.read = append(g.read, read...)
	write, err := resolveAll(spec.Write)
	if err != nil {
		return nil, err
	}
	g.write = append(write, run)
	setDefault(&spec.Grace, 30*time.Second)
	start := &zoov1.TrainRequest_Start{
		Network: spec.message(), Weights: w, Seed: spec.Seed, Compute: spec.compute(), ConfigJson: spec.Config, RunDir: run, Resume: spec.Resume,
	}
	var result json.RawMessage
	err = retry(ctx, func() error {
		pr, err := pool.acquire(ctx, &g)
		if err != nil {
			return err
		}
		defer pr.release()
		if pr.engine == nil {
			return pr.unsupported("train")
		}
		result, err = pr.train(ctx, start, pr.task("training "+spec.Model, spec.Batch), spec.Grace, sink)
		if spec.Peak != nil {
			spec.Peak(pr.peakRSS())
		}
		if errors.Is(err, ErrCrashed) && ctx.Err() == nil && !start.Resume {
			pr.log.Warn("the training continues from its last checkpoint", "error", err)
			start.Resume = true
		}
		return err
	})
	return result, err
}

// train runs one training in the process.
func (p *process) train(ctx context.Context, start *zoov1.TrainRequest_Start, t task, grace time.Duration, sink func(json.RawMessage)) (json.RawMessage, error) {
	// The stream outlives ctx: the plugin has a checkpoint to save.
	streamCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stream, err := p.engine.Train(streamCtx)
	if err == nil {
		if err = stream.Send(&zoov1.TrainRequest{Part: &zoov1.TrainRequest_Start_{Start: start}}); err == io.EOF {
			err = nil // Recv knows why
		}
	}
	if err != nil {
		return nil, p.explain(t, 0, time.Time{}, err)
	}
	var unresponsive error // set before watched is closed
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		unresponsive = p.watchTraining(ctx, streamCtx, stream, grace, t)
	}()
	var result json.RawMessage
	done := false
	for !done && err == nil {
		var m *zoov1.TrainResponse
		if m, err = stream.Recv(); err != nil {
			break
		}
		if d := m.GetDone(); d != nil {
			result, done = d.GetResultJson(), true
			break
		}
		sink(m.GetEventJson())
	}
	if err != nil {
		err = func() error {
			select { // the watcher may have ended the process, and knows why
			case <-watched:
				if unresponsive != nil {
					return unresponsive
				}
			default:
			}
			if err == io.EOF {
				return p.fault(ErrProtocol, t, "ended its answer early while "+t.doing, nil)
			}
			return p.explain(t, 0, time.Time{}, err)
		}()
	}
	cancel()
	<-watched
	if unresponsive != nil && err != nil {
		err = unresponsive
	}
	if err == nil && ctx.Err() != nil {
		err = cause(ctx)
	}
	return result, err
}

// watchTraining asks the plugin to stop when ctx ends and makes sure that it lives. It returns an error if it had to end the process.
func (p *process) watchTraining(ctx, streamCtx context.Context, stream zoov1.Engine_TrainClient, grace time.Duration, t task) error {
	pulse := time.NewTicker(p.host.opt.StartTimeout)
	defer pulse.Stop()
	for {
		select {
		case <-streamCtx.Done():
			return nil
		case <-pulse.C:
			limited, cancel := context.WithTimeout(streamCtx, p.host.opt.StartTimeout)
			hurry := context.AfterFunc(ctx, cancel)
			// Any answer is a sign of life.
			_, _ = p.health.Check(limited, &grpc_health_v1.HealthCheckRequest{Service: "plugin"})
			late := limited.Err() == context.DeadlineExceeded && streamCtx.Err() == nil
			hurry()
			cancel()
			if late {
				p.kill("it did not answer while " + t.doing)
				return p.fault(ErrTimeout, t, fmt.Sprintf("did not answer within %v and was ended while %s", p.host.opt.StartTimeout, t.doing), nil)
			}
		case <-ctx.Done():
			stop := &zoov1.TrainRequest{Part: &zoov1.TrainRequest_Stop_{Stop: &zoov1.TrainRequest_Stop{}}}
			if err := stream.Send(stop); err != nil && err != io.EOF { // EOF: it has just ended
				p.log.Warn("asking the training to stop", "error", err)
			}
			select {
			case <-streamCtx.Done():
				return nil
			case <-time.After(grace):
				p.kill("it did not stop when asked to")
				return p.fault(ErrTimeout, t, fmt.Sprintf("did not stop within %v and was ended while %s: checkpoints that it saved are kept", grace, t.doing), nil)
			}
		}
	}
}
