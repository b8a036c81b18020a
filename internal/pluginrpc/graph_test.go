package pluginrpc

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/go-modelzoo/zoo/graph"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

func testGraph(t testing.TB) *graph.Graph {
	t.Helper()
	b := graph.NewBuilder(graph.Shape{C: 4, H: 9, W: 9}, 3)
	x := b.Conv2d("conv", b.Input(), graph.Conv{Out: 8, Kernel: graph.Square(3), Groups: 2, Bias: true})
	x = b.ChannelShuffle(b.ReLU(b.BatchNorm("bn", x)), 2)
	x = b.Concat(b.Slice(x, 0, 4), b.Slice(x, 4, 8))
	x = b.Tap("stage1", b.AvgPool(x, graph.Pool{Kernel: graph.Square(2), Ceil: true}))
	x = b.Subsample(b.LocalResponseNorm(x, graph.LocalResponseNorm{Size: 5, Alpha: 1e-4, Beta: 0.75, K: 2}), 2, 1, 1)
	x = b.Features(x)
	x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: 3})
	b.Group("all", "conv", "bn", "fc")
	b.Classifier("fc")
	g, err := b.Finish(x)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestGraphSurvivesTheMessage(t *testing.T) {
	g := testGraph(t)
	m, err := FromGraph(g)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ToGraph(m)
	if err != nil {
		t.Fatal(err)
	}
	again, err := FromGraph(h)
	if err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(m, again) {
		t.Errorf("the message changed:\n%v\n%v", m, again)
	}
	for _, p := range g.Params {
		q := h.Param(p.Name)
		if q == nil || g.InClassifier(p) != h.InClassifier(q) || g.InFeatures(p) != h.InFeatures(q) || p.Role != q.Role {
			t.Errorf("parameter %s arrived as %+v", p.Name, q)
		}
	}
}

func TestAuxiliaryWeightThatIsNoNumberRefused(t *testing.T) {
	for _, weight := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		m, err := FromGraph(testGraph(t))
		if err != nil {
			t.Fatal(err)
		}
		m.Aux = []*zoov1.Aux{{Name: "aux", Node: m.GetOutput(), Weight: weight}}
		if _, err := ToGraph(m); err == nil || !strings.Contains(err.Error(), "has weight") {
			t.Errorf("weight %v: %v", weight, err)
		}
	}
}

// FuzzGraphFromAPlugin: whatever a plugin sends as a graph, it is refused or makes a graph that can be summed up.
func FuzzGraphFromAPlugin(f *testing.F) {
	m, err := FromGraph(testGraph(f))
	if err != nil {
		f.Fatal(err)
	}
	seed, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		m := &zoov1.Graph{}
		if proto.Unmarshal(data, m) != nil {
			return
		}
		g, err := ToGraph(m)
		if err != nil {
			return
		}
		g.Summary()
		g.MACs()
		g.NumParams()
		if _, err := FromGraph(g); err != nil {
			t.Errorf("a graph that was accepted cannot be sent on: %v", err)
		}
	})
}
