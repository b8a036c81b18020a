package host

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// process is a running plugin. Fields other than refs and idle are set before ready is closed and fixed afterwards.
type process struct {
	host   *Host
	pool   *pool
	plugin Plugin
	grants grants
	log    hclog.Logger
	ring   logRing

	ready     chan struct{} // closed when starting has ended
	err       error         // why it failed
	client    *plugin.Client
	child     *child
	described *zoov1.DescribeResponse
	family    zoov1.FamilyClient
	engine    zoov1.EngineClient // nil for protocol 1
	health    grpc_health_v1.HealthClient
	memory    *pluginrpc.Memory // nil where there is none
	handed    []handed          // what the process inherits
	direct    directLine        // of a process with memory and engine

	refs  int         // users; guarded by pool.mu
	idle  *time.Timer // guarded by pool.mu
	spent bool        // takes no new users; guarded by pool.mu
}

// services are what go-plugin dispenses.
type services struct {
	family zoov1.FamilyClient
	engine zoov1.EngineClient
	health grpc_health_v1.HealthClient
}

type familyClient struct {
	plugin.NetRPCUnsupportedPlugin
	protocol int
}

// GRPCServer implements plugin.GRPCPlugin. This side only asks.
func (familyClient) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error {
	return errors.New("the host is no plugin")
}

// GRPCClient implements plugin.GRPCPlugin.
func (f familyClient) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	s := services{family: zoov1.NewFamilyClient(conn), health: grpc_health_v1.NewHealthClient(conn)}
	if f.protocol >= pluginrpc.ProtocolEngine {
		s.engine = zoov1.NewEngineClient(conn)
	}
	return s, nil
}

// protocols are what this host speaks.
func protocols() map[int]plugin.PluginSet {
	set := map[int]plugin.PluginSet{}
	for _, v := range []int{pluginrpc.ProtocolFamily, pluginrpc.ProtocolEngine} {
		set[v] = plugin.PluginSet{pluginrpc.Service: familyClient{protocol: v}}
	}
	return set
}

// withoutBroker keeps go-plugin's broker from its stream. Plugins of other programs announce further connections there; zoo takes none, and
// go-plugin would keep whatever a plugin sends until somebody asks for it.
func withoutBroker(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, next grpc.Streamer,
	opts ...grpc.CallOption) (grpc.ClientStream, error) {
	if strings.HasPrefix(method, "/plugin.GRPCBroker/") {
		return nil, status.Error(codes.Unimplemented, "zoo takes no further connections")
	}
	return next(ctx, desc, conn, method, opts...)
}

// inherited are the variables of the environment that plugins get: how to talk, to compute and to find libraries, nothing that could
// be a secret.
var inherited = []string{
	"LANG", "LC_ALL", "LC_CTYPE", "TZ", "PATH", "LD_LIBRARY_PATH", "GOMAXPROCS", "GODEBUG", "GOGC", "GOTRACEBACK", "GOCOVERDIR", "GORACE", "ZOO_CPU", "ZOO_LOG",
	"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "SystemRoot", "SYSTEMROOT", "PATHEXT",
}

