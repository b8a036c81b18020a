package vision

import "fmt"

// Image is an 8-bit RGB image in HWC layout: the sample of channel c (0 red, 1 green, 2 blue) at column x, row y is
// Pix[3*(y*Width+x)+c], and len(Pix) == 3*Width*Height.
type Image struct {
	Pix           []uint8
	Width, Height int
}

// NewImage returns a black image. It panics on a negative size, as make does.
func NewImage(width, height int) *Image {
	return &Image{Pix: make([]uint8, 3*width*height), Width: width, Height: height}
}

// Check reports an image whose pixels do not fit its size, or that has none.
func (m *Image) Check() error {
	if m == nil || m.Width <= 0 || m.Height <= 0 {
		return fmt.Errorf("image has no pixels")
	}
	if len(m.Pix) != 3*m.Width*m.Height {
		return fmt.Errorf("image of %dx%d pixels holds %d bytes, want %d", m.Width, m.Height, len(m.Pix), 3*m.Width*m.Height)
	}
	return nil
}
