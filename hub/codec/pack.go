package codec

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// Options tune packing and unpacking. The zero value is a good default.
type Options struct {
	// Workers is the number of goroutines that compress or decompress. Zero: GOMAXPROCS.
	Workers int
}

func (o Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return runtime.GOMAXPROCS(0)
}

// Pack reads the bytes that spans describe from r and writes the packed file to w. It returns the packed size.
func Pack(ctx context.Context, w io.Writer, r io.ReaderAt, spans []Span, o Options) (int64, error) {
	blocks, unpacked, err := cut(spans)
	if err != nil {
		return 0, err
	}
	var written int64
	write := func(p []byte) error {
		n, err := w.Write(p)
		written += int64(n)
		return err
	}
	if err := write([]byte(magic)); err != nil {
		return 0, err
	}
	err = inOrder(ctx, len(blocks), o.workers(), func() (*packer, error) { return newPacker(largest(blocks)) }, func(p *packer, i int) error {
		return p.pack(r, &blocks[i])
	}, func(p *packer, i int) error {
		return write(p.out)
	})
	if err != nil {
		return 0, err
	}
	t := encodeTable(blocks, unpacked)
	if len(t) > MaxTable {
		return 0, fmt.Errorf("%d blocks are too many to pack", len(blocks))
	}
	t = binary.LittleEndian.AppendUint64(t, uint64(len(t)))
	if err := write(append(t, magic...)); err != nil {
		return 0, err
	}
	return written, nil
}

// packer compresses one block at a time.
type packer struct {
	src, planes, out, trial []byte
	zstd                    *zstd.Encoder
	literals                literals
}

func newPacker(block int) (*packer, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true), zstd.WithWindowSize(MaxBlock))
	if err != nil {
		return nil, err
	}
	return &packer{src: make([]byte, block), planes: make([]byte, block), zstd: e}, nil
}

func (p *packer) close() { p.zstd.Close() } // it has no output to flush

func (p *packer) pack(r io.ReaderAt, b *block) error {
	src := p.src[:b.size]
	if n, err := r.ReadAt(src, b.start); n < len(src) {
		return fmt.Errorf("reading %d bytes at %d: %w", len(src), b.start, err)
	}
	planes := split(p.planes, b)
	shuffle(planes, src, b.width)
	p.out = p.out[:0]
	for k, plane := range planes[:b.width] {
		frame, err := p.compress(plane)
		if err != nil {
			return err
		}
		p.out = append(p.out, frame...)
		b.packed[k] = len(frame)
	}
	return nil
}

// sample is how many bytes decide whether matches are worth looking for in a plane.
const sample = 16 << 10

// compress returns the shortest frame: with matches, which quantised weights have, without, or the plane as it is.
func (p *packer) compress(plane []byte) ([]byte, error) {
	best := plane
	out, smaller, err := p.literals.encode(p.trial[:0], plane)
	if err != nil {
		return nil, err
	}
	p.trial = out
	if smaller && len(out) <= len(plane)-max(1, len(plane)/worthwhile) {
		best = out
	}
	if len(plane) > 2*sample {
		if len(p.zstd.EncodeAll(plane[:sample], nil)) >= sample*len(best)/len(plane) {
			return best, nil
		}
	}
	if matched := p.zstd.EncodeAll(plane, nil); len(matched) < len(best)-len(plane)/worthwhile {
		best = matched
	}
	return best, nil
}

// split cuts buf into the planes of a block.
func split(buf []byte, b *block) (planes [8][]byte) {
	n := b.size / b.width
	for k := range b.width {
		planes[k] = buf[k*n : (k+1)*n : (k+1)*n]
	}
	return planes
}

// Unpack writes the unpacked file to w. unpacked is the size that it must have: the file's own word is not taken for it.
func Unpack(ctx context.Context, w io.Writer, r io.ReaderAt, size, unpacked int64, o Options) error {
	t, err := readTable(r, size)
	if err != nil {
		return err
	}
	if t.unpacked != unpacked {
		return fmt.Errorf("%w: they unpack to %d bytes and %d were declared", ErrFormat, t.unpacked, unpacked)
	}
	return inOrder(ctx, len(t.blocks), o.workers(), func() (*unpacker, error) { return newUnpacker(largest(t.blocks)), nil }, func(u *unpacker, i int) error {
		return u.unpack(r, &t.blocks[i])
	}, func(u *unpacker, i int) error {
		_, err := w.Write(u.out)
		return err
	})
}

