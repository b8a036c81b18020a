package host

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/sdk"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// Isolation says how a plugin process is confined.
type Isolation int

const (
	// IsolateDefault confines plugins as far as the system can and logs what it cannot.
	IsolateDefault Isolation = iota
	// IsolateRequired refuses to start a plugin that cannot be confined.
	IsolateRequired
	// IsolateOff gives plugins the rights of the user.
	IsolateOff
)

// Options configure a Host. The zero value serves no family.
type Options struct {
	// Binaries are plugins, named zoo-FAMILY, that serve before any of Dirs.
	Binaries []string
	// Dirs are searched for plugin binaries in this order; ones that do not exist are no error. See DefaultDirs.
	Dirs []string
	// Embedded are the families linked into this program, which must call sdk.ServeEmbedded first in main. They serve where
	// Dirs have no binary.
	Embedded []sdk.Family
	// CacheDir keeps what plugin binaries tell of themselves, so that listing does not start them; "" keeps nothing.
	CacheDir string
	// ReadOnly are files and folders that every plugin may read, such as the store of weights. Other files are granted call
	// by call; a process that lacks a grant cannot be given it, so then another one is started.
	ReadOnly []string
	// Logger receives the host's and the plugins' logs; nil discards them.
	Logger hclog.Logger
	// IdleAfter is how long an unused process is kept; 0 means 5 minutes.
	IdleAfter time.Duration
	// StartTimeout is how long a process may take to start; 0 means 20 seconds.
	StartTimeout time.Duration
	// CallTimeout is how long a call may take, training apart; 0 means 5 minutes.
	CallTimeout time.Duration
	// Memory is the most bytes that a plugin process may allocate; 0 means no ceiling.
	Memory int64
	// Isolation confines plugins.
	Isolation Isolation
	// Allow refuses a plugin with an error before it is started; nil allows all.
	Allow func(Plugin) error
	// Digest returns the SHA-256 on record of a plugin's binary in hexadecimal, "" if there is none; nil means none.
	Digest func(Plugin) string
	// Versions chooses a family's version; a family without an entry serves as the package comment says.
	Versions map[string]string
}

// DefaultDirs returns the folders of plugin binaries: the extra ones (--plugin-dir) first, then plugins in zoo's home folder, then
// plugins beside the running executable.
func DefaultDirs(home string, extra ...string) []string {
	dirs := append([]string(nil), extra...)
	if home != "" {
		dirs = append(dirs, filepath.Join(home, "plugins"))
	}
	if exe, err := os.Executable(); err == nil {
		dirs = append(dirs, filepath.Join(filepath.Dir(exe), "plugins"))
	}
	return dirs
}

// Host serves families through plugin processes. Close it when done.
type Host struct {
	opt       Options
	log       hclog.Logger
	protocols map[int]plugin.PluginSet

	ctx    context.Context // ends with the host
	cancel context.CancelFunc
	work   sync.WaitGroup // every goroutine of the host

	calls atomic.Uint64 // numbers inferences for Engine.Cancel

	mu     sync.Mutex
	closed bool
	pools  map[string]*pool // by path, or family for embedded ones
}

