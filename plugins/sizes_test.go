package plugins

import (
	"testing"

	"github.com/go-modelzoo/zoo/graph"
)

// TestSmallestSizeIsLargerThanNeeded builds each network one pixel below its smallest size, around the check that refuses it.
func TestSmallestSizeIsLargerThanNeeded(t *testing.T) {
	for _, f := range All() {
		for _, m := range f.Models {
			if m.MinSize == 1 {
				continue
			}
			low := m.MinSize
			m.MinSize = 1
			if _, err := m.Graph(graph.Shape{C: m.Input.C, H: low - 1, W: low - 1}, 10, nil); err == nil {
				t.Errorf("%s builds at %d pixels, below its smallest size %d", m.Name, low-1, low)
			}
		}
	}
}

// TestParametersDependOnSize wants one checkpoint to fit every size.
func TestParametersDependOnSize(t *testing.T) {
	for _, f := range All() {
		for _, m := range f.Models {
			own := build(t, m, graph.Shape{}, nil)
			least := build(t, m, m.MinInput(), nil)
			if len(own.Params) != len(least.Params) {
				t.Errorf("%s has %d parameters at %v and %d at its smallest size", m.Name, len(own.Params), own.Input, len(least.Params))
				continue
			}
			for i, p := range own.Params {
				if q := least.Params[i]; p.Name != q.Name || p.Elements() != q.Elements() {
					t.Errorf("%s: %s %v is %s %v at the smallest size", m.Name, p.Name, p.Shape, q.Name, q.Shape)
					break
				}
			}
		}
	}
}

// TestTapsDifferFromTimm compares channels and strides with what timm's features_only returns for the same architectures.
func TestTapsDifferFromTimm(t *testing.T) {
	for name, want := range map[string][][2]int{ // stride, channels
		"resnet50":           {{2, 64}, {4, 256}, {8, 512}, {16, 1024}, {32, 2048}},
		"vgg16":              {{1, 64}, {2, 128}, {4, 256}, {8, 512}, {16, 512}, {32, 512}},
		"inception_v3":       {{2, 64}, {4, 192}, {8, 288}, {16, 768}, {32, 2048}},
		"densenet121":        {{2, 64}, {4, 256}, {8, 512}, {16, 1024}, {32, 1024}},
		"mobilenet_v2":       {{2, 16}, {4, 24}, {8, 32}, {16, 96}, {32, 320}},
		"mobilenet_v3_large": {{2, 16}, {4, 24}, {8, 40}, {16, 112}, {32, 960}},
		"mobilenet_v3_small": {{2, 16}, {4, 16}, {8, 24}, {16, 48}, {32, 576}},
		"mobilenetv1_100":    {{2, 64}, {4, 128}, {8, 256}, {16, 512}, {32, 1024}},
		"mobilenetv1_125":    {{2, 80}, {4, 160}, {8, 320}, {16, 640}, {32, 1280}},
		"efficientnet_b0":    {{2, 16}, {4, 24}, {8, 40}, {16, 112}, {32, 320}},
		"efficientnet_v2_s":  {{2, 24}, {4, 48}, {8, 64}, {16, 160}, {32, 256}},
		"mnasnet1_0":         {{2, 16}, {4, 24}, {8, 40}, {16, 96}, {32, 320}},
		"convnext_tiny":      {{4, 96}, {8, 192}, {16, 384}, {32, 768}},
		"legacy_seresnet50":  {{2, 64}, {4, 256}, {8, 512}, {16, 1024}, {32, 2048}},
		"legacy_senet154":    {{2, 128}, {4, 256}, {8, 512}, {16, 1024}, {32, 2048}},
		"seresnext26t_32x4d": {{2, 64}, {4, 256}, {8, 512}, {16, 1024}, {32, 2048}},
	} {
		m, ok := find(name)
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		g := build(t, m, graph.Shape{}, nil)
		var got [][2]int
		for _, tap := range g.Taps {
			got = append(got, [2]int{tap.Stride, tap.Node.Shape.C})
		}
		if len(got) != len(want) {
			t.Errorf("%s has taps %v, want %v", name, got, want)
			continue
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("%s: tap %s has stride and channels %v, want %v", name, g.Taps[i].Name, got[i], want[i])
			}
		}
	}
}

// TestTapNameDoesNotTellItsStride: stageN has stride 2^N in every family.
func TestTapNameDoesNotTellItsStride(t *testing.T) {
	names := map[int]string{1: "stage0", 2: "stage1", 4: "stage2", 8: "stage3", 16: "stage4", 32: "stage5"}
	for _, f := range All() {
		for _, m := range f.Models {
			for _, tap := range build(t, m, graph.Shape{}, nil).Taps {
				if names[tap.Stride] != tap.Name {
					t.Errorf("%s: %s has stride %d", m.Name, tap.Name, tap.Stride)
				}
			}
		}
	}
}
