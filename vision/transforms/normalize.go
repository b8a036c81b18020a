package transforms

import (
	"fmt"

	"github.com/go-modelzoo/zoo/vision"
)

// Normalize turns 8-bit pixels into float32 in HWC layout: (v/255 - Mean) / Std, each step rounded to float32 as in ToTensor
// followed by torchvision's Normalize.
type Normalize struct {
	Mean, Std [3]float32 // all zeros in Std means ones; Channels 1 uses the first
	Channels  int        // 3 (also 0) or 1: gray as PIL's "L"
}

func (n Normalize) check() error {
	for c, v := range n.Std {
		if v < 0 || v == 0 && n.Std != [3]float32{} && !(n.Channels == 1 && c > 0) || v != v {
			return fmt.Errorf("normalize: std of channel %d is %v, want a positive number", c, v)
		}
	}
	return nil
}

// Len returns the number of values that Apply writes for an image of the given size.
func (n Normalize) Len(width, height int) int {
	if n.Channels == 1 {
		return width * height
	}
	return 3 * width * height
}

// table returns the value of every byte in every channel.
func (n Normalize) table() *[3][256]float32 {
	t := new([3][256]float32)
	for c := range t {
		std := n.Std[c]
		if std == 0 {
			std = 1
		}
		for v := range t[c] {
			x := float32(v) / 255
			t[c][v] = float32(x-n.Mean[c]) / std
		}
	}
	return t
}

// Apply writes the values of img to dst, whose length must be Len(img.Width, img.Height).
func (n Normalize) Apply(img *vision.Image, dst []float32) error {
	if err := n.check(); err != nil {
		return err
	}
	if err := img.Check(); err != nil {
		return err
	}
	if want := n.Len(img.Width, img.Height); len(dst) != want {
		return fmt.Errorf("normalize: %dx%d pixels make %d values, destination holds %d", img.Width, img.Height, want, len(dst))
	}
	t := n.table()
	pix := img.Pix
	if n.Channels == 1 {
		for i := range dst {
			dst[i] = t[0][luma(pix[3*i:])]
		}
		return nil
	}
	for len(dst) >= 3 && len(pix) >= 3 {
		dst[0], dst[1], dst[2] = t[0][pix[0]], t[1][pix[1]], t[2][pix[2]]
		dst, pix = dst[3:], pix[3:]
	}
	return nil
}

// luma is PIL's conversion of an RGB pixel to "L".
func luma(p []uint8) uint8 {
	_ = p[2]
	return uint8((int(p[0])*19595 + int(p[1])*38470 + int(p[2])*7471 + 0x8000) >> 16)
}
