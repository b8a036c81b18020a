package finetune

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// writeFile writes a file such that its name always leads to a complete one: the old, or the new.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-"+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%s could not be written, what was there before is kept: %w", path, err), discard(f))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// discard removes a temporary file that may be open.
func discard(f *os.File) error {
	f.Close() // may be closed; what was written is not wanted
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// appendFile is a log that is written line by line and can be cut back to where a checkpoint saw it.
type appendFile struct {
	file *os.File
	size int64
}

// openAppend opens a log and cuts it to a size.
func openAppend(path string, size int64) (*appendFile, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() < size {
		err = fmt.Errorf("%s has %d bytes, fewer than the %d of the checkpoint: it was changed since", path, info.Size(), size)
	}
	if err == nil {
		err = f.Truncate(size)
	}
	if err == nil {
		_, err = f.Seek(size, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &appendFile{f, size}, nil
}

// Write implements io.Writer.
func (a *appendFile) Write(p []byte) (int, error) {
	n, err := a.file.Write(p)
	a.size += int64(n)
	return n, err
}

func (a *appendFile) Close() error { return errors.Join(a.file.Sync(), a.file.Close()) }
