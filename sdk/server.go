package sdk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// server answers the host. It is safe for concurrent use.
type server struct {
	zoov1.UnimplementedFamilyServer
	zoov1.UnimplementedEngineServer

	family Family
	log    hclog.Logger
	open   opener
	output func() // see redirect

	memory    *pluginrpc.Memory
	memoryErr error // why there is none
	attendant attendant

	mu       sync.Mutex
	sessions map[uint64]*session
	last     uint64
	calls    map[uint64]context.CancelFunc
}

func newServer(f Family) *server {
	return &server{
		family: f, log: newLogger(f), output: redirect(os.Stderr), open: new(pools).open, memoryErr: pluginrpc.ErrNoSharedMemory,
		sessions: map[uint64]*session{}, calls: map[uint64]context.CancelFunc{},
	}
}

// close frees what sessions hold.
func (s *server) close() {
	s.hangUp()
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, se := range s.sessions {
		if err := se.end(); err != nil {
			s.log.Warn("closing a session", "model", se.model.Name, "error", err)
		}
		delete(s.sessions, id)
	}
}

// Describe implements zoov1.FamilyServer.
func (s *server) Describe(context.Context, *zoov1.DescribeRequest) (*zoov1.DescribeResponse, error) {
	f := s.family
	r := &zoov1.DescribeResponse{Name: f.Name, Version: f.Version, Description: f.Description, License: f.License, Homepage: f.Homepage}
	for _, m := range f.Models {
		d := &zoov1.Model{Name: m.Name, Paper: m.Paper, Input: pluginrpc.ToShape(m.Input), MinSize: int32(m.MinSize)}
		for _, o := range m.Options {
			d.Options = append(d.Options, &zoov1.Option{Name: o.Name, Default: o.Default, Values: o.Values, Help: o.Help})
		}
		r.Models = append(r.Models, d)
	}
	return r, nil
}

// network is a model with its settings complete.
type network struct {
	model   Model
	input   graph.Shape
	classes int
	options map[string]string
}

// graph builds the network for images of another size.
func (n network) graph(input graph.Shape) (*graph.Graph, error) {
	return n.model.Graph(input, n.classes, n.options)
}

func (s *server) network(r *zoov1.Network) (network, error) {
	m, ok := s.family.Model(r.GetModel())
	if !ok {
		return network{}, status.Errorf(codes.NotFound, "family %s has no model %q", s.family.Name, r.GetModel())
	}
	return network{
		model: m, options: r.GetOptions(),
		input:   cmp.Or(pluginrpc.ShapeOf(r.GetInput()), m.Input),
		classes: cmp.Or(int(r.GetClasses()), DefaultClasses),
	}, nil
}

// DefaultClasses is the number of classes of a model that is built without one: ImageNet-1k's.
const DefaultClasses = 1000

// Build implements zoov1.FamilyServer.
func (s *server) Build(_ context.Context, r *zoov1.BuildRequest) (*zoov1.BuildResponse, error) {
	n, err := s.network(r.GetNetwork())
	if err != nil {
		return nil, err
	}
	g, err := n.graph(n.input)
	if err != nil {
		return nil, invalid("%v", err)
	}
	m, err := pluginrpc.FromGraph(g)
	if err != nil {
		return nil, status.Error(codes.Internal, err.Error())
	}
	return &zoov1.BuildResponse{Graph: m}, nil
}

// Open implements zoov1.FamilyServer.
func (s *server) Open(ctx context.Context, r *zoov1.OpenRequest) (*zoov1.OpenResponse, error) {
	n, err := s.network(r.GetNetwork())
	if err != nil {
		return nil, err
	}
	se, err := newSession(ctx, s.open, n, r)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.last++
	id := s.last
	s.sessions[id] = se
	s.mu.Unlock()
	s.log.Debug("opened", "model", n.model.Name, "session", id, "precision", se.compute.GetPrecision())
	return &zoov1.OpenResponse{
		Session: id, Input: pluginrpc.ToShape(n.input), Classes: int32(n.classes), Compute: se.compute,
		Warnings: se.warnings, Outputs: se.defaults,
	}, nil
}

// Close implements zoov1.FamilyServer.
func (s *server) Close(_ context.Context, r *zoov1.CloseRequest) (*zoov1.CloseResponse, error) {
	s.mu.Lock()
	se := s.sessions[r.GetSession()]
	delete(s.sessions, r.GetSession())
	s.mu.Unlock()
	if se == nil {
		return &zoov1.CloseResponse{}, nil
	}
	if err := se.end(); err != nil {
		return nil, err
	}
	debug.FreeOSMemory() // a session's weights are tens of megabytes that an idle process should not keep
	return &zoov1.CloseResponse{}, nil
}

// session returns an open session.
func (s *server) session(id uint64) (*session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if se := s.sessions[id]; se != nil {
		return se, nil
	}
	return nil, status.Errorf(codes.NotFound, "session %d is not open", id)
}

