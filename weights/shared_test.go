package weights

import (
	"math"
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/internal/shared"
)

// TestPublicCheckpointsOpen reads checkpoints as their authors published them.
func TestPublicCheckpointsOpen(t *testing.T) {
	for _, c := range []struct {
		file       string
		format     Format
		tensors    int
		parameters int // elements of all tensors
		notes      int
		name       string // of one tensor
		shape      []int
	}{
		{"squeezenet1_1.caffe.safetensors", Safetensors, 52, 1235496, 0, "features.3.expand3x3.weight", []int{64, 16, 3, 3}},
		{"mobilenet_v2_1.0_224.tf.safetensors", Safetensors, 106, 3487816, 0, "features.1.conv.0.0.weight", []int{32, 1, 3, 3}},
		{"mobilenet_v1_0.75_192.tf.safetensors", Safetensors, 56, 2577352, 0, "conv_stem.weight", []int{24, 3, 3, 3}},
		{"resnet20-12fca82f.th", LegacyPTH, 97, 0, 2, "layer2.0.conv1.weight", []int{32, 16, 3, 3}},
		{"resnet32-d509ac18.th", LegacyPTH, 157, 0, 2, "linear.weight", []int{10, 64}},
		{"resnet44-014dd654.th", LegacyPTH, 217, 0, 2, "bn1.running_var", []int{16}},
		{"resnet56-4bfd9763.th", LegacyPTH, 277, 0, 2, "conv1.weight", []int{16, 3, 3, 3}},
	} {
		t.Run(c.file, func(t *testing.T) {
			f := mustOpen(t, shared.Path(t, "weights/"+c.file))
			if f.Format() != c.format || f.Len() != c.tensors || len(f.Notes()) != c.notes {
				t.Errorf("%s, %d tensors, notes %q", f.Format(), f.Len(), f.Notes())
			}
			parameters := 0
			for w := range f.All() {
				parameters += w.Len()
			}
			if c.parameters != 0 && parameters != c.parameters {
				t.Errorf("%d parameters, want %d", parameters, c.parameters)
			}
			w, ok := f.Tensor(c.name)
			if !ok || !slices.Equal(w.Shape, c.shape) {
				t.Fatalf("%s is %v", c.name, w.Shape)
			}
			found, err := Verify(t.Context(), f)
			if err != nil || len(found) != 0 {
				t.Errorf("verify: %v, %v", found, err)
			}
			// Batch norms' variances are positive, and no trained weight is far from zero: a shifted or swapped
			// read would be.
			for _, v := range floats(t, f, c.name) {
				if a := math.Abs(float64(v)); a > 100 || a != 0 && a < 1e-40 {
					t.Fatalf("%s has value %v", c.name, v)
				}
			}
		})
	}
}

// TestPublicCheckpointValues compares with values that PyTorch 1.13 (.th) and a plain unpacking (safetensors) give.
func TestPublicCheckpointValues(t *testing.T) {
	for _, c := range []struct {
		file, name string
		want       [3]float32 // the first, the second, the last
	}{
		{"resnet20-12fca82f.th", "conv1.weight", [3]float32{-0.13818146288394928, -0.1624176800251007, 0.3087101876735687}},
		{"resnet20-12fca82f.th", "linear.bias", [3]float32{0.19355906546115875, -0.3431008756160736, -0.27025941014289856}},
		{"resnet56-4bfd9763.th", "conv1.weight", [3]float32{-0.21604876220226288, -0.536896288394928, -0.03236684203147888}},
		{"resnet56-4bfd9763.th", "layer3.2.bn2.running_var", [3]float32{0.05027766898274422, 0.03147725388407707, 0.04845400154590607}},
		{"squeezenet1_1.caffe.safetensors", "classifier.1.bias", [3]float32{0.036029595881700516, 0.05381469056010246, 0.06161154806613922}},
		{"mobilenet_v2_1.0_224.tf.safetensors", "classifier.1.weight", [3]float32{-0.013528657145798206, 0.016910821199417114, -0.0591878741979599}},
	} {
		f := mustOpen(t, shared.Path(t, "weights/"+c.file))
		v := floats(t, f, c.name)
		if got := [3]float32{v[0], v[1], v[len(v)-1]}; got != c.want {
			t.Errorf("%s: %s begins and ends with %v, want %v", c.file, c.name, got, c.want)
		}
	}
}
