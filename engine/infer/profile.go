package infer

import (
	"context"
	"slices"
	"time"

	"github.com/go-modelzoo/zoo/graph"
)

// Row is what Profile measured of one step.
type Row struct {
	Node   string      `json:"node"`   // the first of the graph's nodes that the step computes
	Kernel string      `json:"kernel"` // what computes it
	Shape  graph.Shape `json:"shape"`  // of its result, for one image
	Tasks  int         `json:"tasks"`  // parts that can run at once
	MS     float64     `json:"ms"`     // of the fastest run, for the whole batch: what the step takes undisturbed
	MACs   int64       `json:"macs"`   // multiply-accumulates, for the whole batch
	Share  float64     `json:"share"`  // of the sum over all steps, 0 to 1
}

// Profile runs the plan on images of zeros the given number of times and returns what each step took, in order. Timing the steps costs
// about 0.1 µs each.
func (p *Plan) Profile(ctx context.Context, runs int) ([]Row, error) {
	in := make([]float32, p.batch*p.input.Elements())
	out := make([][]float32, len(p.outputs))
	for i, w := range p.outputs {
		out[i] = make([]float32, p.batch*w.shape.Elements())
	}
	times := make([][]float64, len(p.steps))
	for range max(runs, 1) + 1 {
		err := p.run(ctx, in, func(i int) []float32 { return out[i] }, func(i int, run func()) {
			begin := time.Now()
			run()
			times[i] = append(times[i], float64(time.Since(begin).Nanoseconds())/1e6)
		})
		if err != nil {
			return nil, err
		}
	}
	rows := make([]Row, len(p.steps))
	total := 0.0
	for i, s := range p.steps {
		tasks, rounds, shards := s.tasks, 1, 1
		if i < p.early() {
			rounds, shards = p.rounds(s.op.phase), p.shards
			if shards > 1 {
				tasks = shards
			}
		}
		t := sums(times[i], rounds)[1:] // the first run warms up
		rows[i] = Row{Node: s.op.node.Name, Kernel: s.kernel, Shape: s.op.out.shape, Tasks: tasks, MS: slices.Min(t), MACs: s.macs * int64(rounds*shards)}
		total += rows[i].MS
	}
	for i := range rows {
		rows[i].Share = rows[i].MS / total
	}
	return rows, nil
}

// sums adds up runs of count values.
func sums(v []float64, count int) []float64 {
	out := make([]float64, 0, len(v)/count)
	for ; len(v) > 0; v = v[count:] {
		total := 0.0
		for _, x := range v[:count] {
			total += x
		}
		out = append(out, total)
	}
	return out
}
