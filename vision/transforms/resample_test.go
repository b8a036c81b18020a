package transforms

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"image"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/vision"
	"github.com/go-modelzoo/zoo/vision/internal/pil"
)

// picture returns a synthetic image: gradients, edges and noise.
func picture(width, height int, seed uint64) *vision.Image {
	rng := rand.New(rand.NewPCG(seed, 1))
	m := vision.NewImage(width, height)
	for y := range height {
		for x := range width {
			p := m.Pix[3*(y*width+x):][:3]
			p[0] = uint8(x * 255 / width)
			p[1] = uint8((x/7+y/5)%2*200 + rng.IntN(40))
			p[2] = uint8(rng.IntN(256))
		}
	}
	return m
}

// reference is a case for a Python function: op is called with the image and args.
type reference struct {
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Op     string `json:"op"`
	Args   any    `json:"args"`
	source *vision.Image
}

const referenceScript = `
import sys, json, struct
from PIL import Image
data = sys.stdin.buffer.read()
n, = struct.unpack('<I', data[:4])
cases = json.loads(data[4:4+n]); at = 4 + n
out = sys.stdout.buffer
for c in cases:
    size = 3 * c['width'] * c['height']
    im = Image.frombytes('RGB', (c['width'], c['height']), data[at:at+size]); at += size
    im = eval(c['op'])(im, *(c['args'] or []))
    out.write(struct.pack('<II', *im.size) + im.tobytes())
`

// references evaluates the cases in Python.
func references(tb testing.TB, imports string, cases []reference) []*vision.Image {
	tb.Helper()
	header, err := json.Marshal(cases)
	if err != nil {
		tb.Fatal(err)
	}
	in := binary.LittleEndian.AppendUint32(nil, uint32(len(header)))
	in = append(in, header...)
	for _, c := range cases {
		in = append(in, c.source.Pix...)
	}
	out := pil.Run(tb, imports, referenceScript, in)
	images := make([]*vision.Image, len(cases))
	for i := range images {
		m := &vision.Image{Width: int(binary.LittleEndian.Uint32(out)), Height: int(binary.LittleEndian.Uint32(out[4:]))}
		n := 3 * m.Width * m.Height
		m.Pix, out = out[8:8+n], out[8+n:]
		images[i] = m
	}
	return images
}

func requireEqual(tb testing.TB, what string, got, want *vision.Image) {
	tb.Helper()
	if got.Width != want.Width || got.Height != want.Height {
		tb.Errorf("%s: size %dx%d, want %dx%d", what, got.Width, got.Height, want.Width, want.Height)
		return
	}
	different, largest := 0, 0
	for i, v := range got.Pix {
		if d := int(v) - int(want.Pix[i]); d != 0 {
			different++
			largest = max(largest, d, -d)
		}
	}
	if different != 0 {
		tb.Errorf("%s: %d of %d bytes differ, by up to %d", what, different, len(got.Pix), largest)
	}
}

func TestResizeEqualsPIL(t *testing.T) {
	sizes := [][4]int{ // from, to
		{500, 375, 341, 256}, {375, 500, 256, 341}, {64, 48, 200, 150}, {97, 61, 97, 30}, {97, 61, 40, 61}, {97, 61, 97, 61},
		{1, 1, 7, 5}, {2, 300, 50, 3}, {301, 3, 10, 90}, {640, 480, 17, 13}, {33, 33, 34, 32}, {1000, 10, 8, 8},
	}
	filterNames := []Interpolation{Nearest, Box, Bilinear, Hamming, Bicubic, Lanczos}
	codes := map[Interpolation]int{Nearest: 0, Lanczos: 1, Bilinear: 2, Bicubic: 3, Box: 4, Hamming: 5}
	var cases []reference
	for i, s := range sizes {
		for _, f := range filterNames {
			cases = append(cases, reference{s[0], s[1], "lambda im, w, h, f: im.resize((w, h), f)", []int{s[2], s[3], codes[f]}, picture(s[0], s[1], uint64(i))})
		}
	}
	var r resampler
	plain := resampler{plain: true}
	for i, want := range references(t, "", cases) {
		c, s, f := cases[i], sizes[i/len(filterNames)], filterNames[i%len(filterNames)]
		got := vision.NewImage(s[2], s[3])
		r.resize(got.Pix, 3*s[2], viewOf(c.source), s[2], s[3], image.Rect(0, 0, s[2], s[3]), f, true)
		requireEqual(t, fmt.Sprintf("%v to %v, %s", s[:2], s[2:], f), got, want)
		byGo := vision.NewImage(s[2], s[3])
		plain.resize(byGo.Pix, 3*s[2], viewOf(c.source), s[2], s[3], image.Rect(0, 0, s[2], s[3]), f, true)
		requireEqual(t, fmt.Sprintf("%v to %v, %s, without vector kernels", s[:2], s[2:], f), byGo, want)
		// Any rectangle of the result is the same computed alone.
		part := image.Rect(s[2]/3, s[3]/4, s[2], max(s[3]*3/4, s[3]/4+1))
		alone := vision.NewImage(part.Dx(), part.Dy())
		r.resize(alone.Pix, 3*part.Dx(), viewOf(c.source), s[2], s[3], part, f, true)
		cut := vision.NewImage(part.Dx(), part.Dy())
		for y := range part.Dy() {
			copy(cut.Pix[3*y*part.Dx():][:3*part.Dx()], got.Pix[3*((part.Min.Y+y)*s[2]+part.Min.X):])
		}
		requireEqual(t, fmt.Sprintf("part of %v to %v, %s", s[:2], s[2:], f), alone, cut)
	}
}

