package codec

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/huff0"
)

// zstdBlock is the most that a zstd block may hold.
const zstdBlock = 128 << 10

// literals writes zstd frames without matches: only Huffman-coded literals (RFC 8878, section 3.1.1.3.1). An ordinary
// encoder spends bits on short matches that occur by chance among the few values of an exponent plane; without them the
// plane is a sixth smaller and decodes more than twice as fast. Any zstd decoder reads the frames.
type literals struct {
	huff huff0.Scratch
}

// encode appends a frame of src to dst. It returns false if Huffman codes do not make src smaller.
func (l *literals) encode(dst, src []byte) ([]byte, bool, error) {
	const (
		frameMagic       = 0xfd2fb528
		singleSegment    = 1 << 5
		contentSize4     = 2 << 6
		rawBlock         = 0 << 1
		rleBlock         = 1 << 1
		compressedBlock  = 2 << 1
		compressed4x18   = 2 | 3<<2 // literals: compressed, four streams, sizes of 18 bits
		noSequences      = 0
		literalsOverhead = 5 + 1
	)
	dst = binary.LittleEndian.AppendUint32(dst, frameMagic)
	dst = append(dst, singleSegment|contentSize4)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(src)))
	header := func(kind, size int, last bool) {
		v := uint32(kind | size<<3)
		if last {
			v |= 1
		}
		dst = append(dst, byte(v), byte(v>>8), byte(v>>16))
	}
	smaller := false
	for len(src) > 0 {
		part := src[:min(len(src), zstdBlock)]
		src = src[len(part):]
		l.huff.Reuse = huff0.ReusePolicyNone
		out, _, err := huff0.Compress4X(part, &l.huff)
		switch {
		case errors.Is(err, huff0.ErrUseRLE):
			header(rleBlock, len(part), len(src) == 0)
			dst = append(dst, part[0])
			smaller = true
		case errors.Is(err, huff0.ErrIncompressible), err == nil && len(out)+literalsOverhead >= len(part):
			header(rawBlock, len(part), len(src) == 0)
			dst = append(dst, part...)
		case err != nil:
			return nil, false, fmt.Errorf("huffman: %w", err)
		default:
			header(compressedBlock, literalsOverhead+len(out), len(src) == 0)
			sizes := uint64(compressed4x18) | uint64(len(part))<<4 | uint64(len(out))<<22
			dst = append(dst, byte(sizes), byte(sizes>>8), byte(sizes>>16), byte(sizes>>24), byte(sizes>>32))
			dst = append(dst, out...)
			dst = append(dst, noSequences)
			smaller = true
		}
	}
	return dst, smaller, nil
}
