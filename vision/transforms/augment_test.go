package transforms

import (
	"bytes"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"slices"
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

// at is the pixel of an image with a border of colour fill without end.
func at(m *vision.Image, x, y int, fill [3]uint8) [3]uint8 {
	if x < 0 || y < 0 || x >= m.Width || y >= m.Height {
		return fill
	}
	return [3]uint8(m.Pix[3*(y*m.Width+x):])
}

// requirePixels compares an image with the pixels that it should have.
func requirePixels(t *testing.T, what string, got *vision.Image, width, height int, want func(x, y int) [3]uint8) {
	t.Helper()
	m := vision.NewImage(width, height)
	for y := range height {
		for x := range width {
			p := want(x, y)
			copy(m.Pix[3*(y*width+x):], p[:])
		}
	}
	requireEqual(t, what, got, m)
}

func TestFlipIsNoMirrorImage(t *testing.T) {
	img, s := picture(7, 5, 1), NewScratch()
	for name, c := range map[string]struct {
		flip func(p float64) Transform
		want func(x, y int) [3]uint8
	}{
		"horizontal": {func(p float64) Transform { return RandomHorizontalFlip{p} }, func(x, y int) [3]uint8 { return at(img, 6-x, y, [3]uint8{}) }},
		"vertical":   {func(p float64) Transform { return RandomVerticalFlip{p} }, func(x, y int) [3]uint8 { return at(img, x, 4-y, [3]uint8{}) }},
	} {
		flipped := 0
		for i := range 400 {
			s.Seed(1, 0, i)
			out, err := c.flip(1).Apply(img, s)
			if err != nil {
				t.Fatal(err)
			}
			requirePixels(t, name, out, 7, 5, c.want)
			if out, err = c.flip(0).Apply(img, s); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Pix, img.Pix) {
				flipped++
			}
		}
		if flipped < 160 || flipped > 240 {
			t.Errorf("%s: %d of 400 images are flipped, want half of them", name, flipped)
		}
	}
}

