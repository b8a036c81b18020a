package download

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/go-modelzoo/zoo/hub/store"
)

// join appends whole pieces to head in order, hashing what it writes, until all are in.
func (j *job) join(ctx context.Context) error {
	buf := make([]byte, joinBuffer)
	for {
		i, ok := j.nextToJoin(ctx)
		if !ok {
			return context.Cause(ctx)
		}
		start, end := j.bounds(i)
		f, err := j.partial.OpenFile(pieceName(start))
		if err != nil {
			return err
		}
		n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(j.hash, j.head)}, struct{ io.Reader }{f}, buf)
		if err = errors.Join(store.DiskFull(err), f.Close()); err != nil {
			// The piece still has these bytes; twice they would only fill the disk.
			return fmt.Errorf("joining bytes %d-%d: %w", start, end-1, errors.Join(err, j.head.Truncate(start)))
		}
		if n != end-start {
			return fmt.Errorf("joining bytes %d-%d: %d bytes are on disk: another program changed the store", start, end-1, n)
		}
		if err := j.partial.Remove(pieceName(start)); err != nil {
			return err
		}
		j.mu.Lock()
		j.front = end
		delete(j.done, i)
		j.changed.Broadcast()
		j.mu.Unlock()
	}
}

// nextToJoin waits for the chunk at the front; false when all are joined or the context ended.
func (j *job) nextToJoin(ctx context.Context) (int64, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for ctx.Err() == nil && j.front != j.size {
		if i := j.front / j.opts.ChunkSize; j.done[i] {
			return i, true
		}
		j.changed.Wait()
	}
	return 0, false
}
