package host

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// Weights say where a network's values come from.
type Weights struct {
	// Path is a safetensors or PyTorch file; "" draws values from Spec.Seed.
	Path string
	// SHA256 is the file's, in hexadecimal; the plugin refuses another file. "" checks nothing.
	SHA256 string
	// NewClassifier accepts a file whose classifier has another shape or is missing and draws a new one.
	NewClassifier bool
}

// Spec says what to open.
type Spec struct {
	Network
	Weights   Weights
	Seed      uint64
	Precision engine.Precision
	// Threads is how many threads compute; 0 means all processors.
	Threads int
	// Device is "cpu" (also "") or "cuda".
	Device string
	// Outputs are what inference returns, in this order: "logits", "embedding" (pooled features), "features" or names of
	// taps; none means logits.
	Outputs []string
}

func (s Spec) compute() *zoov1.Compute {
	c := &zoov1.Compute{Threads: int32(s.Threads), Device: s.Device}
	if s.Precision != engine.Default {
		c.Precision = s.Precision.String()
	}
	return c
}

// weights returns the message and what the process must be able to read.
func (s Spec) weights() (*zoov1.Weights, grants, error) {
	if s.Weights.Path == "" {
		return &zoov1.Weights{NewClassifier: s.Weights.NewClassifier}, grants{}, nil
	}
	path, err := resolve(s.Weights.Path)
	if err != nil {
		return nil, grants{}, err
	}
	return &zoov1.Weights{Path: path, Sha256: s.Weights.SHA256, NewClassifier: s.Weights.NewClassifier}, grants{read: []string{path}}, nil
}

// SessionInfo is what is in force in a session.
type SessionInfo struct {
	Plugin    Plugin
	Input     graph.Shape
	Classes   int
	Precision engine.Precision
	Threads   int
	Device    string
	// Warnings are lines for the user, such as which parameters are random.
	Warnings []string
	// Outputs are the names that Infer returns.
	Outputs []string
}

// Session is an open model. It survives its process: one that crashed or was ended for being idle is started again by the next
// call. It is safe for concurrent use.
type Session struct {
	host   *Host
	pool   *pool
	spec   Spec
	grants grants
	info   SessionInfo

	turn   chan struct{} // held while opening
	closed atomic.Bool
	proc   *process // the process where it is open, or nil; guarded by turn
	id     uint64   // there; guarded by turn

	computed atomic.Int64 // nanoseconds that the plugin says it computed, of all inferences

	mu     sync.Mutex
	shapes map[graph.Shape][]graph.Shape // of outputs, by input
}

// Open opens a model: it starts the family's process if need be, which loads the weights and plans inference.
func (h *Host) Open(ctx context.Context, spec Spec) (*Session, error) {
	p, err := h.find(ctx, spec.Family, spec.Model)
	if err != nil {
		return nil, err
	}
	pool, err := h.pool(p)
	if err != nil {
		return nil, err
	}
	_, g, err := spec.weights()
	if err != nil {
		return nil, err
	}
	spec.Outputs = slices.Clone(spec.Outputs)
	if len(spec.Outputs) == 0 {
		spec.Outputs = []string{graph.LogitsOutput}
	}
	s := &Session{host: h, pool: pool, spec: spec, grants: g, turn: make(chan struct{}, 1), shapes: map[graph.Shape][]graph.Shape{}}
	err = retry(ctx, func() error {
		pr, _, err := s.enter(ctx)
		if err == nil {
			pr.release()
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, s.Close()) // opening goes on if ctx ended
	}
	return s, nil
}

// Info returns what is in force.
func (s *Session) Info() SessionInfo { return s.info }

// enter returns the process where the session is open, opening it if need be, and the session's number there. The caller
// releases the process.
//
// Opening goes on when its caller gives up. So the session is open in the end however little time each caller has, and none is left
// in the plugin whose number nobody knows.
func (s *Session) enter(ctx context.Context) (*process, uint64, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, 0, cause(ctx)
	}
	if s.closed.Load() {
		<-s.turn
		return nil, 0, fmt.Errorf("session of %s: %w", s.spec.Model, ErrClosed)
	}
	if s.proc != nil && s.proc.again() {
		defer func() { <-s.turn }()
		return s.proc, s.id, nil
	}
	type opened struct {
		pr  *process
		id  uint64
		err error
	}
	done, alone := make(chan opened), make(chan struct{})
	err := s.host.background(func() {
		var o opened
		o.pr, o.err = s.reopen()
		o.id = s.id
		<-s.turn
		select {
		case done <- o:
		case <-alone:
			if o.err == nil {
				o.pr.release()
			}
		}
	})
	if err != nil {
		<-s.turn
		return nil, 0, err
	}
	select {
	case o := <-done:
		return o.pr, o.id, o.err
	case <-ctx.Done():
		close(alone)
		return nil, 0, cause(ctx)
	}
}

