// Package jpeg decodes JPEG images to the pixels of libjpeg-turbo.
//
// It reads 8-bit Huffman-coded images, sequential and progressive, with one, three or four components of any whole-number
// subsampling. Its samples are those of libjpeg-turbo's defaults, bit for bit: the accurate integer inverse transform, "fancy"
// (triangle filter) upsampling of chroma, 16-bit fixed point colour conversion; colours are guessed from the JFIF and Adobe
// markers and the component names in libjpeg's order. CMYK is taken as inverted and turned to RGB as PIL does. Damaged
// streams are read as far as libjpeg reads them; data that ends early is an error, and so is a scan that ends early at a marker
// which libjpeg refuses there. (libjpeg smooths progressive images whose last scans are missing; this package does not. Sums far
// out of range, which damage makes, wrap around as in libjpeg's C code, where its vector code clips.)
//
// Functions are safe for concurrent use.
package jpeg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
)

// component is a colour component of the frame.
type component struct {
	id            uint8
	h, v          int       // sampling factors
	quant         int       // which quantisation table
	table         [64]int32 // the table as it was at the component's first scan, in zigzag order
	latched       bool      // table is set
	width, height int       // samples, without padding
	blocksX       int       // blocks a row, padded to whole MCUs
	blocksY       int
	dc, ac        *huffman // of the current scan
	pred          int32
	plane         []uint8 // samples, 8*blocksX a row
	coeff         []int16 // coefficients in natural order, for images of several scans
}

func (c *component) stride() int { return 8 * c.blocksX }

// decoder is the state of one image; its buffers are reused for the next.
type decoder struct {
	bits
	quant      [4][64]int32 // in zigzag order
	hasQuant   [4]bool
	dc, ac     [4]huffman
	hasDC      [4]bool
	hasAC      [4]bool
	comps      []component
	compStore  [4]component
	width      int
	height     int
	maxH, maxV int
	mcusX      int
	mcusY      int

	progressive bool
	jfif, adobe bool
	adobeColour uint8
	interval    int   // MCUs between restart markers, 0 for none
	nextRestart uint8 // number of the restart marker to come
	eobRun      int32
	scans       int
	alone       bool // one scan holds the whole image and goes straight into samples
	broken      bool // a marker ended a scan too early

	upsampled [4][]uint8 // a row of each component at full width

	vector bool // use the assembly kernels
}

var decoders = sync.Pool{New: func() any { return &decoder{vector: haveVector()} }}

// These bound the work a small file can cause: each scan of a progressive image goes over all of its blocks.
const (
	maxScans   = 500
	maxScanned = 1 << 32 // pixels of all scans together: 24 scans of the largest image that is decoded by default
)

// Decode decodes the image that data begins with to packed RGB. allow is called with the size before pixels are allocated;
// its error ends the decoding.
func Decode(data []byte, allow func(width, height int) error) (pix []uint8, width, height int, err error) {
	d := decoders.Get().(*decoder)
	defer decoders.Put(d)
	d.reset(data)
	defer func() { d.data = nil }()
	if err := d.segments(allow); err != nil {
		return nil, 0, 0, err
	}
	pix = make([]uint8, 3*d.width*d.height)
	d.colour(pix)
	return pix, d.width, d.height, nil
}

func (d *decoder) reset(data []byte) {
	d.bits = bits{data: data}
	d.hasQuant, d.hasDC, d.hasAC = [4]bool{}, [4]bool{}, [4]bool{}
	d.comps = d.compStore[:0]
	d.width, d.height = 0, 0
	d.progressive, d.jfif, d.adobe, d.adobeColour = false, false, false, 0
	d.interval, d.eobRun, d.scans, d.alone, d.broken = 0, 0, 0, false, false
}

