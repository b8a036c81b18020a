package store

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/windows"

	"github.com/go-modelzoo/zoo/internal/files"
)

var (
	// fullErrors are what the system says of a full disk, and of a share of it that is used up. They do not compare equal to ENOSPC.
	fullErrors = []error{windows.ERROR_DISK_FULL, windows.ERROR_HANDLE_DISK_FULL, windows.ERROR_DISK_QUOTA_EXCEEDED}
	// readOnlyErrors are what it says of a disk that nobody may write to.
	readOnlyErrors = []error{windows.ERROR_WRITE_PROTECT}
)

// syncDir does nothing: Windows has no way to flush a directory.
func syncDir(*os.Root, string) error { return nil }

// openShared opens a file so that it can be removed or replaced meanwhile, which os.Open does not allow.
func openShared(path string) (*os.File, error) {
	return os.OpenInRoot(filepath.Dir(path), filepath.Base(path))
}

// rename gives a blob its name. Windows does not replace a read-only file; one of that name, however recent, has the same bytes.
func rename(root *os.Root, from, to string) error {
	return files.Insist(func() error {
		err := root.Rename(from, to)
		if err == nil {
			return nil
		}
		if _, missing := root.Lstat(to); missing != nil {
			return err
		}
		return root.Remove(from)
	})
}
