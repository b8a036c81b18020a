package host

import (
	"context"
	"fmt"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/sdk"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// tinyFamily has one small network, which can be told to misbehave in the middle of an inference.
func tinyFamily(version string) sdk.Family {
	manifest := fmt.Sprintf(`{"name":"tiny","version":%q,"description":"a small network for tests","license":"Apache-2.0"}`, version)
	return sdk.MustFamily([]byte(manifest), sdk.Model{
		Name: "tiny", Paper: "none", Input: graph.Shape{C: 3, H: 8, W: 8}, MinSize: 4,
		Options: []sdk.Option{{Name: "fault", Help: "what goes wrong in inference"}, {Name: "path", Help: "file or address for the fault"}},
		Build: func(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
			switch o["fault"] {
			case "build panic":
				panic("the table is upside down")
			case "build slow":
				time.Sleep(50 * time.Millisecond)
			}
			x = b.ReLU(b.BatchNorm("bn", b.Conv2d("conv", x, graph.Conv{Out: 8, Kernel: graph.Square(3), Pad: graph.Square(1)})))
			if o["fault"] != "" {
				x = b.Custom("fault", fault{o["fault"], o["path"]}, nil, x)
			}
			x = b.Features(b.Tap("stage1", x))
			x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: b.Classes()})
			b.Group("trunk", "conv", "bn", "fault")
			b.Group("head", "fc")
			b.Classifier("fc")
			return x
		},
	})
}

// fault is an operator that does something that no operator should, and then passes its input on.
type fault struct{ what, path string }

func (fault) Kind() string                                { return "fault" }
func (fault) Infer(in []graph.Shape) (graph.Shape, error) { return in[0], nil }
func (fault) MACs([]graph.Shape, graph.Shape) int64       { return 0 }
func (fault) Backward(_, _ [][]float32, _ []float32, _, _ [][]float32, _ []graph.Shape, _ int) {
}

var ballast [][]byte

// linuxFaults are those that can be had on Linux alone.
var linuxFaults = map[string]func(path string) error{}

// heapLine begins what the fault "heap" writes.
const heapLine = "bytes in use:"

func (f fault) Forward(out []float32, in, _ [][]float32, _ []graph.Shape, _ int) {
	must := func(err error) {
		if err != nil {
			panic(fmt.Sprintf("REFUSED %v", err))
		}
	}
	switch f.what {
	case "panic":
		var empty []int
		fmt.Fprintln(os.Stderr, empty[len(in)])
	case "exit":
		fmt.Fprintln(os.Stderr, "giving up")
		os.Exit(3)
	case "goroutine panic":
		go panic("out of cheese")
		time.Sleep(time.Minute)
	case "mutter":
		fmt.Fprintln(os.Stderr, "waiting for the disk")
		time.Sleep(time.Hour)
	case "slow":
		time.Sleep(300 * time.Millisecond)
	case "hang":
		time.Sleep(time.Hour)
	case "memory":
		for {
			b := make([]byte, 16<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			ballast = append(ballast, b)
		}
	case "nan":
		for i := range out {
			out[i] = float32(math.NaN())
		}
		return
	case "flood":
		text := strings.Repeat("all work and no play ", 3000)
		for range 2000 {
			fmt.Fprintln(os.Stderr, text)
		}
	case "stdout":
		for range 100 {
			fmt.Println("1|99|unix|/tmp/elsewhere|grpc|")
		}
	case "progress": // of a library that knows nothing of os.Stdout
		bar := []byte(strings.Repeat("\r[=====>    ]", 1000))
		for range 100 {
			_, err := syscall.Write(syscall.Stdout, bar)
			must(err)
		}
	case "dial":
		c, err := net.DialTimeout("tcp", f.path, time.Second)
		must(err)
		must(c.Close())
	case "datagram": // without connecting
		to, err := net.ResolveUDPAddr("udp", f.path)
		must(err)
		c, err := net.ListenUDP("udp4", nil)
		must(err)
		_, err = c.WriteTo([]byte("secret"), to)
		must(err)
	case "socket": // of a service, in the file system
		c, err := net.Dial("unix", f.path)
		must(err)
		must(c.Close())
	case "read":
		_, err := os.ReadFile(f.path)
		must(err)
	case "write":
		must(os.WriteFile(f.path, []byte("mine"), 0o644))
	case "remove":
		must(os.RemoveAll(f.path))
	case "signal":
		// The host is the parent of every one of its plugins.
		p, err := os.FindProcess(os.Getppid())
		must(err)
		must(p.Signal(os.Interrupt))
	case "child":
		must(exec.Command("/bin/sleep", "1000").Start())
	case "heap": // tells how much is in use
		runtime.GC()
		runtime.GC() // what finalizers and pools let go
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		fmt.Fprintln(os.Stderr, heapLine, stats.HeapAlloc)
	case "environment":
		for _, v := range os.Environ() {
			if strings.Contains(v, "SECRET") {
				panic("FOUND " + v)
			}
		}
	default:
		if do := linuxFaults[f.what]; do != nil {
			must(do(f.path))
		}
	}
	copy(out, in[0])
}

// servePlugin is a plugin process of a test.
func servePlugin(name string) {
	switch name {
	case "tiny":
		version := filepath.Base(filepath.Dir(os.Args[0]))
		if !strings.Contains(version, ".") {
			version = "2.0.0"
		}
		sdk.Serve(tinyFamily(version))
	case "silent":
		time.Sleep(time.Hour)
	case "early":
		fmt.Println("loading tables...")
		time.Sleep(time.Hour)
	case "endless":
		for {
			fmt.Print(strings.Repeat("x", 1<<16))
		}
	case "quitter":
		fmt.Fprintln(os.Stderr, "libmagic.so: not found")
		os.Exit(127)
	case "unreachable": // shakes hands, then nobody is there
		dir := os.Getenv("PLUGIN_UNIX_SOCKET_DIR")
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			panic(err)
		}
		fmt.Printf("1|2|unix|%s|grpc|\n", l.Addr())
		time.Sleep(time.Hour)
	case "elsewhere": // has the host connect to where it may not itself
		fmt.Printf("1|2|%s|grpc|\n", os.Getenv("LC_CTYPE"))
		time.Sleep(time.Hour)
	case "netrpc":
		fmt.Printf("1|2|unix|%s|netrpc|\n", filepath.Join(os.Getenv("PLUGIN_UNIX_SOCKET_DIR"), "none"))
		time.Sleep(time.Hour)
	case "future":
		serveRogue(name, []int{3}, &rogue{})
	case "ancient":
		serveRogue(name, []int{0}, &rogue{})
	case "old": // protocol 1 alone
		serveRogue(name, []int{1}, &rogue{family: "old"})
	case "next": // speaks a protocol of tomorrow besides
		serveRogue(name, []int{1, 3}, &rogue{family: "next"})
	case "lyingengine":
		serveRogue(name, []int{2}, &rogue{family: name, lie: name})
	case "giant":
		serveGiant(&rogue{family: name, lie: name})
	case "knocker":
		serveKnocker(&rogue{family: name})
	case "impostor":
		serveRogue(name, []int{1}, &rogue{family: "resnet"})
	case "huge", "lyingshape", "lyingoutput", "shortstream", "longstream", "lyinggraph", "nosession", "deaf", "wordy":
		serveRogue(name, []int{1}, &rogue{family: name, lie: name})
	default:
		fmt.Fprintln(os.Stderr, "no such test plugin:", name)
		os.Exit(1)
	}
}

