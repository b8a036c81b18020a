package transforms

import (
	"errors"
	"fmt"
	"image"
	"math"
	"sync"

	"github.com/go-modelzoo/zoo/internal/preprocess"
	"github.com/go-modelzoo/zoo/vision"
)

// Preprocess is what a network expects to be done to an image: resize, centre crop, normalise. It is the "preprocess" of
// registry rows and model cards. The chain is that of torchvision's ImageClassification preset.
type Preprocess struct {
	// Resize is the length of the shorter side after resizing, the longer side being int(Resize*longer/shorter); 0 keeps the size.
	Resize int `json:"resize,omitempty"`
	// Squash resizes to Resize x Resize instead, changing the aspect ratio.
	Squash bool `json:"squash,omitempty"`
	// Crop is the side of the centre square that is kept, zeros being added around a smaller image; 0 keeps everything.
	Crop          int           `json:"crop,omitempty"`
	Interpolation Interpolation `json:"interpolation,omitempty"`
	// Antialias false keeps the filter's width where the image shrinks: with Bilinear, torchvision's resizing of tensors with
	// antialias=False, to within 1. nil means true, as on PIL images.
	Antialias *bool `json:"antialias,omitempty"`
	// Channels is 3 for RGB (also 0) or 1 for gray (PIL's "L").
	Channels int `json:"channels,omitempty"`
	// Mean and Std normalise a channel x in [0, 1] to (x-Mean)/Std. A Std of 0 in all channels means 1. Gray uses the first.
	Mean [3]float32 `json:"mean"`
	Std  [3]float32 `json:"std"`
}

// ImageNet returns the preprocessing of most torchvision models: shorter side resize, crop, bilinear, and the means and
// deviations of ImageNet.
func ImageNet(resize, crop int) Preprocess {
	p := Preprocess{Resize: resize, Crop: crop, Interpolation: Bilinear}
	mean, std := preprocess.ImageNet()
	for c := range 3 {
		p.Mean[c], p.Std[c] = float32(mean[c]), float32(std[c])
	}
	return p
}

// Validate reports a field out of range.
func (p Preprocess) Validate() error {
	switch {
	case p.Resize < 0 || p.Resize > preprocess.MaxSide:
		return fmt.Errorf("preprocess: resize %d is not in 0..%d", p.Resize, preprocess.MaxSide)
	case p.Crop < 0 || p.Crop > preprocess.MaxSide:
		return fmt.Errorf("preprocess: crop %d is not in 0..%d", p.Crop, preprocess.MaxSide)
	case p.Squash && p.Resize == 0:
		return errors.New("preprocess: squash needs resize")
	case p.Channels != 0 && p.Channels != 1 && p.Channels != 3:
		return fmt.Errorf("preprocess: channels %d is neither 1 nor 3", p.Channels)
	}
	if err := p.Interpolation.check(); err != nil {
		return fmt.Errorf("preprocess: %w", err)
	}
	return p.Normalize().check()
}

// Normalize returns the last step of the chain, which turns pixels into values.
func (p Preprocess) Normalize() Normalize {
	return Normalize{Mean: p.Mean, Std: p.Std, Channels: p.Channels}
}

// resized returns the size of a width x height image after resizing.
func (p Preprocess) resized(width, height int) (int, int) {
	switch {
	case p.Resize == 0:
		return width, height
	case p.Squash:
		return p.Resize, p.Resize
	}
	return shorterSide(width, height, p.Resize, 0)
}

// OutputSize returns the width and height of what Apply writes for an image of the given size. It is the same for
// every image where Crop is set, or Squash.
func (p Preprocess) OutputSize(width, height int) (int, int) {
	if p.Crop > 0 {
		return p.Crop, p.Crop
	}
	return p.resized(width, height)
}

