package vision

import (
	"bytes"
	"image"
	"image/png"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"
)

// FuzzDecode looks for panics, for pixels that do not fit the size, and for images above the limit.
func FuzzDecode(f *testing.F) {
	var paths []string
	for _, pattern := range []string{"testdata/*.*", "testdata/jpeg/*.jpg"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		paths = append(paths, found...)
	}
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if len(data) < 4096 {
			f.Add(data)
		}
	}
	m := image.NewNRGBA(image.Rect(0, 0, 9, 7))
	for i := range m.Pix {
		m.Pix[i] = uint8(i * 37)
	}
	for _, encode := range []func(*bytes.Buffer) error{
		func(w *bytes.Buffer) error { return png.Encode(w, m) },
		func(w *bytes.Buffer) error { return bmp.Encode(w, m) },
		func(w *bytes.Buffer) error { return tiff.Encode(w, m, &tiff.Options{Compression: tiff.Deflate}) },
	} {
		var w bytes.Buffer
		if err := encode(&w); err != nil {
			f.Fatal(err)
		}
		f.Add(w.Bytes())
	}
	f.Add(pngHeader(100_000, 100_000))
	for _, text := range []string{"P1 2 2 0110", "P2 2 1 9 1 2", "P3 1 1 255 1 2 3", "P4 9 1 ab", "P5 2 1 255 ab", "P6 1 1 300 abcdef", "GIF89a", "BM", "RIFF\x00\x00\x00\x00WEBPVP8 "} {
		f.Add([]byte(text))
	}
	limits := Limits{MaxPixels: 1 << 14}
	// The decoders of this module must not lean on the recovery from panics that covers the libraries'.
	own := map[string]bool{"JPEG": true, "PNM": true}
	f.Fuzz(func(t *testing.T, data []byte) {
		for i := range formats {
			if k := &formats[i]; k.matches(data) && own[k.name] {
				_, _ = k.decode(data, limits) // any error will do
			}
			if k := &formats[i]; k.matches(data) && k.exif != nil {
				orientation(k.exif(data))
			}
		}
		img, err := DecodeBytes(data, limits)
		if err != nil {
			return
		}
		if err := img.Check(); err != nil {
			t.Error(err)
		}
		if img.Width*img.Height > 1<<14 {
			t.Errorf("%dx%d pixels are above the limit", img.Width, img.Height)
		}
	})
}
