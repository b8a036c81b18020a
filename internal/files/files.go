// Package files has the four things about files that several packages need: replacing one so that readers and a crash see the
// old or the new content, never a part, reading one whole that must not be large, reading and writing under a context, and insisting where
// a system refuses what is open elsewhere. Functions are safe for concurrent use.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Replace replaces a file by one that holds data.
func Replace(path string, data []byte, mode os.FileMode) error {
	return Write(path, mode, func(w io.Writer) error { _, err := w.Write(data); return err })
}

// Write replaces a file by what write writes, by way of a temporary one in the same directory, which is flushed and renamed. If it fails,
// what was there before is kept.
func Write(path string, mode os.FileMode, write func(io.Writer) error) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // gone after the rename
	err = write(tmp)
	if err == nil {
		err = tmp.Sync()
	}
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := Insist(func() error { return os.Rename(tmp.Name(), path) }); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// RemoveLeft removes what calls of Write for path left that were killed. The caller sees to it that there is no other one.
func RemoveLeft(path string) {
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".[0-9]*"))
	if err != nil {
		return // the folder's name is no pattern
	}
	for _, name := range left {
		os.Remove(name) // it is in nobody's way
	}
}

// patience is how long Insist goes on.
const patience = 2 * time.Second

// Insist calls f, which opens, renames or removes a file. While it fails because another has the file open it is called again, for two seconds
// at most: Windows replaces and removes no such file, and virus scanners open whatever was written. Elsewhere f is called once.
func Insist(f func() error) error {
	const longest = 50 * time.Millisecond
	for end, pause := time.Now().Add(patience), time.Millisecond; ; pause = min(2*pause, longest) {
		err := f()
		if err == nil || !InUse(err) || time.Now().After(end) {
			return err
		}
		time.Sleep(pause)
	}
}

// ErrTooLarge says that a file has more bytes than one of its kind may have.
var ErrTooLarge = errors.New("too large")

// ReadAll reads the named file whole, but never more than limit bytes of it.
func ReadAll(path string, limit int64) ([]byte, error) {
	var f *os.File
	err := Insist(func() (err error) { f, err = os.Open(path); return err })
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s is %w: such a file has at most %d KiB: check that it is the right one", path, ErrTooLarge, limit>>10)
	}
	return data, nil
}

// Reader returns r, ending with the context's error once the context does. It is looked at before each Read.
func Reader(ctx context.Context, r io.Reader) io.Reader { return reader{ctx, r} }

type reader struct {
	ctx context.Context
	r   io.Reader
}

func (c reader) Read(p []byte) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// Writer returns w, ending with the context's error once the context does. It is looked at before each MiB: a tensor may be written at once.
func Writer(ctx context.Context, w io.Writer) io.Writer { return writer{ctx, w} }

type writer struct {
	ctx context.Context
	w   io.Writer
}

func (c writer) Write(p []byte) (n int, err error) {
	for part := range slices.Chunk(p, 1<<20) {
		if err := context.Cause(c.ctx); err != nil {
			return n, err
		}
		k, err := c.w.Write(part)
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}
