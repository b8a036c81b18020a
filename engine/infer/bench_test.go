package infer_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
)

// benchmarked are the networks of the project's comparisons.
var benchmarked = []string{
	"alexnet", "vgg16", "googlenet", "inception_v3", "resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_large",
	"squeezenet1_1", "densenet121", "efficientnet_b0", "shufflenet_v2_x1_0", "convnext_tiny",
}

// BenchmarkModel measures inference in this process, tensors in, logits out, with seeded random weights. ms/image is what counts.
func BenchmarkModel(b *testing.B) {
	pool := work.New(0)
	defer pool.Close()
	for _, name := range benchmarked {
		b.Run(name, func(b *testing.B) {
			m := model(b, name)
			var params engine.ParamMap
			build := func(s graph.Shape) (*graph.Graph, error) { return m.Graph(s, 1000, nil) }
			for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
				b.Run(precision.String(), func(b *testing.B) {
					var net *infer.Model
					for _, batch := range []int{1, 8} {
						b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
							s := m.Input
							if params == nil {
								g, err := build(s)
								if err != nil {
									b.Fatal(err)
								}
								params = g.Initialise(1)
							}
							if net == nil {
								var err error
								if net, err = infer.New(build, params, infer.Options{Precision: precision, Pool: pool}); err != nil {
									b.Fatal(err)
								}
							}
							in := infer.Input{Data: make([]float32, batch*s.Elements()), N: batch, H: s.H, W: s.W, C: s.C}
							for i := range in.Data {
								in.Data[i] = float32(i%17)/8 - 1
							}
							begin := time.Now()
							out, err := net.Run(context.Background(), in)
							if err != nil {
								b.Fatal(err)
							}
							first := time.Since(begin)
							best := time.Duration(1 << 62)
							for b.Loop() {
								begin := time.Now()
								if out, err = net.RunInto(context.Background(), in, out); err != nil {
									b.Fatal(err)
								}
								best = min(best, time.Since(begin))
							}
							b.ReportMetric(best.Seconds()*1e3/float64(batch), "min-ms/image")
							b.ReportMetric(b.Elapsed().Seconds()*1e3/float64(b.N*batch), "ms/image")
							b.ReportMetric(first.Seconds()*1e3, "first-ms")
							if os.Getenv("ZOO_EXPLAIN") != "" {
								fmt.Fprintf(os.Stderr, "\n%s %v, batch %d\n%s", name, precision, batch, explain(b, net, s, batch))
							}
						})
					}
				})
			}
		})
	}
}

// explain lists where the time goes.
func explain(tb testing.TB, net *infer.Model, s graph.Shape, batch int) string {
	plan, err := net.Plan(s, batch)
	if err != nil {
		tb.Fatal(err)
	}
	rows, err := plan.Profile(context.Background(), 40)
	if err != nil {
		tb.Fatal(err)
	}
	var text strings.Builder
	total := 0.0
	for _, r := range rows {
		fmt.Fprintf(&text, "%-42s %-28s %-14v %4d tasks %8.3f ms %8.0f GFLOP/s %5.1f%%\n", r.Node, r.Kernel, r.Shape, r.Tasks, r.MS, 2*float64(r.MACs)/r.MS/1e6, 100*r.Share)
		total += r.MS
	}
	fmt.Fprintf(&text, "%.3f ms in all, arena %.1f MB, packed weights %.1f MB\n", total, float64(plan.ArenaBytes())/1e6, float64(net.PackedBytes())/1e6)
	return text.String()
}