func TestCropsAndBordersAtTheWrongPlace(t *testing.T) {
	img, s, fill := picture(9, 6, 1), NewScratch(), [3]uint8{9, 8, 7}
	apply := func(tr Transform) *vision.Image {
		t.Helper()
		out, err := tr.Apply(img, s)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	requirePixels(t, "padding", apply(Pad{1, 2, 3, 4, fill}), 13, 12, func(x, y int) [3]uint8 { return at(img, x-1, y-2, fill) })
	// As torchvision: an odd rest of a crop is rounded to even, that of a border goes to the right and the bottom.
	requirePixels(t, "centre", apply(CenterCrop{4, 3}), 4, 3, func(x, y int) [3]uint8 { return at(img, x+2, y+2, fill) })
	requirePixels(t, "centre of a small image", apply(CenterCrop{12, 4}), 12, 4, func(x, y int) [3]uint8 { return at(img, x-1, y+1, [3]uint8{}) })
	seen := map[image.Point]int{}
	for i := range 3000 {
		s.Seed(1, 0, i)
		out := apply(RandomCrop{Width: 8, Height: 7, Padding: 2, Fill: fill})
		for y := range 4 { // 6 + 4 - 7 and one
			for x := range 6 {
				same := true
				for j := range 7 * 8 {
					same = same && at(out, j%8, j/8, fill) == at(img, x-2+j%8, y-2+j/8, fill)
				}
				if same {
					seen[image.Pt(x, y)]++
				}
			}
		}
	}
	total := 0
	for p, n := range seen {
		if total += n; n < 80 || n > 170 {
			t.Errorf("%d of 3000 random crops begin at %v, want about 125", n, p)
		}
	}
	if len(seen) != 24 || total != 3000 {
		t.Errorf("%d of 3000 random crops are parts of the image with its border, at %d places of 24", total, len(seen))
	}
}

func TestRandomResizedCropOutsideItsRanges(t *testing.T) {
	s := NewScratch()
	const rounds = 2000
	for _, c := range []struct{ given, scale, ratio [2]float64 }{
		{[2]float64{}, [2]float64{0.08, 1}, [2]float64{3. / 4, 4. / 3}},
		{[2]float64{0.2, 0.4}, [2]float64{0.2, 0.4}, [2]float64{3. / 4, 4. / 3}},
	} {
		crop := RandomResizedCrop{Size: 8, Scale: c.given}
		corners := map[image.Point]bool{}
		low, high, narrow, wide := 1., 0., 9., 0.
		for i := range rounds {
			s.Seed(1, 0, i)
			crop.Scale, crop.Ratio = c.scale, c.ratio
			r := crop.rectangle(600, 500, s)
			area, ratio := float64(r.Dx()*r.Dy())/(600*500), float64(r.Dx())/float64(r.Dy())
			low, high, narrow, wide = min(low, area), max(high, area), min(narrow, ratio), max(wide, ratio)
			corners[image.Pt(r.Min.X*3/(601-r.Dx()), r.Min.Y*3/(501-r.Dy()))] = true
			// What Apply gives is that rectangle, resized.
			if i < 20 {
				img := picture(600, 500, 1)
				s.Seed(1, 0, i)
				crop.Scale, crop.Ratio = c.given, [2]float64{}
				out, err := crop.Apply(img, s)
				if err != nil {
					t.Fatal(err)
				}
				part, err := cut(img, r.Min.X, r.Min.Y, r.Dx(), r.Dy(), [3]uint8{}, NewScratch())
				if err != nil {
					t.Fatal(err)
				}
				want, err := Resize{Width: 8, Height: 8}.Apply(part, NewScratch())
				if err != nil {
					t.Fatal(err)
				}
				requireEqual(t, fmt.Sprintf("crop %v", r), out, want)
			}
		}
		width := c.scale[1] - c.scale[0]
		if low < c.scale[0]-0.005 || low > c.scale[0]+0.02 || high > c.scale[1]+0.005 || high < c.scale[1]-0.1*width {
			t.Errorf("areas are %.3f to %.3f, want %v", low, high, c.scale)
		}
		if narrow < c.ratio[0]-0.01 || narrow > c.ratio[0]+0.03 || wide > c.ratio[1]+0.02 || wide < c.ratio[1]-0.03 {
			t.Errorf("aspect ratios are %.3f to %.3f, want %v", narrow, wide, c.ratio)
		}
		if len(corners) != 9 {
			t.Errorf("crops begin in %d of 9 parts of where they may", len(corners))
		}
	}
	// One of less than half a pixel would be an image of nothing, which resizes to black.
	for i := range 200 {
		s.Seed(1, 0, i)
		for _, size := range []image.Point{{1, 1}, {2, 3}, {1, 9}} {
			r := RandomResizedCrop{Scale: [2]float64{0.01, 1}, Ratio: [2]float64{0.1, 10}}.rectangle(size.X, size.Y, s)
			if r.Empty() || !r.In(image.Rectangle{Max: size}) {
				t.Fatalf("crop %v of %v pixels", r, size)
			}
		}
	}
	// No rectangle fits: the middle of the image, as large as the ratio allows.
	for size, want := range map[[2]int]image.Rectangle{
		{3, 1000}: image.Rect(0, 498, 3, 502), {1000, 3}: image.Rect(498, 0, 502, 3), {1, 1000}: image.Rect(0, 499, 1, 500),
	} {
		c := RandomResizedCrop{Scale: [2]float64{1, 1}, Ratio: [2]float64{3. / 4, 4. / 3}}
		if got := c.rectangle(size[0], size[1], s); got != want {
			t.Errorf("of %v pixels %v is left, want %v", size, got, want)
		}
	}
}

// TestLongerSideBeyondItsBound has sizes by torchvision's Resize(100, max_size=150).
func TestLongerSideBeyondItsBound(t *testing.T) {
	for from, want := range map[image.Point]image.Point{
		{400, 200}: {150, 75}, {200, 400}: {75, 150}, {240, 200}: {120, 100}, {301, 200}: {150, 100}, {303, 200}: {150, 99}, {1000, 1}: {150, 1},
	} {
		out, err := Resize{Size: 100, MaxSize: 150}.Apply(picture(from.X, from.Y, 1), NewScratch())
		if err != nil {
			t.Fatal(err)
		}
		if got := image.Pt(out.Width, out.Height); got != want {
			t.Errorf("%v is resized to %v, want %v", from, got, want)
		}
	}
}

func TestColorJitterOutsideItsRanges(t *testing.T) {
	s, gray, red := NewScratch(), vision.NewImage(3, 2), vision.NewImage(3, 2)
	fillImage(gray, [3]uint8{100, 100, 100})
	fillImage(red, [3]uint8{200, 50, 50})
	spread := func(j ColorJitter, img *vision.Image, of func(p [3]uint8) float64) (low, high float64) {
		low, high = math.Inf(1), math.Inf(-1)
		for i := range 500 {
			s.Seed(1, 0, i)
			out, err := j.Apply(img, s)
			if err != nil {
				t.Fatal(err)
			}
			v := of([3]uint8(out.Pix))
			low, high = min(low, v), max(high, v)
		}
		return low, high
	}
	level := func(p [3]uint8) float64 { return float64(p[0]) }
	chroma := func(p [3]uint8) float64 { return float64(p[0]) - float64(p[1]) }
	warm := func(p [3]uint8) float64 { return float64(p[1]) - float64(p[2]) } // above 0 towards yellow, below towards blue
	for name, c := range map[string]struct {
		j         ColorJitter
		img       *vision.Image
		of        func([3]uint8) float64
		low, high float64
	}{
		"brightness":            {ColorJitter{Brightness: 0.4}, gray, level, 60, 140},
		"brightness from black": {ColorJitter{Brightness: 1.5}, gray, level, 0, 250},
		"contrast of one gray":  {ColorJitter{Contrast: 0.5}, gray, level, 100, 100},
		"saturation":            {ColorJitter{Saturation: 0.2}, red, chroma, 120, 180},
		"hue":                   {ColorJitter{Hue: 0.1}, red, warm, -90, 90}, // six tenths of a sixth of the circle
		"nothing":               {ColorJitter{}, red, chroma, 150, 150},
	} {
		low, high := spread(c.j, c.img, c.of)
		if slack := 1 + 0.03*(c.high-c.low); low < c.low-2 || low > c.low+slack || high > c.high+2 || high < c.high-slack {
			t.Errorf("%s: from %g to %g, want %g to %g", name, low, high, c.low, c.high)
		}
	}
}

// TestRandAugmentStrengthsDifferFromTorchvision has the numbers of torchvision.transforms.RandAugment._augmentation_space(31, …).
func TestRandAugmentStrengthsDifferFromTorchvision(t *testing.T) {
	for name, want := range map[string][3]float64{ // of magnitudes 0, 9 and 30, for 331 x 662 pixels
		"identity": {}, "shear x": {0, 0.09, 0.3}, "shear y": {0, 0.09, 0.3}, "translate x": {0, 45, 150}, "translate y": {0, 90, 300}, "rotate": {0, 9, 30},
		"brightness": {0, 0.27, 0.9}, "color": {0, 0.27, 0.9}, "contrast": {0, 0.27, 0.9}, "sharpness": {0, 0.27, 0.9},
		"posterize": {8, 7, 4}, "solarize": {255, 178.5, 0}, "autocontrast": {}, "equalize": {},
	} {
		i := slices.IndexFunc(operations[:], func(o operation) bool { return o.name == name })
		if i < 0 {
			t.Errorf("there is no %s", name)
			continue
		}
		for k, magnitude := range []int{0, 9, 30} {
			if got := operations[i].strength(magnitude, 331, 662); math.Abs(got-want[k]) > 1e-9 {
				t.Errorf("%s of magnitude %d has strength %g, want %g", name, magnitude, got, want[k])
			}
		}
	}
}

// RandAugment{Magnitude: 15} left every image as it was.
func TestRandAugmentLeavesOperationsOut(t *testing.T) {
	img, s := picture(23, 17, 1), NewScratch()
	const magnitude = 20
	results := map[string]string{} // pixels -> operation
	for i := range operations {
		op := &operations[i]
		for _, sign := range []float64{1, -1} {
			if x := op.strength(magnitude, img.Width, img.Height); sign > 0 || op.signed {
				out := vision.NewImage(img.Width, img.Height)
				op.apply(out, img, sign*x)
				results[string(out.Pix)] = fmt.Sprint(op.name, " ", sign*x)
			}
		}
	}
	seen := map[string]bool{}
	for i := range 1000 {
		s.Seed(1, 0, i)
		out, err := RandAugment{Ops: 1, Magnitude: magnitude}.Apply(img, s)
		if err != nil {
			t.Fatal(err)
		}
		name, ok := results[string(out.Pix)]
		if !ok {
			t.Fatal("the result is that of no operation")
		}
		seen[name] = true
	}
	if len(seen) != len(results) {
		t.Errorf("%d of %d operations and directions were applied: %v", len(seen), len(results), seen)
	}
	full := RandAugment{Ops: 2, Magnitude: 9}
	for _, r := range []RandAugment{{}, {Ops: 2}, {Magnitude: 9}} {
		for i := range 20 {
			s.Seed(1, 0, i)
			want, err := full.Apply(img, s)
			if err != nil {
				t.Fatal(err)
			}
			fresh := NewScratch()
			fresh.Seed(1, 0, i)
			got, err := r.Apply(img, fresh)
			if err != nil {
				t.Fatal(err)
			}
			requireEqual(t, fmt.Sprintf("%+v", r), got, want)
		}
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
		RandAugment{Ops: -1, Magnitude: 9}, RandAugment{Ops: 1, Magnitude: -1}, RandomCrop{Width: 5, Height: 30}, RandomCrop{Width: 5, Height: 5, Padding: -1},
		RandomResizedCrop{Size: 5, Scale: [2]float64{-1, 1}}, RandomResizedCrop{Size: 5, Ratio: [2]float64{2, 1}}, RandomResizedCrop{Size: 5, Ratio: [2]float64{-1, 1}},
		RandomResizedCrop{Size: 5, Interpolation: "cubic"},
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

// TestBetaHasAnotherSpread compares the weights with the variance of Beta(a, a), 1/(4·(2a+1)).
func TestBetaHasAnotherSpread(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	const n = 20000
	for _, a := range []float64{0.2, 0.5, 1, 4} {
		mean, square := 0.0, 0.0
		for range n {
			v := beta(a, rng)
			if !(v >= 0 && v <= 1) {
				t.Fatalf("Beta(%g) gave %v", a, v)
			}
			mean += v / n
			square += (v - 0.5) * (v - 0.5) / n
		}
		if want := 1 / (4 * (2*a + 1)); math.Abs(mean-0.5) > 0.015 || math.Abs(square/want-1) > 0.04 {
			t.Errorf("Beta(%g) has mean %.4f and variance %.4f, want 0.5 and %.4f", a, mean, square, want)
		}
	}
	for range 50 { // both draws are too small for a float64
		if v := beta(1e-9, rng); v != 0 && v != 1 {
			t.Fatalf("Beta(1e-9) gave %v", v)
		}
	}
}

func TestBatchesThatDoNotFitRefused(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	batch := func() *Batch {
		return &Batch{N: 2, Height: 3, Width: 3, Channels: 1, Images: make([]float32, 18), Targets: make([]float32, 4)}
	}
	for name, spoil := range map[string]func(*Batch){
		"no image":                func(b *Batch) { b.N, b.Images = 0, nil },
		"pixels of another size":  func(b *Batch) { b.Width = 4 },
		"targets of a third more": func(b *Batch) { b.Targets = make([]float32, 5) },
	} {
		b := batch()
		spoil(b)
		if _, err := (MixUp{1}).Apply(b, rng); err == nil {
			t.Errorf("%s: mixup took it", name)
		}
		if _, err := (CutMix{1}).Apply(b, rng); err == nil {
			t.Errorf("%s: cutmix took it", name)
		}
	}
	for _, alpha := range []float64{0, -1, math.NaN()} {
		if _, err := (MixUp{alpha}).Apply(batch(), rng); err == nil {
			t.Errorf("mixup with alpha %v", alpha)
		}
		if _, err := (CutMix{alpha}).Apply(batch(), rng); err == nil {
			t.Errorf("cutmix with alpha %v", alpha)
		}
	}
	if err := (RandomErasing{}).Apply(make([]float32, 5), 2, 3, 1, NewScratch()); err == nil {
		t.Error("random erasing took an image of another size")
	}
}

// TestCutMixPastesAnotherArea draws weights of nearly one half: a rectangle that lies within the image has half of its area.
func TestCutMixPastesAnotherArea(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	b := &Batch{N: 1, Height: 100, Width: 200, Channels: 1, Images: make([]float32, 100*200), Targets: []float32{1}}
	least := 1.0
	for range 300 {
		lambda, err := CutMix{1e7}.Apply(b, rng)
		if err != nil {
			t.Fatal(err)
		}
		least = min(least, lambda)
	}
	if least < 0.499 || least > 0.52 {
		t.Errorf("the largest rectangle leaves %.3f of the image, want half of it", least)
	}
}

func TestRandomErasingOutsideItsRanges(t *testing.T) {
	const width, height = 100, 80
	s := NewScratch()
	for _, c := range []struct {
		erasing       RandomErasing
		low, high     float64 // area
		flat, tallest float64 // height by width
	}{
		{RandomErasing{P: 1}, 0.02, 0.33, 0.3, 3.3},
		{RandomErasing{P: 1, Scale: [2]float64{0.1, 0.2}, Ratio: [2]float64{0.5, 2}}, 0.1, 0.2, 0.5, 2},
	} {
		low, high, flat, tall := 1., 0., 9., 0.
		edges := [4]bool{}
		for i := range 1500 {
			s.Seed(1, 0, i)
			v := make([]float32, width*height)
			for j := range v {
				v[j] = 1
			}
			if err := c.erasing.Apply(v, width, height, 1, s); err != nil {
				t.Fatal(err)
			}
			x1, y1, x2, y2 := width, height, -1, -1
			for j, x := range v {
				if x == 0 {
					x1, y1, x2, y2 = min(x1, j%width), min(y1, j/width), max(x2, j%width), max(y2, j/width)
				}
			}
			if x2 < 0 {
				continue // no rectangle fitted ten times
			}
			w, h := float64(x2-x1+1), float64(y2-y1+1)
			low, high = min(low, w*h/(width*height)), max(high, w*h/(width*height))
			flat, tall = min(flat, h/w), max(tall, h/w)
			edges = [4]bool{edges[0] || x1 == 0, edges[1] || y1 == 0, edges[2] || x2 == width-1, edges[3] || y2 == height-1}
		}
		if low < c.low-0.003 || low > c.low+0.01 || high > c.high+0.005 || high < c.high-0.02 {
			t.Errorf("%+v: areas are %.3f to %.3f, want %g to %g", c.erasing, low, high, c.low, c.high)
		}
		if flat < 0.9*c.flat || flat > 1.1*c.flat || tall < 0.9*c.tallest || tall > 1.1*c.tallest {
			t.Errorf("%+v: height by width is %.2f to %.2f, want %g to %g", c.erasing, flat, tall, c.flat, c.tallest)
		}
		if edges != [4]bool{true, true, true, true} {
			t.Errorf("%+v: never at one of the edges left, top, right, bottom: %v", c.erasing, edges)
		}
	}
	for i := range 50 { // wider than the image, and higher
		s.Seed(1, 0, i)
		for _, size := range [][2]int{{3, 200}, {200, 3}} {
			if err := (RandomErasing{P: 1}).Apply(make([]float32, 600), size[0], size[1], 1, s); err != nil {
				t.Fatal(err)
			}
		}
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
