package train_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/golden"
)

// steps are the training steps that are timed; bench/train_peer.py times the same in PyTorch.
var steps = []struct {
	model  string
	batch  int
	frozen bool // the features
}{
	{"resnet18", 16, false}, {"resnet50", 8, false}, {"mobilenet_v2", 16, false}, {"squeezenet1_1", 16, false}, {"vgg16", 4, false},
	{"resnet18", 16, true}, {"resnet50", 8, true}, {"mobilenet_v2", 16, true}, {"squeezenet1_1", 16, true}, {"vgg16", 4, true},
}

// BenchmarkStep takes SGD steps with momentum: forward, backward, update. ZOO_PRECISION chooses the precision. Beside the time it reports that of
// all threads, which says more on a machine that does other work.
func BenchmarkStep(b *testing.B) {
	precision := engine.Default
	if name := os.Getenv("ZOO_PRECISION"); name != "" {
		var err error
		if precision, err = engine.ParsePrecision(name); err != nil {
			b.Fatal(err)
		}
	}
	pool := work.New(0)
	defer pool.Close()
	for _, s := range steps {
		name := fmt.Sprintf("%s/batch=%d/features=trained", s.model, s.batch)
		if s.frozen {
			name = fmt.Sprintf("%s/batch=%d/features=frozen", s.model, s.batch)
		}
		b.Run(name, func(b *testing.B) {
			step := newStep(b, pool, precision, s.model, s.batch, s.frozen)
			step()
			best, cpu := time.Hour, processTime()
			for b.Loop() {
				start := time.Now()
				step()
				best = min(best, time.Since(start))
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N*s.batch), "ms/image")
			b.ReportMetric(float64((processTime()-cpu).Milliseconds())/float64(b.N*s.batch), "cpu-ms/image")
			b.ReportMetric(best.Seconds()*1e3/float64(s.batch), "best-ms/image")
		})
	}
}

// newStep returns a function that takes one step.
func newStep(b *testing.B, pool *work.Pool, precision engine.Precision, name string, batch int, frozen bool) func() {
	model, ok := find(name)
	if !ok {
		b.Fatalf("no family has %s", name)
	}
	shape := graph.Shape{C: 3, H: 224, W: 224}
	g, err := model.Graph(shape, 1000, nil)
	if err != nil {
		b.Fatal(err)
	}
	tr, err := train.New(g, golden.Fill(g, 1), train.Options{
		Pool: pool, Precision: precision, Trainable: func(p *graph.Param) bool { return !frozen || !g.InFeatures(p) },
	})
	if err != nil {
		b.Fatal(err)
	}
	var params []*train.Param
	for _, p := range tr.All() {
		if p.Trainable() {
			params = append(params, p)
		}
	}
	opt, err := train.NewOptimizer(train.Algorithm{Name: "sgd", Momentum: 0.9}, train.Group{Params: params, LRScale: 1})
	if err != nil {
		b.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 2))
	images := make([]float32, batch*shape.Elements())
	for i := range images {
		images[i] = float32(r.NormFloat64())
	}
	labels := make([]int, batch)
	for i := range labels {
		labels[i] = r.IntN(1000)
	}
	return func() {
		tr.ZeroGrad()
		if _, err := tr.Accumulate(context.Background(), images, batch, train.Targets{Labels: labels}, 1); err != nil {
			b.Fatal(err)
		}
		if err := opt.Step(1e-3); err != nil {
			b.Fatal(err)
		}
	}
}
