package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// start starts a process confined. It must run on a goroutine of its own, which then waits for the process: the thread takes
// on the confinement, so that the child is born with it and no launcher program is needed, and is thrown away when the
// goroutine ends. The child is sent a signal when this thread ends, which is when the host does.
//
// Layers, each of which is left out with a line in the log where the kernel does not have it:
//   - no_new_privs: set-uid programs give nothing.
//   - Landlock (Linux 5.13): files outside the grants cannot be opened; from 6.7 no TCP; from 6.12 no signals and abstract sockets out.
//   - seccomp: no connection to Unix sockets either; see unconnected.
//   - Namespaces of network, processes and IPC: no network at all, not even loopback; no other process can be signalled, and none
//     seen but as /proc shows it to everybody; all descendants die with the plugin.
//   - RLIMIT_DATA: the memory ceiling. RLIMIT_CORE 0: no copies of weights on disk.
func (c confinement) start(start starter) (*os.Process, error) {
	runtime.LockOSThread() // for good
	// Without a namespace of its own the process is not killed but told, so that it can kill its children.
	sys := &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	ownGroup(sys)
	if c.isolation == IsolateOff {
		return c.limited(start(sys))
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("no_new_privs: %w", err)
	}
	tcp, err := c.landlock()
	if err != nil {
		if c.isolation == IsolateRequired {
			return nil, fmt.Errorf("the plugin cannot be isolated: Landlock: %w", err)
		}
		c.log.Warn("the plugin can read and write the user's files: Landlock does not work here", "error", err)
	}
	if err := unconnected(); err != nil {
		if c.isolation == IsolateRequired {
			return nil, fmt.Errorf("the plugin cannot be isolated: seccomp: %w", err)
		}
		c.log.Warn("the plugin can reach services of the user through Unix sockets: this system takes no filter of system calls", "error", err)
	}
	if p, err := c.separate(start, sys); err == nil || !namespacesRefused(err) {
		return c.limited(p, err)
	} else if c.isolation == IsolateRequired && !tcp {
		return nil, fmt.Errorf("the plugin cannot be isolated: namespaces: %w", err)
	} else if tcp {
		c.log.Warn("the plugin can send datagrams: this system allows no user namespaces, Landlock only keeps it from TCP", "error", err)
	} else {
		c.log.Warn("the plugin can use the network: this system allows no user namespaces", "error", err)
	}
	sys.Cloneflags, sys.Pdeathsig = 0, syscall.SIGTERM
	return c.limited(start(sys))
}

// separate starts a process in namespaces of its own.
//
// An ordinary user needs a user namespace for that. No identities are mapped into it: the process reads its user's files as ever, and has
// no capability anywhere. Root would lose its right to read what belongs to others, weights in a mounted home folder for instance, so for
// root the other namespaces are tried alone first, with no capability but that one.
func (c confinement) separate(start starter, sys *syscall.SysProcAttr) (*os.Process, error) {
	const namespaces = unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC
	sys.Pdeathsig = syscall.SIGKILL
	if os.Geteuid() == 0 && dropCapabilities() == nil {
		sys.Cloneflags = namespaces
		if p, err := start(sys); err == nil || !namespacesRefused(err) {
			return p, err
		}
	}
	sys.Cloneflags = namespaces | unix.CLONE_NEWUSER
	return start(sys)
}

// dropCapabilities takes from this thread what it could hand on to a program: every capability but those to read and search files.
func dropCapabilities() error {
	for capability := range unix.CAP_LAST_CAP + 1 {
		if capability == unix.CAP_DAC_OVERRIDE || capability == unix.CAP_DAC_READ_SEARCH {
			continue
		}
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0)
		if err != nil && !errors.Is(err, unix.EINVAL) { // EINVAL: unknown to this kernel
			return err
		}
	}
	return nil
}

