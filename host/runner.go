package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin/runner"
)

// child is an operating-system process that runs a plugin. It implements go-plugin's runner.Runner, whose own one notices the end of
// a process only when its pipes close (a grandchild can keep them open), kills no process group, and hands on the host's standard input.
type child struct {
	path    string
	args    []string
	env     []string
	confine confinement
	await   func(*os.Process) bool // awaitEnd

	stdout, stderr *os.File // read ends
	handed         []handed
	parent         *os.File   // write end of its standard input: closes when this process ends in whatever way
	theirs         []*os.File // standard input, output and error of the process

	drained   chan struct{} // closed when all that it wrote to standard error has been read
	started   chan error
	condemned chan struct{} // closed by the first kill
	exited    chan struct{} // closed when the process is gone; state is set then
	state     *os.ProcessState

	mu      sync.Mutex
	process *os.Process // nil until started
	group   group       // of the process and its children, until it is reaped
	killed  bool        // by this side
	reason  string      // why, if it was
}

var _ runner.Runner = (*child)(nil)

// drain is how long the pipes of a dead process are still read: what it wrote is there, and a grandchild that escaped must not hold
// them open.
const drain = 500 * time.Millisecond

// handed is an open file that a process inherits, and the variable of its environment that has the number of the descriptor.
type handed struct {
	variable string
	file     *os.File // not the child's to close
}

// firstHanded is the descriptor of the first file that a process inherits, after standard input, output and error.
const firstHanded = 3

// newChild prepares a process that inherits the files. Until it is started its environment may be changed; if it is not
// started, discard frees it.
func newChild(path, name string, files []handed, confine confinement) (*child, error) {
	c := &child{
		path: path, args: []string{name}, confine: confine, handed: files, await: awaitEnd,
		started: make(chan error, 1), condemned: make(chan struct{}), exited: make(chan struct{}), drained: make(chan struct{}),
	}
	for _, mine := range []**os.File{&c.parent, &c.stdout, &c.stderr} { // by the descriptors of the process
		read, write, err := os.Pipe()
		if err != nil {
			c.discard()
			return nil, fmt.Errorf("make a pipe to the plugin: %w", err)
		}
		if mine == &c.parent {
			*mine, c.theirs = write, append(c.theirs, read)
		} else {
			*mine, c.theirs = read, append(c.theirs, write)
		}
	}
	return c, nil
}

// discard closes the pipes of a process that was not started.
func (c *child) discard() {
	for _, f := range append([]*os.File{c.parent, c.stdout, c.stderr}, c.theirs...) {
		if f != nil {
			_ = f.Close() // of a pipe: nothing is lost
		}
	}
}

// Start implements runner.Runner. The goroutine that starts the process also waits for it: see confinement.
func (c *child) Start(context.Context) error {
	go c.own()
	return <-c.started
}

// own starts the process, waits for its end and cleans up.
func (c *child) own() {
	p, err := c.launch()
	c.started <- err
	if err == nil {
		unreaped := c.await(p)
		if unreaped {
			c.group.kill() // while its number is still its own
		}
		if c.state, err = p.Wait(); err != nil {
			c.confine.log.Error("waiting for the plugin's process", "error", err)
		}
		c.disband(!unreaped)
	}
	close(c.exited)
	_ = c.parent.Close()
	time.AfterFunc(drain, func() {
		_ = c.stdout.Close()
		_ = c.stderr.Close()
	})
}

// disband forgets the group of a process that was reaped, and can first kill who is left in it: as long as there is anybody, the number is theirs.
func (c *child) disband(kill bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if kill {
		c.group.kill()
	}
	c.group.close()
	var none group
	c.group = none
}

// launch starts the process. It must run on a goroutine of its own: see confinement.
//
// Between its birth and its program a process has no number that this side knows, and whoever starts it waits. If it hangs
// there (its file lies on a server that is gone, a signal stopped it), a kill must reach it all the same, so it is looked
// for among the children of this thread. What this cannot mend: without a user namespace Go uses vfork, where this thread
// keeps one of Go's processors, and its garbage collector waiting.
func (c *child) launch() (*os.Process, error) {
	defer func() {
		for _, f := range c.theirs {
			_ = f.Close() // the process has its own
		}
	}()
	attr := &os.ProcAttr{Env: c.env, Files: slices.Clone(c.theirs)}
	for _, f := range c.handed {
		attr.Files = append(attr.Files, f.file)
	}
	runtime.LockOSThread() // for good: its children must be this process alone
	thread := threadID()
	launched, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		c.watchBirth(thread, launched)
	}()
	p, err := c.confine.start(func(sys *syscall.SysProcAttr) (*os.Process, error) {
		if reason, dead := c.verdict(); dead {
			return nil, errors.New(cmp.Or(reason, "stopped before it was started"))
		}
		attr.Sys = sys
		return os.StartProcess(c.path, c.args, attr)
	})
	close(launched)
	<-watched
	c.mu.Lock()
	defer c.mu.Unlock()
	c.process = p
	if p != nil {
		var ungrouped error
		if c.group, ungrouped = groupOf(p); ungrouped != nil {
			c.confine.log.Warn("the plugin's children may outlive it, and it this process", "error", ungrouped)
		}
	}
	if c.killed && p != nil {
		c.end()
	}
	return p, err
}

