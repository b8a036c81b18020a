package classifier_test

import (
	"errors"
	"image"
	"image/color"
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/vision"
)

// open is a client with a store of its own.
func open(t *testing.T) *classifier.Client {
	t.Helper()
	c, err := classifier.Open(classifier.Config{Hub: hub.Config{Home: t.TempDir(), Offline: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// untrained opens resnet20 with random weights.
func untrained(t *testing.T, c *classifier.Client, o classifier.LoadOptions) *classifier.Model {
	t.Helper()
	ck, err := c.Architecture(t.Context(), "resnet20")
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Open(t.Context(), ck, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func pictures(t *testing.T, n int) []*vision.Image {
	t.Helper()
	list := make([]*vision.Image, n)
	for i := range list {
		img := image.NewRGBA(image.Rect(0, 0, 40, 36))
		for y := range 36 {
			for x := range 40 {
				img.Set(x, y, color.RGBA{uint8(x * (i + 1)), uint8(7 * y), uint8(x * y), 255})
			}
		}
		var err error
		if list[i], err = vision.FromImage(img); err != nil {
			t.Fatal(err)
		}
	}
	return list
}

func TestFeaturesMixImagesOrTaps(t *testing.T) {
	c := open(t)
	taps, err := c.Taps(t.Context(), "resnet20")
	if err != nil {
		t.Fatal(err)
	}
	if len(taps) < 3 {
		t.Fatalf("taps are %+v", taps)
	}
	m := untrained(t, c, classifier.LoadOptions{Outputs: []string{"logits"}, Taps: true})
	images := pictures(t, 10) // more than run together
	all, err := m.Features(t.Context(), images)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != len(images) {
		t.Fatalf("%d results for %d images", len(all), len(images))
	}
	for i, maps := range all {
		if len(maps) != len(taps) {
			t.Fatalf("image %d has %d maps of %d", i, len(maps), len(taps))
		}
		for k, f := range maps {
			if f.Tap != taps[k] || f.Height*f.Stride != 32 || f.Width*f.Stride != 32 || len(f.Data) != f.Height*f.Width*f.Channels {
				t.Errorf("image %d: map %+v of %d×%d with %d values", i, f.Tap, f.Height, f.Width, len(f.Data))
			}
			if i > 0 && slices.Equal(f.Data, all[0][k].Data) {
				t.Errorf("images 0 and %d have the same %s", i, f.Name)
			}
		}
	}
	// Alone, an image has the same maps: the sums do not depend on the batch.
	alone, err := m.Features(t.Context(), images[9:])
	if err != nil {
		t.Fatal(err)
	}
	for k, f := range alone[0] {
		if !slices.Equal(f.Data, all[9][k].Data) {
			t.Errorf("%s depends on the images beside it", f.Name)
		}
	}
}

func TestFeaturesOfAModelOpenedForLogits(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{})
	if _, err := m.Features(t.Context(), pictures(t, 1)); !errors.Is(err, classifier.ErrNoTaps) {
		t.Errorf("error is %v", err)
	}
}
