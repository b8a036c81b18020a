package transforms

import (
	"fmt"
	"image"
	"math"

	"github.com/go-modelzoo/zoo/vision"
)

// Resize makes the shorter side Size pixels long, or, where Height is set, the image Width x Height.
type Resize struct {
	Size          int // shorter side
	MaxSize       int // the longer side's bound for Size; 0 for none
	Width, Height int // exact size, instead of Size
	Interpolation Interpolation
}

// Apply implements Transform.
func (r Resize) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	if err := r.Interpolation.check(); err != nil {
		return nil, err
	}
	width, height := r.Width, r.Height
	if height == 0 {
		if r.Size < 1 {
			return nil, fmt.Errorf("size %d is not positive", r.Size)
		}
		if r.MaxSize != 0 && r.MaxSize <= r.Size {
			return nil, fmt.Errorf("max size %d is not above size %d", r.MaxSize, r.Size)
		}
		width, height = shorterSide(img.Width, img.Height, r.Size, r.MaxSize)
	}
	if width == img.Width && height == img.Height {
		return img, nil
	}
	return resized(img, viewOf(img), width, height, r.Interpolation, s)
}

// resized resizes a view of img to a scratch image.
func resized(img *vision.Image, src view, width, height int, how Interpolation, s *Scratch) (*vision.Image, error) {
	if err := checkOutput(width, height); err != nil {
		return nil, err
	}
	dst := s.image(width, height, img)
	s.resample.resize(dst.Pix, 3*width, src, width, height, image.Rect(0, 0, width, height), how, true)
	return dst, nil
}

// cut copies the width x height pixels of img from (x, y), which may reach over its edges, where the result has the colour fill.
func cut(img *vision.Image, x, y, width, height int, fill [3]uint8, s *Scratch) (*vision.Image, error) {
	if err := checkOutput(width, height); err != nil {
		return nil, err
	}
	r := image.Rect(x, y, x+width, y+height)
	bounds := image.Rect(0, 0, img.Width, img.Height)
	if r == bounds {
		return img, nil
	}
	dst := s.image(r.Dx(), r.Dy(), img)
	inside := r.Intersect(bounds)
	if inside != r {
		fillImage(dst, fill)
	}
	src := crop(img, inside)
	for y := range src.height {
		copy(dst.Pix[3*((inside.Min.Y-r.Min.Y+y)*dst.Width+inside.Min.X-r.Min.X):], src.row(y))
	}
	return dst, nil
}

func fillImage(m *vision.Image, colour [3]uint8) {
	if colour == [3]uint8{} {
		clear(m.Pix)
		return
	}
	for i := 0; i < len(m.Pix); i += 3 {
		copy(m.Pix[i:i+3], colour[:])
	}
}

// CenterCrop keeps the Width x Height pixels in the middle, with zeros around a smaller image.
type CenterCrop struct{ Width, Height int }

// Apply implements Transform.
func (c CenterCrop) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	x, y := centreOffset(img.Width, c.Width), centreOffset(img.Height, c.Height)
	return cut(img, x, y, c.Width, c.Height, [3]uint8{}, s)
}

// Pad adds a border of colour Fill.
type Pad struct {
	Left, Top, Right, Bottom int
	Fill                     [3]uint8
}

// Apply implements Transform.
func (p Pad) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	if min(p.Left, p.Top, p.Right, p.Bottom) < 0 {
		return nil, fmt.Errorf("padding %d, %d, %d, %d is negative", p.Left, p.Top, p.Right, p.Bottom)
	}
	return cut(img, -p.Left, -p.Top, img.Width+p.Left+p.Right, img.Height+p.Top+p.Bottom, p.Fill, s)
}

// RandomCrop keeps Width x Height pixels somewhere in the image with a border of Padding pixels of colour Fill around it: with
// 32, 32 and 4 the augmentation of CIFAR.
type RandomCrop struct {
	Width, Height, Padding int
	Fill                   [3]uint8
}

// Apply implements Transform.
func (c RandomCrop) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	freeX, freeY := img.Width+2*c.Padding-c.Width, img.Height+2*c.Padding-c.Height
	if freeX < 0 || freeY < 0 || c.Padding < 0 {
		return nil, fmt.Errorf("a crop of %dx%d does not fit in %dx%d pixels with a border of %d", c.Width, c.Height, img.Width, img.Height, c.Padding)
	}
	y, x := s.Rand.IntN(freeY+1)-c.Padding, s.Rand.IntN(freeX+1)-c.Padding
	return cut(img, x, y, c.Width, c.Height, c.Fill, s)
}

