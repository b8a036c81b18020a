package vision

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"image"

	"golang.org/x/image/webp"
)

// decodeWebP decodes a lossy, lossless or extended WebP that is not animated.
func decodeWebP(data []byte, limits Limits) (*Image, error) {
	if err := checkWebP(data[12:], limits); err != nil {
		return nil, err
	}
	src, err := webp.Decode(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	switch m := src.(type) {
	case *image.YCbCr:
		return fromVP8(m)
	case *image.NYCbCrA:
		return fromVP8(&m.YCbCr)
	}
	return fromGo(src, false)
}

// checkWebP holds the sizes in the headers of the canvas and of the frame, which may disagree, against the limits.
func checkWebP(chunks []byte, limits Limits) error {
	if header, ok := riffChunk(chunks, "VP8X"); ok {
		if len(header) < 10 {
			return errors.New("VP8X header is too short")
		}
		const animated = 2
		if header[0]&animated != 0 {
			return errors.New("animated WebP is not supported: extract a frame, for instance with webpmux")
		}
		w := int64(header[4]) | int64(header[5])<<8 | int64(header[6])<<16
		h := int64(header[7]) | int64(header[8])<<8 | int64(header[9])<<16
		if err := limits.checkSize(w+1, h+1); err != nil {
			return err
		}
	}
	if header, ok := riffChunk(chunks, "VP8 "); ok {
		if len(header) < 10 {
			return errors.New("VP8 header is too short")
		}
		return limits.checkSize(int64(binary.LittleEndian.Uint16(header[6:])&0x3fff), int64(binary.LittleEndian.Uint16(header[8:])&0x3fff))
	}
	if header, ok := riffChunk(chunks, "VP8L"); ok {
		if len(header) < 5 {
			return errors.New("VP8L header is too short")
		}
		v := binary.LittleEndian.Uint32(header[1:])
		return limits.checkSize(int64(v&0x3fff)+1, int64(v>>14&0x3fff)+1)
	}
	return errors.New("no whole image chunk: file is truncated or not WebP")
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
