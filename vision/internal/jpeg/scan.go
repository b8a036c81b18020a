package jpeg

import (
	"errors"
	"fmt"
	"io"
)

// scanHeader is what a scan header says beside its components.
type scanHeader struct {
	comps        []*component
	first, last  int  // coefficients, as zigzag indices
	high, low    uint // successive approximation
	mcusX, mcusY int
}

// scan reads a scan header and the scan behind it.
func (d *decoder) scan(p []byte) error {
	if len(d.comps) == 0 {
		return errors.New("scan before the frame header")
	}
	if d.scans++; d.scans > maxScans || int64(d.scans)*int64(d.width)*int64(d.height) > maxScanned {
		return fmt.Errorf("more than %d scans of %d×%d pixels", d.scans-1, d.width, d.height)
	}
	if d.scans == 1 && !d.progressive {
		d.standardTables()
	}
	s, err := d.scanHeader(p)
	if err != nil {
		return err
	}
	d.bits = bits{data: d.data, pos: d.pos}
	d.restartState(s)
	d.nextRestart = 0
	d.alone = !d.progressive && d.scans == 1 && len(s.comps) == len(d.comps)
	for i := range d.comps {
		c := &d.comps[i]
		if d.scans == 1 {
			c.plane = grow(c.plane, 64*c.blocksX*c.blocksY)
			if !d.alone {
				c.coeff = grow(c.coeff, 64*c.blocksX*c.blocksY)
				clear(c.coeff)
			}
		}
	}
	return d.blocks(s) // the reader may have read ahead, but never over a marker
}

func (d *decoder) scanHeader(p []byte) (*scanHeader, error) {
	malformed := errors.New("scan header is malformed")
	if len(p) < 1 {
		return nil, malformed
	}
	n := int(p[0])
	if n < 1 || n > 4 || n > len(d.comps) || len(p) < 4+2*n {
		return nil, malformed
	}
	s := &scanHeader{first: int(p[1+2*n]), last: int(p[2+2*n]), high: uint(p[3+2*n] >> 4), low: uint(p[3+2*n] & 15)}
	if !d.progressive {
		s.first, s.last, s.high, s.low = 0, 63, 0, 0
	} else if s.first > s.last || s.last > 63 || s.first == 0 && s.last != 0 || s.first > 0 && n > 1 || s.low > 13 || s.high > 14 {
		return nil, malformed
	}
	volume := 0
	for i := range n {
		var c *component
		for j := range d.comps {
			if d.comps[j].id == p[1+2*i] {
				c = &d.comps[j]
			}
		}
		dc, ac := p[2+2*i]>>4, p[2+2*i]&15
		if c == nil || dc > 3 || ac > 3 {
			return nil, malformed
		}
		for _, other := range s.comps {
			if other == c {
				return nil, malformed
			}
		}
		if s.first == 0 && s.high == 0 && !d.hasDC[dc] || s.last > 0 && !d.hasAC[ac] {
			return nil, errors.New("scan uses a Huffman table that is not defined")
		}
		if !c.latched {
			if !d.hasQuant[c.quant] {
				return nil, errors.New("scan uses a quantisation table that is not defined")
			}
			c.table, c.latched = d.quant[c.quant], true
		}
		c.dc, c.ac = &d.dc[dc], &d.ac[ac]
		s.comps = append(s.comps, c)
		volume += c.h * c.v
	}
	s.mcusX, s.mcusY = d.mcusX, d.mcusY
	if n == 1 { // not interleaved: a block is an MCU, and padding is not coded
		s.mcusX, s.mcusY = ceilDiv(s.comps[0].width, 8), ceilDiv(s.comps[0].height, 8)
	} else if volume > 10 {
		return nil, malformed
	}
	return s, nil
}

func (d *decoder) restartState(s *scanHeader) {
	for _, c := range s.comps {
		c.pred = 0
	}
	d.eobRun = 0
}

// blocks decodes the MCUs of a scan: one that is alone into samples, else into coefficients. Where the stream runs into a
// marker the rest up to the next restart stays zero.
func (d *decoder) blocks(s *scanHeader) error {
	left := d.interval
	var b block
	for my := range s.mcusY {
		for mx := range s.mcusX {
			if d.interval > 0 {
				if left == 0 {
					d.restart(s)
					left = d.interval
				}
				left--
			}
			skip := d.overrun()
			d.broken = d.broken || skip
			for _, c := range s.comps {
				h, v := c.h, c.v
				if len(s.comps) == 1 {
					h, v = 1, 1
				}
				for y := my * v; y < (my+1)*v; y++ {
					for x := mx * h; x < (mx+1)*h; x++ {
						switch {
						case d.alone:
							last := 0
							if !skip {
								last = d.sequential(&b, c.dc, c.ac, &c.table, &c.pred)
							}
							d.inverse(&b, c.plane[8*(y*c.stride()+x):], c.stride(), last)
							if last == 0 {
								b[0] = 0
							} else {
								b = block{}
							}
						case !skip:
							d.coefficients(c.coeff[64*(y*c.blocksX+x):][:64], c, s)
						}
					}
				}
			}
			if d.ended && d.overrun() {
				return io.ErrUnexpectedEOF
			}
		}
	}
	d.broken = d.broken || d.overrun()
	return nil
}

