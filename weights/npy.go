package weights

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

const npyMagic = "\x93NUMPY"

// maxNPYHeader bounds the header, of which numpy.save writes about a hundred bytes.
const maxNPYHeader = 1 << 16

// npyTypes are the element types by NumPy's name for them.
var npyTypes = map[string]DType{
	"<f8": F64, "<f4": F32, "<f2": F16,
	"<i8": I64, "<i4": I32, "<i2": I16, "|i1": I8,
	"<u8": U64, "<u4": U32, "<u2": U16, "|u1": U8, "|b1": Bool,
}

// ReadNPY reads one array as numpy.save writes it (versions 1 to 3 of the format, C or Fortran order, little-endian
// floats, integers and bools), converts it as Tensor.Float32 does, and returns it row-major with its shape. It reads no
// more than the array, and allocates no more than a small multiple of what the reader gives.
func ReadNPY(r io.Reader) (shape []int, values []float32, err error) {
	shape, values, err = readNPY(r)
	if err != nil {
		return nil, nil, fmt.Errorf("read npy: %w", err)
	}
	return shape, values, nil
}

func readNPY(r io.Reader) ([]int, []float32, error) {
	text, err := npyHeaderText(r)
	if err != nil {
		return nil, nil, err
	}
	h, err := parseNPYHeader(text)
	if err != nil {
		return nil, nil, fmt.Errorf("damaged header: %w", err)
	}
	size, ok := byteLen(h.shape, h.dtype)
	if !ok {
		return nil, nil, fmt.Errorf("impossible shape %v", h.shape)
	}
	data, err := readExactly(r, size)
	if err != nil {
		return nil, nil, err
	}
	t := Tensor{Name: "npy", DType: h.dtype, Shape: h.shape, data: data}
	if h.fortran {
		if strides := columnMajor(h.shape); !rowMajor(h.shape, strides) {
			t.strides = strides
		}
	}
	values, err := t.Float32()
	return h.shape, values, err
}

// columnMajor returns the strides of an array in Fortran order.
func columnMajor(shape []int) []int {
	strides := make([]int, len(shape))
	step := 1
	for i, d := range shape {
		strides[i] = step
		step *= d
	}
	return strides
}

// npyHeaderText reads up to the data and returns the Python literal.
func npyHeaderText(r io.Reader) ([]byte, error) {
	head := make([]byte, 8, 12)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, ends(err, "its header")
	}
	if string(head[:6]) != npyMagic {
		return nil, errors.New("not a file of numpy.save: give an .npy file")
	}
	lengthBytes := 4
	switch major := head[6]; major {
	case 1:
		lengthBytes = 2
	case 2, 3:
	default:
		return nil, fmt.Errorf("version %d.%d of the format, where 1 to 3 are known", major, head[7])
	}
	var length [4]byte
	if _, err := io.ReadFull(r, length[:lengthBytes]); err != nil {
		return nil, ends(err, "its header")
	}
	n := binary.LittleEndian.Uint32(length[:])
	if n > maxNPYHeader {
		return nil, fmt.Errorf("a header of %d bytes, of at most %d", n, maxNPYHeader)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, ends(err, "its header")
	}
	return text, nil
}

// readExactly reads size bytes into memory that grows as they come: the size is the header's word alone.
func readExactly(r io.Reader, size int) ([]byte, error) {
	const step = 1 << 20
	var b bytes.Buffer
	b.Grow(min(size, step))
	n, err := io.CopyN(&b, r, int64(size))
	if err != nil {
		return nil, ends(err, fmt.Sprintf("its data: %d of %d bytes are there", n, size))
	}
	return b.Bytes(), nil
}

func ends(err error, where string) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("truncated in %s", where)
	}
	return err
}

type npyHeader struct {
	dtype   DType
	fortran bool
	shape   []int
}

// parseNPYHeader reads a dictionary such as {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, padded with
// spaces and ended by a newline: the three keys once each, in any order.
func parseNPYHeader(text []byte) (npyHeader, error) {
	var h npyHeader
	p := literal{rest: string(text)}
	seen := map[string]bool{}
	err := p.list('{', '}', func() error {
		key, err := p.text()
		if err != nil {
			return err
		}
		if seen[key] {
			return fmt.Errorf("%q comes twice", key)
		}
		seen[key] = true
		if !p.take(":") {
			return p.unexpected()
		}
		switch key {
		case "descr":
			h.dtype, err = p.descr()
		case "fortran_order":
			h.fortran, err = p.boolean()
		case "shape":
			h.shape, err = p.shape()
		default:
			err = fmt.Errorf("unknown key %.40q", key)
		}
		return err
	})
	switch {
	case err != nil:
		return h, err
	case len(seen) != 3:
		return h, errors.New("it needs descr, fortran_order and shape")
	}
	p.space()
	if p.rest != "" {
		return h, p.unexpected()
	}
	return h, nil
}

