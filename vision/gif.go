package vision

import (
	"bytes"
	"errors"
	"image"
	"image/gif"
	"io"
)

// decodeGIF decodes the first frame, laid on the whole screen of the file as PIL does.
func decodeGIF(data []byte, limits Limits) (*Image, error) {
	config, err := gif.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	if err := limits.checkSize(int64(config.Width), int64(config.Height)); err != nil {
		return nil, err
	}
	palette, background, err := gifPalette(data)
	if err != nil {
		return nil, err
	}
	src, err := gif.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	frame, ok := src.(*image.Paletted)
	if !ok {
		return nil, errors.New("first frame has no palette")
	}
	dst := NewImage(config.Width, config.Height)
	for i := 0; i < len(dst.Pix); i += 3 {
		copy(dst.Pix[i:i+3], palette[background][:])
	}
	b := frame.Bounds().Intersect(image.Rect(0, 0, dst.Width, dst.Height))
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			copy(dst.Pix[3*(y*dst.Width+x):][:3], palette[frame.Pix[frame.PixOffset(x, y)]][:])
		}
	}
	return dst, nil
}

// gifPalette reads the colours of the first frame, and the index that shows where the frame does not cover the screen:
// its transparent one, else 0. Go's decoder blackens the transparent entry, whose colour shows where alpha is dropped.
func gifPalette(data []byte) (palette [256][3]uint8, background uint8, err error) {
	p := data
	next := func(n int) []byte {
		if n > len(p) {
			err, p = io.ErrUnexpectedEOF, make([]byte, n)
		}
		b := p[:n]
		p = p[n:]
		return b
	}
	table := func(flags byte) {
		const present = 0x80
		if flags&present == 0 {
			return
		}
		for i := range palette { // PIL shows a gray under an index behind the table
			palette[i] = [3]uint8{uint8(i), uint8(i), uint8(i)}
		}
		n := 2 << (flags & 7)
		colours := next(3 * n)
		for i := range n {
			copy(palette[i][:], colours[3*i:])
		}
	}
	table(next(13)[10])
	for err == nil {
		switch next(1)[0] {
		case 0x2c: // image
			table(next(9)[8])
			return palette, background, err
		case 0x21: // extension: its kind, then blocks up to an empty one
			kind := next(1)[0]
			for err == nil {
				n := next(1)[0]
				if n == 0 {
					break
				}
				block := next(int(n))
				const graphicControl, transparent = 0xf9, 1
				if kind == graphicControl && n == 4 && block[0]&transparent != 0 {
					background = block[3]
				}
			}
		case 0x3b:
			return palette, background, errors.New("file has no frame")
		}
	}
	return palette, background, err
}
