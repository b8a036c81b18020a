//go:build !unix

package host

import (
	"os"
	"time"
)

// stale is the age at which the folder of a process that never connected is left over, where folders cannot be locked.
const stale = 10 * time.Minute

func hold(string) (release func() error, err error) { return func() error { return nil }, nil }

func abandoned(_ string, info os.FileInfo) bool { return time.Since(info.ModTime()) > stale }
