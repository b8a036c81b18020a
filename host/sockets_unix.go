//go:build unix

package host

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// hold locks a folder for as long as this process lives or until release is called.
func hold(dir string) (release func() error, err error) {
	f, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	return f.Close, nil
}

// abandoned reports whether a folder is this user's and nobody holds it.
func abandoned(dir string, info os.FileInfo) bool {
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return false
	}
	f, err := lockFolder(dir)
	if err != nil {
		return false
	}
	_ = f.Close() // it was only read
	return true
}

// lockFolder opens a folder and locks it. The lock ends with the file.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close() // it was only read
		return nil, &os.PathError{Op: "flock", Path: dir, Err: err}
	}
	return f, nil
}