// New returns a host. It starts nothing.
func New(opt Options) (*Host, error) {
	if opt.IdleAfter < 0 || opt.StartTimeout < 0 || opt.CallTimeout < 0 || opt.Memory < 0 {
		return nil, errors.New("host: negative duration or size in the options")
	}
	if opt.Isolation < IsolateDefault || opt.Isolation > IsolateOff {
		return nil, fmt.Errorf("host: isolation %d is unknown", opt.Isolation)
	}
	if err := pluginrpc.Unserved(); err != nil {
		return nil, err
	}
	setDefault(&opt.IdleAfter, 5*time.Minute)
	setDefault(&opt.StartTimeout, 20*time.Second)
	setDefault(&opt.CallTimeout, 5*time.Minute)
	h := &Host{opt: opt, log: opt.Logger, protocols: protocols(), pools: map[string]*pool{}}
	if h.log == nil {
		h.log = hclog.NewNullLogger()
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	return h, nil
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// Close ends every plugin process, gently where it answers, and waits for it. Calls in flight fail. Closing twice is harmless.
func (h *Host) Close() error {
	h.mu.Lock()
	h.closed = true
	pools := make([]*pool, 0, len(h.pools))
	for _, p := range h.pools {
		pools = append(pools, p)
	}
	h.mu.Unlock()
	h.cancel()
	var all sync.WaitGroup
	for _, p := range pools {
		for _, pr := range p.take() {
			all.Go(func() { pr.stop(false) })
		}
	}
	all.Wait()
	h.work.Wait()
	return nil
}

// background runs f on a goroutine that Close waits for. It fails once the host is closed.
func (h *Host) background(f func()) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("plugin host: %w", ErrClosed)
	}
	h.work.Go(f)
	return nil
}

// pool returns the processes of a plugin.
func (h *Host) pool(p Plugin) (*pool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fmt.Errorf("plugin host: %w", ErrClosed)
	}
	key := p.Path
	if p.Embedded {
		key = "embedded " + p.Family
	}
	if h.pools[key] == nil {
		h.pools[key] = &pool{host: h, plugin: p}
	}
	return h.pools[key], nil
}

// Network says which network to build.
type Network struct {
	// Family serves the model; "" looks for it, which may start plugins that were never listed before.
	Family string
	Model  string
	// Options are the model's settings; missing ones take their defaults.
	Options map[string]string
	// Classes is the number of logits; 0 means 1000.
	Classes int
	// Input is the shape of images; zero means the model's own.
	Input graph.Shape
}

func (n Network) message() *zoov1.Network {
	m := &zoov1.Network{Model: n.Model, Options: n.Options, Classes: int32(min(n.Classes, math.MaxInt32))}
	if n.Input != (graph.Shape{}) {
		m.Input = pluginrpc.ToShape(n.Input)
	}
	return m
}

// answered wants the network that a plugin answers with to be the one that was asked for.
func (n Network) answered(input graph.Shape, classes int) error {
	if want := cmp.Or(n.Classes, sdk.DefaultClasses); classes != want {
		return fmt.Errorf("a network of %s where one of %d was asked for", plural.Count(classes, "class", "classes"), want)
	}
	if n.Input != (graph.Shape{}) && input != n.Input {
		return fmt.Errorf("a network for images of %v where one for %v was asked for", input, n.Input)
	}
	return nil
}

// Build returns a model's graph. It is the plugin's description of it, checked and with all shapes inferred again in this process;
// operators of the family's own are graph.Foreign.
func (h *Host) Build(ctx context.Context, n Network) (*graph.Graph, error) {
	p, err := h.find(ctx, n.Family, n.Model)
	if err != nil {
		return nil, err
	}
	pool, err := h.pool(p)
	if err != nil {
		return nil, err
	}
	var g *graph.Graph
	err = retry(ctx, func() error {
		pr, err := pool.acquire(ctx, nil)
		if err != nil {
			return err
		}
		defer pr.release()
		t := pr.task("building "+n.Model, 0)
		var r *zoov1.BuildResponse
		err = pr.call(ctx, t, func(ctx context.Context) (err error) {
			r, err = pr.family.Build(ctx, &zoov1.BuildRequest{Network: n.message()})
			return err
		})
		if err != nil {
			return err
		}
		if g, err = pluginrpc.ToGraph(r.GetGraph()); err != nil {
			return pr.fault(ErrProtocol, t, "described a network that does not add up: "+line(err.Error(), 500), err)
		}
		if err := n.answered(g.Input, g.Classes); err != nil {
			return pr.fault(ErrProtocol, t, "described "+err.Error(), nil)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return g, nil
}

// retry runs f again if the process crashed during it.
func retry(ctx context.Context, f func() error) error {
	err := f()
	if errors.Is(err, ErrCrashed) && ctx.Err() == nil {
		err = f()
	}
	return err
}
