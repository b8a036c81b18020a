package zootest

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/weights"
)

// seed of the parameters and the images.
const seed = 1

// images returns n images (NHWC) of numbers between -2 and 2 that look like noise and are the same everywhere.
func images(n int, s graph.Shape) []float32 {
	x := make([]float32, n*s.Elements())
	state := uint64(seed)
	for i := range x {
		state = state*6364136223846793005 + 1442695040888963407
		x[i] = float32(state>>40)/(1<<22) - 2
	}
	return x
}

// params draws initial values for the graph of few classes, once.
func (s *subject) params(g *graph.Graph) engine.ParamMap {
	if s.initial == nil {
		s.initial = g.Initialise(seed)
	}
	return s.initial
}

// run computes outputs for n images with the given parameters.
func (s *subject) run(params engine.Params, classes, n int, outputs ...string) ([]infer.Output, error) {
	m, err := infer.New(func(in graph.Shape) (*graph.Graph, error) { return s.graph(in, classes) }, params,
		infer.Options{Precision: engine.Highest, Outputs: outputs})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return m.Run(s.ctx, infer.Input{Data: images(n, s.size), N: n, H: s.size.H, W: s.size.W, C: s.size.C})
}

func finite(x []float32) error {
	for i, v := range x {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return fmt.Errorf("value %d is %v", i, v)
		}
	}
	return nil
}

// inference runs one image and three, of which the first is the same, and wants the same numbers up to rounding.
func inference(s *subject) error {
	g, err := s.graph(s.size, few)
	if err != nil {
		return err
	}
	params := s.params(g)
	for _, p := range g.Params {
		if len(params[p.Name]) != p.Elements() {
			return fmt.Errorf("parameter %s has %d initial values, want %d", p.Name, len(params[p.Name]), p.Elements())
		}
		if err := finite(params[p.Name]); err != nil {
			return fmt.Errorf("initial values of %s: %w", p.Name, err)
		}
	}
	one, err := s.run(params, few, 1)
	if err != nil {
		return fmt.Errorf("batch 1: %w", err)
	}
	three, err := s.run(params, few, 3)
	if err != nil {
		return fmt.Errorf("batch 3: %w", err)
	}
	if err := errors.Join(finite(one[0].Data), finite(three[0].Data)); err != nil {
		return fmt.Errorf("logits: %w", err)
	}
	scale := 0.0
	for _, v := range one[0].Data {
		scale = max(scale, math.Abs(float64(v)))
	}
	for i, v := range one[0].Data {
		if d := math.Abs(float64(v - three[0].Data[i])); d > 1e-3*scale {
			return fmt.Errorf("logit %d of an image is %g alone and %g in a batch", i, v, three[0].Data[i])
		}
	}
	return nil
}

// features runs every tap, the features and the embedding, and wants maps of the declared shapes.
func features(s *subject) error {
	g, err := s.graph(s.size, few)
	if err != nil {
		return err
	}
	names, shapes := []string{graph.FeaturesOutput, graph.EmbeddingOutput}, []graph.Shape{g.Features.Shape, {C: g.Features.Shape.C, H: 1, W: 1}}
	for _, t := range g.Taps {
		names, shapes = append(names, t.Name), append(shapes, t.Node.Shape)
	}
	out, err := s.run(s.params(g), few, 1, names...)
	if err != nil {
		return err
	}
	var f faults
	for i, o := range out {
		if o.Name != names[i] || o.Shape != shapes[i] {
			f.add("%s of shape %v was asked for, %s of %v came", names[i], shapes[i], o.Name, o.Shape)
		}
		if err := finite(o.Data); err != nil {
			f.add("%s: %w", o.Name, err)
		}
	}
	return f.err()
}

// roundTrip writes the parameters to a file, reads them back and wants them and the logits bit for bit the same.
func roundTrip(s *subject) (err error) {
	g, err := s.graph(s.size, few)
	if err != nil {
		return err
	}
	params := s.params(g)
	dir, err := os.MkdirTemp("", "zootest")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "model.safetensors")
	if err := write(path, g, params); err != nil {
		return err
	}
	file, err := weights.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	var want []weights.Want
	for _, p := range g.Params {
		want = append(want, weights.Want{Name: p.Name, Shape: p.Shape, Optional: p.Role == graph.NumBatchesTracked})
	}
	if err := weights.Match(want, file).Err(); err != nil {
		return err
	}
	for _, p := range g.Params {
		if p.Role == graph.NumBatchesTracked {
			continue
		}
		got, err := file.Param(p.Name)
		if err != nil {
			return err
		}
		if !slices.Equal(got, params[p.Name]) {
			return fmt.Errorf("parameter %s changed", p.Name)
		}
	}
	before, err := s.run(params, few, 1)
	if err != nil {
		return err
	}
	after, err := s.run(file, few, 1)
	if err != nil {
		return err
	}
	if !slices.Equal(before[0].Data, after[0].Data) {
		return errors.New("the logits changed")
	}
	return nil
}

func write(path string, g *graph.Graph, params engine.ParamMap) error {
	var tensors []weights.Tensor
	for _, p := range g.Params {
		if p.Role == graph.NumBatchesTracked {
			tensors = append(tensors, weights.FromInt64(p.Name, p.Shape, []int64{0}))
			continue
		}
		tensors = append(tensors, weights.FromFloat32(p.Name, p.Shape, params[p.Name]))
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(weights.WriteSafetensors(file, tensors, nil), file.Close())
}

// swap puts a classifier for another number of classes on the same trunk and wants bit-equal features.
func swap(s *subject) error {
	small, err := s.graph(s.size, few)
	if err != nil {
		return err
	}
	large, err := s.graph(s.size, many)
	if err != nil {
		return err
	}
	a, b := s.params(small), engine.ParamMap{}
	for _, p := range large.Params {
		if b[p.Name] = a[p.Name]; large.InClassifier(p) {
			b[p.Name] = p.Initialise(seed + 1)
		}
	}
	before, err := s.run(a, few, 1, graph.FeaturesOutput)
	if err != nil {
		return err
	}
	after, err := s.run(b, many, 1, graph.FeaturesOutput)
	if err != nil {
		return err
	}
	if !slices.Equal(before[0].Data, after[0].Data) {
		return errors.New("the features changed with the classifier")
	}
	return nil
}

// gradients takes one training step's gradients and wants them finite, and not zero for any weight.
func gradients(s *subject) error {
	g, err := s.graph(s.size, few)
	if err != nil {
		return err
	}
	pool := work.New(0)
	defer pool.Close()
	t, err := train.New(g, s.params(g), train.Options{Pool: pool, Precision: engine.Highest, NoDropout: true})
	if err != nil {
		return err
	}
	const n = 3
	r, err := t.Accumulate(s.ctx, images(n, s.size), n, train.Targets{Labels: []int{0, few / 2, few - 1}}, 1)
	if err != nil {
		return err
	}
	if math.IsNaN(r.Loss) || math.IsInf(r.Loss, 0) {
		return fmt.Errorf("the loss is %v", r.Loss)
	}
	var f faults
	for _, p := range t.All() {
		if p.Spec.Role.Buffer() {
			continue
		}
		switch {
		case !p.HasGrad():
			f.add("%s has none", p.Name())
		case finite(p.Gradient()) != nil:
			f.add("%s: %w", p.Name(), finite(p.Gradient()))
		case p.Spec.Role == graph.Weight && !slices.ContainsFunc(p.Gradient(), func(v float32) bool { return v != 0 }):
			f.add("that of %s is zero", p.Name())
		}
	}
	return f.err()
}
