package inception_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/internal/reference"
	"github.com/go-modelzoo/zoo/plugins/inception"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

func TestConformance(t *testing.T) { zootest.Run(t, inception.Family()) }

func build(t *testing.T, name string, size int, options map[string]string) *graph.Graph {
	t.Helper()
	m, ok := inception.Family().Model(name)
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	g, err := m.Graph(graph.Shape{C: 3, H: size, W: size}, 10, options)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestTransformInputIsNotARenormalisation gives a network with the option images normalised for ImageNet, and one without it the same images
// normalised to mean and deviation 0.5.
func TestTransformInputIsNotARenormalisation(t *testing.T) {
	mean, std := [3]float64{0.485, 0.456, 0.406}, [3]float64{0.229, 0.224, 0.225}
	for name, size := range map[string]int{"googlenet": 32, "inception_v3": 75} {
		with, without := build(t, name, size, map[string]string{"transform_input": "true"}), build(t, name, size, nil)
		params := golden.Fill(without, 1)
		var imagenet, half []float32
		for i, v := range golden.Input("input", 1, with.Input) {
			pixel := (float64(v) + 2) / 4
			imagenet = append(imagenet, float32((pixel-mean[i%3])/std[i%3]))
			half = append(half, float32((pixel-0.5)/0.5))
		}
		a, err := reference.Run(with, params, imagenet, 1)
		if err != nil {
			t.Fatal(err)
		}
		b, err := reference.Run(without, params, half, 1)
		if err != nil {
			t.Fatal(err)
		}
		if e := golden.RelL2(a[0].Float32(), b[0].Float32()); e > 1e-5 {
			t.Errorf("%s: relative L2 error %.2g", name, e)
		}
	}
}

func TestAuxiliaryLossesWeighThreeTenths(t *testing.T) {
	for name, want := range map[string][]float64{"googlenet": {0.3, 0.3}, "inception_v3": {0.3}, "inception_v2": nil} {
		g := build(t, name, 128, nil)
		if len(g.Aux) != len(want) {
			t.Errorf("%s has %d auxiliary classifiers, want %d", name, len(g.Aux), len(want))
			continue
		}
		for i, a := range g.Aux {
			if a.Weight != want[i] {
				t.Errorf("%s: %s weighs %g, want %g", name, a.Name, a.Weight, want[i])
			}
		}
	}
	for _, name := range []string{"googlenet", "inception_v3"} {
		if g := build(t, name, 128, map[string]string{"aux_logits": "false"}); len(g.Aux) != 0 {
			t.Errorf("%s has auxiliary classifiers that were switched off", name)
		}
	}
}
