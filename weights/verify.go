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
	return fmt.Sprintf("%q: %d NaN and %d infinite of %d values", f.Name, f.NaN, f.Inf, f.Elements)
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

// nonFinite counts the NaNs and infinities among the elements of a floating-point type: those whose exponent is all
// ones, with a mantissa that is or is not zero.
func nonFinite(b []byte, d DType) (nan, inf int) {
	le := binary.LittleEndian
	switch d {
	case F32:
		for ; len(b) >= 4; b = b[4:] {
			count(uint64(le.Uint32(b)), 0x7f800000, 0x007fffff, &nan, &inf)
		}
	case F16:
		for ; len(b) >= 2; b = b[2:] {
			count(uint64(le.Uint16(b)), 0x7c00, 0x03ff, &nan, &inf)
		}
	case BF16:
		for ; len(b) >= 2; b = b[2:] {
			count(uint64(le.Uint16(b)), 0x7f80, 0x007f, &nan, &inf)
		}
	case F64:
		for ; len(b) >= 8; b = b[8:] {
			count(le.Uint64(b), 0x7ff<<52, 1<<52-1, &nan, &inf)
		}
	}
	return nan, inf
}

func count(bits, exponent, mantissa uint64, nan, inf *int) {
	if bits&exponent != exponent {
		return
	}
	if bits&mantissa != 0 {
		*nan++
	} else {
		*inf++
	}
}
