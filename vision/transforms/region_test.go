package transforms

import "testing"

func TestRegionIsWhatTheNetworkSees(t *testing.T) {
	for _, c := range []struct {
		what          string
		p             Preprocess
		width, height int
		want          [4]float64
	}{
		{"resized and cropped", Preprocess{Resize: 256, Crop: 224}, 1024, 512, [4]float64{288, 32, 448, 448}},
		{"cropped alone", Preprocess{Crop: 100}, 300, 200, [4]float64{100, 50, 100, 100}},
		{"smaller than the crop", Preprocess{Crop: 100}, 60, 80, [4]float64{-20, -10, 100, 100}},
		{"squashed", Preprocess{Resize: 64, Squash: true}, 640, 320, [4]float64{0, 0, 640, 320}},
		{"as it is", Preprocess{}, 7, 9, [4]float64{0, 0, 7, 9}},
	} {
		x, y, w, h := c.p.Region(c.width, c.height)
		if got := [4]float64{x, y, w, h}; got != c.want {
			t.Errorf("%s: %v, want %v", c.what, got, c.want)
		}
	}
}