// The markers that are read (ITU-T T.81, table B.1).
const (
	mSOF0  = 0xc0
	mSOF1  = 0xc1
	mSOF2  = 0xc2
	mDHT   = 0xc4
	mSOF15 = 0xcf
	mRST0  = 0xd0
	mRST7  = 0xd7
	mSOI   = 0xd8
	mEOI   = 0xd9
	mSOS   = 0xda
	mDQT   = 0xdb
	mDRI   = 0xdd
	mAPP0  = 0xe0
	mAPP14 = 0xee
	mAPP15 = 0xef
	mCOM   = 0xfe
	mTEM   = 0x01
)

// segments reads the file up to the last scan that is needed, and on to its end where that scan ended too early.
func (d *decoder) segments(allow func(width, height int) error) error {
	if len(d.data) < 2 || d.data[0] != 0xff || d.data[1] != mSOI {
		return errors.New("does not begin with a start of image")
	}
	d.pos = 2
	for {
		marker, err := d.nextMarker()
		if err != nil {
			return err
		}
		switch {
		case marker == mEOI:
			if d.scans == 0 {
				return errors.New("file holds no image")
			}
			if !d.alone {
				d.inverseAll()
			}
			return nil
		case marker >= mRST0 && marker <= mRST7 || marker == mTEM:
			continue
		case marker < mSOF0 || marker == mSOI || marker > mDRI && marker < mAPP0 || marker > mAPP15 && marker != mCOM:
			return fmt.Errorf("file is damaged: marker %#x is out of place", marker)
		}
		if d.pos+2 > len(d.data) {
			return io.ErrUnexpectedEOF
		}
		n := int(binary.BigEndian.Uint16(d.data[d.pos:]))
		if marker >= mAPP0 { // what says that it is shorter than its own length is empty
			n = max(n, 2)
		}
		if n < 2 {
			return fmt.Errorf("segment %#x has length %d", marker, n)
		}
		if d.pos+n > len(d.data) {
			return io.ErrUnexpectedEOF
		}
		p := d.data[d.pos+2 : d.pos+n]
		d.pos += n
		switch {
		case marker == mDQT:
			err = d.quantisers(p)
		case marker == mDHT:
			err = d.huffmanTables(p)
		case marker == mDRI:
			if len(p) < 2 {
				return errors.New("restart interval is too short")
			}
			d.interval = int(binary.BigEndian.Uint16(p))
		case marker == mAPP0:
			d.jfif = d.jfif || len(p) >= 5 && string(p[:5]) == "JFIF\x00"
		case marker == mAPP14:
			if len(p) >= 12 && string(p[:5]) == "Adobe" {
				d.adobe, d.adobeColour = true, p[11]
			}
		case marker == mSOS:
			if d.alone {
				return errors.New("file is damaged: the only scan ends too early")
			}
			if err = d.scan(p); d.alone && !d.broken {
				return err
			}
		case marker == mSOF0 || marker == mSOF1 || marker == mSOF2:
			d.progressive = marker == mSOF2
			err = d.frame(p, allow)
		case marker > mSOF2 && marker <= mSOF15:
			return fmt.Errorf("coding process %#x (lossless, hierarchical or arithmetic) is not supported: convert the file to baseline JPEG", marker)
		}
		if err != nil {
			return err
		}
	}
}

// nextMarker skips to the next marker and over it.
func (d *decoder) nextMarker() (uint8, error) {
	for ; d.pos+1 < len(d.data); d.pos++ {
		if m := d.data[d.pos+1]; d.data[d.pos] == 0xff && m != 0 && m != 0xff {
			d.pos += 2
			return m, nil
		}
	}
	return 0, io.ErrUnexpectedEOF
}

func (d *decoder) quantisers(p []byte) error {
	for len(p) > 0 {
		wide, id := p[0]>>4, p[0]&15
		size := 64 << (wide & 1)
		if wide > 1 || id > 3 || len(p) < 1+size {
			return errors.New("quantisation table is malformed")
		}
		for k := range 64 {
			if wide == 1 {
				d.quant[id][k] = int32(binary.BigEndian.Uint16(p[1+2*k:]))
			} else {
				d.quant[id][k] = int32(p[1+k])
			}
		}
		d.hasQuant[id] = true
		p = p[1+size:]
	}
	return nil
}

