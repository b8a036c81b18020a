package store

import (
	"os"
	"syscall"
)

// errQuota is ERROR_DISK_QUOTA_EXCEEDED.
const errQuota = syscall.Errno(1295)

// syncDir does nothing: Windows has no way to flush a directory.
func syncDir(*os.Root, string) error { return nil }

// rename moves a file to a name. Windows does not replace a read-only file; one of that name has the same bytes.
func rename(root *os.Root, from, to string) error {
	if _, err := root.Lstat(to); err == nil {
		return root.Remove(from)
	}
	return root.Rename(from, to)
}
