package vision

import (
	"errors"
	"fmt"
	"io"
)

// decodePNM decodes the six portable formats: bitmap, graymap and pixmap, as text (P1 to P3) and binary (P4 to P6). Samples
// are scaled from their maximum to 255 as PIL does, 16-bit graymaps clipped (see the package comment).
func decodePNM(data []byte, limits Limits) (*Image, error) {
	s := pnmScanner{data: data, at: 2}
	kind := data[1]
	bitmap := kind == '1' || kind == '4'
	channels := 1
	if kind == '3' || kind == '6' {
		channels = 3
	}
	width, height, top := s.number(), s.number(), 1
	if !bitmap {
		top = s.number()
	}
	if s.err != nil {
		return nil, s.err
	}
	if err := limits.checkSize(int64(width), int64(height)); err != nil {
		return nil, err
	}
	if top < 1 || top > 65535 {
		return nil, fmt.Errorf("maximum sample %d is not in 1..65535", top)
	}
	s.at++ // exactly one white space separates the header from binary samples
	samples := width * height * channels
	var read func() int
	switch {
	case kind == '1':
		read = s.bit
	case kind <= '3':
		read = s.number
	case kind == '4':
		samples = (width + 7) / 8 * height
		read = s.byte
	case top < 256:
		read = s.byte
	default:
		samples *= 2
		read = func() int { return s.byte()<<8 | s.byte() }
	}
	if len(data)-s.at < samples { // true of text too: no sample is shorter than a byte
		return nil, io.ErrUnexpectedEOF
	}
	dst := NewImage(width, height)
	if kind == '4' {
		for y := range height {
			row := data[s.at+y*((width+7)/8):]
			for x := range width {
				if row[x/8]>>(7-x%8)&1 == 0 {
					dst.setGray(y*width+x, 255)
				}
			}
		}
		return dst, nil
	}
	for i := range width * height {
		for c := range channels {
			v := read()
			if v > top {
				return nil, fmt.Errorf("sample %d is above the maximum %d", v, top)
			}
			switch {
			case bitmap:
				v = 255 * (1 - v)
			case channels == 1 && top > 255:
				v = min(roundHalfEven(v, top, 65535), 255)
			case top != 255:
				v = roundHalfEven(v, top, 255)
			}
			if channels == 1 {
				dst.setGray(i, uint8(v))
			} else {
				dst.Pix[3*i+c] = uint8(v)
			}
		}
		if s.err != nil {
			return nil, s.err
		}
	}
	return dst, nil
}

func (m *Image) setGray(pixel int, v uint8) {
	d := m.Pix[3*pixel:][:3]
	d[0], d[1], d[2] = v, v, v
}

// roundHalfEven returns v*scale/top rounded as Python's round does.
func roundHalfEven(v, top, scale int) int {
	q, r := v*scale/top, v*scale%top
	if 2*r > top || 2*r == top && q&1 == 1 {
		q++
	}
	return q
}

// pnmScanner reads white-space separated numbers with comments from '#' to the end of the line. After an error it returns 0.
type pnmScanner struct {
	data []byte
	at   int
	err  error
}

func (s *pnmScanner) byte() int {
	if s.at >= len(s.data) {
		s.err = io.ErrUnexpectedEOF
		return 0
	}
	s.at++
	return int(s.data[s.at-1])
}

func (s *pnmScanner) skipSpace() {
	for s.at < len(s.data) {
		switch c := s.data[s.at]; {
		case c == '#':
			for s.at < len(s.data) && s.data[s.at] != '\n' && s.data[s.at] != '\r' {
				s.at++
			}
		case c == ' ' || c >= '\t' && c <= '\r':
			s.at++
		default:
			return
		}
	}
}

func (s *pnmScanner) number() int {
	s.skipSpace()
	start, v := s.at, 0
	for s.at < len(s.data) && s.data[s.at] >= '0' && s.data[s.at] <= '9' {
		if v = 10*v + int(s.data[s.at]-'0'); v > 1<<30 {
			s.err = errors.New("number in the header is too large")
			return 0
		}
		s.at++
	}
	if s.at == start && s.err == nil {
		s.err = errors.New("number expected")
		if s.at >= len(s.data) {
			s.err = io.ErrUnexpectedEOF
		}
	}
	return v
}

// bit reads one digit of a text bitmap, where digits need no space between them.
func (s *pnmScanner) bit() int {
	s.skipSpace()
	v := s.byte() - '0'
	if s.err == nil && v != 0 && v != 1 {
		s.err = errors.New("bitmap sample is neither 0 nor 1")
	}
	return v & 1
}