// rogue is a family without the SDK: it speaks protocol 1 and can lie.
type rogue struct {
	plugin.NetRPCUnsupportedPlugin
	zoov1.UnimplementedFamilyServer
	zoov1.UnimplementedEngineServer
	family, lie string
}

// serveGiant answers Open with a message of 3 GB, of which it has no more than a part.
func serveGiant(r *rogue) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: pluginrpc.Handshake, VersionedPlugins: map[int]plugin.PluginSet{1: {pluginrpc.Service: r}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.MaxSendMsgSize(math.MaxInt), grpc.ForceServerCodecV2(giant{encoding.GetCodecV2(proto.Name)}))...)
		},
	})
	os.Exit(0)
}

// giant encodes an OpenResponse as 3 GB of zeros.
type giant struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (g giant) Marshal(v any) (mem.BufferSlice, error) {
	if _, ok := v.(*zoov1.OpenResponse); !ok {
		return g.CodecV2.Marshal(v)
	}
	part := mem.SliceBuffer(make([]byte, 1<<20))
	var message mem.BufferSlice
	for range 3 << 10 {
		message = append(message, part)
	}
	return message, nil
}

// serveKnocker sends 256 MiB through go-plugin's broker, as connections that nobody asked for.
func serveKnocker(r *rogue) {
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: pluginrpc.Handshake, VersionedPlugins: map[int]plugin.PluginSet{1: {pluginrpc.Service: r}},
		GRPCServer: func(opts []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(opts, grpc.StreamInterceptor(func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
				if info.FullMethod != "/plugin.GRPCBroker/StartStream" {
					return handler(srv, stream)
				}
				for id := range uint64(256) {
					knock := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), 1)
					knock = protowire.AppendBytes(protowire.AppendTag(knock, 3, protowire.BytesType), make([]byte, 1<<20))
					info := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), id)
					info = protowire.AppendBytes(protowire.AppendTag(info, 4, protowire.BytesType), knock)
					m := &emptypb.Empty{}
					m.ProtoReflect().SetUnknown(info)
					if err := stream.SendMsg(m); err != nil {
						return err
					}
				}
				<-stream.Context().Done()
				return nil
			}))...)
		},
	})
	os.Exit(0)
}

