package weights

import (
	"context"
	"encoding/binary"
	"fmt"
)

// Finding is a tensor with values that are not finite.
type Finding struct {
	Name     string
	Elements int
	NaN, Inf int // how many elements are not a number, and how many infinite
}

// String returns a line such as `"fc.weight": 3 NaN and 0 infinite of 2048 values`.
func (f Finding) String() string {
	return fmt.Sprintf("%.80q: %d NaN and %d infinite of %d values", f.Name, f.NaN, f.Inf, f.Elements)
}

// Verify reads every byte of a file. It returns the tensors whose values are not all finite, in the order of the file,
// and an error if a checksum of the file is wrong (zip archives have them) or ctx ends.
func Verify(ctx context.Context, f *File) ([]Finding, error) {
	for _, sum := range f.sums {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if f.closed.Load() {
			return nil, fmt.Errorf("verify %s: %w", f.path, ErrClosed)
		}
		if !sum.ok() {
			return nil, fmt.Errorf("%s is damaged: entry %.80q does not have its checksum: download it again (%w)", f.path, sum.entry, ErrFormat)
		}
	}
	var found []Finding
	for _, t := range f.tensors {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !t.DType.IsFloat() {
			continue
		}
		data, err := t.Bytes()
		if err != nil {
			return nil, fmt.Errorf("verify %s: %w", f.path, err)
		}
		if nan, inf := nonFinite(data, t.DType); nan+inf > 0 {
			found = append(found, Finding{t.Name, t.Len(), nan, inf})
		}
	}
	return found, nil
}

// lanes describes a floating-point type for a test of all elements in a 64-bit word at once: without its sign, an
// element whose exponent is all ones has the sign bit set after adding one to the exponent, and no other has. No carry
// leaves an element.
type lanes struct {
	sign, one          uint64 // the sign bits, and one unit of exponent, in every element
	exponent, fraction uint64 // the fields of one element
}

var floatLanes = map[DType]lanes{
	F64:  {1 << 63, 1 << 52, 0x7ff << 52, 1<<52 - 1},
	F32:  {0x8000_0000 * 0x1_0000_0001, 0x0080_0000 * 0x1_0000_0001, 0x7f80_0000, 0x007f_ffff},
	F16:  {0x8000 * 0x1_0001_0001_0001, 0x0400 * 0x1_0001_0001_0001, 0x7c00, 0x03ff},
	BF16: {0x8000 * 0x1_0001_0001_0001, 0x0080 * 0x1_0001_0001_0001, 0x7f80, 0x007f},
}

// nonFinite counts the NaNs and infinities among the elements of a floating-point type.
func nonFinite(b []byte, d DType) (nan, inf int) {
	const block = 64
	l := floatLanes[d]
	le := binary.LittleEndian
	for ; len(b) >= block; b = b[block:] {
		var hit uint64
		for i := 0; i < block; i += 16 {
			hit |= le.Uint64(b[i:i+8])&^l.sign + l.one
			hit |= le.Uint64(b[i+8:i+16])&^l.sign + l.one
		}
		if hit&l.sign != 0 {
			l.count(b[:block], d.Size(), &nan, &inf)
		}
	}
	l.count(b, d.Size(), &nan, &inf)
	return nan, inf
}

// count adds the elements of b, of size bytes each, to nan and inf.
func (l lanes) count(b []byte, size int, nan, inf *int) {
	for ; len(b) >= size; b = b[size:] {
		var bits uint64
		for i := size - 1; i >= 0; i-- {
			bits = bits<<8 | uint64(b[i])
		}
		switch {
		case bits&l.exponent != l.exponent:
		case bits&l.fraction != 0:
			*nan++
		default:
			*inf++
		}
	}
}
