package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// Tensor is a batch of images: float32, NHWC, resized and normalised.
type Tensor struct {
	// N is the number of images.
	N int
	// Shape is one image's.
	Shape graph.Shape
	// Data has N·H·W·C values.
	Data []float32

	segment pluginrpc.Segment
	memory  *pluginrpc.Memory // whose segment Data is, or nil
}

// NewTensor returns a tensor whose data lies in memory that the plugin shares, so that Infer need not copy it. Its values are arbitrary.
// Release it when done.
func (s *Session) NewTensor(ctx context.Context, n int, shape graph.Shape) (*Tensor, error) {
	size, err := pluginrpc.TensorBytes(n, shape)
	if err != nil {
		return nil, err
	}
	pr, _, err := s.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer pr.release()
	t := &Tensor{N: n, Shape: shape}
	if pr.memory == nil || pr.engine == nil {
		t.Data = make([]float32, size/4)
		return t, nil
	}
	if t.segment, err = pr.memory.Take(size); err != nil {
		return nil, err
	}
	t.memory = pr.memory
	t.Data = pluginrpc.Floats(t.segment.Data[:size])
	return t, nil
}

// Release gives the tensor's memory back; Data must not be touched afterwards. No Infer of it may be under way.
func (t *Tensor) Release() error {
	t.Data = nil
	if t.memory == nil {
		return nil
	}
	m := t.memory
	t.memory = nil
	return m.Give(t.segment)
}

// Output is one output for a batch.
type Output struct {
	Name string
	N    int
	// Shape is that for one image; a vector has H = W = 1.
	Shape graph.Shape
	// Data is NHWC.
	Data []float32
}

