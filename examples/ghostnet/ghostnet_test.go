package ghostnet

import (
	"math"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, Family()) }

// TestParameterCountDiffers compares with the counts that timm 1.0 has for its ghostnet_050, _100 and _130.
func TestParameterCountDiffers(t *testing.T) {
	for name, want := range map[string]int64{"ghostnet_050": 2587292, "ghostnet_100": 5182508, "ghostnet_130": 7358820} {
		m, ok := Family().Model(name)
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		g, err := m.Graph(graph.Shape{}, 1000, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := g.NumParams(); got != want {
			t.Errorf("%s has %d parameters, want %d", name, got, want)
		}
	}
}

// TestGradientDiffersFromDifference compares Backward with finite differences of Forward.
func TestGradientDiffersFromDifference(t *testing.T) {
	op, shapes := channelConv{3}, []graph.Shape{{C: 5, H: 1, W: 2}}
	const n = 2
	x, w := make([]float32, 2*n*5), []float32{0.5, -1, 0.25}
	weight := make([]float32, len(x)) // of the sum of outputs that is differentiated
	for i := range x {
		x[i], weight[i] = float32(i%7)-3, float32(i%5)-2
	}
	loss := func() float64 {
		out := make([]float32, len(x))
		op.Forward(out, [][]float32{x}, [][]float32{w}, shapes, n)
		sum := 0.0
		for i, v := range out {
			sum += float64(v * weight[i])
		}
		return sum
	}
	gx, gw := make([]float32, len(x)), make([]float32, len(w))
	op.Backward([][]float32{gx}, [][]float32{gw}, weight, [][]float32{x}, [][]float32{w}, shapes, n)
	check := func(what string, values, grad []float32) {
		for i := range values {
			const h = 0.5 // the operator is linear in each argument: any step is exact
			saved := values[i]
			values[i] = saved + h
			up := loss()
			values[i] = saved - h
			down := loss()
			values[i] = saved
			if d := (up - down) / (2 * h); math.Abs(d-float64(grad[i])) > 1e-4 {
				t.Errorf("gradient of %s %d is %g, want %g", what, i, grad[i], d)
			}
		}
	}
	check("input", x, gx)
	check("weight", w, gw)
}
