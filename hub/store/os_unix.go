//go:build unix

package store

import (
	"errors"
	"os"
	"syscall"
)

const errQuota = syscall.EDQUOT

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

// rename moves a file over another atomically.
func rename(root *os.Root, from, to string) error { return root.Rename(from, to) }