func (p *process) environment(dir string) []string {
	env := []string{"TMPDIR=" + dir, "TMP=" + dir, "TEMP=" + dir, "CUDA_CACHE_PATH=" + dir}
	for _, name := range inherited {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	if p.plugin.Embedded {
		env = append(env, pluginrpc.EnvFamily+"="+p.plugin.Family)
	}
	for i, f := range p.handed {
		env = append(env, f.variable+"="+strconv.Itoa(firstHanded+i))
	}
	if limit := p.host.opt.Memory; limit > 0 {
		// The garbage collector works harder before the ceiling is hit.
		env = append(env, "GOMEMLIMIT="+strconv.FormatInt(limit/10*9, 10))
	}
	return env
}

// start brings the process up. It runs on a goroutine of the host and closes ready.
func (p *process) start() {
	defer close(p.ready)
	p.err = p.bringUp()
	if p.err != nil {
		p.pool.drop(p)
		p.tearDown(true)
	}
}

func (p *process) bringUp() error {
	h := p.host
	if h.opt.Allow != nil {
		if err := h.opt.Allow(p.plugin); err != nil {
			return &Error{Plugin: p.plugin.String(), Kind: ErrRefused, Message: fmt.Sprintf("plugin %s is refused: %v", p.plugin, err), Cause: err}
		}
	}
	path, name := p.plugin.Path, p.plugin.Path
	if p.plugin.Embedded {
		var err error
		if path, err = executable(); err != nil {
			return fmt.Errorf("find the running program: %w", err)
		}
		name = "zoo-" + p.plugin.Family
	}
	if err := p.verify(path); err != nil {
		return err
	}
	dir, remove, err := socketDir()
	if err != nil {
		return err
	}
	// Once connected, the socket has done its work: nothing of a running plugin is in the file system.
	defer func() {
		if err := remove(); err != nil {
			p.log.Warn("the socket's folder stays behind", "error", err)
		}
	}()
	tlsConfig, certificate, err := identity()
	if err != nil {
		return err
	}
	theirEnd := p.handOver()
	if theirEnd != nil {
		defer theirEnd.Close() // of a socket: nothing is lost
	}
	p.child, err = newChild(path, name, p.handed, confinement{
		isolation: h.opt.Isolation, grants: p.grants, exe: path, dir: dir, memory: h.opt.Memory, log: p.log,
	})
	if err != nil {
		return err
	}
	p.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  pluginrpc.Handshake,
		VersionedPlugins: maps.Clone(h.protocols), // go-plugin may add to it
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		TLSConfig:        tlsConfig,
		SkipHostEnv:      true,
		StartTimeout:     h.opt.StartTimeout,
		UnixSocketConfig: &plugin.UnixSocketConfig{TempDir: dir},
		Logger:           p.log,
		Stderr:           &p.ring,
		SyncStdout:       p.log.StandardWriter(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
		SyncStderr:       &p.ring, // what a plugin without the SDK prints
		GRPCDialOptions: []grpc.DialOption{grpc.WithStreamInterceptor(withoutBroker), grpc.WithDefaultCallOptions(
			grpc.MaxCallRecvMsgSize(pluginrpc.MaxMessage), grpc.MaxCallSendMsgSize(pluginrpc.MaxMessage))},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			p.child.env = append(append(p.environment(dir), cmd.Env...), "PLUGIN_CLIENT_CERT="+string(certificate))
			return p.child, nil
		},
	})
	return p.introduce()
}

// handOver makes what the process and this side share. The plugin's end of the line, if there is one, is to be closed once
// the process has started.
func (p *process) handOver() (theirEnd *os.File) {
	var err error
	p.memory, err = pluginrpc.NewMemory()
	if errors.Is(err, pluginrpc.ErrNoSharedMemory) {
		return nil
	}
	if err != nil {
		p.log.Warn("tensors go through messages", "error", err)
		return nil
	}
	p.handed = append(p.handed, handed{pluginrpc.EnvSharedMemory, p.memory.File()})
	p.direct.line, theirEnd, err = pluginrpc.NewLine()
	if errors.Is(err, pluginrpc.ErrNoLine) {
		return nil
	}
	if err != nil {
		p.log.Warn("calls go through gRPC", "error", err)
		return nil
	}
	p.handed = append(p.handed, handed{pluginrpc.EnvLine, theirEnd})
	return theirEnd
}

// introduce waits for the handshake and asks the plugin who it is.
func (p *process) introduce() error {
	type answer struct {
		client plugin.ClientProtocol
		err    error
	}
	answered := make(chan answer, 1)
	go func() { // ends with the process at the latest
		c, err := p.client.Client()
		answered <- answer{c, err}
	}()
	timeout := time.NewTimer(p.host.opt.StartTimeout)
	defer timeout.Stop()
	var a answer
	select {
	case a = <-answered:
	case <-timeout.C:
		p.kill("it did not start in time")
		<-answered
		a.err = errors.New("timeout while waiting for plugin to start")
	case <-p.host.ctx.Done():
		p.kill("the host was closed")
		<-answered
		return fmt.Errorf("plugin %s: %w", p.plugin, ErrClosed)
	}
	if a.err != nil {
		return p.startFault(a.err)
	}
	raw, err := a.client.Dispense(pluginrpc.Service)
	if err != nil {
		return p.startFault(err)
	}
	s := raw.(services)
	p.family, p.engine, p.health = s.family, s.engine, s.health
	p.plugin.Protocol = p.client.NegotiatedVersion()
	if p.plugin.Embedded {
		return nil
	}
	// Decoded, a description of many small parts takes some sixty times its bytes.
	t := task{doing: "introducing itself", limit: maxDescription}
	err = p.callFor(p.host.ctx, t, p.host.opt.StartTimeout, func(ctx context.Context) (err error) {
		p.described, err = p.family.Describe(ctx, &zoov1.DescribeRequest{}, grpc.MaxCallRecvMsgSize(t.limit))
		return err
	})
	if err != nil {
		return err
	}
	folder := p.plugin.Version
	if err := p.plugin.describe(p.described); err != nil {
		return p.fault(ErrProtocol, t, "gave a description that cannot be used: "+err.Error(), err)
	}
	if folder != "" && folder != p.plugin.Version {
		return p.fault(ErrProtocol, t, fmt.Sprintf("lies in the folder of version %s", folder), nil)
	}
	return nil
}