// namespacesRefused says that a start failed because of the namespaces and not because of the program.
func namespacesRefused(err error) bool {
	for _, refusal := range []error{unix.EPERM, unix.EINVAL, unix.ENOSPC, unix.EUSERS, unix.ENOSYS} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// limited sets the resource limits of a process that was just started. They bind from its first moments on, not its first
// instruction: they are against mistakes.
func (c confinement) limited(p *os.Process, err error) (*os.Process, error) {
	if err != nil {
		return nil, err
	}
	limits := []struct {
		name     string
		resource int
		value    uint64
	}{{"core size", unix.RLIMIT_CORE, 0}, {"memory", unix.RLIMIT_DATA, uint64(c.memory)}}
	for _, l := range limits {
		if l.resource == unix.RLIMIT_DATA && c.memory == 0 {
			continue
		}
		err := unix.Prlimit(p.Pid, l.resource, &unix.Rlimit{Cur: l.value, Max: l.value}, nil)
		if err != nil && !errors.Is(err, unix.ESRCH) {
			c.log.Warn("the plugin's limit was not set", "limit", l.name, "error", err)
		}
	}
	return p, nil
}

// Folders of the system that plugins need to load libraries, read the clock's zone and learn about the machine. Nothing of the user
// is in them; files in them that only root may read stay closed to others as ever, and none of those is listed for root either.
var systemRead = []string{
	"/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/opt", "/nix/store", "/gnu/store", "/proc", "/sys",
	"/etc/alternatives", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/timezone", "/etc/locale.alias",
	"/etc/nsswitch.conf", "/etc/OpenCL", "/etc/vulkan", "/etc/python3", "/etc/python3.11", "/etc/python3.12", "/etc/python3.13",
}

// Devices that plugins use.
var deviceWrite = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/nvidia*", "/dev/nvidia-caps", "/dev/dri", "/dev/kfd"}

const (
	accessReadFile = unix.LANDLOCK_ACCESS_FS_EXECUTE | unix.LANDLOCK_ACCESS_FS_READ_FILE
	accessRead     = accessReadFile | unix.LANDLOCK_ACCESS_FS_READ_DIR
	accessFileOnly = accessReadFile | unix.LANDLOCK_ACCESS_FS_WRITE_FILE | unix.LANDLOCK_ACCESS_FS_TRUNCATE | unix.LANDLOCK_ACCESS_FS_IOCTL_DEV
)

// landlock confines this thread and whatever it starts to the grants. It reports whether TCP is refused too.
func (c confinement) landlock() (tcp bool, err error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		return false, errno
	}
	// Every right that the kernel knows is denied unless granted.
	rights := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1)
	for _, since := range []struct {
		abi   uintptr
		right uint64
	}{{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV}} {
		if abi >= since.abi {
			rights |= since.right
		}
	}
	attr := unix.LandlockRulesetAttr{Handled_access_fs: rights}
	if abi >= 4 {
		attr.Handled_access_net = unix.LANDLOCK_ACCESS_NET_BIND_TCP | unix.LANDLOCK_ACCESS_NET_CONNECT_TCP
	}
	if abi >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET | unix.LANDLOCK_SCOPE_SIGNAL
	}
	size := unsafe.Sizeof(attr)
	switch { // older kernels know a shorter structure
	case abi < 4:
		size = unsafe.Offsetof(attr.Handled_access_net)
	case abi < 6:
		size = unsafe.Offsetof(attr.Scoped)
	}
	fd, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return false, errno
	}
	defer unix.Close(int(fd))
	for _, r := range c.rules() {
		if err := allow(int(fd), r.path, r.access&rights); err != nil {
			if errors.Is(err, unix.ENOENT) && r.optional {
				continue
			}
			return false, fmt.Errorf("grant %s: %w", r.path, err)
		}
	}
	if _, _, errno := unix.Syscall(unix.SYS_LANDLOCK_RESTRICT_SELF, fd, 0, 0); errno != 0 {
		return false, errno
	}
	return attr.Handled_access_net != 0, nil
}

type rule struct {
	path     string
	access   uint64
	optional bool // need not exist
}

func (c confinement) rules() []rule {
	const all = ^uint64(unix.LANDLOCK_ACCESS_FS_MAKE_CHAR | unix.LANDLOCK_ACCESS_FS_MAKE_BLOCK)
	var rules []rule
	for _, p := range systemRead {
		rules = append(rules, rule{p, accessRead, true})
	}
	for _, pattern := range deviceWrite {
		if !strings.Contains(pattern, "*") {
			rules = append(rules, rule{pattern, all, true})
			continue
		}
		paths, err := filepath.Glob(pattern)
		if err != nil {
			continue // the pattern is a constant
		}
		for _, p := range paths {
			rules = append(rules, rule{p, all, true})
		}
	}
	rules = append(rules, rule{c.exe, accessReadFile, false}, rule{c.dir, all, false})
	for _, p := range c.grants.read {
		rules = append(rules, rule{p, accessRead &^ unix.LANDLOCK_ACCESS_FS_EXECUTE, true})
	}
	for _, p := range c.grants.write {
		rules = append(rules, rule{p, all &^ unix.LANDLOCK_ACCESS_FS_EXECUTE, false})
	}
	return rules
}

func allow(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= accessFileOnly
	}
	attr := unix.LandlockPathBeneathAttr{Allowed_access: access, Parent_fd: int32(fd)}
	if _, _, errno := unix.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH, uintptr(unsafe.Pointer(&attr)), 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// executable returns the path of the running program, also when its file was replaced meanwhile.
func executable() (string, error) {
	if _, err := os.Stat("/proc/self/exe"); err == nil {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}
