//go:build linux

package host

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/sdk"
)

// confined returns a host whose plugins must be confined, or skips the test where this system cannot.
func confined(t *testing.T, change func(*Options)) *Host {
	t.Helper()
	h := newHost(t, func(o *Options) {
		o.Isolation = IsolateRequired
		if change != nil {
			change(o)
		}
	})
	_, err := h.Build(t.Context(), Network{Family: "tiny", Model: "tiny"})
	if err != nil && strings.Contains(err.Error(), "cannot be isolated") {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// refused checks that a plugin was told no.
func refused(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, ErrFailed) {
		t.Fatalf("error %v", err)
	}
	oneLine(t, err, "REFUSED")
	t.Log(err)
}

// secretFile is a file as ~/.ssh has: in the user's reach, granted to no plugin.
func secretFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), ".ssh", "id_ed25519")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPluginCannotReadTheUsersFiles(t *testing.T) {
	h := confined(t, nil)
	refused(t, inferFault(t, h, "read", secretFile(t)))
}

func TestPluginReadsWhatItIsGranted(t *testing.T) {
	path := secretFile(t)
	h := confined(t, func(o *Options) { o.ReadOnly = []string{filepath.Dir(path)} })
	if err := inferFault(t, h, "read", path); err != nil {
		t.Fatal(err)
	}
	refused(t, inferFault(t, h, "write", path))
	refused(t, inferFault(t, h, "remove", path))
}

