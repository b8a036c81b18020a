package classifier_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/vision"
)

func TestExplainTellsOfTheImageAndClassAskedFor(t *testing.T) {
	c := open(t)
	images := pictures(t, 10) // more than run together
	want, err := untrained(t, c, classifier.LoadOptions{}).Classify(t.Context(), images, 0)
	if err != nil {
		t.Fatal(err)
	}
	m := untrained(t, c, classifier.LoadOptions{Outputs: []string{"logits", "gradcam"}})
	all, err := m.Explain(t.Context(), images)
	if err != nil || len(all) != len(images) {
		t.Fatalf("%d explanations: %v", len(all), err)
	}
	fixed := untrained(t, c, classifier.LoadOptions{Outputs: []string{"gradcam@stage1:3", "logits"}})
	threes, err := fixed.Explain(t.Context(), images)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range all {
		if best := want[i][0]; e.Index != best.Index || math.Abs(e.Prob-best.Prob) > 1e-4 || e.Height != 8 || e.Width != 8 || len(e.Map) != 64 {
			t.Errorf("image %d: %+v of %d×%d, want %+v", i, e.Prediction, e.Height, e.Width, best)
		}
		at := slices.IndexFunc(want[i], func(p classifier.Prediction) bool { return p.Index == 3 })
		if three := threes[i]; three.Index != 3 || math.Abs(three.Prob-want[i][at].Prob) > 1e-4 || three.Height != 16 || len(three.Map) != 256 {
			t.Errorf("image %d: %+v of %d×%d for class 3", i, three.Prediction, three.Height, three.Width)
		}
		if i > 0 && slices.Equal(e.Map, all[0].Map) {
			t.Errorf("images 0 and %d are explained alike", i)
		}
	}
	var calls sync.WaitGroup
	for i := range images { // at once, in one session
		calls.Go(func() {
			alone, err := m.Explain(t.Context(), images[i:i+1])
			if err != nil {
				t.Error(err)
				return
			}
			for p, v := range alone[0].Map {
				if math.Abs(float64(v-all[i].Map[p])) > 1e-4*float64(slices.Max(all[i].Map)) {
					t.Errorf("image %d is explained in another way alone", i)
					return
				}
			}
		})
	}
	calls.Wait()
}

func TestModelOpenedForNoExplanation(t *testing.T) {
	c := open(t)
	if _, err := untrained(t, c, classifier.LoadOptions{}).Explain(t.Context(), pictures(t, 1)); !errors.Is(err, classifier.ErrNoActivationMap) {
		t.Error(err)
	}
	ck, err := c.Architecture(t.Context(), "resnet20")
	if err != nil {
		t.Fatal(err)
	}
	for want, outputs := range map[string][]string{
		"session of its own": {"logits", "gradcam", "embedding"}, "another": {"gradcam:1", "gradcam:2"}, "outside 0..9": {"logits", "gradcam:10"}, "not a number": {"gradcam:x"},
	} {
		if m, err := c.Open(t.Context(), ck, classifier.LoadOptions{Outputs: outputs}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, %v; want %q", outputs, m, err, want)
		}
	}
}

// TestOverlayMovesTheMap gives a map with one cell of which the picture must be covered there alone, on an image of which the sides are cut off.
func TestOverlayMovesTheMap(t *testing.T) {
	c := open(t)
	m := untrained(t, c, classifier.LoadOptions{})
	m.Card.Preprocess.Resize, m.Card.Preprocess.Crop = 32, 32
	img := vision.NewImage(160, 80) // the network sees columns 40 to 119
	for i := range img.Pix {
		img.Pix[i] = 100
	}
	e := classifier.Explanation{Height: 4, Width: 4, Map: make([]float32, 16)}
	e.Map[2*4+1] = 7 // the cell of columns 60 to 79, rows 40 to 59
	out, err := m.Overlay(img, e)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []struct {
		x, y   int
		change string
	}{{39, 50, "dark"}, {120, 50, "dark"}, {70, 50, "covered"}, {40, 50, ""}, {119, 0, ""}, {100, 50, ""}, {70, 10, ""}} {
		pixel := out.NRGBAAt(p.x, p.y)
		got := ""
		switch {
		case pixel.R == 40 && pixel.G == 40 && pixel.B == 40:
			got = "dark"
		case pixel.R != 100:
			got = "covered"
		}
		if got != p.change || pixel.A != 255 {
			t.Errorf("pixel %d,%d is %v, want %q", p.x, p.y, pixel, p.change)
		}
	}
	e.Map = e.Map[:15]
	if _, err := m.Overlay(img, e); err == nil {
		t.Error("a map that is too short was drawn")
	}
}
