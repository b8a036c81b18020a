package host

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// auditArch are the architectures whose system calls the filter below knows; all are little-endian.
var auditArch = map[string]uint32{"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64, "riscv64": unix.AUDIT_ARCH_RISCV64}

// unconnected has this thread, and whatever it starts, listen on sockets but reach nobody's: connect fails, and no Unix socket can be had
// that sends without it. Landlock and namespaces leave sockets alone that lie in the file system, and behind these are services that start
// programs for whoever is of their user: the session's bus, a container engine, an agent with keys. io_uring, which does the same unseen,
// is absent.
func unconnected() error {
	arch, ok := auditArch[runtime.GOARCH]
	if !ok {
		return fmt.Errorf("no filter for %s", runtime.GOARCH)
	}
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		least  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		and    = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
		answer = unix.BPF_RET | unix.BPF_K
		x32    = 0x40000000 // where the numbers of amd64's second interface begin; no other architecture has any there
	)
	// Offsets in struct seccomp_data: number 0, architecture 4, arguments from 16 on. Jumps count the instructions that they leave out.
	filter := []unix.SockFilter{
		{Code: load, K: 4},
		{Code: equal, K: arch, Jf: 14}, // to "absent"
		{Code: load, K: 0},
		{Code: least, K: x32, Jt: 12},
		{Code: equal, K: unix.SYS_IO_URING_SETUP, Jt: 11},
		{Code: equal, K: unix.SYS_CONNECT, Jt: 8}, // to "refused"
		{Code: equal, K: unix.SYS_SOCKET, Jt: 1},
		{Code: equal, K: unix.SYS_SOCKETPAIR, Jf: 7}, // to "allowed"
		{Code: load, K: 16},
		{Code: equal, K: unix.AF_UNIX, Jf: 5},
		{Code: load, K: 24},
		{Code: and, K: 0xf}, // the type without its flags
		{Code: equal, K: unix.SOCK_STREAM, Jt: 2},
		{Code: equal, K: unix.SOCK_SEQPACKET, Jt: 1},
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EACCES)}, // refused
		{Code: answer, K: unix.SECCOMP_RET_ALLOW},                       // allowed
		{Code: answer, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)}, // absent
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
	runtime.KeepAlive(filter)
	return err
}
