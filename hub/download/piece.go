package download

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"strconv"
)

// piece is a chunk's file while it is written.
type piece struct {
	file       *os.File
	start, end int64
	have       int64
	sum        hash.Hash
	buf        []byte
}

// openPiece opens a chunk's file behind the bytes it has, and hashes those.
func (j *job) openPiece(start, end int64) (*piece, error) {
	f, err := j.partial.OpenFile(pieceName(start))
	if err != nil {
		return nil, err
	}
	p := &piece{file: f, start: start, end: end, sum: sha256.New(), buf: make([]byte, copyBuffer)}
	p.have, err = io.CopyBuffer(struct{ io.Writer }{p.sum}, struct{ io.Reader }{f}, p.buf)
	if err == nil && p.have > end-start {
		j.add(-min(p.have, j.opts.ChunkSize))
		err = p.reset()
	}
	if err != nil {
		f.Close() // not used
		return nil, err
	}
	return p, nil
}

// reset empties the piece.
func (p *piece) reset() error {
	p.have = 0
	p.sum.Reset()
	_, err := p.file.Seek(0, io.SeekStart)
	return errors.Join(err, p.file.Truncate(0))
}

func pieceName(start int64) string { return fmt.Sprintf("%016x", start) }

func parsePiece(name string) (start int64, ok bool) {
	if len(name) != 16 {
		return 0, false
	}
	start, err := strconv.ParseInt(name, 16, 64)
	return start, err == nil && start >= 0
}
