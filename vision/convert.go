package vision

import (
	"errors"
	"fmt"
	"image"
	"image/color"
)

// FromImage converts an image of Go's standard library as Decode converts files: alpha is dropped where it is kept apart from
// the colour (NRGBA, palettes) and divided out where it is not (RGBA); 16-bit samples keep their high byte.
func FromImage(src image.Image) (*Image, error) {
	b := src.Bounds()
	if b.Empty() {
		return nil, errors.New("image has no pixels")
	}
	if dst, err := fromGo(src, false); err == nil {
		return dst, nil
	}
	dst := NewImage(b.Dx(), b.Dy())
	for y := range dst.Height {
		for x := range dst.Width {
			c, _ := color.NRGBAModel.Convert(src.At(b.Min.X+x, b.Min.Y+y)).(color.NRGBA)
			copy(dst.Pix[3*(y*dst.Width+x):][:3], []uint8{c.R, c.G, c.B})
		}
	}
	return dst, nil
}

// NRGBA returns a copy for Go's encoders and drawing, opaque.
func (m *Image) NRGBA() *image.NRGBA {
	dst := image.NewNRGBA(image.Rect(0, 0, m.Width, m.Height))
	for i, j := 0, 0; i+3 <= len(m.Pix); i, j = i+3, j+4 {
		copy(dst.Pix[j:j+3], m.Pix[i:i+3])
		dst.Pix[j+3] = 255
	}
	return dst
}

// fromGo converts the images that Go's decoders return. clip16 says that 16-bit gray is clipped to 255 as PIL does where it
// opens a file as 32-bit integers; other 16-bit samples keep their high byte.
func fromGo(src image.Image, clip16 bool) (*Image, error) {
	b := src.Bounds()
	dst := NewImage(b.Dx(), b.Dy())
	row := func(y int) []uint8 { return dst.Pix[3*y*dst.Width : 3*(y+1)*dst.Width] }
	sample16 := func(hi, lo uint8) uint8 {
		if !clip16 {
			return hi
		}
		if hi != 0 {
			return 255
		}
		return lo
	}
	switch m := src.(type) {
	case *image.Gray:
		for y := range dst.Height {
			for x, v := range m.Pix[y*m.Stride:][:dst.Width] {
				d := row(y)[3*x:][:3]
				d[0], d[1], d[2] = v, v, v
			}
		}
	case *image.Gray16:
		for y := range dst.Height {
			for x, d := 0, row(y); x < dst.Width; x++ {
				s := m.Pix[y*m.Stride+2*x:][:2]
				v := sample16(s[0], s[1])
				d[3*x], d[3*x+1], d[3*x+2] = v, v, v
			}
		}
	case *image.NRGBA:
		for y := range dst.Height {
			dropAlpha(row(y), m.Pix[y*m.Stride:])
		}
	case *image.RGBA:
		for y := range dst.Height {
			for x, d := 0, row(y); x < dst.Width; x++ {
				s := m.Pix[y*m.Stride+4*x:][:4]
				d[3*x], d[3*x+1], d[3*x+2] = divideAlpha(s[0], s[3]), divideAlpha(s[1], s[3]), divideAlpha(s[2], s[3])
			}
		}
	case *image.NRGBA64:
		for y := range dst.Height {
			for x, d := 0, row(y); x < dst.Width; x++ {
				s := m.Pix[y*m.Stride+8*x:][:8]
				d[3*x], d[3*x+1], d[3*x+2] = s[0], s[2], s[4]
				if clip16 { // gray with a transparent value
					v := sample16(s[0], s[1])
					d[3*x], d[3*x+1], d[3*x+2] = v, v, v
				}
			}
		}
	case *image.RGBA64:
		for y := range dst.Height {
			for x, d := 0, row(y); x < dst.Width; x++ {
				s := m.Pix[y*m.Stride+8*x:][:8]
				d[3*x], d[3*x+1], d[3*x+2] = divideAlpha(s[0], s[6]), divideAlpha(s[2], s[6]), divideAlpha(s[4], s[6])
			}
		}
	case *image.Paletted:
		var palette [256][3]uint8
		for i, c := range m.Palette {
			if n, ok := c.(color.NRGBA); ok { // keeps the colour under a transparent entry
				palette[i&255] = [3]uint8{n.R, n.G, n.B}
				continue
			}
			r, g, b, _ := c.RGBA()
			palette[i&255] = [3]uint8{uint8(r >> 8), uint8(g >> 8), uint8(b >> 8)}
		}
		for y := range dst.Height {
			for x, v := range m.Pix[y*m.Stride:][:dst.Width] {
				copy(row(y)[3*x:3*x+3], palette[v][:])
			}
		}
	default:
		return nil, fmt.Errorf("pixels of kind %T are not supported: convert the file to 8-bit RGB", src)
	}
	return dst, nil
}

// dropAlpha copies pixels of four bytes to pixels of three, as many as dst holds.
func dropAlpha(dst, src []uint8) {
	for i, j := 0, 0; i+3 <= len(dst); i, j = i+3, j+4 {
		copy(dst[i:i+3], src[j:j+3])
	}
}

// divideAlpha undoes a multiplication by alpha as PIL does when it reads such pixels from a file: under no alpha there is black.
func divideAlpha(v, a uint8) uint8 {
	if a == 0 {
		return 0
	}
	return uint8(min(255*int(v)/int(a), 255))
}
