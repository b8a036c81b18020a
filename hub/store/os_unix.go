//go:build unix

package store

import (
	"errors"
	"os"
	"syscall"
)

var (
	// fullErrors are what the system says of a full disk, and of a share of it that is used up.
	fullErrors = []error{syscall.ENOSPC, syscall.EDQUOT}
	// readOnlyErrors are what it says of a disk that nobody may write to.
	readOnlyErrors = []error{syscall.EROFS}
)

// syncDir flushes a directory's entries, so that a rename in it outlives a power cut.
func syncDir(root *os.Root, name string) error {
	d, err := root.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // some network file systems cannot
		err = nil
	}
	return errors.Join(err, d.Close())
}

// openShared opens a file so that it can be removed or replaced meanwhile.
func openShared(path string) (*os.File, error) { return os.Open(path) }

// rename gives a blob its name, atomically.
func rename(root *os.Root, from, to string) error { return root.Rename(from, to) }
