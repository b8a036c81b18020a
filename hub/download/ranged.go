package download

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
)

var errNoRanges = errors.New("the server does not answer ranges")

// ranged fetches with parallel range requests. The first request tells whether the source can do that.
func (j *job) ranged(ctx context.Context) error {
	probe, first, err := j.probe(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, j.wake)
	defer stop()
	worker := func() error {
		for {
			i, ok := j.take(ctx)
			if !ok {
				return context.Cause(ctx)
			}
			if err := j.fetch(ctx, i, nil); err != nil {
				return err
			}
		}
	}
	group.Go(func() error { return j.join(ctx) })
	group.Go(func() error {
		if first != nil {
			if err := j.fetch(ctx, probe, first); err != nil {
				return err
			}
		}
		return worker()
	})
	for range j.opts.Parallel - 1 {
		group.Go(worker)
	}
	return group.Wait()
}

// probe asks for the rest of the first chunk that is not whole, and takes that chunk. It returns no part if every chunk is.
func (j *job) probe(ctx context.Context) (chunk int64, first *source.Part, err error) {
	files, err := j.partial.Files()
	if err != nil {
		return 0, nil, err
	}
	for chunk = j.next; ; chunk++ {
		start, end := j.bounds(chunk)
		if j.size >= 0 && start >= j.size {
			return chunk, nil, nil
		}
		have := files[pieceName(start)]
		if have == end-start {
			continue
		}
		if have < end-start {
			start += have
		}
		first, err = j.open(ctx, start, end)
		if errors.Is(err, source.ErrRange) {
			return 0, nil, errNoRanges
		}
		if err != nil {
			return 0, nil, err
		}
		if first.Start != start || !first.Ranged || j.size < 0 {
			first.Body.Close() // read again, as a stream
			return 0, nil, errNoRanges
		}
		j.probed = chunk
		return chunk, first, nil
	}
}

// open asks for a range, retrying while that may help, and learns the size and validator from the first answer.
func (j *job) open(ctx context.Context, start, end int64) (part *source.Part, err error) {
	err = source.Retry(ctx, j.opts.Attempts, func() error {
		part, err = j.openOnce(ctx, start, end)
		return err
	})
	return part, err
}

func (j *job) openOnce(ctx context.Context, start, end int64) (*source.Part, error) {
	j.mu.Lock()
	r := source.Range{Start: start, End: end, Validator: j.validator}
	j.mu.Unlock()
	part, err := j.blob.Repository.Open(ctx, j.blob.Descriptor, r)
	if err != nil {
		return nil, err
	}
	if err := j.learn(part); err != nil {
		part.Body.Close() // the answer is not used
		return nil, err
	}
	return part, nil
}

func (j *job) learn(part *source.Part) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.validator == "" {
		j.validator = part.Validator
	}
	if part.Size < 0 || part.Size == j.size {
		return nil
	}
	if j.size >= 0 {
		return fmt.Errorf("%w: %d bytes instead of %d", ErrSize, part.Size, j.size)
	}
	if part.Size == 0 {
		return fmt.Errorf("%w: it is empty", ErrSize)
	}
	if part.Size > j.blob.MaxSize {
		return fmt.Errorf("%w: %d bytes are more than the %d expected", ErrSize, part.Size, j.blob.MaxSize)
	}
	j.size = part.Size
	return nil
}

// take waits until a chunk may be fetched and returns it; false when none is left or the context ended.
func (j *job) take(ctx context.Context) (int64, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for ctx.Err() == nil {
		if j.next == j.probed {
			j.next++
		}
		if j.next*j.opts.ChunkSize >= j.size {
			return 0, false
		}
		if j.next < j.front/j.opts.ChunkSize+window(j.opts.Parallel) {
			j.next++
			return j.next - 1, true
		}
		j.changed.Wait()
	}
	return 0, false
}

// window is how many chunks may be begun and not joined: it bounds the disk space needed beyond the blob's size.
func window(parallel int) int64 { return int64(3 * parallel) }

// fetch completes the piece of chunk i. part, if not nil, is an open answer that starts where the piece ends.
func (j *job) fetch(ctx context.Context, i int64, part *source.Part) (err error) {
	start, end := j.bounds(i)
	p, err := j.openPiece(start, end)
	if err != nil {
		if part != nil {
			part.Body.Close() // not used
		}
		return err
	}
	defer func() { err = errors.Join(err, p.file.Close()) }()
	for bad := 0; ; {
		if err := j.fill(ctx, p, part); err != nil {
			return err
		}
		part = nil
		if j.good(i, p.sum) {
			j.complete(i)
			return nil
		}
		got := hex.EncodeToString(p.sum.Sum(nil))
		j.add(-p.have)
		if err := p.reset(); err != nil {
			return err
		}
		if bad++; bad == chunkTries {
			return fmt.Errorf("%w: bytes %d-%d hash to %s and should to %x, %d times over: the source is damaged or lies", ErrCorrupt, start, end-1, got, j.blob.Table.Sums[i], chunkTries)
		}
	}
}

// fill appends to a piece until it has all its bytes.
func (j *job) fill(ctx context.Context, p *piece, part *source.Part) error {
	for failures, gained := 0, int64(0); p.have < p.end-p.start; {
		err := error(nil)
		if part == nil {
			part, err = j.openOnce(ctx, p.start+p.have, p.end)
		}
		if err == nil && part.Start != p.start+p.have {
			part.Body.Close() // not the bytes wanted
			return errNoRanges
		}
		if errors.Is(err, source.ErrRange) {
			return errNoRanges
		}
		if err == nil {
			var n int64
			n, err = j.copy(ctx, p, part.Body)
			err = errors.Join(err, part.Body.Close())
			if gained += n; gained >= realProgress {
				failures, gained = 0, 0
			}
			if err == nil && p.have < p.end-p.start {
				err = fmt.Errorf("the answer ended %d bytes early: %w", p.end-p.start-p.have, io.ErrUnexpectedEOF)
			}
			part = nil
		}
		if err == nil {
			continue
		}
		if failures++; failures >= j.opts.Attempts || !source.Temporary(err) {
			return fmt.Errorf("bytes %d-%d: %w", p.start+p.have, p.end-1, err)
		}
		if err := source.Sleep(ctx, source.Backoff(failures, err)); err != nil {
			return err
		}
	}
	return nil
}

// copy appends body to the piece, at most up to its end.
func (j *job) copy(ctx context.Context, p *piece, body io.Reader) (int64, error) {
	var total int64
	for p.have < p.end-p.start {
		n, err := body.Read(p.buf[:min(int64(len(p.buf)), p.end-p.start-p.have)])
		if n > 0 {
			if _, err := p.file.Write(p.buf[:n]); err != nil {
				return total, store.DiskFull(err)
			}
			p.sum.Write(p.buf[:n])
			p.have += int64(n)
			total += int64(n)
			j.add(int64(n))
			if err := j.opts.Limiter.Wait(ctx, n); err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
