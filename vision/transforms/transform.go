package transforms

import (
	"fmt"
	"math/rand/v2"

	"github.com/go-modelzoo/zoo/vision"
)

// Transform maps an image to an image.
type Transform interface {
	// Apply returns the transformed image. It does not modify img and may return it. The result lives in the scratch: it is
	// valid until a second Transform after this one is applied with the same scratch, or until a new chain begins.
	Apply(img *vision.Image, s *Scratch) (*vision.Image, error)
}

// Scratch holds what one goroutine reuses from image to image: buffers and the random generator.
type Scratch struct {
	// Rand is the only source of randomness of the transforms. Seed restarts it.
	Rand *rand.Rand

	source   rand.PCG
	images   [2]vision.Image
	resample resampler
}

// NewScratch returns a scratch seeded with zeros.
func NewScratch() *Scratch {
	s := new(Scratch)
	s.Rand = rand.New(&s.source)
	s.Seed(0, 0, 0)
	return s
}

// Seed restarts Rand with a state that depends on the three numbers alone.
func (s *Scratch) Seed(seed uint64, epoch, index int) {
	a := mix(seed + 0x9e3779b97f4a7c15)
	b := mix(a ^ uint64(epoch))
	c := mix(b ^ uint64(index))
	s.source.Seed(b^c, mix(c))
}

// mix is the finaliser of splitmix64.
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// image returns a buffer of the given size that is not img's, with undefined content.
func (s *Scratch) image(width, height int, img *vision.Image) *vision.Image {
	dst := &s.images[0]
	if dst == img {
		dst = &s.images[1]
	}
	dst.Pix = grow(dst.Pix, 3*width*height)
	dst.Width, dst.Height = width, height
	return dst
}

// grow returns a slice of n elements, s itself where its capacity allows.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// uniform returns a number in [lo, hi).
func (s *Scratch) uniform(lo, hi float64) float64 { return lo + (hi-lo)*s.Rand.Float64() }

// Compose applies its transforms in order.
type Compose []Transform

// Apply implements Transform.
func (c Compose) Apply(img *vision.Image, s *Scratch) (*vision.Image, error) {
	if err := img.Check(); err != nil {
		return nil, err
	}
	for _, t := range c {
		out, err := t.Apply(img, s)
		if err != nil {
			return nil, fmt.Errorf("%T: %w", t, err)
		}
		img = out
	}
	return img, nil
}
