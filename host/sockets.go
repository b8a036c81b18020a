package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// socketBase is the longest path of a folder for sockets: with what is added to it, a socket's path must stay below the 104 bytes that
// the least of the systems allows.
const socketBase = 40

// settled is the age at which the folder of a process that is starting is held, if its host lives.
const settled = 5 * time.Second

// socketDir makes a folder that only this user can enter, and removes those that killed hosts left. remove removes it.
func socketDir() (dir string, remove func() error, err error) {
	var bases []string
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		if base != "" && len(base) <= socketBase && !slices.Contains(bases, base) {
			bases = append(bases, base)
		}
	}
	if !slices.Contains(bases, os.TempDir()) {
		bases = append(bases, os.TempDir()) // where there is no /tmp
	}
	var refused []string
	for _, base := range bases { // the first may be another user's, or read-only
		if dir, remove, err = socketDirIn(base); err == nil {
			return dir, remove, nil
		}
		refused = append(refused, err.Error())
	}
	return "", nil, fmt.Errorf("no folder for the plugin's socket: %s: set TMPDIR to a folder that can be written, with a path of at most %d bytes",
		strings.Join(refused, "; "), socketBase)
}

func socketDirIn(base string) (dir string, remove func() error, err error) {
	old, err := filepath.Glob(filepath.Join(base, "zoo-plugin-*"))
	if err != nil {
		old = nil // the base has a name that is a bad pattern
	}
	for _, d := range old {
		if info, err := os.Lstat(d); err == nil && info.IsDir() && time.Since(info.ModTime()) > settled && abandoned(d, info) {
			_ = os.RemoveAll(d) // another host may be at it
		}
	}
	if dir, err = os.MkdirTemp(base, "zoo-plugin-"); err != nil {
		return "", nil, err
	}
	release, err := hold(dir)
	if err != nil {
		return "", nil, errors.Join(err, os.Remove(dir))
	}
	remove = func() error { return errors.Join(os.RemoveAll(dir), release()) }
	resolved, err := resolve(dir)
	if err != nil {
		return "", nil, errors.Join(err, remove())
	}
	return resolved, remove, nil
}
