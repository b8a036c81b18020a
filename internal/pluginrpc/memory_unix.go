//go:build unix

package pluginrpc

import (
	"os"

	"golang.org/x/sys/unix"
)

func mapMemory(f *os.File, offset, length int64) ([]byte, error) {
	return unix.Mmap(int(f.Fd()), offset, int(length), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

func unmapMemory(data []byte) error { return unix.Munmap(data) }

// closeOnExec keeps the descriptor from the children of the plugin.
func closeOnExec(fd uintptr) { unix.CloseOnExec(int(fd)) }