// verify compares the binary with the digest on record.
func (p *process) verify(path string) error {
	if p.host.opt.Digest == nil || p.plugin.Embedded {
		return nil
	}
	want := p.host.opt.Digest(p.plugin)
	if want == "" {
		return nil
	}
	sum, err := hex.DecodeString(want)
	if err != nil {
		return fmt.Errorf("plugin %s: the digest on record %q is not hexadecimal", p.plugin, want)
	}
	// A fresh hash each time: go-plugin never resets it.
	ok, err := (&plugin.SecureConfig{Checksum: sum, Hash: sha256.New()}).Check(path)
	if err != nil {
		return fmt.Errorf("plugin %s: %w", p.plugin, err)
	}
	if !ok {
		return &Error{Plugin: p.plugin.String(), Kind: ErrDigest, Message: fmt.Sprintf(
			"plugin %s: %s is not the binary whose SHA-256 is on record (%s): remove it with zoo plugin remove %s, then install it again", p.plugin, path, want, p.plugin.at())}
	}
	return nil
}

// kill ends the process at once.
func (p *process) kill(reason string) {
	if p.child != nil {
		p.child.kill(reason)
	}
}

// alive reports whether the process has not ended.
func (p *process) alive() bool {
	if p.child == nil {
		return false
	}
	select {
	case <-p.child.exited:
		return false
	default:
		return true
	}
}

// gentle is how long a process may take to end by itself.
const gentle = 2 * time.Second

// stop ends the process and waits for it: gently, or now. One that is starting gives up when the host's context ends.
func (p *process) stop(now bool) {
	<-p.ready
	p.tearDown(now)
}

// tearDown ends the process, if it runs, and frees what belonged to it.
func (p *process) tearDown(now bool) {
	if p.client != nil {
		if now {
			p.kill("the host ended it")
		}
		// go-plugin asks the process to end and waits without a limit for the answer.
		force := time.AfterFunc(gentle, func() { p.kill("it did not end when asked to") })
		p.client.Kill()
		force.Stop()
		if p.child.pid() != 0 {
			<-p.child.exited
		} else {
			p.child.discard()
		}
	}
	p.hangUp()
	if p.memory != nil {
		if err := p.memory.Close(); err != nil {
			p.log.Warn("freeing shared memory", "error", err)
		}
	}
}

var incompatible = regexp.MustCompile(`Plugin version: (\d+), Client versions`)

// startFault says why a process did not become a plugin.
func (p *process) startFault(err error) error {
	t := task{doing: "starting"}
	text := err.Error()
	if m := incompatible.FindStringSubmatch(text); m != nil {
		theirs, convErr := strconv.Atoi(m[1])
		advice := "update zoo"
		if convErr == nil && theirs < pluginrpc.ProtocolFamily {
			advice = "update the plugin: zoo plugin install " + p.plugin.Family
		}
		return &Error{Plugin: p.plugin.String(), Doing: t.doing, Kind: ErrProtocol, Cause: err, Message: fmt.Sprintf(
			"plugin %s speaks protocol %s, this zoo %d to %d: %s", p.plugin, m[1], pluginrpc.ProtocolFamily, pluginrpc.ProtocolEngine, advice)}
	}
	if printed, ok := strings.CutPrefix(text, "Unrecognized remote plugin message: "); ok {
		printed, _, _ = strings.Cut(printed, "\n")
		if printed = line(printed, 100); printed != "" {
			return p.fault(ErrProtocol, t, fmt.Sprintf("wrote %q to standard output where the plugin handshake should be: it is no plugin of zoo, or prints too early", printed), err)
		}
	}
	if errors.Is(err, errAddress) {
		return p.fault(ErrProtocol, t, "did not start: "+line(text, 500), err)
	}
	if strings.Contains(text, "timeout while waiting") {
		return p.fault(ErrTimeout, t, fmt.Sprintf("did not start within %v and was ended", p.host.opt.StartTimeout), err)
	}
	if slices.ContainsFunc(noProgram, func(e error) bool { return strings.Contains(text, e.Error()) }) {
		return p.fault(ErrStart, t, fmt.Sprintf("did not start: %s is no program for %s/%s: get the one for this platform", p.plugin.Path, runtime.GOOS, runtime.GOARCH), err)
	}
	if p.child != nil && p.child.pid() != 0 {
		select {
		case <-p.child.exited:
			p.child.lastWords()
			if outOfMemory(p.ring.last()) {
				return p.outOfMemory(t, err)
			}
			return p.fault(ErrStart, t, fmt.Sprintf("ended while starting (%s%s)", p.child.state, p.limited()), err)
		case <-time.After(drain):
		}
	}
	return p.fault(ErrStart, t, "did not start: "+line(text, 500), err)
}
