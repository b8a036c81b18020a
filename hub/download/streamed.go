package download

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"github.com/go-modelzoo/zoo/hub/source"
)

// streamed reads the blob from its beginning, skipping what is on disk. Each failure starts at the beginning again, for want of ranges.
func (j *job) streamed(ctx context.Context) error {
	if err := j.restore(ctx); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, j.wake)
	defer stop()
	group.Go(func() error { return j.join(ctx) })
	group.Go(func() error {
		for failures, best := 1, int64(0); ; failures++ {
			part, err := j.openOnce(ctx, 0, 0)
			if err == nil {
				err = j.stream(ctx, part.Body)
				err = errors.Join(err, part.Body.Close())
			}
			if err == nil {
				return nil
			}
			j.mu.Lock()
			if j.received >= best+realProgress {
				failures, best = 1, j.received
			}
			j.mu.Unlock()
			if failures >= j.opts.Attempts || !source.Temporary(err) && !errors.Is(err, ErrCorrupt) {
				return err
			}
			if err := source.Sleep(ctx, source.Backoff(failures, err)); err != nil {
				return err
			}
		}
	})
	return group.Wait()
}

// stream reads body, which starts at offset 0, chunk by chunk. Without a known size its end is the blob's.
func (j *job) stream(ctx context.Context, body io.Reader) error {
	for i := int64(0); ; i++ {
		j.mu.Lock()
		front, size := j.front, j.size
		complete := j.done[i] || (i+1)*j.opts.ChunkSize <= front || size >= 0 && front == size
		j.mu.Unlock()
		start, end := j.bounds(i)
		if size >= 0 && start >= size {
			return nil
		}
		if size < 0 && start > j.blob.MaxSize {
			return fmt.Errorf("%w: it sends more than the %d bytes expected", ErrSize, j.blob.MaxSize)
		}
		if complete {
			if _, err := io.CopyN(io.Discard, body, end-start); err != nil {
				return unexpected(err)
			}
			continue
		}
		ended, err := j.streamChunk(ctx, i, start, end, body)
		if err != nil || ended {
			return err
		}
	}
}

// streamChunk completes chunk i from body, which is at its start. It returns true at the end of a body of unknown size.
func (j *job) streamChunk(ctx context.Context, i, start, end int64, body io.Reader) (ended bool, err error) {
	p, err := j.openPiece(start, end)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, p.file.Close()) }()
	if _, err := io.CopyN(io.Discard, body, p.have); err != nil {
		return false, unexpected(err)
	}
	if _, err := j.copy(ctx, p, body); err != nil {
		return false, err
	}
	if p.have < end-start {
		j.mu.Lock()
		known := j.size >= 0
		if !known {
			j.size = start + p.have
		}
		j.mu.Unlock()
		if known {
			return false, fmt.Errorf("the answer ended at byte %d: %w", start+p.have, io.ErrUnexpectedEOF)
		}
		ended = true
	}
	if !j.good(i, p.sum) {
		j.add(-p.have)
		return false, errors.Join(fmt.Errorf("%w: bytes %d-%d hash to %x and should to %x", ErrCorrupt, start, end-1, p.sum.Sum(nil), j.blob.Table.Sums[i]), p.reset())
	}
	if p.have > 0 {
		j.complete(i)
	} else {
		j.wake()
	}
	return ended, nil
}

// unexpected makes an end where bytes should be the error that it is.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
