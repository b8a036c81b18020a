package download

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MediaTypeTable is the media type of an encoded Table.
const MediaTypeTable = "application/vnd.zoo.chunks.v1"

const (
	// DefaultChunkSize is the size of chunks in bytes: small enough that a corrupt one costs little, large enough that a request a chunk
	// does not matter.
	DefaultChunkSize = 4 << 20

	minChunkSize = 64 << 10
	maxChunkSize = 64 << 20
	tableMagic   = "zoochnk1"
	tableHeader  = len(tableMagic) + 16
	// MaxTable bounds an encoded table: 1 TiB in chunks of the default size.
	MaxTable = 1 << 23
)

// ErrTable says that a chunk table is not valid.
var ErrTable = errors.New("chunk table is not valid")

// Table has the SHA-256 of each chunk of a blob. Encoded it is the magic "zoochnk1", the chunk size and the blob's size in
// bytes as little-endian uint64, then the hashes of 32 bytes each in order; the last chunk may be shorter.
type Table struct {
	ChunkSize int64
	Size      int64
	Sums      [][sha256.Size]byte
}

// NewTable hashes the chunks of r up to its end.
func NewTable(r io.Reader, chunkSize int64) (*Table, error) {
	t := &Table{ChunkSize: chunkSize}
	for {
		h := sha256.New()
		n, err := io.CopyN(h, r, chunkSize)
		if n > 0 {
			t.Size += n
			t.Sums = append(t.Sums, [sha256.Size]byte(h.Sum(nil)))
		}
		if err == io.EOF {
			return t, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// Encode returns the table's bytes.
func (t *Table) Encode() []byte {
	out := make([]byte, 0, tableHeader+len(t.Sums)*sha256.Size)
	out = append(out, tableMagic...)
	out = binary.LittleEndian.AppendUint64(out, uint64(t.ChunkSize))
	out = binary.LittleEndian.AppendUint64(out, uint64(t.Size))
	for _, s := range t.Sums {
		out = append(out, s[:]...)
	}
	return out
}

// ParseTable reads what Encode wrote.
func ParseTable(data []byte) (*Table, error) {
	if len(data) < tableHeader || string(data[:len(tableMagic)]) != tableMagic {
		return nil, fmt.Errorf("%w: it does not start with %s", ErrTable, tableMagic)
	}
	chunk := binary.LittleEndian.Uint64(data[len(tableMagic):])
	size := binary.LittleEndian.Uint64(data[len(tableMagic)+8:])
	if chunk < minChunkSize || chunk > maxChunkSize || size > 1<<40 {
		return nil, fmt.Errorf("%w: chunks of %d bytes (%d to %d are allowed) and %d bytes in all", ErrTable, chunk, minChunkSize, maxChunkSize, size)
	}
	sums := data[tableHeader:]
	n := (size + chunk - 1) / chunk
	if uint64(len(sums)) != n*sha256.Size {
		return nil, fmt.Errorf("%w: %d bytes of hashes for %d chunks", ErrTable, len(sums), n)
	}
	t := &Table{ChunkSize: int64(chunk), Size: int64(size), Sums: make([][sha256.Size]byte, n)}
	for i := range t.Sums {
		copy(t.Sums[i][:], sums[i*sha256.Size:])
	}
	return t, nil
}
