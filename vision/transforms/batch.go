package transforms

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// RandomErasing overwrites, with probability P, a random rectangle of a normalised image with zeros (Zhong et al. 2017,
// arXiv:1708.04896). Zero fields mean torchvision's: probability 0.5, area 0.02 to 0.33 of the image, ratio 0.3 to 3.3.
type RandomErasing struct {
	P            float64
	Scale, Ratio [2]float64
}

// Apply erases in values, an image of height x width pixels of channels values (HWC).
func (e RandomErasing) Apply(values []float32, width, height, channels int, s *Scratch) error {
	if len(values) != width*height*channels {
		return fmt.Errorf("random erasing: %dx%dx%d image holds %d values", height, width, channels, len(values))
	}
	if e.Scale == [2]float64{} {
		e.Scale = [2]float64{0.02, 0.33}
	}
	if e.Ratio == [2]float64{} {
		e.Ratio = [2]float64{0.3, 3.3}
	}
	if !s.chance(e.P) {
		return nil
	}
	for range 10 {
		h, w := randomSides(float64(width*height), e.Scale, e.Ratio, s)
		if h >= height || w >= width {
			continue
		}
		y, x := s.Rand.IntN(height-h+1), s.Rand.IntN(width-w+1)
		for row := y; row < y+h; row++ {
			clear(values[(row*width+x)*channels:][:w*channels])
		}
		return nil
	}
	return nil
}

// Batch is a batch that MixUp and CutMix blend in place.
type Batch struct {
	Images                     []float32 // NHWC
	N, Height, Width, Channels int
	Targets                    []float32 // N rows of class probabilities
}

func (b *Batch) check() error {
	if b.N < 1 || len(b.Images) != b.N*b.Height*b.Width*b.Channels || len(b.Targets)%b.N != 0 {
		return fmt.Errorf("batch of %dx%dx%dx%d holds %d values and %d targets", b.N, b.Height, b.Width, b.Channels, len(b.Images), len(b.Targets))
	}
	return nil
}

// MixUp blends each image, and its targets, with the one before it in the batch, with a weight from Beta(Alpha, Alpha)
// (Zhang et al. 2017, arXiv:1710.09412).
type MixUp struct{ Alpha float64 }

// Apply blends the batch and returns the weight of the images themselves.
func (m MixUp) Apply(b *Batch, rng *rand.Rand) (float64, error) {
	if err := b.check(); err != nil {
		return 0, fmt.Errorf("mixup: %w", err)
	}
	if !(m.Alpha > 0) {
		return 0, fmt.Errorf("mixup: alpha %v is not positive", m.Alpha)
	}
	lambda := beta(m.Alpha, rng)
	blendWithPrevious(b.Images, b.N, float32(lambda))
	blendWithPrevious(b.Targets, b.N, float32(lambda))
	return lambda, nil
}

// CutMix pastes a random rectangle of the image before it in the batch into each image and mixes the targets by area, the
// area being drawn from Beta(Alpha, Alpha) (Yun et al. 2019, arXiv:1905.04899).
type CutMix struct{ Alpha float64 }

// Apply pastes in the batch and returns the part of the area that the images themselves keep.
func (m CutMix) Apply(b *Batch, rng *rand.Rand) (float64, error) {
	if err := b.check(); err != nil {
		return 0, fmt.Errorf("cutmix: %w", err)
	}
	if !(m.Alpha > 0) {
		return 0, fmt.Errorf("cutmix: alpha %v is not positive", m.Alpha)
	}
	lambda := beta(m.Alpha, rng)
	x, y := rng.IntN(b.Width), rng.IntN(b.Height)
	half := 0.5 * math.Sqrt(1-lambda)
	halfW, halfH := int(half*float64(b.Width)), int(half*float64(b.Height))
	x1, x2 := max(x-halfW, 0), min(x+halfW, b.Width)
	y1, y2 := max(y-halfH, 0), min(y+halfH, b.Height)
	size := b.Height * b.Width * b.Channels
	last := append([]float32(nil), b.Images[(b.N-1)*size:]...)
	for i := b.N - 1; i >= 0; i-- {
		from := last
		if i > 0 {
			from = b.Images[(i-1)*size:]
		}
		for row := y1; row < y2; row++ {
			at, n := (row*b.Width+x1)*b.Channels, (x2-x1)*b.Channels
			copy(b.Images[i*size+at:][:n], from[at:])
		}
	}
	lambda = 1 - float64((x2-x1)*(y2-y1))/float64(b.Width*b.Height)
	blendWithPrevious(b.Targets, b.N, float32(lambda))
	return lambda, nil
}

// blendWithPrevious replaces each of n rows by w times itself and 1-w times the row before it, the last for the first.
func blendWithPrevious(values []float32, n int, w float32) {
	size := len(values) / n
	last := append([]float32(nil), values[(n-1)*size:]...)
	for i := n - 1; i >= 0; i-- {
		from := last
		if i > 0 {
			from = values[(i-1)*size:][:size]
		}
		row := values[i*size:][:size]
		for j, v := range from {
			row[j] = w*row[j] + (1-w)*v
		}
	}
}

// beta draws from Beta(a, a).
func beta(a float64, rng *rand.Rand) float64 {
	x, y := gamma(a, rng), gamma(a, rng)
	if x+y == 0 { // both underflow for a tiny a, where the distribution is a coin
		return float64(rng.IntN(2))
	}
	return x / (x + y)
}

// gamma draws from Gamma(a, 1) (Marsaglia and Tsang, "A simple method for generating gamma variables", 2000).
func gamma(a float64, rng *rand.Rand) float64 {
	if a < 1 {
		u := 1 - rng.Float64()
		return gamma(a+1, rng) * math.Pow(u, 1/a)
	}
	d := a - 1./3
	c := 1 / math.Sqrt(9*d)
	for {
		x := rng.NormFloat64()
		v := 1 + c*x
		if v <= 0 {
			continue
		}
		v = v * v * v
		if math.Log(1-rng.Float64()) < 0.5*x*x+d-d*v+d*math.Log(v) {
			return d * v
		}
	}
}
