package sdk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
	"github.com/go-modelzoo/zoo/weights"
)

func testServer(t *testing.T) *server {
	t.Helper()
	s := newServer(MustFamily([]byte(`{"name":"dot","version":"1.0.0"}`), Model{
		Name: "dot", Input: graph.Shape{C: 2, H: 4, W: 4}, MinSize: 2,
		Build: func(b *graph.Builder, x *graph.Node, o Options) *graph.Node {
			x = b.Features(b.GlobalAvgPool(b.Conv2d("conv", x, graph.Conv{Out: 3, Kernel: graph.Square(1)})))
			x = b.Linear("fc", b.Flatten(x), graph.Fc{Out: b.Classes()})
			b.Group("all", "conv", "fc")
			b.Classifier("fc")
			return x
		},
	}))
	m, err := pluginrpc.NewMemory()
	if errors.Is(err, pluginrpc.ErrNoSharedMemory) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.memory = m
	t.Cleanup(func() {
		s.close()
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// checkpoint writes weights for dot with the given number of classes and returns the path.
func checkpoint(t *testing.T, s *server, classes int) string {
	t.Helper()
	g, err := s.family.Models[0].Graph(graph.Shape{}, classes, nil)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []weights.Tensor
	for _, p := range g.Params {
		tensors = append(tensors, weights.FromFloat32(p.Name, p.Shape, p.Initialise(7)))
	}
	path := filepath.Join(t.TempDir(), "dot.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(weights.WriteSafetensors(f, tensors, nil), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func openRequest(path string, classes int32) *zoov1.OpenRequest {
	return &zoov1.OpenRequest{
		Network: &zoov1.Network{Model: "dot", Classes: classes}, Weights: &zoov1.Weights{Path: path}, Seed: 1,
		Compute: &zoov1.Compute{Precision: engine.Highest.String()},
	}
}

// refuses checks the error's code and text as they go over the wire.
func refuses(t *testing.T, err error, code codes.Code, parts ...string) {
	t.Helper()
	st := status.Convert(wireError(err))
	if st.Code() != code {
		t.Errorf("code %v, want %v: %v", st.Code(), code, err)
	}
	for _, p := range parts {
		if !strings.Contains(st.Message(), p) {
			t.Errorf("message %q does not say %q", st.Message(), p)
		}
	}
}

func TestOpenRefusesWeightsThatWereChanged(t *testing.T) {
	s := testServer(t)
	path := checkpoint(t, s, 5)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(data)
	r := openRequest(path, 5)
	r.Weights.Sha256 = hex.EncodeToString(sum[:])
	if _, err := s.Open(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = s.Open(t.Context(), r)
	refuses(t, err, codes.FailedPrecondition, "SHA-256", "changed or damaged", "pull it again")
	r.Weights.Sha256 = "abc"
	_, err = s.Open(t.Context(), r)
	refuses(t, err, codes.InvalidArgument, "64 hexadecimal digits")
	if len(s.sessions) != 1 {
		t.Errorf("%d sessions are open", len(s.sessions))
	}
}

func TestOpenIsStrictAboutNamesAndShapes(t *testing.T) {
	s := testServer(t)
	path := checkpoint(t, s, 5)
	_, err := s.Open(t.Context(), openRequest(path, 4))
	refuses(t, err, codes.FailedPrecondition, "fc.weight", "--allow-new-classifier")
	r := openRequest(path, 4)
	r.Weights.NewClassifier = true
	resp, err := s.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if w := resp.GetWarnings(); len(w) != 1 || !strings.Contains(w[0], "fc.weight") {
		t.Errorf("warnings %q", w)
	}
	se := s.sessions[resp.GetSession()]
	trunk, err := se.params.(*params).Param("conv.weight")
	if err != nil {
		t.Fatal(err)
	}
	g, err := se.graph(se.input)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(trunk, g.Param("conv.weight").Initialise(7)) {
		t.Error("the trunk is not the file's")
	}
}

func TestOpenRefusesWhatItCannotDo(t *testing.T) {
	s := testServer(t)
	for name, c := range map[string]struct {
		change func(*zoov1.OpenRequest)
		code   codes.Code
		part   string
	}{
		"model":     {func(r *zoov1.OpenRequest) { r.Network.Model = "dash" }, codes.NotFound, `"dash"`},
		"precision": {func(r *zoov1.OpenRequest) { r.Compute.Precision = "double" }, codes.InvalidArgument, "double"},
		"threads":   {func(r *zoov1.OpenRequest) { r.Compute.Threads = -1 }, codes.InvalidArgument, "-1 threads"},
		"device":    {func(r *zoov1.OpenRequest) { r.Compute.Device = "tpu" }, codes.InvalidArgument, "tpu"},
		"output":    {func(r *zoov1.OpenRequest) { r.Outputs = []string{"soul"} }, codes.InvalidArgument, "soul"},
		"size":      {func(r *zoov1.OpenRequest) { r.Network.Input = &zoov1.Shape{Channels: 2, Height: 1, Width: 1} }, codes.InvalidArgument, "2×2"},
		"classes":   {func(r *zoov1.OpenRequest) { r.Network.Classes = -3 }, codes.InvalidArgument, "-3"},
		"file":      {func(r *zoov1.OpenRequest) { r.Weights.Path = "/none" }, codes.FailedPrecondition, "/none"},
	} {
		r := openRequest("", 5)
		c.change(r)
		_, err := s.Open(t.Context(), r)
		if err == nil {
			t.Errorf("%s: opened", name)
			continue
		}
		refuses(t, err, c.code, c.part)
	}
}

func TestInferKeepsToItsRanges(t *testing.T) {
	s := testServer(t)
	o, err := s.Open(t.Context(), openRequest("", 5))
	if err != nil {
		t.Fatal(err)
	}
	in, errIn := s.memory.Take(2 * 32 * 4)
	out, errOut := s.memory.Take(2 * 5 * 4)
	if err := errors.Join(errIn, errOut); err != nil {
		t.Fatal(err)
	}
	for i := range pluginrpc.Floats(in.Data) {
		pluginrpc.Floats(in.Data)[i] = 1
	}
	// A canary behind the outputs, which take 40 bytes.
	for i := range out.Data {
		out.Data[i] = 0xA5
	}
	request := func() *zoov1.InferRequest {
		return &zoov1.InferRequest{
			Session: o.GetSession(), Call: 1, Images: 2, Shape: &zoov1.Shape{Channels: 2, Height: 4, Width: 4},
			Input:  &zoov1.Range{Offset: in.Offset, Length: int64(len(in.Data))},
			Output: &zoov1.Range{Offset: out.Offset, Length: int64(len(out.Data))},
		}
	}
	resp, err := s.Infer(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.GetOutputs()) != 1 || resp.GetOutputs()[0].GetShape().GetChannels() != 5 {
		t.Errorf("outputs %v", resp.GetOutputs())
	}
	logits := pluginrpc.Floats(out.Data)
	if !slices.Equal(logits[:5], logits[5:10]) {
		t.Errorf("equal images have logits %v and %v", logits[:5], logits[5:10])
	}
	for i, b := range out.Data[40:] {
		if b != 0xA5 {
			t.Fatalf("byte %d behind the outputs was written", i)
		}
	}
	for name, c := range map[string]struct {
		change func(*zoov1.InferRequest)
		code   codes.Code
		part   string
	}{
		"unknown session":   {func(r *zoov1.InferRequest) { r.Session = 77 }, codes.NotFound, "77"},
		"no images":         {func(r *zoov1.InferRequest) { r.Images = 0 }, codes.InvalidArgument, "0 maps"},
		"too many images":   {func(r *zoov1.InferRequest) { r.Images = 1 << 30 }, codes.InvalidArgument, "GiB"},
		"input too short":   {func(r *zoov1.InferRequest) { r.Images = 1000 }, codes.InvalidArgument, "input"},
		"output too short":  {func(r *zoov1.InferRequest) { r.Output.Length = 39 }, codes.InvalidArgument, "no room"},
		"input elsewhere":   {func(r *zoov1.InferRequest) { r.Input.Offset = 1 << 40 }, codes.InvalidArgument, "outside the file"},
		"input unaligned":   {func(r *zoov1.InferRequest) { r.Input.Offset++ }, codes.InvalidArgument, "multiple"},
		"no range":          {func(r *zoov1.InferRequest) { r.Output = nil }, codes.InvalidArgument, "outside the file"},
		"too many channels": {func(r *zoov1.InferRequest) { r.Shape.Channels = 3; r.Images = 1 }, codes.InvalidArgument, "channels"},
	} {
		r := request()
		c.change(r)
		_, err := s.Infer(t.Context(), r)
		if err == nil {
			t.Errorf("%s: answered", name)
			continue
		}
		refuses(t, err, c.code, c.part)
	}
	if len(s.calls) != 0 {
		t.Errorf("%d calls are not forgotten", len(s.calls))
	}
}

// held is a runner that computes until it is told to stop.
type held struct{ entered chan struct{} }

func (h held) Outputs(graph.Shape) ([]result, error) {
	return []result{{name: "logits", shape: graph.Shape{C: 5, H: 1, W: 1}}}, nil
}

func (h held) Run(ctx context.Context, _ int, _ graph.Shape, _ []float32, _ []result) error {
	h.entered <- struct{}{}
	<-ctx.Done()
	return ctx.Err()
}

func (h held) Profile(context.Context, int, graph.Shape) ([]*zoov1.ProfileResponse_Row, error) {
	return nil, nil
}

func (h held) Close() error { return nil }

func TestCancelEndsTheCallOfThatNumber(t *testing.T) {
	s := testServer(t)
	h := held{make(chan struct{})}
	s.open = func(network, engine.Params, *zoov1.Compute, []string) (runner, *zoov1.Compute, error) {
		return h, &zoov1.Compute{}, nil
	}
	o, err := s.Open(t.Context(), openRequest("", 5))
	if err != nil {
		t.Fatal(err)
	}
	seg, err := s.memory.Take(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	errs := make([]chan error, 3)
	for i := range errs {
		errs[i] = make(chan error, 1)
		go func() {
			_, err := s.Infer(t.Context(), &zoov1.InferRequest{
				Session: o.GetSession(), Call: uint64(i), Images: 1, Shape: &zoov1.Shape{Channels: 2, Height: 4, Width: 4},
				Input: &zoov1.Range{Offset: seg.Offset, Length: 1 << 16}, Output: &zoov1.Range{Offset: seg.Offset, Length: 1 << 16},
			})
			errs[i] <- err
		}()
		<-h.entered
	}
	if _, err := s.Cancel(t.Context(), &zoov1.CancelRequest{Call: 1}); err != nil {
		t.Fatal(err)
	}
	refuses(t, <-errs[1], codes.Canceled)
	select {
	case err := <-errs[0]:
		t.Errorf("another call ended: %v", err)
	case err := <-errs[2]:
		t.Errorf("another call ended: %v", err)
	default:
	}
	closed := make(chan error, 1)
	go func() {
		_, err := s.Close(t.Context(), &zoov1.CloseRequest{Session: o.GetSession()})
		closed <- err
	}()
	for _, call := range []uint64{0, 2, 99} {
		if _, err := s.Cancel(t.Context(), &zoov1.CancelRequest{Call: call}); err != nil {
			t.Fatal(err)
		}
	}
	refuses(t, <-errs[0], codes.Canceled)
	refuses(t, <-errs[2], codes.Canceled)
	if err := <-closed; err != nil {
		t.Errorf("closing: %v", err)
	}
	if _, err := s.Close(t.Context(), &zoov1.CloseRequest{Session: o.GetSession()}); err != nil {
		t.Errorf("closing twice: %v", err)
	}
}
