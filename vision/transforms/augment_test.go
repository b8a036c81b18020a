package transforms

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/go-modelzoo/zoo/vision"
)

func TestOperationsEqualTorchvision(t *testing.T) {
	python := map[string]string{
		"identity":     "lambda im, x: im",
		"shear x":      "lambda im, x: F.affine(im, 0.0, [0, 0], 1.0, [math.degrees(math.atan(x)), 0.0], center=[0, 0])",
		"shear y":      "lambda im, x: F.affine(im, 0.0, [0, 0], 1.0, [0.0, math.degrees(math.atan(x))], center=[0, 0])",
		"translate x":  "lambda im, x: F.affine(im, 0.0, [int(x), 0], 1.0, [0.0, 0.0])",
		"translate y":  "lambda im, x: F.affine(im, 0.0, [0, int(x)], 1.0, [0.0, 0.0])",
		"rotate":       "lambda im, x: F.rotate(im, x)",
		"brightness":   "lambda im, x: F.adjust_brightness(im, 1 + x)",
		"color":        "lambda im, x: F.adjust_saturation(im, 1 + x)",
		"contrast":     "lambda im, x: F.adjust_contrast(im, 1 + x)",
		"sharpness":    "lambda im, x: F.adjust_sharpness(im, 1 + x)",
		"posterize":    "lambda im, x: F.posterize(im, int(x))",
		"solarize":     "lambda im, x: F.solarize(im, x)",
		"autocontrast": "lambda im, x: F.autocontrast(im)",
		"equalize":     "lambda im, x: F.equalize(im)",
		"hue":          "lambda im, x: F.adjust_hue(im, x)",
	}
	type step struct {
		op *operation
		x  float64
	}
	var cases []reference
	var steps []step
	add := func(op *operation, x float64, img *vision.Image) {
		cases = append(cases, reference{img.Width, img.Height, python[op.name], []float64{x}, img})
		steps = append(steps, step{op, x})
	}
	for i, size := range [][2]int{{61, 47}, {30, 64}, {3, 2}} {
		img := picture(size[0], size[1], uint64(i))
		for v := range img.Pix { // leaves autocontrast something to stretch
			img.Pix[v] = 20 + img.Pix[v]/2
		}
		for j := range operations {
			op := &operations[j]
			for _, m := range []int{0, 5, 9, 17, 30} {
				x := op.strength(m, size[0], size[1])
				add(op, x, img)
				if op.signed && x != 0 {
					add(op, -x, img)
				}
			}
		}
		turned := &operation{name: "hue", apply: hue}
		for _, x := range []float64{-0.5, -0.31, -0.1, 0, 0.07, 0.25, 0.5} {
			add(turned, x, picture(size[0], size[1], 99))
		}
	}
	for i, want := range references(t, "import math, torchvision.transforms.functional as F", cases) {
		src := cases[i].source
		got := vision.NewImage(src.Width, src.Height)
		steps[i].op.apply(got, src, steps[i].x)
		requireEqual(t, fmt.Sprintf("%s %v of %dx%d", steps[i].op.name, steps[i].x, src.Width, src.Height), got, want)
	}
}

// pipeline has every random transform in it.
var pipeline = Compose{
	Pad{1, 2, 3, 4, [3]uint8{9, 8, 7}}, RandomResizedCrop{Size: 48}, RandomHorizontalFlip{}, RandomVerticalFlip{}, RandAugment{},
	ColorJitter{0.4, 0.4, 0.4, 0.1}, RandomCrop{Width: 40, Height: 44, Padding: 4}, Resize{Size: 32}, CenterCrop{36, 30},
}

func TestSameSeedSameImageWhateverCameBefore(t *testing.T) {
	img := picture(90, 70, 3)
	original := append([]uint8(nil), img.Pix...)
	used := NewScratch()
	different := 0
	var previous []uint8
	for index := range 50 {
		fresh := NewScratch()
		fresh.Seed(7, 2, index)
		a, err := pipeline.Apply(img, fresh)
		if err != nil {
			t.Fatal(err)
		}
		used.Seed(99, 0, index)
		if _, err := pipeline.Apply(picture(31+index, 200, 4), used); err != nil {
			t.Fatal(err)
		}
		used.Seed(7, 2, index)
		b, err := pipeline.Apply(img, used)
		if err != nil {
			t.Fatal(err)
		}
		requireEqual(t, "reused scratch", b, a)
		if !bytes.Equal(previous, a.Pix) {
			different++
		}
		previous = append(previous[:0], a.Pix...)
	}
	if different < 50 {
		t.Errorf("only %d of 50 indices gave an image of their own", different)
	}
	if !bytes.Equal(img.Pix, original) {
		t.Error("the source image was modified")
	}
}

