package finetune

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/go-modelzoo/zoo/internal/files"
)

// writeFile writes a file such that its name always leads to a complete one: the old, or the new.
func writeFile(path string, write func(io.Writer) error) error {
	if err := files.Write(path, 0o644, write); err != nil {
		return fmt.Errorf("%s could not be written, what was there before is kept: %w", path, err)
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
