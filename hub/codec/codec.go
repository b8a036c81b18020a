// Package codec packs safetensors files so that real weights become about 16 percent smaller, losslessly, and unpack as
// fast as memory and two cores allow.
//
// The high byte of a float32 (sign and most of the exponent) takes few values in trained weights and the low bytes look random;
// so each tensor's elements are split into byte planes ("shuffled") and each plane is compressed alone, or stored where that
// would not save anything. A packed file is
//
//	"zoopack1"                         8 bytes
//	frames, one after another          each a zstd frame or the plane's bytes as they are
//	table                              see below
//	length of the table                uint64, little-endian
//	"zoopack1"                         8 bytes
//
// and the table, in unsigned varints (LEB128): the unpacked size, the number of blocks, then for each block its unpacked
// length, its element size in bytes (1, 2, 4 or 8), and for each byte of the element the length of that plane's frame. A frame as long as its
// plane is stored. Blocks lie in the order of the unpacked file; none spans two tensors or exceeds MaxBlock, and so blocks
// are decoded in parallel and a single tensor can be read alone.
//
// Invariants: memory is bounded by MaxBlock times the number of workers, whatever a file declares; every length is checked
// before it is used, and the unpacked size is the caller's to give; the same input and the same version of the program give the same bytes. A
// packed file has no checksum of its own: digests of both forms are kept by whoever stores it. Functions are safe for
// concurrent use.
package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	// MaxBlock bounds the unpacked bytes of a block.
	MaxBlock = 1 << 20
	// MaxTable bounds the encoded table.
	MaxTable = 64 << 20

	magic      = "zoopack1"
	footerSize = 8 + len(magic)

	// worthwhile is the least part (1/worthwhile) of a plane that compressing must save: stored planes decode faster.
	worthwhile = 64
)

// ErrFormat is wrapped by every error about a packed file's content.
var ErrFormat = errors.New("packed weights are not valid")

// Span is a run of elements of one size in the unpacked file: the header (Width 1) or a tensor.
type Span struct {
	// Bytes is the length of the run, a multiple of Width.
	Bytes int64
	// Width is the size of an element in bytes: 1, 2, 4 or 8.
	Width int
}

// block is a piece of a span and where its frames are.
type block struct {
	start  int64 // in the unpacked file
	offset int64 // of the first frame in the packed file
	size   int   // unpacked bytes
	width  int
	packed [8]int // length of each plane's frame
}

func (b *block) packedSize() int {
	n := 0
	for _, p := range b.packed[:b.width] {
		n += p
	}
	return n
}

// largest returns the unpacked size of the largest block.
func largest(blocks []block) int {
	n := 0
	for i := range blocks {
		n = max(n, blocks[i].size)
	}
	return n
}

func validWidth(w int) bool { return w == 1 || w == 2 || w == 4 || w == 8 }

// cut divides spans into blocks.
func cut(spans []Span) ([]block, int64, error) {
	var blocks []block
	var at int64
	for _, s := range spans {
		if !validWidth(s.Width) || s.Bytes < 0 || s.Bytes%int64(s.Width) != 0 {
			return nil, 0, fmt.Errorf("a run of %d bytes cannot have elements of %d", s.Bytes, s.Width)
		}
		for left := s.Bytes; left > 0; {
			n := min(left, MaxBlock)
			blocks = append(blocks, block{start: at, size: int(n), width: s.Width})
			at += n
			left -= n
		}
	}
	return blocks, at, nil
}

func encodeTable(blocks []block, unpacked int64) []byte {
	t := binary.AppendUvarint(nil, uint64(unpacked))
	t = binary.AppendUvarint(t, uint64(len(blocks)))
	for i := range blocks {
		b := &blocks[i]
		t = binary.AppendUvarint(t, uint64(b.size))
		t = binary.AppendUvarint(t, uint64(b.width))
		for _, p := range b.packed[:b.width] {
			t = binary.AppendUvarint(t, uint64(p))
		}
	}
	return t
}

// table is a parsed table.
type table struct {
	blocks   []block
	unpacked int64
	packed   int64 // bytes of all frames
}

func parseTable(data []byte) (*table, error) {
	bad := func(what string, v ...any) (*table, error) {
		return nil, fmt.Errorf("%w: table: %s", ErrFormat, fmt.Sprintf(what, v...))
	}
	rest := data
	next := func() (uint64, bool) {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return 0, false
		}
		rest = rest[n:]
		return v, true
	}
	unpacked, ok := next()
	count, ok2 := next()
	if !ok || !ok2 || unpacked > 1<<40 {
		return bad("it is cut off, or declares more than 1 TiB")
	}
	if count > uint64(len(rest))/3 { // a block takes three bytes at least
		return bad("%d blocks do not fit %d bytes", count, len(rest))
	}
	t := &table{blocks: make([]block, count), unpacked: int64(unpacked)}
	var start int64
	offset := int64(len(magic))
	for i := range t.blocks {
		size, ok := next()
		width, ok2 := next()
		if !ok || !ok2 || size == 0 || size > MaxBlock || width > 8 || !validWidth(int(width)) || size%width != 0 {
			return bad("block %d has %d bytes in elements of %d", i, size, width)
		}
		b := block{start: start, offset: offset, size: int(size), width: int(width)}
		for k := range b.width {
			p, ok := next()
			if !ok || p == 0 || p > size/width {
				return bad("block %d declares a frame of %d bytes for a plane of %d", i, p, size/width)
			}
			b.packed[k] = int(p)
			offset += int64(p)
		}
		start += int64(size)
		t.blocks[i] = b
	}
	if len(rest) > 0 || start != t.unpacked {
		return bad("blocks hold %d bytes of %d, and %d bytes of the table are left", start, t.unpacked, len(rest))
	}
	t.packed = offset - int64(len(magic))
	return t, nil
}

// readTable reads the table of a packed file of the given size.
func readTable(r io.ReaderAt, size int64) (*table, error) {
	if size < int64(len(magic)+footerSize) {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrFormat, size)
	}
	var head [len(magic)]byte
	var foot [footerSize]byte
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("reading the beginning: %w", err)
	}
	if n, err := r.ReadAt(foot[:], size-int64(footerSize)); n < footerSize {
		return nil, fmt.Errorf("reading the end: %w", err)
	}
	length := binary.LittleEndian.Uint64(foot[:])
	room := size - int64(len(magic)+footerSize)
	if string(head[:]) != magic || string(foot[8:]) != magic || length > MaxTable || int64(length) > room {
		return nil, fmt.Errorf("%w: it does not begin and end as packed weights do", ErrFormat)
	}
	data := make([]byte, length)
	if n, err := r.ReadAt(data, size-int64(footerSize)-int64(length)); n < len(data) {
		return nil, fmt.Errorf("reading the table: %w", err)
	}
	t, err := parseTable(data)
	if err != nil {
		return nil, err
	}
	if t.packed != room-int64(length) {
		return nil, fmt.Errorf("%w: frames take %d bytes and the table says %d", ErrFormat, room-int64(length), t.packed)
	}
	return t, nil
}
