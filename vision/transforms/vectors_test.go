package transforms

import (
	"encoding/json"
	"image"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/vision"
)

// vector reads an image of testdata. All were made by testdata/make.py with PIL and torchvision.
func vector(tb testing.TB, path string) *vision.Image {
	tb.Helper()
	img, err := vision.DecodeFile(path, vision.Limits{})
	if err != nil {
		tb.Fatal(err)
	}
	return img
}

func TestResizeEqualsVectorsOfPIL(t *testing.T) {
	source := vector(t, "testdata/source.png")
	paths, err := filepath.Glob("testdata/resize_*.png")
	if err != nil || len(paths) != 18 {
		t.Fatalf("%d vectors, error %v", len(paths), err)
	}
	for _, path := range paths {
		want := vector(t, path)
		how := Interpolation(strings.Split(filepath.Base(path), "_")[1])
		for _, plain := range []bool{false, true} {
			r := resampler{plain: plain}
			got := vision.NewImage(want.Width, want.Height)
			r.resize(got.Pix, 3*got.Width, viewOf(source), got.Width, got.Height, image.Rect(0, 0, got.Width, got.Height), how, true)
			requireEqual(t, path, got, want)
		}
	}
}

func TestOperationsEqualVectorsOfTorchvision(t *testing.T) {
	source := vector(t, "testdata/source.png")
	data, err := os.ReadFile("testdata/operations.json")
	if err != nil {
		t.Fatal(err)
	}
	var strengths map[string]float64
	if err := json.Unmarshal(data, &strengths); err != nil {
		t.Fatal(err)
	}
	apply := map[string]adjustment{"hue": hue}
	for _, op := range operations {
		apply[strings.ReplaceAll(op.name, " ", "_")] = op.apply
	}
	if len(strengths) != len(apply)-1 { // identity needs no vector
		t.Errorf("%d vectors for %d operations", len(strengths), len(apply))
	}
	for name, x := range strengths {
		path := "testdata/operation_" + name + ".png"
		got := vision.NewImage(source.Width, source.Height)
		apply[name](got, source, x)
		requireEqual(t, path, got, vector(t, path))
	}
}
