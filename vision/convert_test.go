package vision

import (
	"image"
	"image/color"
	"image/draw"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

func TestImagesOfGoKeepTheirColours(t *testing.T) {
	m := NewImage(13, 7)
	for i := range m.Pix {
		m.Pix[i] = uint8(i * 41)
	}
	back, err := FromImage(m.NRGBA())
	if err != nil {
		t.Fatal(err)
	}
	if n, d := difference(back, m); n != 0 {
		t.Errorf("NRGBA: %d bytes differ, by up to %d", n, d)
	}
	bounds := image.Rect(0, 0, 13, 7)
	part := image.Rect(2, 1, 11, 6)
	for name, dst := range map[string]draw.Image{
		"RGBA": image.NewRGBA(bounds), "RGBA64": image.NewRGBA64(bounds), "NRGBA64": image.NewNRGBA64(bounds), "Gray": image.NewGray(bounds),
		"Gray16": image.NewGray16(bounds), "CMYK": image.NewCMYK(bounds), "Alpha": image.NewAlpha(bounds),
	} {
		draw.Draw(dst, bounds, m.NRGBA(), image.Point{}, draw.Src)
		sub, ok := dst.(interface {
			SubImage(image.Rectangle) image.Image
		})
		if !ok {
			t.Fatal(name)
		}
		got, err := FromImage(sub.SubImage(part))
		if err != nil || got.Width != part.Dx() || got.Height != part.Dy() {
			t.Fatalf("%s: %v", name, err)
		}
		for y := range got.Height {
			for x := range got.Width {
				r, g, b, _ := dst.At(part.Min.X+x, part.Min.Y+y).RGBA()
				p := got.Pix[3*(y*got.Width+x):]
				if want := (color.RGBA{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8), 0}); p[0] != want.R || p[1] != want.G || p[2] != want.B {
					t.Fatalf("%s at %d, %d: %v, want %v", name, x, y, p[:3], want)
				}
			}
		}
	}
	// A colour multiplied by its alpha is divided again; one that says more than its alpha allows is white, or black where that is 0.
	half := &image.RGBA{Pix: []uint8{64, 32, 200, 128, 7, 8, 9, 0}, Stride: 8, Rect: image.Rect(0, 0, 2, 1)}
	if got, err := FromImage(half); err != nil || string(got.Pix) != "\x7f\x3f\xff\x00\x00\x00" {
		t.Errorf("half transparent: %v, %v", got, err)
	}
	if _, err := FromImage(image.NewGray(image.Rectangle{})); err == nil {
		t.Error("an empty image was converted")
	}
}

// TestDamagedFilesNeverPanic changes bytes of whole files, past the magic number. The decoders of this module are called
// without the recovery that covers the libraries'.
func TestDamagedFilesNeverPanic(t *testing.T) {
	var paths []string
	for _, pattern := range []string{"testdata/*.*", "testdata/jpeg/*.jpg", "transforms/testdata/source.png"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, found...)
	}
	rng := rand.New(rand.NewPCG(3, 4))
	limits := Limits{MaxPixels: 1 << 16}
	decoded := 0
	for _, path := range paths {
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, len(whole))
		for range 400 {
			copy(data, whole)
			for range 1 + rng.IntN(8) {
				data[4+rng.IntN(len(data)-4)] = uint8(rng.IntN(256))
			}
			if rng.IntN(4) == 0 { // a lost or repeated piece
				i, j := 4+rng.IntN(len(data)-4), 4+rng.IntN(len(data)-4)
				copy(data[i:], whole[j:])
			}
			for i := range formats {
				f := &formats[i]
				if !f.matches(data) {
					continue
				}
				decode := f.run
				if f.name == "JPEG" || f.name == "PNM" {
					decode = f.decode
				}
				if img, err := decode(data, limits); err == nil {
					decoded++
					if err := img.Check(); err != nil {
						t.Errorf("%s: %v", path, err)
					}
				}
			}
		}
	}
	t.Logf("%d damaged files were decoded all the same", decoded)
}