// ReadAt unpacks the bytes from off to off+len(dst) of the unpacked file alone, such as one tensor. size is that of the packed file.
func ReadAt(dst []byte, r io.ReaderAt, size, off int64) error {
	t, err := readTable(r, size)
	if err != nil {
		return err
	}
	if off < 0 || off > t.unpacked-int64(len(dst)) {
		return fmt.Errorf("%w: bytes %d-%d are outside the %d there are", ErrFormat, off, off+int64(len(dst))-1, t.unpacked)
	}
	u := newUnpacker(largest(t.blocks))
	defer u.close()
	for i := range t.blocks {
		b := &t.blocks[i]
		if b.start+int64(b.size) <= off || b.start >= off+int64(len(dst)) {
			continue
		}
		if err := u.unpack(r, b); err != nil {
			return err
		}
		from := max(off, b.start)
		copy(dst[from-off:], u.out[from-b.start:])
	}
	return nil
}

// unpacker decompresses one block at a time.
type unpacker struct {
	in, planes, buf, out []byte
	zstd                 *zstd.Decoder // nil until a compressed frame comes
}

func newUnpacker(block int) *unpacker {
	return &unpacker{in: make([]byte, block), planes: make([]byte, block), buf: make([]byte, block)}
}

func (u *unpacker) close() {
	if u.zstd != nil {
		u.zstd.Close()
	}
}

// decode unpacks a frame into plane. The capacity is the plane's size: a frame that unpacks to more is an error, not
// memory.
func (u *unpacker) decode(plane, frame []byte) error {
	if u.zstd == nil {
		d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxBlock),
			zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxWindow(MaxBlock))
		if err != nil {
			return err
		}
		u.zstd = d
	}
	out, err := u.zstd.DecodeAll(frame, plane[:0])
	if err == nil && len(out) != len(plane) {
		err = fmt.Errorf("%d bytes instead of %d", len(out), len(plane))
	}
	return err
}

func (u *unpacker) unpack(r io.ReaderAt, b *block) error {
	in := u.in[:b.packedSize()]
	if n, err := r.ReadAt(in, b.offset); n < len(in) {
		return fmt.Errorf("reading packed bytes %d-%d: %w", b.offset, b.offset+int64(len(in))-1, err)
	}
	planes := split(u.planes, b)
	for k := range b.width {
		frame := in[:b.packed[k]]
		in = in[b.packed[k]:]
		if len(frame) == len(planes[k]) { // stored: used where it lies
			planes[k] = frame
			continue
		}
		if err := u.decode(planes[k], frame); err != nil {
			return fmt.Errorf("%w: plane %d of bytes %d-%d: %w", ErrFormat, k, b.start, b.start+int64(b.size)-1, err)
		}
	}
	u.out = u.buf[:b.size]
	unshuffle(u.out, planes, b.width)
	return nil
}

// closer is what inOrder's workers are.
type closer interface{ close() }

// inOrder runs work for 0..n-1 on several workers, each with a T of its own, and sink after it for the same T, in order and one
// at a time.
func inOrder[T closer](ctx context.Context, n, workers int, newT func() (T, error), work, sink func(t T, i int) error) error {
	type job struct {
		t      T
		i      int
		worked chan struct{} // closed
	}
	workers = max(1, min(workers, n))
	most := 2 * workers // two for each worker: one is worked on while the other waits for its turn
	free, jobs, queue := make(chan T, most), make(chan job), make(chan job, most)
	for range most {
		t, err := newT()
		if err != nil {
			return err
		}
		defer t.close()
		free <- t
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(jobs)
		defer close(queue)
		for i := range n {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			j := job{i: i, worked: make(chan struct{})}
			select {
			case j.t = <-free:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			queue <- j // has room for every T
			select {
			case jobs <- j:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			for j := range jobs {
				if err := work(j.t, j.i); err != nil {
					return err
				}
				close(j.worked)
			}
			return nil
		})
	}
	group.Go(func() error {
		for j := range queue {
			select {
			case <-j.worked:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			if err := sink(j.t, j.i); err != nil {
				return err
			}
			free <- j.t
		}
		return nil
	})
	return group.Wait()
}