func TestPluginCannotWriteOutsideTheRunFolder(t *testing.T) {
	h := confined(t, nil)
	dir := t.TempDir()
	refused(t, inferFault(t, h, "write", filepath.Join(dir, "new")))
	refused(t, inferFault(t, h, "write", "/usr/zoo-test"))
	refused(t, inferFault(t, h, "write", "/proc/sys/kernel/core_pattern"))
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestPluginCannotDialOut(t *testing.T) {
	h := confined(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refused(t, inferFault(t, h, "dial", l.Addr().String()))
	refused(t, inferFault(t, h, "datagram", "192.0.2.1:53"))
}

// userServices listens on a Unix socket and takes datagrams on another, as a session's bus and its notifications do.
func userServices(t *testing.T) (stream, datagrams string) {
	t.Helper()
	dir := shortDir(t)
	stream, datagrams = filepath.Join(dir, "bus"), filepath.Join(dir, "notify")
	l, err := net.Listen("unix", stream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	c, err := net.ListenPacket("unixgram", datagrams)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return stream, datagrams
}

func init() {
	linuxFaults["ring"] = func(string) error { // which connects unseen
		if _, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 8, 0, 0); errno != unix.EFAULT {
			return errno
		}
		return nil
	}
	linuxFaults["pair"] = func(path string) error { // to a socket in the file system from one that was made with its other end
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return errors.Join(unix.Sendto(fds[0], []byte("run this"), 0, &unix.SockaddrUnix{Name: path}), unix.Close(fds[0]), unix.Close(fds[1]))
	}
}

// A session's bus, a container engine and an agent with keys listen in the file system, where neither Landlock nor a namespace keeps a plugin from them.
func TestPluginCannotReachTheServicesOfTheUser(t *testing.T) {
	h := confined(t, nil)
	stream, datagrams := userServices(t)
	refused(t, inferFault(t, h, "socket", stream))
	refused(t, inferFault(t, h, "pair", datagrams))
	refused(t, inferFault(t, h, "ring", ""))
}

func TestPluginCannotSignalTheHost(t *testing.T) {
	refused(t, inferFault(t, confined(t, nil), "signal", ""))
}

// A message of 3 GB is refused by its length: nothing of it is kept.
func TestMessageOf3GBIsRefused(t *testing.T) {
	h := newHost(t, withPlugins(t, "giant"))
	before := residentBytes(t, os.Getpid())
	_, err := h.Open(within5s(t), Spec{Network: Network{Family: "giant", Model: "m"}})
	if !errors.Is(err, ErrProtocol) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "giant 0.9.0", "message of more than 16 MiB")
	if after := residentBytes(t, os.Getpid()); after > before+64<<20 {
		t.Errorf("memory grew from %d to %d MB", before>>20, after>>20)
	}
}

// go-plugin keeps what comes through its broker until somebody asks for it.
func TestWhatAPluginSendsUnaskedIsNotKept(t *testing.T) {
	h := newHost(t, withPlugins(t, "knocker"))
	before := residentBytes(t, os.Getpid())
	s, err := h.Open(within5s(t), Spec{Network: Network{Family: "knocker", Model: "m", Classes: 1}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for range 30 {
		time.Sleep(50 * time.Millisecond)
		if after := residentBytes(t, os.Getpid()); after > before+32<<20 {
			t.Fatalf("memory grew from %d to %d MB", before>>20, after>>20)
		}
	}
}

func TestPluginGetsNoSecretsFromTheEnvironment(t *testing.T) {
	t.Setenv("REGISTRY_SECRET", "hunter2")
	if err := inferFault(t, newHost(t, nil), "environment", ""); err != nil {
		t.Fatal(err)
	}
}

// What the tests above see refused works without the sandbox: it is the sandbox that refuses it.
func TestIsolationOffGivesTheUsersRights(t *testing.T) {
	h := newHost(t, func(o *Options) { o.Isolation = IsolateOff })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	secret := secretFile(t)
	stream, datagrams := userServices(t)
	for _, c := range []struct{ fault, path string }{
		{"socket", stream}, {"pair", datagrams}, {"read", secret}, {"write", filepath.Join(t.TempDir(), "new")}, {"dial", l.Addr().String()}, {"remove", secret},
	} {
		if err := inferFault(t, h, c.fault, c.path); err != nil {
			t.Errorf("%s %s: %v", c.fault, c.path, err)
		}
	}
	if _, err := os.Stat(secret); err == nil {
		t.Error("nothing was removed")
	}
}

func TestWeightsOutsideTheGrantsGetAProcessThatMayReadThem(t *testing.T) {
	h := confined(t, nil)
	spec := tinySpec(nil)
	spec.Weights.Path = filepath.Join(t.TempDir(), "broken.safetensors")
	if err := os.WriteFile(spec.Weights.Path, []byte("not weights"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := h.Open(t.Context(), spec)
	oneLine(t, err, "broken.safetensors")
	if strings.Contains(err.Error(), "permission denied") {
		t.Error("the plugin was not granted its weights")
	}
}

// A model that was trained again, or a folder made anew, was "permission denied" for as long as the process lived.
func TestFileInThePlaceOfAGrantedOneIsReadToo(t *testing.T) {
	h := confined(t, nil)
	dir := filepath.Join(t.TempDir(), "model")
	spec := tinySpec(nil)
	spec.Weights.Path = filepath.Join(dir, "model.safetensors")
	for _, was := range []string{"nothing", "a file", "a folder"} {
		if was == "a folder" {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
		}
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Rename(weightsFile(t, 4), spec.Weights.Path)); err != nil {
			t.Fatal(err)
		}
		s, err := h.Open(t.Context(), spec)
		if err != nil {
			t.Fatalf("in the place of %s: %v", was, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	again, err := h.Open(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if n := len(again.pool.list); n != 4 { // one to build it in, one a file
		t.Errorf("%d processes", n)
	}
}

// shortDir is a folder whose path leaves room for that of a socket.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "z")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFolderTooDeepForASocketIsNotUsed(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.Mkdir(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_RUNTIME_DIR", deep)
	t.Setenv("TMPDIR", deep)
	open(t, newHost(t, nil), nil)
}

func TestFolderThatRefusesASocketIsNotTheLast(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/proc") // no folder can be made there, not even by root
	open(t, newHost(t, nil), nil)
	t.Setenv("TMPDIR", "/proc")
	open(t, newHost(t, nil), nil)
}

func TestNothingOfARunningPluginIsInTheFileSystem(t *testing.T) {
	base := shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", base)
	s := open(t, newHost(t, nil), nil)
	if _, err := s.Infer(t.Context(), images(1, 0)); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(base)
	if err != nil || len(entries) > 0 {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestSocketsAreInAFolderThatNobodyElseEnters(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	dir, remove, err := socketDir()
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(dir)
	if err != nil || info.Mode() != os.ModeDir|0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the folder is still there: %v", err)
	}
}

func TestFoldersOfKilledHostsAreRemovedAndThoseOfOthersKept(t *testing.T) {
	base := shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", base)
	old := time.Now().Add(-2 * settled)
	for name, age := range map[string]time.Time{"left": old, "held": old, "new": time.Now()} {
		dir := filepath.Join(base, "zoo-plugin-"+name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if name == "held" {
			release, err := hold(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer release()
		}
		if err := os.Chtimes(dir, age, age); err != nil {
			t.Fatal(err)
		}
	}
	open(t, newHost(t, nil), nil)
	entries, err := os.ReadDir(base)
	if err != nil || len(entries) != 2 || entries[0].Name() != "zoo-plugin-held" || entries[1].Name() != "zoo-plugin-new" {
		t.Errorf("%v, %v", entries, err)
	}
}

// state returns the letter of a process's state in /proc, "" if there is no such process.
func state(pid int) string {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return ""
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return rest[:min(len(rest), 1)]
}

// running lists the processes that are there, zombies apart.
func running(t *testing.T, pids []int) (alive []int) {
	t.Helper()
	for _, pid := range pids {
		if s := state(pid); s != "" && s != "Z" {
			alive = append(alive, pid)
		}
	}
	return alive
}

// describe says what a process is and does, for a failing test.
func describe(pid int) string {
	text := fmt.Sprintf("process %d, state %s", pid, state(pid))
	for _, file := range []string{"stat", "wchan", "cmdline"} {
		content, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			continue // it has just ended, or the system does not tell
		}
		text += fmt.Sprintf(", %s %q", file, bytes.TrimSpace(bytes.ReplaceAll(content, []byte{0}, []byte{' '})))
	}
	return text
}

// descendants lists the processes below pid.
func descendants(t *testing.T, pid int) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	parents := map[int]int{}
	for _, e := range entries {
		id, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if f := strings.Fields(rest); len(f) > 1 {
			parents[id], _ = strconv.Atoi(f[1])
		}
	}
	var list []int
	for id := range parents {
		for p := parents[id]; p != 0; p = parents[p] {
			if p == pid {
				list = append(list, id)
				break
			}
		}
	}
	return list
}

func gone(t *testing.T, pids []int, within time.Duration) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		left := running(t, pids)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			states := make([]string, len(left))
			for i, pid := range left {
				states[i] = describe(pid)
				_ = unix.Kill(pid, unix.SIGKILL) // not to be in the way of the next test
			}
			t.Fatalf("processes are still there after %v:\n%s", within, strings.Join(states, "\n"))
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestGrandchildrenDieWithThePlugin(t *testing.T) {
	for name, isolation := range map[string]Isolation{"confined": IsolateDefault, "unconfined": IsolateOff} {
		t.Run(name, func(t *testing.T) {
			h := newHost(t, func(o *Options) { o.Isolation = isolation })
			if err := inferFault(t, h, "child", ""); err != nil {
				t.Fatal(err)
			}
			pids := descendants(t, os.Getpid())
			if len(pids) < 2 {
				t.Fatalf("processes %v: no grandchild", pids)
			}
			if err := h.Close(); err != nil {
				t.Fatal(err)
			}
			gone(t, pids, time.Second)
		})
	}
}

// victimEnv makes this test binary a host that starts a plugin, which starts a grandchild, and waits to be killed.
const victimEnv = "ZOO_TEST_VICTIM"

// TestKilledHostLeavesNoProcess kills hosts whose plugins run or are stopped, with and without a namespace. Who adopts the orphans decides
// what the kernel does for a stopped process: it continues those whose process group has lost its session's last process outside, which
// is not so where the adopter is of the same session. In containers that is the rule, here this process plays the adopter.
func TestKilledHostLeavesNoProcess(t *testing.T) {
	if mode := os.Getenv(victimEnv); mode != "" {
		victim(t, mode)
		return
	}
	for _, adopter := range []string{"", "same session"} {
		for _, mode := range []string{"confined", "unconfined", "stopped", "unconfined stopped"} {
			t.Run(strings.TrimSpace(mode+" "+adopter), func(t *testing.T) {
				if adopter != "" {
					adoptOrphans(t)
				}
				killHost(t, mode)
			})
		}
	}
}

// adoptOrphans makes this process the one that inherits orphans below it, as the first process of a container is, until the test ends.
func adoptOrphans(t *testing.T) {
	t.Helper()
	set := func(on uintptr) {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, on, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	set(1)
	t.Cleanup(func() { set(0) })
}

// killHost starts this test as a host, kills it and checks that nothing of it is left.
func killHost(t *testing.T, mode string) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	cmd := exec.Command(exe, "-test.run=^TestKilledHostLeavesNoProcess$")
	cmd.Env = append(os.Environ(), victimEnv+"="+mode, "XDG_RUNTIME_DIR="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil { // it is ready
		t.Fatal(err)
	}
	pids := descendants(t, cmd.Process.Pid)
	if len(pids) < 2 {
		t.Errorf("processes %v: no grandchild", pids)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the host was not killed")
	}
	gone(t, pids, 2*time.Second)
	reap(t, pids)
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// reap takes leave of the dead that this process adopted: each must be waited for by somebody, and nobody else will.
func reap(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != nil && !errors.Is(err, unix.ECHILD) { // ECHILD: adopted by another
			t.Errorf("reaping process %d: %v", pid, err)
		}
	}
}

func victim(t *testing.T, mode string) {
	h := newHost(t, func(o *Options) {
		if strings.Contains(mode, "unconfined") {
			o.Isolation = IsolateOff
		}
	})
	s := open(t, h, map[string]string{"fault": "child"})
	if _, err := s.Infer(t.Context(), images(1, 0)); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(mode, "stopped") {
		halt(t, s.proc.child.pid())
	}
	if _, err := os.Stdout.WriteString("ready\n"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
}

// A process that hangs before its program begins, as one does whose file lies on a dead server, is ended at the deadline. A
// lease on the file holds up whoever opens it.
func TestProcessThatHangsBeforeItsProgramIsEnded(t *testing.T) {
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "zoo-tiny")
	if err := os.WriteFile(path, exe, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // ends the lease
	h := newHost(t, func(o *Options) {
		o.Dirs = []string{filepath.Dir(path)}
		o.StartTimeout = time.Second
		o.Isolation = IsolateOff // rules about files would wait for the lease too
	})
	// A thread that is in vfork keeps a processor of Go's, and its garbage collector waiting.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Skipf("no leases on files here: %v", err)
	}
	begin := time.Now()
	_, err = h.Open(t.Context(), tinySpec(nil))
	if d := time.Since(begin); d > 4*time.Second {
		t.Errorf("returned after %v", d)
	}
	if !errors.Is(err, ErrTimeout) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "tiny", "did not start within 1s")
	if left := running(t, descendants(t, os.Getpid())); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

// A process that gets no more memory may live on and answer every call with that; the next call gets another one.
func TestProcessWithoutMemoryIsReplaced(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, nil)
	first := s.proc
	if err := unix.Prlimit(first.child.pid(), unix.RLIMIT_AS, &unix.Rlimit{Cur: 1 << 20, Max: 1 << 20}, nil); err != nil {
		t.Fatal(err)
	}
	_, err := s.Infer(t.Context(), images(8, 0)) // of which a new segment is mapped
	if !errors.Is(err, ErrMemory) {
		t.Errorf("error %v", err)
	}
	oneLine(t, err, "tiny 1.0.0", "needed more memory than there is for batch 8; try --batch 2")
	if _, err := s.Infer(t.Context(), images(8, 0)); err != nil {
		t.Error(err)
	}
	if s.proc == first {
		t.Error("the process goes on")
	}
	select {
	case <-first.child.exited:
	case <-time.After(5 * time.Second):
		t.Error("the process that has no memory is still there")
	}
}

func TestInterruptReachesTheHostAlone(t *testing.T) {
	h := newHost(t, nil)
	s := open(t, h, nil)
	pid := s.proc.child.pid()
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("the plugin is in process group %d, %v", group, err)
	}
	if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Infer(t.Context(), images(1, 0)); err != nil || s.proc.child.pid() != pid {
		t.Errorf("SIGINT ended the plugin: %v", err)
	}
}

func TestRootReadsGrantedFilesOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	path := secretFile(t)
	for _, p := range []string{path, filepath.Dir(path)} {
		if err := os.Chown(p, 12345, 12345); err != nil {
			t.Skip(err)
		}
	}
	h := confined(t, func(o *Options) { o.ReadOnly = []string{filepath.Dir(path)} })
	if err := inferFault(t, h, "read", path); err != nil {
		t.Fatal(err)
	}
}

func TestSystemWithoutNamespacesIsSaidSo(t *testing.T) {
	for _, isolation := range []Isolation{IsolateDefault, IsolateRequired} {
		var log strings.Builder
		c := confinement{
			isolation: isolation, exe: "/bin/true", dir: t.TempDir(),
			log: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Warn}),
		}
		tried := 0
		var p *os.Process
		var err error
		done := make(chan struct{})
		go func() { // whose thread is spoilt
			defer close(done)
			p, err = c.start(func(sys *syscall.SysProcAttr) (*os.Process, error) {
				tried++
				if sys.Cloneflags != 0 {
					return nil, &os.PathError{Op: "fork/exec", Path: "/bin/true", Err: syscall.EPERM}
				}
				return os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Sys: sys})
			})
			if p != nil {
				if _, err := p.Wait(); err != nil {
					t.Error(err)
				}
			}
		}()
		<-done
		if err != nil {
			oneLine(t, err, "cannot be isolated")
			continue
		}
		if text := log.String(); tried < 2 || !strings.Contains(text, "no user namespaces") {
			t.Errorf("%d attempts; the log says %q", tried, text)
		}
	}
}

func TestEmbeddedServingNeedsTheHandshake(t *testing.T) {
	t.Setenv(pluginrpc.EnvFamily, "tiny")
	sdk.ServeEmbedded(func() []sdk.Family { t.Error("asked for families"); return nil }) // returns
}
