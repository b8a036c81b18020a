package vision

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"

	"golang.org/x/image/webp"
)

// decodeWebP decodes a lossy, lossless or extended WebP; of an animation the first frame, laid on a black canvas.
func decodeWebP(data []byte, limits Limits) (*Image, error) {
	chunks := data[12:]
	header, extended := riffChunk(chunks, "VP8X")
	if !extended {
		return decodeWebPFrame(chunks, limits)
	}
	if len(header) < 10 {
		return nil, errors.New("VP8X header is too short")
	}
	width, height := uint24(header[4:])+1, uint24(header[7:])+1
	if err := limits.checkSize(int64(width), int64(height)); err != nil {
		return nil, err
	}
	const animated = 2
	x, y := 0, 0
	if header[0]&animated != 0 {
		frame, ok := riffChunk(chunks, "ANMF")
		if !ok || len(frame) < 16 {
			return nil, errors.New("no whole first frame: file is truncated")
		}
		x, y, chunks = 2*uint24(frame), 2*uint24(frame[3:]), frame[16:]
	}
	img, err := decodeWebPFrame(chunks, limits)
	if err != nil || img.Width == width && img.Height == height {
		return img, err
	}
	if x+img.Width > width || y+img.Height > height {
		return nil, errors.New("frame reaches over the canvas")
	}
	canvas := NewImage(width, height)
	for row := range img.Height {
		copy(canvas.Pix[3*((y+row)*width+x):], img.Pix[3*row*img.Width:][:3*img.Width])
	}
	return canvas, nil
}

func uint24(p []byte) int { return int(p[0]) | int(p[1])<<8 | int(p[2])<<16 }

// decodeWebPFrame decodes the first image chunk. Its size is in a header of its own, whatever the canvas says. The alpha
// channel of a lossy image is in another chunk, which is left out.
func decodeWebPFrame(chunks []byte, limits Limits) (*Image, error) {
	var content []byte
	name, width, height := "VP8 ", 0, 0
	if frame, ok := riffChunk(chunks, name); ok {
		if len(frame) < 10 {
			return nil, errors.New("VP8 header is too short")
		}
		content, width, height = frame, int(binary.LittleEndian.Uint16(frame[6:])&0x3fff), int(binary.LittleEndian.Uint16(frame[8:])&0x3fff)
	} else if frame, ok := riffChunk(chunks, "VP8L"); ok {
		if len(frame) < 5 {
			return nil, errors.New("VP8L header is too short")
		}
		v := binary.LittleEndian.Uint32(frame[1:])
		name, content, width, height = "VP8L", frame, int(v&0x3fff)+1, int(v>>14&0x3fff)+1
	} else {
		return nil, errors.New("no whole image chunk: file is truncated")
	}
	if err := limits.checkSize(int64(width), int64(height)); err != nil {
		return nil, err
	}
	file := append([]byte("RIFF????WEBP"), name...)
	file = binary.LittleEndian.AppendUint32(file, uint32(len(content)))
	file = append(file, content...)
	if len(content)%2 == 1 {
		file = append(file, 0)
	}
	binary.LittleEndian.PutUint32(file[4:], uint32(len(file)-8))
	src, err := webp.Decode(bytes.NewReader(file))
	if err != nil {
		return nil, err
	}
	if m, ok := src.(*image.YCbCr); ok {
		return fromVP8(m)
	}
	return fromGo(src, false)
}

// fromVP8 converts as libwebp does: chroma upsampled with the weights 9, 3, 3, 1 and video-range BT.601 in 14-bit
// fixed point.
func fromVP8(m *image.YCbCr) (*Image, error) {
	if m.SubsampleRatio != image.YCbCrSubsampleRatio420 {
		return nil, fmt.Errorf("chroma subsampling %v is not VP8's", m.SubsampleRatio)
	}
	w, h := m.Rect.Dx(), m.Rect.Dy()
	dst := NewImage(w, h)
	cw, ch := (w+1)/2, (h+1)/2
	for y := range h {
		// Output row y lies between chroma rows near (3/4) and far (1/4).
		near := y / 2
		far := min(max(near-1+2*(y&1), 0), ch-1)
		un, uf := m.Cb[near*m.CStride:][:cw], m.Cb[far*m.CStride:][:cw]
		vn, vf := m.Cr[near*m.CStride:][:cw], m.Cr[far*m.CStride:][:cw]
		luma, out := m.Y[y*m.YStride:][:w], dst.Pix[3*y*w:][:3*w]
		for x := range w {
			a := x / 2
			b := min(max(a-1+2*(x&1), 0), cw-1)
			out[3*x], out[3*x+1], out[3*x+2] = fromYUV(int(luma[x]), upsample(un[a], un[b], uf[a], uf[b]), upsample(vn[a], vn[b], vf[a], vf[b]))
		}
	}
	return dst, nil
}

// upsample is libwebp's rounding of (9*nn + 3*nf + 3*fn + ff) / 16.
func upsample(nn, nf, fn, ff uint8) int {
	sum := int(nn) + int(nf) + int(fn) + int(ff) + 8
	diagonal := (sum + 2*(int(nf)+int(fn))) >> 3
	return (diagonal + int(nn)) >> 1
}

func fromYUV(y, u, v int) (r, g, b uint8) {
	luma := y * 19077 >> 8
	clip := func(v int) uint8 { return uint8(min(max(v>>6, 0), 255)) }
	return clip(luma + v*26149>>8 - 14234), clip(luma - u*6419>>8 - v*13320>>8 + 8708), clip(luma + u*33050>>8 - 17685)
}