// Infer computes the session's outputs for a batch. If the process crashes it is started again and the batch computed once more. When
// ctx ends, Infer returns at once; the tensor may be reused, since what becomes of the call is ignored.
func (s *Session) Infer(ctx context.Context, t *Tensor) ([]Output, error) {
	size, err := pluginrpc.TensorBytes(t.N, t.Shape)
	if err != nil {
		return nil, err
	}
	if int64(len(t.Data)) != size/4 {
		return nil, fmt.Errorf("a batch of %d images of %v has %d values, not %d", t.N, t.Shape, size/4, len(t.Data))
	}
	var out []Output
	err = retry(ctx, func() error {
		pr, id, err := s.enter(ctx)
		if err != nil {
			return err
		}
		defer pr.release()
		if pr.engine != nil && pr.memory != nil {
			out, err = s.inferShared(ctx, pr, id, t)
		} else {
			out, err = s.inferStream(ctx, pr, id, t)
		}
		if err != nil {
			return err
		}
		return s.checkFinite(pr, out)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (s *Session) task(pr *process, n int) task { return pr.task("classifying with "+s.spec.Model, n) }

// checkFinite reports logits that are no numbers.
func (s *Session) checkFinite(pr *process, outputs []Output) error {
	for _, o := range outputs {
		if o.Name != graph.LogitsOutput {
			continue
		}
		for i, v := range o.Data {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				return &Error{Plugin: pr.plugin.String(), Doing: s.task(pr, o.N).doing, Kind: ErrNotFinite, Message: fmt.Sprintf(
					"%s returned %v for image %d of %d: the weights are damaged, or the image has values that are no numbers", pr.plugin, f, i/o.Shape.C+1, o.N)}
			}
		}
	}
	return nil
}

// prepared returns the shapes of the outputs for an input, asking the plugin the first time.
func (s *Session) prepared(ctx context.Context, pr *process, id uint64, t *Tensor) ([]graph.Shape, error) {
	s.mu.Lock()
	shapes := s.shapes[t.Shape]
	s.mu.Unlock()
	if shapes != nil {
		return shapes, nil
	}
	var r *zoov1.PrepareResponse
	task := s.task(pr, t.N)
	err := pr.call(ctx, task, func(ctx context.Context) (err error) {
		r, err = pr.engine.Prepare(ctx, &zoov1.PrepareRequest{Session: id, Images: int32(t.N), Shape: pluginrpc.ToShape(t.Shape)})
		return err
	})
	if err != nil {
		return nil, err
	}
	if shapes, err = s.outputShapes(r.GetOutputs(), s.info.Classes); err != nil {
		return nil, pr.fault(ErrProtocol, task, fmt.Sprintf("%v while %s", err, task.doing), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.shapes) > 64 { // images of every size
		clear(s.shapes)
	}
	s.shapes[t.Shape] = shapes
	return shapes, nil
}

// inferShared passes tensors through shared memory.
func (s *Session) inferShared(ctx context.Context, pr *process, id uint64, t *Tensor) ([]Output, error) {
	shapes, err := s.prepared(ctx, pr, id, t)
	if err != nil {
		return nil, err
	}
	c := &inferCall{pr: pr, task: s.task(pr, t.N), done: make(chan error, 1), shapes: shapes, names: s.spec.Outputs, n: t.N}
	room := int64(0)
	for _, shape := range shapes {
		size, err := pluginrpc.TensorBytes(t.N, shape)
		if err != nil {
			return nil, err
		}
		room += pluginrpc.Align(size, pluginrpc.OutputAlign)
	}
	input := t.segment
	if t.memory != pr.memory {
		if input, err = c.take(int64(4 * len(t.Data))); err != nil {
			return nil, err
		}
		pluginrpc.Encode(input.Data, t.Data)
	}
	if c.output, err = c.take(room); err != nil {
		return nil, errors.Join(err, c.free())
	}
	c.request = &zoov1.InferRequest{
		Session: id, Call: s.host.calls.Add(1), Images: int32(t.N), Shape: pluginrpc.ToShape(t.Shape),
		Input:  &zoov1.Range{Offset: input.Offset, Length: int64(len(input.Data))},
		Output: &zoov1.Range{Offset: c.output.Offset, Length: int64(len(c.output.Data))},
	}
	var outputs []Output
	if line := pr.takeLine(); line != nil {
		outputs, err = c.dial(ctx, line)
	} else {
		outputs, err = c.run(ctx)
	}
	if err == nil {
		s.computed.Add(c.response.GetNanoseconds())
	}
	return outputs, err
}

// inferCall is a call of Engine.Infer. Its segments belong to the plugin until it answers or is dead, whatever the caller
// does meanwhile: a caller who gives up leaves the call to its goroutine.
type inferCall struct {
	pr       *process
	task     task
	request  *zoov1.InferRequest
	response *zoov1.InferResponse
	output   pluginrpc.Segment
	taken    []pluginrpc.Segment
	shapes   []graph.Shape
	names    []string
	n        int
	done     chan error
	settled  atomic.Bool // set by whoever is first: the caller who gives up, or the call that ends
	heard    bool        // the answer came through the line
}

func (c *inferCall) take(size int64) (pluginrpc.Segment, error) {
	s, err := c.pr.memory.Take(size)
	if err == nil {
		c.taken = append(c.taken, s)
	}
	return s, err
}

func (c *inferCall) free() error {
	var errs []error
	for _, s := range c.taken {
		errs = append(errs, c.pr.memory.Give(s))
	}
	c.taken = nil
	return errors.Join(errs...)
}

func (c *inferCall) run(ctx context.Context) ([]Output, error) {
	c.pr.retain() // for the goroutine
	go func() {   // ends with the call, which has a deadline
		defer c.pr.release()
		err := c.pr.call(context.Background(), c.task, func(ctx context.Context) (err error) {
			c.response, err = c.pr.engine.Infer(ctx, c.request)
			if status.Code(err) == codes.Canceled && c.settled.Load() {
				return nil // as asked for
			}
			return err
		})
		if !c.settled.CompareAndSwap(false, true) {
			if err := c.free(); err != nil {
				c.pr.log.Warn("freeing shared memory", "error", err)
			}
			return
		}
		c.done <- err
	}()
	select {
	case err := <-c.done:
		return c.finish(err)
	case <-ctx.Done():
	}
	if !c.settled.CompareAndSwap(false, true) {
		return c.finish(<-c.done)
	}
	c.cancel()
	return nil, cause(ctx)
}

// cancel asks the plugin to end the call soon, and does not wait for the answer. A plugin that gives none is ended long before the
// deadline of the call: until then each call that is given up holds memory.
func (c *inferCall) cancel() {
	c.pr.retain() // for the goroutine
	go func() {   // ends with the call, which has a deadline
		defer c.pr.release()
		err := c.pr.callFor(context.Background(), c.pr.task("giving up a call", 0), c.pr.host.opt.StartTimeout, func(ctx context.Context) error {
			_, err := c.pr.engine.Cancel(ctx, &zoov1.CancelRequest{Call: c.request.Call})
			return err
		})
		if errors.Is(err, ErrTimeout) {
			c.pr.log.Warn("nobody waits for the plugin, and it does not answer", "error", err)
		} else if err != nil {
			c.pr.log.Debug("cancelling", "error", err) // the call ends by itself or by its deadline
		}
	}()
}

// finish copies the outputs out of the shared memory and frees it.
func (c *inferCall) finish(err error) ([]Output, error) {
	if err != nil {
		return nil, errors.Join(err, c.free())
	}
	outputs, err := c.read()
	return outputs, errors.Join(err, c.free())
}

func (c *inferCall) read() ([]Output, error) {
	if len(c.response.GetOutputs()) != len(c.shapes) {
		return nil, c.pr.fault(ErrProtocol, c.task, fmt.Sprintf("returned %d outputs in place of %d while %s", len(c.response.GetOutputs()), len(c.shapes), c.task.doing), nil)
	}
	outputs := make([]Output, len(c.shapes))
	rest := c.output.Data
	for i, shape := range c.shapes {
		o := c.response.GetOutputs()[i]
		if got := pluginrpc.ShapeOf(o.GetShape()); got != shape || o.GetName() != c.names[i] {
			return nil, c.pr.fault(ErrProtocol, c.task, fmt.Sprintf("returned output %q of shape %v in place of %q of %v while %s",
				line(o.GetName(), 100), got, c.names[i], shape, c.task.doing), nil)
		}
		data := make([]float32, c.n*shape.Elements())
		pluginrpc.Decode(data, rest[:4*len(data)])
		rest = rest[min(pluginrpc.Align(int64(4*len(data)), pluginrpc.OutputAlign), int64(len(rest))):]
		outputs[i] = Output{Name: c.names[i], N: c.n, Shape: shape, Data: data}
	}
	return outputs, nil
}

// inferStream passes tensors in messages.
func (s *Session) inferStream(ctx context.Context, pr *process, id uint64, t *Tensor) ([]Output, error) {
	var outputs []Output
	task := s.task(pr, t.N)
	err := pr.call(ctx, task, func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel() // frees the stream also where it is left early
		stream, err := pr.family.InferStream(ctx)
		if err != nil {
			return err
		}
		if err := sendTensor(stream, id, t); err != nil && err != io.EOF { // EOF: Recv tells why
			return err
		}
		outputs, err = s.receive(stream, t.N)
		return err
	})
	var broken *brokenStream
	if errors.As(err, &broken) {
		return nil, pr.fault(ErrProtocol, task, fmt.Sprintf("%s while %s", broken.what, task.doing), nil)
	}
	return outputs, err
}

func sendTensor(stream zoov1.Family_InferStreamClient, id uint64, t *Tensor) error {
	header := &zoov1.InferStreamRequest_Header{Session: id, Images: int32(t.N), Shape: pluginrpc.ToShape(t.Shape)}
	if err := stream.Send(&zoov1.InferStreamRequest{Part: &zoov1.InferStreamRequest_Header_{Header: header}}); err != nil {
		return err
	}
	buf := make([]byte, pluginrpc.Chunk)
	for values := range slices.Chunk(t.Data, len(buf)/4) {
		pluginrpc.Encode(buf, values)
		if err := stream.Send(&zoov1.InferStreamRequest{Part: &zoov1.InferStreamRequest_Chunk{Chunk: buf[:4*len(values)]}}); err != nil {
			return err
		}
	}
	return stream.CloseSend()
}

// brokenStream says that the plugin's answer is not what the contract asks for.
type brokenStream struct{ what string }

// Error implements error.
func (b *brokenStream) Error() string { return b.what }

// receive reads the outputs of a batch.
func (s *Session) receive(stream zoov1.Family_InferStreamClient, n int) ([]Output, error) {
	var outputs []Output
	filled := 0
	for {
		m, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		if h := m.GetHeader(); h != nil {
			shape := pluginrpc.ShapeOf(h.GetShape())
			size, err := pluginrpc.TensorBytes(n, shape)
			i := len(outputs)
			if err != nil || i == len(s.spec.Outputs) || h.GetName() != s.spec.Outputs[i] || i > 0 && filled < len(outputs[i-1].Data) ||
				h.GetName() == graph.LogitsOutput && shape != (graph.Shape{C: s.info.Classes, H: 1, W: 1}) {
				return nil, &brokenStream{fmt.Sprintf("returned output %q of shape %v where it does not belong", line(h.GetName(), 100), shape)}
			}
			outputs = append(outputs, Output{Name: h.GetName(), N: n, Shape: shape, Data: make([]float32, size/4)})
			filled = 0
			continue
		}
		c := m.GetChunk()
		if len(outputs) == 0 || len(c)%4 != 0 || len(c)/4 > len(outputs[len(outputs)-1].Data)-filled {
			return nil, &brokenStream{fmt.Sprintf("returned a chunk of %d bytes that fits no output", len(c))}
		}
		pluginrpc.Decode(outputs[len(outputs)-1].Data[filled:filled+len(c)/4], c)
		filled += len(c) / 4
	}
	if len(outputs) != len(s.spec.Outputs) || filled < len(outputs[len(outputs)-1].Data) {
		return nil, &brokenStream{"ended its answer early"}
	}
	return outputs, nil
}