func TestRandomResizedCropStaysInsideExtremeImages(t *testing.T) {
	s := NewScratch()
	for _, size := range [][2]int{{1, 1}, {1, 1000}, {1000, 1}, {2, 3}, {640, 480}} {
		img := picture(size[0], size[1], 1)
		for i := range 50 {
			s.Seed(1, 0, i)
			out, err := RandomResizedCrop{Size: 8}.Apply(img, s)
			if err != nil || out.Width != 8 || out.Height != 8 {
				t.Fatalf("%v: %v", size, err)
			}
		}
	}
}

func TestBadParametersRefused(t *testing.T) {
	img, s := picture(20, 10, 1), NewScratch()
	for _, bad := range []Transform{
		Resize{}, Resize{Size: 8, Interpolation: "cubic"}, Resize{Size: 10, MaxSize: 5}, Resize{Width: 1 << 20, Height: 1 << 20}, Resize{Width: -1, Height: 5},
		CenterCrop{}, CenterCrop{-1, 4}, Pad{Left: -1}, RandomCrop{Width: 30, Height: 5}, RandomResizedCrop{}, RandomResizedCrop{Size: 5, Scale: [2]float64{1, 0.5}},
		ColorJitter{Hue: 0.6}, ColorJitter{Contrast: -1}, RandAugment{Ops: 1, Magnitude: 31},
	} {
		if out, err := bad.Apply(img, s); err == nil {
			t.Errorf("%T%+v gave %dx%d pixels", bad, bad, out.Width, out.Height)
		}
	}
	thin := picture(1, 5000, 1)
	if _, err := (Resize{Size: 4000}).Apply(thin, s); err == nil {
		t.Error("4000x20000000 pixels were made")
	}
	p := ImageNet(4000, 32)
	if err := p.Apply(thin, make([]float32, 3*32*32)); err != nil {
		t.Errorf("a crop of an extreme image needs only its own pixels: %v", err)
	}
}

func TestMixUpAndCutMixKeepTargetsNormalised(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	mean := 0.0
	const rounds = 200
	for i := range rounds {
		b := &Batch{N: 3, Height: 6, Width: 5, Channels: 2, Images: make([]float32, 3*6*5*2), Targets: []float32{1, 0, 0, 0, 1, 0, 0, 0, 1}}
		for j := range b.Images {
			b.Images[j] = float32(j / 60)
		}
		var lambda float64
		var err error
		if i%2 == 0 {
			lambda, err = MixUp{0.2}.Apply(b, rng)
		} else {
			lambda, err = CutMix{1}.Apply(b, rng)
		}
		if err != nil {
			t.Fatal(err)
		}
		mean += lambda / rounds
		for n := range 3 {
			own, previous := b.Targets[3*n+n], b.Targets[3*n+(n+2)%3]
			if math.Abs(float64(own)-lambda) > 1e-6 || math.Abs(float64(own+previous)-1) > 1e-6 {
				t.Fatalf("targets %v for weight %v", b.Targets[3*n:3*n+3], lambda)
			}
			sum := 0.0
			for _, v := range b.Images[60*n : 60*n+60] {
				sum += float64(v)
			}
			if want := lambda*float64(n) + (1-lambda)*float64((n+2)%3); math.Abs(sum/60-want) > 1e-5 {
				t.Fatalf("image %d has mean %v, want %v", n, sum/60, want)
			}
		}
	}
	if mean < 0.4 || mean > 0.65 {
		t.Errorf("mean weight %v", mean)
	}
}

func TestRandomErasingErasesOneRectangle(t *testing.T) {
	s, erased := NewScratch(), 0
	for i := range 200 {
		s.Seed(1, 0, i)
		v := make([]float32, 20*30*3)
		for j := range v {
			v[j] = 1
		}
		if err := (RandomErasing{}).Apply(v, 30, 20, 3, s); err != nil {
			t.Fatal(err)
		}
		zeros, x1, y1, x2, y2 := 0, 30, 20, -1, -1
		for j, x := range v {
			if x == 0 {
				zeros++
				px, py := j/3%30, j/90
				x1, y1, x2, y2 = min(x1, px), min(y1, py), max(x2, px), max(y2, py)
			}
		}
		if zeros > 0 {
			erased++
			if zeros != 3*(x2-x1+1)*(y2-y1+1) {
				t.Fatalf("%d zeros in a %dx%d rectangle", zeros, x2-x1+1, y2-y1+1)
			}
		}
	}
	if erased < 70 || erased > 130 {
		t.Errorf("%d of 200 images erased, want about half", erased)
	}
}
