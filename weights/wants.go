package weights

import "github.com/go-modelzoo/zoo/graph"

// Wants lists the tensors that a graph needs, for Match. Buffers that nothing reads and the parameters of auxiliary classifiers may be
// absent.
func Wants(g *graph.Graph) []Want {
	inference := map[*graph.Node]bool{}
	for _, n := range g.InferenceNodes() {
		inference[n] = true
	}
	list := make([]Want, len(g.Params))
	for i, p := range g.Params {
		list[i] = Want{
			Name: p.Name, Shape: p.Shape, Classifier: g.InClassifier(p),
			Optional: p.Role == graph.NumBatchesTracked || !inference[p.Node],
		}
	}
	return list
}
