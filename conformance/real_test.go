package conformance

import (
	"context"
	"encoding/json"
	"image/png"
	"math"
	"os"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/golden"
	"github.com/go-modelzoo/zoo/internal/shared"
	"github.com/go-modelzoo/zoo/weights"
)

// real are public checkpoints, of which the goldens hold PyTorch's logits for an image that is an integer formula.
var real = []struct {
	name, golden, model string
	options             map[string]string
	mean, std           [3]float64
}{
	{"squeezenet1_1.caffe.safetensors", "squeezenet1_1.caffe.json", "squeezenet1_1", nil, [3]float64{123. / 255, 117. / 255, 104. / 255}, [3]float64{1. / 255, 1. / 255, 1. / 255}},
	{"mobilenet_v2_1.0_224.tf.safetensors", "mobilenet_v2_1.0_224.tf.json", "mobilenet_v2", folded, half, half},
	{"mobilenet_v1_0.75_192.tf.safetensors", "mobilenet_v1_0.75_192.tf.json", "mobilenetv1_075", folded, half, half},
}

var (
	half   = [3]float64{0.5, 0.5, 0.5}
	folded = map[string]string{"padding": "same", "norm": "none"}
)

// open loads a checkpoint into a model, strictly.
func open(t *testing.T, file, model string, options map[string]string, classes int, size int) *infer.Model {
	t.Helper()
	f, err := weights.Open(shared.Path(t, "weights/"+file))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	_, m := find(t, model)
	build := func(s graph.Shape) (*graph.Graph, error) { return m.Graph(s, classes, options) }
	g, err := build(graph.Shape{C: 3, H: size, W: size})
	if err != nil {
		t.Fatal(err)
	}
	var want []weights.Want
	for _, p := range g.Params {
		want = append(want, weights.Want{Name: p.Name, Shape: p.Shape, Optional: p.Role == graph.NumBatchesTracked})
	}
	if err := weights.Match(want, f).Err(); err != nil {
		t.Fatal(err)
	}
	net, err := infer.New(build, f, infer.Options{Precision: engine.Highest})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(net.Close)
	return net
}

func readJSON(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(shared.Path(t, "goldens/real/"+name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

func TestGoldenPublicCheckpoint(t *testing.T) {
	for _, c := range real {
		t.Run(c.name, func(t *testing.T) {
			var want struct {
				Synthetic struct {
					Size, ArgMax int
					Logits       []float32
				}
			}
			readJSON(t, c.golden, &want)
			size := want.Synthetic.Size
			net := open(t, c.name, c.model, c.options, len(want.Synthetic.Logits), size)
			var x []float32
			for row := range size {
				for col := range size {
					for ch := range 3 {
						v := (7*row + 13*col + 29*ch + row*col%31) % 256
						x = append(x, float32((float64(v)/255-c.mean[ch])/c.std[ch]))
					}
				}
			}
			out, err := net.Run(context.Background(), infer.Input{Data: x, N: 1, H: size, W: size, C: 3})
			if err != nil {
				t.Fatal(err)
			}
			e := golden.RelL2(out[0].Data, want.Synthetic.Logits)
			t.Logf("relative L2 error %.2g", e)
			if e > 1e-4 {
				t.Errorf("relative L2 error %.2g is above 1e-4", e)
			}
		})
	}
}

// TestGoldenCIFAR loads the original files (the legacy format of torch.save) and compares the logits of 200 test images.
func TestGoldenCIFAR(t *testing.T) {
	file, err := os.Open(shared.Path(t, "goldens/real/cifar10_test_first20.png"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	picture, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	mean, std := [3]float64{0.485, 0.456, 0.406}, [3]float64{0.229, 0.224, 0.225}
	const size, columns, classes = 32, 20, 10
	var x []float32
	for i := range classes * columns {
		for row := range size {
			for col := range size {
				r, g, b, _ := picture.At(i%columns*size+col, i/columns*size+row).RGBA()
				for c, v := range [3]uint32{r, g, b} {
					x = append(x, float32((float64(v>>8)/255-mean[c])/std[c]))
				}
			}
		}
	}
	for model, name := range map[string]string{
		"resnet20": "resnet20-12fca82f.th", "resnet32": "resnet32-d509ac18.th", "resnet44": "resnet44-014dd654.th", "resnet56": "resnet56-4bfd9763.th",
	} {
		t.Run(model, func(t *testing.T) {
			if testing.Short() && model != "resnet20" {
				t.Skip("large: run without -short")
			}
			var want struct {
				Images []struct{ Logits []float32 }
			}
			readJSON(t, model+".json", &want)
			net := open(t, name, model, nil, classes, size)
			out, err := net.Run(context.Background(), infer.Input{Data: x, N: classes * columns, H: size, W: size, C: 3})
			if err != nil {
				t.Fatal(err)
			}
			if len(want.Images) != classes*columns {
				t.Fatalf("%d images in the golden", len(want.Images))
			}
			largest := 0.0
			for i, image := range want.Images {
				for j, w := range image.Logits {
					largest = max(largest, math.Abs(float64(out[0].Data[i*classes+j])-float64(w)))
				}
			}
			t.Logf("largest difference %.2g", largest)
			if !(largest <= 1e-3) {
				t.Errorf("largest difference of a logit is %.2g, above 1e-3", largest)
			}
		})
	}
}