// InferStream implements zoov1.FamilyServer.
func (s *server) InferStream(stream zoov1.Family_InferStreamServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	h := first.GetHeader()
	if h == nil {
		return invalid("the first message has no header")
	}
	se, err := s.session(h.GetSession())
	if err != nil {
		return err
	}
	shape, n := pluginrpc.ShapeOf(h.GetShape()), int(h.GetImages())
	size, err := pluginrpc.TensorBytes(n, shape)
	if err != nil {
		return invalid("%v", err)
	}
	in := make([]float32, size/4)
	rest := in
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		c := m.GetChunk()
		if len(c)%4 != 0 || len(c)/4 > len(rest) {
			return invalid("a chunk of %d bytes does not fit the %d that are missing", len(c), 4*len(rest))
		}
		pluginrpc.Decode(rest[:len(c)/4], c)
		rest = rest[len(c)/4:]
	}
	if len(rest) > 0 {
		return invalid("the input ended %d bytes early", 4*len(rest))
	}
	outputs, err := se.run(stream.Context(), n, shape, in, func(outputs []result) error {
		for i, o := range outputs {
			outputs[i].data = make([]float32, n*o.shape.Elements())
		}
		return nil
	})
	if err != nil {
		return err
	}
	chunk := make([]byte, pluginrpc.Chunk)
	for _, o := range outputs {
		if err := stream.Send(&zoov1.InferStreamResponse{Part: &zoov1.InferStreamResponse_Header{Header: o.describe()}}); err != nil {
			return err
		}
		for values := range slices.Chunk(o.data, len(chunk)/4) {
			pluginrpc.Encode(chunk, values)
			part := &zoov1.InferStreamResponse_Chunk{Chunk: chunk[:4*len(values)]}
			if err := stream.Send(&zoov1.InferStreamResponse{Part: part}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Prepare implements zoov1.EngineServer.
func (s *server) Prepare(_ context.Context, r *zoov1.PrepareRequest) (*zoov1.PrepareResponse, error) {
	se, err := s.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	outputs, err := se.outputs(int(r.GetImages()), pluginrpc.ShapeOf(r.GetShape()))
	return &zoov1.PrepareResponse{Outputs: outputs}, err
}

// Infer implements zoov1.EngineServer.
func (s *server) Infer(ctx context.Context, r *zoov1.InferRequest) (*zoov1.InferResponse, error) {
	se, err := s.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	shape, n := pluginrpc.ShapeOf(r.GetShape()), int(r.GetImages())
	size, err := pluginrpc.TensorBytes(n, shape)
	if err != nil {
		return nil, invalid("%v", err)
	}
	in, err := s.shared(r.GetInput(), size)
	if err != nil {
		return nil, err
	}
	out, err := s.shared(r.GetOutput(), 0)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	s.calls[r.GetCall()] = cancel
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.calls, r.GetCall())
		s.mu.Unlock()
	}()
	start := time.Now()
	outputs, err := se.run(ctx, n, shape, pluginrpc.Floats(in[:size]), func(outputs []result) error {
		for i, o := range outputs {
			size := int64(4 * n * o.shape.Elements())
			if size > int64(len(out)) {
				return invalid("there is no room for output %s: %d bytes, not %d", o.name, len(out), size)
			}
			outputs[i].data = pluginrpc.Floats(out[:size])
			out = out[min(pluginrpc.Align(size, pluginrpc.OutputAlign), int64(len(out))):]
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	resp := &zoov1.InferResponse{Nanoseconds: time.Since(start).Nanoseconds()}
	for _, o := range outputs {
		resp.Outputs = append(resp.Outputs, o.describe())
	}
	return resp, nil
}

// shared returns a range of the shared file of at least the given size.
func (s *server) shared(r *zoov1.Range, size int64) ([]byte, error) {
	if s.memory == nil {
		return nil, status.Errorf(codes.Unimplemented, "%v", s.memoryErr)
	}
	data, err := s.memory.At(r.GetOffset(), r.GetLength())
	if errors.Is(err, syscall.ENOMEM) {
		return nil, err
	}
	if err != nil {
		return nil, invalid("%v", err)
	}
	if int64(len(data)) < size {
		return nil, invalid("the input's range has %d bytes, the input %d", len(data), size)
	}
	return data, nil
}

// Cancel implements zoov1.EngineServer.
func (s *server) Cancel(_ context.Context, r *zoov1.CancelRequest) (*zoov1.CancelResponse, error) {
	s.mu.Lock()
	cancel := s.calls[r.GetCall()]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	return &zoov1.CancelResponse{}, nil
}

// Profile implements zoov1.EngineServer.
func (s *server) Profile(ctx context.Context, r *zoov1.ProfileRequest) (*zoov1.ProfileResponse, error) {
	se, err := s.session(r.GetSession())
	if err != nil {
		return nil, err
	}
	rows, err := se.profile(ctx, int(r.GetImages()), pluginrpc.ShapeOf(r.GetShape()))
	return &zoov1.ProfileResponse{Rows: rows}, err
}

// Train implements zoov1.EngineServer.
func (s *server) Train(stream zoov1.Engine_TrainServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	start := first.GetStart()
	if start == nil {
		return invalid("the first message is no start")
	}
	n, err := s.network(start.GetNetwork())
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(stream.Context())
	defer stop()
	go func() {
		// Ends with the stream. A host that is gone and one that asks to stop are the same to the training.
		defer stop()
		for {
			m, err := stream.Recv()
			if err == io.EOF {
				<-ctx.Done() // the host has nothing more to say, and listens
				return
			}
			if err != nil || m.GetStop() != nil {
				return
			}
		}
	}()
	var mu sync.Mutex // a stream takes one sender at a time
	var sendErr error
	result, err := train(ctx, n, start, func(event []byte) {
		mu.Lock()
		defer mu.Unlock()
		if sendErr == nil {
			sendErr = stream.Send(&zoov1.TrainResponse{Part: &zoov1.TrainResponse_EventJson{EventJson: event}})
		}
	})
	if err != nil {
		return err
	}
	if sendErr != nil {
		return fmt.Errorf("report progress: %w", sendErr)
	}
	return stream.Send(&zoov1.TrainResponse{Part: &zoov1.TrainResponse_Done_{Done: &zoov1.TrainResponse_Done{ResultJson: result}}})
}
