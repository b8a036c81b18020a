package pluginrpc

import (
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socketPair makes the two ends of a line: a socket that keeps packets apart, and tells when the other end is closed.
func socketPair() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a line to the plugin: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "line"), os.NewFile(uintptr(fds[1]), "line of the plugin"), nil
}

func inheritSocket(fd uintptr) (*os.File, error) {
	if err := unix.SetNonblock(int(fd), true); err != nil {
		return nil, fmt.Errorf("file descriptor %d of environment variable %s: %w", fd, EnvLine, err)
	}
	return os.NewFile(fd, "line"), nil
}

// receive reads a packet, the beginning of it if the buffer is too small. It is not done if there is none yet. Descriptors
// that a packet carries are dropped by the system, since read does not take them.
func receive(fd uintptr, buffer []byte) (n int, done bool, err error) {
	for {
		n, _, errno := syscall.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(unsafe.SliceData(buffer))), uintptr(len(buffer)))
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			return 0, false, nil
		case errno == unix.ECONNRESET || errno == 0 && n == 0:
			return 0, true, ErrGone
		case errno != 0:
			return 0, true, fmt.Errorf("read from the line: %w", errno)
		}
		return int(n), true, nil
	}
}

func send(fd uintptr, packet []byte) error {
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(packet))), uintptr(len(packet)),
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
			continue
		case unix.EPIPE, unix.ECONNRESET:
			return ErrGone
		}
		return fmt.Errorf("write to the line: %w", errno)
	}
}
