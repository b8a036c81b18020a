package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// socketBase is the longest path of a folder for sockets: with what is added to it, a socket's path must stay below the 104 bytes that
// the least of the systems allows.
const socketBase = 40

// settled is the age at which the folder of a process that is starting is held, if its host lives.
const settled = 5 * time.Second

// socketDir makes a folder that only this user can enter, and removes those that killed hosts left. remove removes it.
func socketDir() (dir string, remove func() error, err error) {
	base := os.TempDir()
	for _, dir := range []string{os.Getenv("XDG_RUNTIME_DIR"), os.TempDir(), "/tmp"} {
		if info, err := os.Stat(dir); dir != "" && len(dir) <= socketBase && err == nil && info.IsDir() {
			base = dir
			break
		}
	}
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
		return "", nil, fmt.Errorf("folder for the plugin's socket: %w", err)
	}
	release, err := hold(dir)
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("lock the folder for the plugin's socket: %w", err), os.Remove(dir))
	}
	remove = func() error { return errors.Join(os.RemoveAll(dir), release()) }
	resolved, err := resolve(dir)
	if err != nil {
		return "", nil, errors.Join(err, remove())
	}
	return resolved, remove, nil
}