// RandomResizedCrop resizes a random part of the image to Size x Size: of an area uniform in Scale (a fraction of the
// image's) and an aspect ratio log-uniform in Ratio. Zero ranges mean torchvision's, 0.08 to 1 and 3/4 to 4/3.
type RandomResizedCrop struct {
	Size          int
	Scale, Ratio  [2]float64
	Interpolation Interpolation
}

// Apply implements Transform.
func (c RandomResizedCrop) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	if err := c.Interpolation.check(); err != nil {
		return nil, err
	}
	if c.Scale == [2]float64{} {
		c.Scale = [2]float64{0.08, 1}
	}
	if c.Ratio == [2]float64{} {
		c.Ratio = [2]float64{3. / 4, 4. / 3}
	}
	if !(c.Scale[0] > 0 && c.Scale[1] >= c.Scale[0] && c.Ratio[0] > 0 && c.Ratio[1] >= c.Ratio[0]) {
		return nil, fmt.Errorf("scale %v and ratio %v must be positive and in order", c.Scale, c.Ratio)
	}
	r := c.rectangle(img.Width, img.Height, s)
	return resized(img, crop(img, r), c.Size, c.Size, c.Interpolation, s)
}

func (c RandomResizedCrop) rectangle(width, height int, s *Scratch) image.Rectangle {
	area := float64(width * height)
	for range 10 {
		w, h := randomSides(area, c.Scale, c.Ratio, s)
		if w > 0 && w <= width && h > 0 && h <= height {
			y, x := s.Rand.IntN(height-h+1), s.Rand.IntN(width-w+1)
			return image.Rect(x, y, x+w, y+h)
		}
	}
	// The largest central part of an aspect ratio within bounds.
	w, h := width, height
	switch ratio := float64(width) / float64(height); {
	case ratio < c.Ratio[0]:
		h = min(max(int(math.RoundToEven(float64(w)/c.Ratio[0])), 1), height)
	case ratio > c.Ratio[1]:
		w = min(max(int(math.RoundToEven(float64(h)*c.Ratio[1])), 1), width)
	}
	x, y := (width-w)/2, (height-h)/2
	return image.Rect(x, y, x+w, y+h)
}

// randomSides draws the sides of a rectangle with an area uniform in scale times area and a log-uniform aspect ratio.
func randomSides(area float64, scale, ratio [2]float64, s *Scratch) (w, h int) {
	target := area * s.uniform(scale[0], scale[1])
	aspect := math.Exp(s.uniform(math.Log(ratio[0]), math.Log(ratio[1])))
	return int(math.RoundToEven(math.Sqrt(target * aspect))), int(math.RoundToEven(math.Sqrt(target / aspect)))
}

// RandomHorizontalFlip mirrors left and right with probability P; 0 means 0.5.
type RandomHorizontalFlip struct{ P float64 }

// Apply implements Transform.
func (f RandomHorizontalFlip) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	if !s.chance(f.P) {
		return img, nil
	}
	dst := s.image(img.Width, img.Height, img)
	for y := range img.Height {
		from, to := img.Pix[3*y*img.Width:][:3*img.Width], dst.Pix[3*y*img.Width:][:3*img.Width]
		for i, j := 0, len(to)-3; j >= 0; i, j = i+3, j-3 {
			to[j], to[j+1], to[j+2] = from[i], from[i+1], from[i+2]
		}
	}
	return dst, nil
}

// RandomVerticalFlip mirrors top and bottom with probability P; 0 means 0.5.
type RandomVerticalFlip struct{ P float64 }

// Apply implements Transform.
func (f RandomVerticalFlip) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	if !s.chance(f.P) {
		return img, nil
	}
	dst := s.image(img.Width, img.Height, img)
	n := 3 * img.Width
	for y := range img.Height {
		copy(dst.Pix[(img.Height-1-y)*n:][:n], img.Pix[y*n:])
	}
	return dst, nil
}

// chance draws an event of probability p, 0.5 for 0.
func (s *Scratch) chance(p float64) bool {
	if p == 0 {
		p = 0.5
	}
	return s.Rand.Float64() < p
}