func serveRogue(_ string, versions []int, r *rogue) {
	set := map[int]plugin.PluginSet{}
	for _, v := range versions {
		set[v] = plugin.PluginSet{pluginrpc.Service: r}
	}
	plugin.Serve(&plugin.ServeConfig{HandshakeConfig: pluginrpc.Handshake, VersionedPlugins: set, GRPCServer: plugin.DefaultGRPCServer})
	os.Exit(0)
}

func (r *rogue) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	zoov1.RegisterFamilyServer(s, r)
	if r.lie == "lyingengine" {
		zoov1.RegisterEngineServer(s, r)
	}
	return nil
}

func (r *rogue) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, fmt.Errorf("no client")
}

func (r *rogue) Describe(ctx context.Context, _ *zoov1.DescribeRequest) (*zoov1.DescribeResponse, error) {
	if r.lie == "deaf" {
		<-ctx.Done()
		time.Sleep(time.Hour)
	}
	if r.lie == "wordy" {
		return &zoov1.DescribeResponse{Name: r.family, Models: make([]*zoov1.Model, 3<<20)}, nil // two bytes each
	}
	return &zoov1.DescribeResponse{
		Name: r.family, Version: "0.9.0\x1b[31m", Models: []*zoov1.Model{{Name: "m", Input: &zoov1.Shape{Channels: 1, Height: 2, Width: 2}, MinSize: 1}},
	}, nil
}

func (r *rogue) Build(context.Context, *zoov1.BuildRequest) (*zoov1.BuildResponse, error) {
	g := &zoov1.Graph{
		Nodes: []*zoov1.Node{
			{Name: "input", Operator: "input", Arguments: `{"Shape":{"C":1,"H":2,"W":2}}`, Shape: &zoov1.Shape{Channels: 1, Height: 2, Width: 2}},
			{Name: "pool", Operator: "adaptive_avg_pool2d", Arguments: `{"Out":{"H":1,"W":1}}`, Inputs: []int32{0}, Shape: &zoov1.Shape{Channels: 1, Height: 1, Width: 1}},
		},
		Output: 1, Classes: 1,
	}
	if r.lie == "lyinggraph" {
		g.Nodes[1].Shape.Channels = 1 << 20
	}
	return &zoov1.BuildResponse{Graph: g}, nil
}

func (r *rogue) Open(_ context.Context, req *zoov1.OpenRequest) (*zoov1.OpenResponse, error) {
	resp := &zoov1.OpenResponse{
		Session: 1, Input: &zoov1.Shape{Channels: 1, Height: 2, Width: 2}, Classes: 1, Compute: req.GetCompute(),
		Outputs: []*zoov1.Output{{Name: "logits", Shape: &zoov1.Shape{Channels: 1, Height: 1, Width: 1}}},
	}
	switch r.lie {
	case "huge":
		resp.Warnings = []string{strings.Repeat("x", 100<<20)}
	case "lyingshape":
		resp.Outputs[0].Shape.Channels = 1 << 30
	case "nosession":
		resp.Session = 0
	}
	return resp, nil
}

func (r *rogue) Close(context.Context, *zoov1.CloseRequest) (*zoov1.CloseResponse, error) {
	return &zoov1.CloseResponse{}, nil
}

// Infer says that its output has a shape that it has not.
func (r *rogue) Infer(context.Context, *zoov1.InferRequest) (*zoov1.InferResponse, error) {
	return &zoov1.InferResponse{Outputs: []*zoov1.Output{{Name: "logits", Shape: &zoov1.Shape{Channels: 1, Height: 1000, Width: 1}}}}, nil
}

// InferStream returns the mean of each image.
func (r *rogue) InferStream(stream zoov1.Family_InferStreamServer) error {
	var header *zoov1.InferStreamRequest_Header
	var data []byte
	for {
		m, err := stream.Recv()
		if err != nil {
			break
		}
		if h := m.GetHeader(); h != nil {
			header = h
		}
		data = append(data, m.GetChunk()...)
	}
	values := make([]float32, len(data)/4)
	pluginrpc.Decode(values, data)
	n := int(header.GetImages())
	means := make([]float32, n)
	for i, v := range values {
		means[i*n/len(values)] += v / float32(len(values)/n)
	}
	shape := &zoov1.Shape{Channels: 1, Height: 1, Width: 1}
	if r.lie == "lyingoutput" {
		shape.Height = 1000
	}
	out := make([]byte, 4*n)
	pluginrpc.Encode(out, means)
	switch r.lie {
	case "shortstream":
		out = out[:0]
	case "longstream":
		out = append(out, make([]byte, 1<<20)...)
	}
	if err := stream.Send(&zoov1.InferStreamResponse{Part: &zoov1.InferStreamResponse_Header{Header: &zoov1.Output{Name: "logits", Shape: shape}}}); err != nil {
		return err
	}
	return stream.Send(&zoov1.InferStreamResponse{Part: &zoov1.InferStreamResponse_Chunk{Chunk: out}})
}