// reopen opens the session in a process, which the caller releases. It needs turn.
func (s *Session) reopen() (*process, error) {
	s.proc = nil
	pr, err := s.pool.acquire(context.Background(), &s.grants)
	if err != nil {
		return nil, err
	}
	if err := s.openOn(context.Background(), pr); err != nil {
		pr.release()
		return nil, err
	}
	return pr, nil
}

// openOn opens the session in a process. It needs turn.
func (s *Session) openOn(ctx context.Context, pr *process) error {
	t := pr.task("loading "+s.spec.Model, 0)
	w, _, err := s.spec.weights()
	if err != nil {
		return err
	}
	var r *zoov1.OpenResponse
	err = pr.call(ctx, t, func(ctx context.Context) (err error) {
		r, err = pr.family.Open(ctx, &zoov1.OpenRequest{
			Network: s.spec.message(), Weights: w, Seed: s.spec.Seed, Compute: s.spec.compute(), Outputs: s.spec.Outputs,
		})
		return err
	})
	if err != nil {
		return err
	}
	info := SessionInfo{
		Plugin: pr.plugin, Input: pluginrpc.ShapeOf(r.GetInput()), Classes: int(r.GetClasses()),
		Threads: int(r.GetCompute().GetThreads()), Device: line(r.GetCompute().GetDevice(), 100), Outputs: s.spec.Outputs,
	}
	if info.Device == "" {
		info.Device = "cpu"
	}
	for _, warning := range r.GetWarnings() {
		info.Warnings = append(info.Warnings, line(warning, 1000))
	}
	if info.Precision, err = engine.ParsePrecision(r.GetCompute().GetPrecision()); err != nil {
		return pr.fault(ErrProtocol, t, "answered with an unknown precision while "+t.doing, err)
	}
	if _, err := pluginrpc.TensorBytes(1, info.Input); err != nil || info.Classes < 1 || r.GetSession() == 0 {
		return pr.fault(ErrProtocol, t, fmt.Sprintf("answered with input %v, %d classes and session %d while %s", info.Input, info.Classes, r.GetSession(), t.doing), err)
	}
	if err := s.spec.answered(info.Input, info.Classes); err != nil {
		return pr.fault(ErrProtocol, t, "opened "+err.Error(), nil)
	}
	shapes, err := s.outputShapes(r.GetOutputs(), info.Classes)
	if err != nil {
		return pr.fault(ErrProtocol, t, fmt.Sprintf("%v while %s", err, t.doing), err)
	}
	s.mu.Lock()
	s.shapes = map[graph.Shape][]graph.Shape{info.Input: shapes}
	if s.info.Classes == 0 { // of the first process; later ones differ at most in their version
		s.info = info
	}
	s.mu.Unlock()
	s.proc, s.id = pr, r.GetSession()
	return nil
}

// outputShapes checks what a plugin says its outputs are.
func (s *Session) outputShapes(outputs []*zoov1.Output, classes int) ([]graph.Shape, error) {
	if len(outputs) != len(s.spec.Outputs) {
		return nil, fmt.Errorf("announced %d outputs where %d were asked for", len(outputs), len(s.spec.Outputs))
	}
	shapes := make([]graph.Shape, len(outputs))
	for i, o := range outputs {
		shapes[i] = pluginrpc.ShapeOf(o.GetShape())
		_, err := pluginrpc.TensorBytes(1, shapes[i])
		if o.GetName() != s.spec.Outputs[i] || err != nil || o.GetName() == graph.LogitsOutput && shapes[i] != (graph.Shape{C: classes, H: 1, W: 1}) {
			return nil, fmt.Errorf("announced output %q of shape %v where %q was asked for", line(o.GetName(), 100), shapes[i], s.spec.Outputs[i])
		}
	}
	return shapes, nil
}

// Close frees the session in its process. It waits for an inference that the plugin still computes, also one that nobody waits for any more, but
// not for an opening that is under way; what comes of that is freed, too.
func (s *Session) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	select {
	case s.turn <- struct{}{}:
		return s.free()
	default:
	}
	err := s.host.background(func() {
		s.turn <- struct{}{}
		if err := s.free(); err != nil {
			s.host.log.Warn("closing a session", "model", s.spec.Model, "error", err)
		}
	})
	if errors.Is(err, ErrClosed) {
		return nil // the process is gone
	}
	return err
}

// free frees the session in its process, if it is open in one, and gives turn back.
func (s *Session) free() error {
	defer func() { <-s.turn }()
	if s.proc == nil || !s.proc.again() {
		return nil
	}
	defer s.proc.release()
	// The plugin first ends what it computes for the session, which may take as long as a call may.
	err := s.proc.call(context.Background(), s.proc.task("closing "+s.spec.Model, 0), func(ctx context.Context) error {
		_, err := s.proc.family.Close(ctx, &zoov1.CloseRequest{Session: s.id})
		return err
	})
	if errors.Is(err, ErrCrashed) || errors.Is(err, ErrClosed) {
		return nil // it is closed
	}
	return err
}
