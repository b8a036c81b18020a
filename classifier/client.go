// Package classifier is the Go API for whoever serves or studies image classifiers: it finds a model in the hub, starts the
// plugin process of its family and hands it images.
//
//	sdk.ServeEmbedded(plugins.All) // first in main: plugin processes are this program, started again
//	c, err := classifier.Open(classifier.Config{})
//	defer c.Close()
//	m, err := c.Load(ctx, "resnet50", classifier.LoadOptions{})
//	defer m.Close()
//	predictions, err := m.Classify(ctx, images, 5)
//
// A Client and a Model are safe for concurrent use.
package classifier

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/go-modelzoo/zoo"
	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/plugins"
)

// Config says where a Client keeps and finds things. The zero Config is what the command line uses without flags.
type Config struct {
	// Hub configures the store and the sources of models. An empty Hub.Home means hub.DefaultHome(), with what its config.json and the
	// environment (hub.LoadConfig) say of fields that are nil or empty.
	Hub hub.Config
	// PluginDirs are searched for plugins before $ZOO_HOME/plugins and the folder "plugins" beside the executable.
	PluginDirs []string
	// Precision, Threads and Device say how networks run. The zero Precision is the default of engine.Precision, 0 threads are as many as the
	// process was granted cores, and Device is "cpu" (or "") or "cuda".
	Precision engine.Precision
	Threads   int
	Device    string
	// Seed draws the weights of networks that have none.
	Seed uint64
	// PluginMemory is a plugin's memory ceiling in bytes; 0 sets none.
	PluginMemory int64
	// Isolation says how strictly plugin processes are confined.
	Isolation host.Isolation
	// StartTimeout bounds the start of a plugin, and the silence of one that trains; CallTimeout bounds one inference. 0 means the host's defaults.
	StartTimeout, CallTimeout time.Duration
	// IdleAfter is how long an unused plugin is kept; 0 means the host's default.
	IdleAfter time.Duration
	// Logger receives the plugins' logs; nil drops them.
	Logger hclog.Logger
}

// Client is an open store with the plugins that can run its models. It is safe for concurrent use; Close it to end the plugin
// processes.
type Client struct {
	Hub  *hub.Hub
	Host *host.Host

	config Config

	ctx   context.Context // ends with the client
	close context.CancelCauseFunc
	mu    sync.Mutex
	calls sync.WaitGroup // Add under mu, while ctx has not ended
}

// Open opens the store and prepares the host. No process is started and nothing is downloaded yet.
func Open(config Config) (*Client, error) {
	if err := pluginrpc.Unserved(); err != nil { // before what a plugin process lacks, such as a home
		return nil, err
	}
	if config.Hub.Home == "" {
		if err := asConfigured(&config.Hub); err != nil {
			return nil, err
		}
	}
	if config.Hub.Index == nil {
		config.Hub.Index = zoo.RegistryJSON()
	}
	if config.Hub.Embedded == nil {
		config.Hub.Embedded = zoo.EmbeddedHub()
	}
	h, err := hub.Open(config.Hub)
	if file := (*fs.PathError)(nil); errors.As(err, &file) && strings.HasPrefix(file.Op, "mkdir") {
		err = fmt.Errorf("%w: set ZOO_HOME to a folder of yours", err)
	}
	if err != nil {
		return nil, err
	}
	digests, err := recordedDigests(h.Plugins())
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	versions, err := pinnedVersions(config.Hub.LockFile)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	o := config.HostOptions()
	o.Dirs = host.DefaultDirs(config.Hub.Home, config.PluginDirs...)
	o.Embedded = plugins.All()
	o.ReadOnly = append([]string{config.Hub.Home}, config.Hub.SharedStores...)
	o.CacheDir = filepath.Join(config.Hub.Home, "cache", "plugins")
	o.Digest, o.Versions = digests, versions
	p, err := host.New(o)
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	c := &Client{Hub: h, Host: p, config: config}
	c.ctx, c.close = context.WithCancelCause(context.Background())
	return c, nil
}

// HostOptions are the settings that concern how plugin processes run, not which there are.
func (c *Config) HostOptions() host.Options {
	return host.Options{
		Logger: c.Logger, StartTimeout: c.StartTimeout, CallTimeout: c.CallTimeout, IdleAfter: c.IdleAfter, Memory: c.PluginMemory,
		Isolation: c.Isolation,
	}
}

// asConfigured sets the user's home, and what is not set of what its config.json, the environment and the nearest lock file say, as the
// command line does: keys that were pinned there hold for every program.
func asConfigured(c *hub.Config) error {
	home, err := hub.DefaultHome()
	if err != nil {
		return err
	}
	file, err := hub.LoadConfig(home)
	if err != nil {
		return err
	}
	c.Home = home
	for _, f := range []struct{ set, configured *[]string }{
		{&c.SharedStores, &file.SharedStores}, {&c.Sources, &file.Sources}, {&c.Keys, &file.Keys}, {&c.RequireLicenses, &file.RequireLicenses},
	} {
		if *f.set == nil {
			*f.set = *f.configured
		}
	}
	if c.CAFile == "" {
		c.CAFile = file.CAFile
	}
	if c.LockFile == "" {
		c.LockFile, _ = lock.Find(".") // empty if there is none: that in the home
	}
	return nil
}

// Close ends the plugin processes and releases the store. Every call of the client and of its models fails with host.ErrClosed from then on. Those in
// flight do, too, unless they are all but done, and Close returns when the client's have: it must not be called by what one of them calls, such as a
// FinetuneOptions.Sink. Hub and Host must not be used any more. Closing twice is harmless.
func (c *Client) Close() error {
	c.mu.Lock()
	c.close(errClosed)
	c.mu.Unlock()
	err := c.Host.Close()
	c.calls.Wait()
	return errors.Join(err, c.Hub.Close())
}

var errClosed = fmt.Errorf("the client is %w", host.ErrClosed)

// begin starts a call of the client: its context ends with the client, too. The call defers end with the address of its error, which then says so if that
// is what ended it.
func (c *Client) begin(ctx context.Context) (_ context.Context, end func(*error), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, nil, errClosed
	}
	c.calls.Add(1)
	limited, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.ctx, func() { cancel(errClosed) })
	return limited, func(err *error) {
		if c.ctx.Err() != nil && ctx.Err() == nil && errors.Is(*err, context.Canceled) && !errors.Is(*err, host.ErrClosed) {
			*err = fmt.Errorf("%w: %w", errClosed, *err)
		}
		stop()
		cancel(nil)
		c.calls.Done()
	}, nil
}

// ErrUnknownModel is wrapped by the error for a name that neither the index, nor the store, nor a plugin has.
var ErrUnknownModel = errors.New("unknown model")

// Names returns every name that can be given for a model: those of the index, of the store, and of the plugins' architectures.
func (c *Client) Names(ctx context.Context) (_ []string, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	entries, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	return names(entries), nil
}

// isFolder reports whether a reference names a folder rather than a model of the store.
func isFolder(ref string) bool {
	if !strings.ContainsRune(ref, os.PathSeparator) && !strings.ContainsRune(ref, '/') && ref != "." && ref != ".." {
		return false
	}
	if strings.Contains(ref, "://") {
		return false
	}
	info, err := os.Stat(ref)
	return err == nil && info.IsDir() || errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(ref, ".")
}

// EmbeddedModel is the model inside the program: it classifies without any download.
const EmbeddedModel = "resnet20"