// TestHammingOfConstantsInDoublePrecision has a row where the single precision of PIL's constants shows: 208 is PIL's sample.
func TestHammingOfConstantsInDoublePrecision(t *testing.T) {
	src, dst := vision.NewImage(13, 1), vision.NewImage(8, 1)
	for i, v := range []uint8{166, 240, 9} {
		src.Pix[3*(6+i)] = v
	}
	var r resampler
	r.resize(dst.Pix, 3*8, viewOf(src), 8, 1, image.Rect(0, 0, 8, 1), Hamming, true)
	if got := dst.Pix[3*4]; got != 208 {
		t.Errorf("sample is %d, want 208", got)
	}
}

func TestPreprocessEqualsTorchvision(t *testing.T) {
	type setting struct {
		width, height int
		p             Preprocess
	}
	settings := []setting{
		{500, 375, ImageNet(256, 224)}, {375, 500, ImageNet(256, 224)}, {333, 500, ImageNet(232, 224)}, {101, 97, ImageNet(219, 192)},
		{32, 32, ImageNet(0, 0)}, {600, 31, ImageNet(40, 64)}, {40, 51, ImageNet(0, 60)}, {41, 50, ImageNet(0, 47)}, {51, 70, ImageNet(50, 45)},
	}
	bicubic := ImageNet(236, 224)
	bicubic.Interpolation = Bicubic
	settings = append(settings, setting{480, 361, bicubic})
	var cases []reference
	for i, s := range settings {
		mode := 2
		if s.p.Interpolation == Bicubic {
			mode = 3
		}
		cases = append(cases, reference{s.width, s.height, `lambda im, resize, crop, mode: (lambda r: F.center_crop(r, [crop, crop]) if crop else r)(
			F.resize(im, [resize], interpolation={2: F.InterpolationMode.BILINEAR, 3: F.InterpolationMode.BICUBIC}[mode]) if resize else im)`,
			[]int{s.p.Resize, s.p.Crop, mode}, picture(s.width, s.height, uint64(i))})
	}
	for i, want := range references(t, "import torchvision.transforms.functional as F", cases) {
		got, err := settings[i].p.Transform().Apply(cases[i].source, NewScratch())
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, fmt.Sprintf("%+v", settings[i]), got, want)
	}
}

func TestWithoutAntialiasWithinOneOfTensors(t *testing.T) {
	var cases []reference
	for i, size := range [][2]int{{500, 375}, {97, 201}, {30, 40}} {
		cases = append(cases, reference{size[0], size[1], `lambda im: F.to_pil_image(F.resize(F.pil_to_tensor(im), [77, 55], antialias=False))`, nil, picture(size[0], size[1], uint64(i))})
	}
	for i, want := range references(t, "import torchvision.transforms.functional as F", cases) {
		var r resampler
		got := vision.NewImage(55, 77)
		r.resize(got.Pix, 3*55, viewOf(cases[i].source), 55, 77, image.Rect(0, 0, 55, 77), Bilinear, false)
		for j, v := range got.Pix {
			if d := int(v) - int(want.Pix[j]); d < -1 || d > 1 {
				t.Fatalf("case %d, byte %d: %d, want %d", i, j, v, want.Pix[j])
			}
		}
	}
}

func TestVectorKernelsAgreeWithGo(t *testing.T) {
	if !haveVector() {
		t.Skip("no assembly on this machine")
	}
	rng := rand.New(rand.NewPCG(5, 6))
	var vector resampler
	plain := resampler{plain: true}
	names := []Interpolation{Box, Bilinear, Hamming, Bicubic, Lanczos}
	for range 1500 {
		img := picture(1+rng.IntN(90), 1+rng.IntN(90), rng.Uint64())
		for i := range img.Pix { // extremes, so that every sum is clipped somewhere
			if rng.IntN(2) == 0 {
				img.Pix[i] = uint8(rng.IntN(2) * 255)
			}
		}
		w, h := 1+rng.IntN(120), 1+rng.IntN(120)
		x, y := rng.IntN(w), rng.IntN(h)
		region := image.Rect(x, y, x+1+rng.IntN(w-x), y+1+rng.IntN(h-y))
		how, antialias := names[rng.IntN(len(names))], rng.IntN(4) > 0
		from := image.Rect(rng.IntN(img.Width), rng.IntN(img.Height), img.Width, img.Height)
		stride := 3*region.Dx() + rng.IntN(5)
		a, b := make([]uint8, stride*region.Dy()), make([]uint8, stride*region.Dy())
		vector.resize(a, stride, crop(img, from), w, h, region, how, antialias)
		plain.resize(b, stride, crop(img, from), w, h, region, how, antialias)
		if !bytes.Equal(a, b) { // the canary between rows included
			t.Fatalf("%v to %dx%d, %v, %s, antialias %v: assembly differs from Go", from, w, h, region, how, antialias)
		}
	}
}

func BenchmarkPreprocess(b *testing.B) {
	for _, size := range [][2]int{{500, 375}, {2048, 1536}} {
		b.Run(fmt.Sprintf("%dx%d", size[0], size[1]), func(b *testing.B) {
			img, p, dst := picture(size[0], size[1], 1), ImageNet(256, 224), make([]float32, 3*224*224)
			b.ReportAllocs()
			for b.Loop() {
				if err := p.Apply(img, dst); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
