package sdk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-modelzoo/zoo/internal/panicked"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/internal/startup"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// Serve serves the family to the zoo that started this process and exits when zoo is done or gone. It is all that a plugin's
// main does. Nothing may be written to standard output before; logs go to standard error.
func Serve(f Family) {
	startup.LateCollection()
	s := newServer(f)
	watchParent(s.log)
	s.memory, s.memoryErr = pluginrpc.InheritMemory()
	var err error
	if s.attendant.line, err = pluginrpc.InheritLine(); err != nil && !errors.Is(err, pluginrpc.ErrNoLine) {
		s.log.Warn("calls go through gRPC", "error", err)
	}
	family := &familyPlugin{server: s}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: pluginrpc.Handshake,
		VersionedPlugins: map[int]plugin.PluginSet{
			pluginrpc.ProtocolFamily: {pluginrpc.Service: family},
			pluginrpc.ProtocolEngine: {pluginrpc.Service: &familyPlugin{server: s, engine: true}},
		},
		GRPCServer: s.newGRPC,
		Logger:     s.log,
	})
	s.close()
	os.Exit(0)
}

// ServeEmbedded makes a program that has families linked in able to run them as plugin processes of its own: the host starts the
// program's executable again, and there this function serves the family that was asked for and does not return. In any other process it
// returns at once, without calling families. Call it first in main.
func ServeEmbedded(families func() []Family) {
	name := os.Getenv(pluginrpc.EnvFamily)
	if name == "" || os.Getenv(pluginrpc.Handshake.MagicCookieKey) != pluginrpc.Handshake.MagicCookieValue {
		return
	}
	for _, f := range families() {
		if f.Name == name {
			Serve(f)
		}
	}
	fmt.Fprintf(os.Stderr, "family %q is not part of this program\n", name)
	os.Exit(1)
}

// familyPlugin registers the services of one protocol version.
type familyPlugin struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
	engine bool
}

// GRPCServer implements plugin.GRPCPlugin.
func (p *familyPlugin) GRPCServer(_ *plugin.GRPCBroker, g *grpc.Server) error {
	zoov1.RegisterFamilyServer(g, p.server)
	if p.engine {
		zoov1.RegisterEngineServer(g, p.server)
	}
	return nil
}

// GRPCClient implements plugin.GRPCPlugin. This side only serves.
func (p *familyPlugin) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("a plugin process is no client")
}

// newLogger logs JSON lines to standard error, where the host reads them.
func newLogger(f Family) hclog.Logger {
	level := hclog.LevelFromString(os.Getenv(pluginrpc.EnvLog))
	if level == hclog.NoLevel {
		level = hclog.Info
	}
	return hclog.New(&hclog.LoggerOptions{Name: f.Name, Level: level, Output: os.Stderr, JSONFormat: true})
}

func (s *server) newGRPC(opts []grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts,
		grpc.MaxRecvMsgSize(pluginrpc.MaxMessage),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (_ any, err error) {
			s.output()
			defer s.recover(info.FullMethod, &err)
			resp, err := handler(ctx, req)
			return resp, wireError(err)
		}),
		grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
			s.output()
			defer s.recover(info.FullMethod, &err)
			return wireError(handler(srv, stream))
		}),
	)...)
}

// redirect has what a family prints go straight to the log. go-plugin would stream it to the host, which loses the last
// words of a process that dies. It runs in the first call, which comes after go-plugin set these variables.
func redirect(stderr *os.File) func() {
	return sync.OnceFunc(func() { os.Stdout, os.Stderr = stderr, stderr })
}

// recover turns a panic of a call into an error, with the stack in the log. The log's words are not those with which a Go program dies ("panic: "): a
// host would take them for the end of this process.
func (s *server) recover(method string, err *error) {
	v := recover()
	if v == nil {
		return
	}
	text := panicked.Text(v)
	s.log.Error("panicked", "call", method, "value", text, "stack", string(debug.Stack()))
	*err = status.Errorf(codes.Internal, "panicked: %s", text)
}