// watchBirth kills what the thread starts once this side has decided so, until the start is over.
func (c *child) watchBirth(thread int, launched <-chan struct{}) {
	select {
	case <-launched:
		return
	case <-c.condemned:
	}
	again := time.NewTicker(10 * time.Millisecond) // it may not be born yet
	defer again.Stop()
	for {
		killNewborn(thread)
		select {
		case <-launched:
			return
		case <-again.C:
		}
	}
}

// Wait implements runner.AttachedRunner.
func (c *child) Wait(context.Context) error {
	<-c.exited
	if c.state != nil && !c.state.Success() {
		return errors.New(c.state.String())
	}
	return nil
}

// Kill implements runner.AttachedRunner.
func (c *child) Kill(context.Context) error {
	c.kill("")
	return nil
}

// kill ends the process and its group, or keeps it from starting. The first reason given is kept. It does not wait.
func (c *child) kill(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.killed {
		c.killed = true
		close(c.condemned)
	}
	if c.reason == "" {
		c.reason = reason
	}
	select {
	case <-c.exited:
		return
	default:
	}
	if c.process != nil {
		c.end()
	}
}

// end kills the process that was started. It needs mu.
func (c *child) end() {
	c.group.kill()
	_ = c.process.Kill() // where there are no groups; it may just have ended
}

// verdict returns whether this side killed the process, and why.
func (c *child) verdict() (reason string, killed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason, c.killed
}

// pid returns the process's number, 0 if it was not started.
func (c *child) pid() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process == nil {
		return 0
	}
	return c.process.Pid
}

// Stdout implements runner.Runner.
func (c *child) Stdout() io.ReadCloser { return &folding{File: c.stdout} }

// folding ends lines that are too long. go-plugin reads standard output by lines, nothing more after one above 64 KiB, and a process that
// prints on, such as a progress bar that only ever returns the carriage, would then wait for a reader without end.
type folding struct {
	*os.File
	length int // of the line so far
}

// foldAt is far above what a handshake takes, in bytes.
const foldAt = 32 << 10

// Read implements io.Reader.
func (f *folding) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	for i, b := range p[:n] {
		f.length++
		if f.length == foldAt {
			p[i] = '\n'
		}
		if f.length == foldAt || b == '\n' {
			f.length = 0
		}
	}
	return n, err
}

// Stderr implements runner.Runner.
func (c *child) Stderr() io.ReadCloser {
	return &draining{c.stderr, sync.OnceFunc(func() { close(c.drained) })}
}

// draining tells when a pipe has nothing more.
type draining struct {
	*os.File
	done func()
}

// Read implements io.Reader.
func (d *draining) Read(p []byte) (int, error) {
	n, err := d.File.Read(p)
	if err != nil {
		d.done()
	}
	return n, err
}

// lastWords waits until a process that has ended has said all that it had to say.
func (c *child) lastWords() {
	select {
	case <-c.drained:
	case <-time.After(drain):
	}
}

// Name implements runner.Runner.
func (c *child) Name() string { return filepath.Base(c.args[0]) }

// ID implements runner.AttachedRunner.
func (c *child) ID() string {
	if pid := c.pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

// Diagnose implements runner.Runner.
func (c *child) Diagnose(context.Context) string { return "" }

// errAddress says that a plugin's handshake has this process connect to where no plugin listens.
var errAddress = errors.New("a plugin listens on a Unix socket in PLUGIN_UNIX_SOCKET_DIR")

// PluginToHost implements runner.AddrTranslator: both sides see the same addresses. A plugin, which has no network, must not have this
// process look names up and connect in its place.
func (c *child) PluginToHost(network, addr string) (string, string, error) {
	local := network == "unix" && strings.HasPrefix(filepath.Clean(addr), c.confine.dir+string(filepath.Separator))
	if runtime.GOOS == "windows" && network == "tcp" { // where go-plugin listens there
		a, err := netip.ParseAddrPort(addr)
		local = err == nil && a.Addr().IsLoopback()
	}
	if !local {
		return "", "", fmt.Errorf("its handshake names %.20q %.100q: %w", network, addr, errAddress)
	}
	return network, addr, nil
}

// HostToPlugin implements runner.AddrTranslator.
func (c *child) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}