// literal reads the Python literals of such a header.
type literal struct{ rest string }

func (p *literal) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// take reads s after any space, if it is there.
func (p *literal) take(s string) (ok bool) {
	p.space()
	p.rest, ok = strings.CutPrefix(p.rest, s)
	return ok
}

func (p *literal) unexpected() error {
	if p.rest == "" {
		return errors.New("it ends too early")
	}
	return fmt.Errorf("unexpected %.20q", p.rest)
}

// list reads items between brackets, separated by commas, with one allowed after the last.
func (p *literal) list(begin, end byte, item func() error) error {
	if !p.take(string(begin)) {
		return p.unexpected()
	}
	for !p.take(string(end)) {
		if err := item(); err != nil {
			return err
		}
		if !p.take(",") {
			if !p.take(string(end)) {
				return p.unexpected()
			}
			return nil
		}
	}
	return nil
}

// text reads a quoted string without escapes.
func (p *literal) text() (string, error) {
	for _, quote := range []string{"'", `"`} {
		if !p.take(quote) {
			continue
		}
		s, rest, ok := strings.Cut(p.rest, quote)
		if !ok || strings.ContainsAny(s, "\\\n") {
			return "", p.unexpected()
		}
		p.rest = rest
		return s, nil
	}
	return "", p.unexpected()
}

func (p *literal) boolean() (bool, error) {
	switch {
	case p.take("True"):
		return true, nil
	case p.take("False"):
		return false, nil
	}
	return false, p.unexpected()
}

func (p *literal) descr() (DType, error) {
	name, err := p.text()
	if err != nil {
		return 0, err
	}
	d, ok := npyTypes[name]
	if !ok {
		return 0, fmt.Errorf("type %.20q is not supported: save the array with .astype('<f4')", name)
	}
	return d, nil
}

// shape reads a tuple of sizes: (), (3,) or (3, 4). Python 2 may put an L after a number.
func (p *literal) shape() ([]int, error) {
	shape := []int{}
	err := p.list('(', ')', func() error {
		p.space()
		digits := p.rest[:len(p.rest)-len(strings.TrimLeft(p.rest, "0123456789"))]
		n, err := strconv.Atoi(digits)
		if err != nil {
			return p.unexpected()
		}
		if len(shape) == maxRank {
			return fmt.Errorf("more than %d dimensions", maxRank)
		}
		p.rest = strings.TrimPrefix(p.rest[len(digits):], "L")
		shape = append(shape, n)
		return nil
	})
	return shape, err
}

// WriteNPY writes a row-major array of that shape in version 1 of the format, as numpy.save does.
func WriteNPY(w io.Writer, shape []int, values []float32) error {
	if n, ok := elements(shape); !ok || n != len(values) {
		return fmt.Errorf("write npy: %d values are not of shape %v", len(values), shape)
	}
	b := bufio.NewWriter(w)
	writeNPYHeader(b, shape)
	if _, err := b.Write(bytesOf(values)); err != nil {
		return fmt.Errorf("write npy: %w", err)
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("write npy: %w", err)
	}
	return nil
}

// writeNPYHeader writes the header of version 1, padded so that the data begins at a multiple of 64. Errors stay in b.
func writeNPYHeader(b *bufio.Writer, shape []int) {
	dims := slices.Collect(func(yield func(string) bool) {
		for _, d := range shape {
			if !yield(strconv.Itoa(d)) {
				return
			}
		}
	})
	tuple := strings.Join(dims, ", ")
	if len(dims) == 1 {
		tuple += ","
	}
	text := "{'descr': '<f4', 'fortran_order': False, 'shape': (" + tuple + "), }"
	const align, before = 64, len(npyMagic) + 4
	padding := align - (before+len(text)+1)%align
	text += strings.Repeat(" ", padding%align) + "\n"

	b.WriteString(npyMagic)
	b.Write([]byte{1, 0})
	b.Write(binary.LittleEndian.AppendUint16(nil, uint16(len(text))))
	b.WriteString(text)
}
