package sdk

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/graph"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// train runs a training to its end, or until ctx is done, when it saves a checkpoint first. It reports progress as JSON and returns
// the result as JSON.
func train(ctx context.Context, n network, start *zoov1.TrainRequest_Start, event func([]byte)) ([]byte, error) {
	precision, threads, err := compute(start.GetCompute())
	if err != nil {
		return nil, err
	}
	job := finetune.Job{Config: finetune.Defaults()}
	if err := json.Unmarshal(start.GetConfigJson(), &job); err != nil {
		return nil, invalid("training configuration: %v", err)
	}
	job.Config.Seed = start.GetSeed()
	if err := checkDigest(ctx, start.GetWeights()); err != nil {
		return nil, err
	}
	pool := work.New(threads)
	defer pool.Close()
	m := finetune.Model{
		Name: n.model.Name, Input: n.input, Preprocess: job.Preprocess,
		Build: func(input graph.Shape, classes int) (*graph.Graph, error) {
			return n.model.Graph(input, classes, n.options)
		},
		Weights: start.GetWeights().GetPath(), Digest: start.GetWeights().GetSha256(),
		Pool: pool, Precision: precision,
	}
	if job.Bench != nil {
		r, err := finetune.Measure(ctx, m, *job.Bench, start.GetSeed())
		if err != nil {
			return nil, err
		}
		return json.Marshal(r)
	}
	run := finetune.Run
	if start.GetResume() {
		run = finetune.Resume
	}
	result, err := run(ctx, m, job.Config, start.GetRunDir(), func(e finetune.Event) {
		if data, err := json.Marshal(e); err == nil { // a value that is not finite, in an event alone, is not worth the run
			event(data)
		}
	})
	switch {
	case err == nil, errors.Is(err, context.Canceled) && result != nil:
		return json.Marshal(result)
	case errors.Is(err, context.Canceled):
		return []byte("null"), nil // stopped before there was a result; the host knows that it asked
	}
	return nil, err
}
