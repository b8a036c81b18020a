//go:build unix

package finetune

import "golang.org/x/sys/unix"

// limitFileSize makes writing beyond a size fail, as on a full disk.
func limitFileSize(n uint64) error {
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: n, Max: n})
}