// Region returns the part of an image of the given size that Apply takes, in pixels of the image: its left and upper edge and its extent. It
// reaches beyond the image where the crop adds zeros.
func (p Preprocess) Region(width, height int) (x, y, w, h float64) {
	resizedW, resizedH := p.resized(width, height)
	outW, outH := p.OutputSize(width, height)
	scaleX, scaleY := float64(width)/float64(resizedW), float64(height)/float64(resizedH)
	return scaleX * float64(centreOffset(resizedW, outW)), scaleY * float64(centreOffset(resizedH, outH)), scaleX * float64(outW), scaleY * float64(outH)
}

// scratches recycles the buffers of Apply between calls.
var scratches = sync.Pool{New: func() any { return NewScratch() }}

// Apply writes the preprocessed image to dst in HWC layout: OutputSize pixels of Channels float32 each. dst must have exactly that length.
func (p Preprocess) Apply(img *vision.Image, dst []float32) error {
	if err := p.Validate(); err != nil {
		return err
	}
	s := scratches.Get().(*Scratch)
	defer scratches.Put(s)
	out, err := p.pixels(img, s)
	if err != nil {
		return err
	}
	return p.Normalize().Apply(out, dst)
}

// Transform returns the resizing and cropping part as a Transform: its images are what Apply normalises, RGB also where Channels is 1.
func (p Preprocess) Transform() Transform { return preprocessTransform{p} }

type preprocessTransform struct{ p Preprocess }

func (t preprocessTransform) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	if err := t.p.Validate(); err != nil {
		return nil, err
	}
	return t.p.pixels(img, s)
}

// pixels resizes and crops, computing only the pixels that the crop keeps.
func (p Preprocess) pixels(img *vision.Image, s *Scratch) (*vision.Image, error) {
	if err := img.Check(); err != nil {
		return nil, err
	}
	width, height := p.resized(img.Width, img.Height)
	cropW, cropH := p.OutputSize(img.Width, img.Height)
	if err := checkOutput(cropW, cropH); err != nil {
		return nil, err
	}
	if width == img.Width && height == img.Height && cropW == width && cropH == height {
		return img, nil
	}
	dst := s.image(cropW, cropH, img)
	// The crop in coordinates of the resized image, and the part of it that is inside.
	x, y := centreOffset(width, cropW), centreOffset(height, cropH)
	whole := image.Rect(x, y, x+cropW, y+cropH)
	inside := whole.Intersect(image.Rect(0, 0, width, height))
	if inside != whole {
		clear(dst.Pix)
	}
	at := 3 * ((inside.Min.Y-y)*cropW + inside.Min.X - x)
	s.resample.resize(dst.Pix[at:], 3*cropW, viewOf(img), width, height, inside, p.Interpolation, p.Antialias == nil || *p.Antialias)
	return dst, nil
}

// shorterSide is torchvision's output size for Resize(size, max_size): the longer side is truncated, not rounded.
func shorterSide(width, height, size, maxSize int) (int, int) {
	short, long := min(width, height), max(width, height)
	newShort, newLong := size, int(float64(size)*float64(long)/float64(short))
	if maxSize > 0 && newLong > maxSize {
		newShort, newLong = max(int(float64(maxSize)*float64(newShort)/float64(newLong)), 1), maxSize
	}
	if width <= height {
		return newShort, newLong
	}
	return newLong, newShort
}

// centreOffset is where torchvision's CenterCrop puts the left (or top) edge of a crop; negative where the crop is
// larger, the surplus of an odd padding going to the far side.
func centreOffset(size, crop int) int {
	if crop > size {
		return -((crop - size) / 2)
	}
	return int(math.RoundToEven(float64(size-crop) / 2))
}

// maxOutput bounds the pixels of one transformed image, so that an extreme aspect ratio is an error and not an allocation.
const maxOutput = 1 << 28

func checkOutput(width, height int) error {
	if width < 1 || height < 1 || int64(width)*int64(height) > maxOutput {
		return fmt.Errorf("result of %dx%d pixels is out of range", width, height)
	}
	return nil
}