// restart goes to the next restart marker. Where that has not the number it should have, it guesses as libjpeg does: one that is
// due one or two later is left for then, as any marker of another kind is, and the blocks up to it stay zero; one of the two
// before is skipped; the others are taken for the one that is due.
func (d *decoder) restart(s *scanHeader) {
	want, short := d.nextRestart, d.overrun()
	d.nextRestart = (want + 1) & 7
	d.restartState(s)
	for {
		marker, err := d.nextMarker()
		ahead := (marker - want) & 7
		switch {
		case err != nil:
			d.bits = bits{data: d.data, pos: len(d.data), ended: true, made: 1}
			return
		case marker < mSOF0:
			continue
		case marker < mRST0 || marker > mRST7 || ahead == 1 || ahead == 2:
			d.bits = bits{data: d.data, pos: d.pos - 2, marked: true}
			if short {
				d.made = 1 // the rest stays zero without a block made of zero bits
			}
			return
		case ahead < 6:
			d.bits = bits{data: d.data, pos: d.pos}
			return
		}
	}
}

// coefficients decodes a block of an image of several scans into dst.
func (d *decoder) coefficients(dst []int16, c *component, s *scanHeader) {
	switch {
	case !d.progressive:
		var b block
		d.sequential(&b, c.dc, c.ac, &ones, &c.pred)
		for i, v := range b {
			dst[i] = int16(v)
		}
	case s.first == 0 && s.high == 0:
		size := min(int(d.symbol(c.dc)), 16)
		if size > 0 {
			c.pred += extend(d.take(size), size)
		}
		dst[0] = int16(c.pred << s.low)
	case s.first == 0:
		if d.take(1) != 0 {
			dst[0] |= 1 << s.low
		}
	case s.high == 0:
		d.spectral(dst, c, s)
	default:
		d.refine(dst, c, s)
	}
}

var ones = func() (q [64]int32) {
	for i := range q {
		q[i] = 1
	}
	return q
}()

// spectral decodes the first bits of a band of AC coefficients.
func (d *decoder) spectral(dst []int16, c *component, s *scanHeader) {
	if d.eobRun > 0 {
		d.eobRun--
		return
	}
	for k := s.first; k <= s.last; k++ {
		symbol := d.symbol(c.ac)
		run, size := int(symbol>>4), int(symbol&15)
		if size == 0 {
			if run == 15 {
				k += 15
				continue
			}
			d.eobRun = 1<<run - 1
			if run > 0 {
				d.eobRun += d.take(run)
			}
			return
		}
		v := extend(d.take(size), size)
		k = min(k+run, 63)
		dst[zigzag[k]] = int16(v << s.low)
	}
}

// refine decodes one more bit of a band of AC coefficients (ITU-T T.81, G.1.2.3).
func (d *decoder) refine(dst []int16, c *component, s *scanHeader) {
	bit := int16(1) << s.low
	// correct reads the correction bit of a coefficient that is not zero.
	correct := func(p *int16) {
		if d.take(1) == 0 || *p&bit != 0 {
			return
		}
		if *p > 0 {
			*p += bit
		} else {
			*p -= bit
		}
	}
	k := s.first
	if d.eobRun == 0 {
		for ; k <= s.last; k++ {
			symbol := d.symbol(c.ac)
			run, size := int(symbol>>4), int(symbol&15)
			var v int16
			if size > 0 {
				if v = -bit; d.take(1) != 0 {
					v = bit
				}
			} else if run != 15 {
				d.eobRun = 1 << run
				if run > 0 {
					d.eobRun += d.take(run)
				}
				break
			}
			for ; k <= s.last; k++ {
				p := &dst[zigzag[k]]
				if *p != 0 {
					correct(p)
				} else if run--; run < 0 {
					break
				}
			}
			if size > 0 {
				dst[zigzag[min(k, 63)]] = v
			}
		}
	}
	if d.eobRun > 0 {
		for ; k <= s.last; k++ {
			if p := &dst[zigzag[k]]; *p != 0 {
				correct(p)
			}
		}
		d.eobRun--
	}
}
