package zootest

import (
	"math"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
)

// swish is x·sigmoid(w·x) with a w a channel, and a kink at 1.
type swish struct {
	graph.Custom
	fault string
}

func (swish) Kind() string                                { return "swish" }
func (swish) Infer(in []graph.Shape) (graph.Shape, error) { return in[0], nil }

func (s swish) Forward(out []float32, in, params [][]float32, shapes []graph.Shape, _ int) {
	for i, x := range in[0] {
		if s.fault == "output left out" && x < 0 {
			continue
		}
		x = min(x, 1)
		out[i] = x / (1 + float32(math.Exp(-float64(params[0][i%shapes[0].C]*x))))
	}
}

func (s swish) Backward(gradIn, gradParams [][]float32, gradOut []float32, in, params [][]float32, shapes []graph.Shape, _ int) {
	for i, x := range in[0] {
		c := i % shapes[0].C
		w, cut := params[0][c], x > 1
		x = min(x, 1)
		y := 1 / (1 + float32(math.Exp(-float64(w*x))))
		d := y + x*w*y*(1-y)
		if cut {
			d = 0
		}
		switch s.fault {
		case "slope":
			d = y
		case "panic":
			d = gradOut[i+1]
		case "operand changed":
			in[0][i] = x / 2
		case "not wanted":
			gradIn[0][i] += 0
		}
		if gradIn[0] != nil {
			gradIn[0][i] += d * gradOut[i]
			if s.fault == "not added" {
				gradIn[0][i] = d * gradOut[i]
			}
		}
		if gradParams[0] != nil && s.fault != "parameter forgotten" {
			gradParams[0][c] += x * x * y * (1 - y) * gradOut[i]
		}
	}
}

func TestOperatorsFaultNotFound(t *testing.T) {
	params, shape := []graph.CustomParam{{Name: "weight", Shape: []int{5}}}, graph.Shape{C: 5, H: 4, W: 3}
	Gradients(t, swish{}, params, shape)
	for fault, words := range map[string]string{
		"slope": "gradient of input 0", "parameter forgotten": "gradient of parameter 0", "not added": "does not add", "output left out": "not wholly written",
		"panic": "panic", "operand changed": "input 0 was changed", "not wanted": "panic",
	} {
		if err := checkOperator(swish{fault: fault}, params, []graph.Shape{shape}); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: error %v does not say %q", fault, err, words)
		}
	}
}