func (d *decoder) huffmanTables(p []byte) (err error) {
	for len(p) > 0 {
		class, id := p[0]>>4, p[0]&15
		if class > 1 || id > 3 {
			return errors.New("table of Huffman codes is malformed")
		}
		if class == 0 {
			p, err = d.dc[id].build(p[1:], true)
			d.hasDC[id] = err == nil
		} else {
			p, err = d.ac[id].build(p[1:], false)
			d.hasAC[id] = err == nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// frame reads a frame header and prepares its components.
func (d *decoder) frame(p []byte, allow func(width, height int) error) error {
	if len(d.comps) > 0 {
		return errors.New("more than one frame header")
	}
	if len(p) < 6 {
		return errors.New("frame header is too short")
	}
	if p[0] != 8 {
		return fmt.Errorf("samples of %d bits are not supported: convert the file to 8 bits", p[0])
	}
	d.height, d.width = int(binary.BigEndian.Uint16(p[1:])), int(binary.BigEndian.Uint16(p[3:]))
	n := int(p[5])
	if err := allow(d.width, d.height); err != nil {
		return err
	}
	if n != 1 && n != 3 && n != 4 {
		return fmt.Errorf("%d colour components are not supported", n)
	}
	if len(p) < 6+3*n {
		return errors.New("frame header is too short")
	}
	d.comps = d.compStore[:n]
	d.maxH, d.maxV = 1, 1
	for i := range d.comps {
		c, q := &d.comps[i], p[6+3*i:]
		*c = component{id: q[0], h: int(q[1] >> 4), v: int(q[1] & 15), quant: int(q[2]), plane: c.plane, coeff: c.coeff}
		if c.h < 1 || c.h > 4 || c.v < 1 || c.v > 4 || c.quant > 3 {
			return errors.New("frame header is malformed")
		}
		for _, other := range d.comps[:i] {
			if other.id == c.id {
				return errors.New("two components have the same name")
			}
		}
		d.maxH, d.maxV = max(d.maxH, c.h), max(d.maxV, c.v)
	}
	d.mcusX, d.mcusY = ceilDiv(d.width, 8*d.maxH), ceilDiv(d.height, 8*d.maxV)
	for i := range d.comps {
		c := &d.comps[i]
		if d.maxH%c.h != 0 || d.maxV%c.v != 0 {
			return fmt.Errorf("subsampling %dx%d of %dx%d is not supported: convert the file", c.h, c.v, d.maxH, d.maxV)
		}
		c.width, c.height = ceilDiv(d.width*c.h, d.maxH), ceilDiv(d.height*c.v, d.maxV)
		c.blocksX, c.blocksY = d.mcusX*c.h, d.mcusY*c.v
	}
	return nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// grow returns a slice of n elements of undefined content, s where its capacity allows and is not wastefully large.
func grow[T any](s []T, n int) []T {
	const keep = 1 << 24 // a larger buffer is given to the garbage collector when a small image follows
	if cap(s) < n || cap(s) > keep && cap(s)/4 > n {
		return make([]T, n)
	}
	return s[:n]
}

// inverse transforms a block to samples.
func (d *decoder) inverse(b *block, dst []uint8, stride, last int) {
	if last > 0 && d.vector {
		inverseVector(b, dst, stride)
	} else {
		b.inverse(dst, stride, last)
	}
}

// inverseAll makes the samples of an image of several scans.
func (d *decoder) inverseAll() {
	for i := range d.comps {
		c := &d.comps[i]
		q := &c.table
		for y := range c.blocksY {
			for x := range c.blocksX {
				in := (*[64]int16)(c.coeff[64*(y*c.blocksX+x):])
				var b block
				last := 0
				for k, at := range zigzag {
					if v := in[at]; v != 0 {
						b[at] = int32(v) * q[k]
						last = k
					}
				}
				d.inverse(&b, c.plane[8*(y*c.stride()+x):], c.stride(), last)
			}
		}
	}
}
