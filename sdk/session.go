package sdk

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
	"github.com/go-modelzoo/zoo/weights"
)

// result is an output of an inference.
type result struct {
	name  string
	shape graph.Shape // of one image
	data  []float32   // NHWC
}

func (r result) describe() *zoov1.Output {
	return &zoov1.Output{Name: r.name, Shape: pluginrpc.ToShape(r.shape)}
}

// runner computes an open network. It is safe for concurrent use until Close.
type runner interface {
	// Outputs returns names and shapes of the outputs for images of a shape, in order and without data.
	Outputs(shape graph.Shape) ([]result, error)
	// Run writes the outputs of a batch into the data of out, which are those of Outputs. in is NHWC. Neither is retained.
	Run(ctx context.Context, n int, shape graph.Shape, in []float32, out []result) error
	// Profile times the steps of a run.
	Profile(ctx context.Context, n int, shape graph.Shape) ([]*zoov1.ProfileResponse_Row, error)
	Close() error
}

// opener makes a runner. It also returns what of compute is in force.
type opener func(n network, params engine.Params, compute *zoov1.Compute, outputs []string) (runner, *zoov1.Compute, error)

// maxConcurrent is how many inferences of one session run at once; others wait. Each needs memory for its feature maps, and
// more at once than this do not make the processor any busier.
const maxConcurrent = 4

// session is an open model.
type session struct {
	network
	runner   runner
	params   io.Closer
	compute  *zoov1.Compute
	warnings []string
	defaults []*zoov1.Output

	slots chan struct{}
	mu    sync.Mutex
	calls sync.WaitGroup // Add under mu, while not closed
	ended bool
}

func newSession(ctx context.Context, open opener, n network, r *zoov1.OpenRequest) (*session, error) {
	g, err := n.graph(n.input)
	if err != nil {
		return nil, invalid("%v", err)
	}
	p, err := loadParams(g, r.GetWeights(), r.GetSeed())
	if err != nil {
		return nil, err
	}
	checked := make(chan error, 1)
	go func() { checked <- checkDigest(ctx, r.GetWeights()) }() // while the plan is made
	se := &session{network: n, params: p, warnings: p.warnings, slots: make(chan struct{}, maxConcurrent)}
	outputs := r.GetOutputs()
	if len(outputs) == 0 {
		outputs = []string{graph.LogitsOutput}
	}
	se.runner, se.compute, err = open(n, p, r.GetCompute(), outputs)
	if err == nil {
		se.defaults, err = se.outputs(1, n.input)
	}
	if digestErr := <-checked; digestErr != nil {
		err = digestErr // says more than what came of wrong bytes
	}
	if err != nil {
		if endErr := se.end(); endErr != nil {
			err = errors.Join(err, endErr)
		}
		return nil, err
	}
	return se, nil
}

// end waits for the calls in flight and frees what the session holds.
func (se *session) end() error {
	se.mu.Lock()
	if se.ended {
		se.mu.Unlock()
		return nil
	}
	se.ended = true
	se.mu.Unlock()
	se.calls.Wait()
	var errs []error
	if se.runner != nil {
		errs = append(errs, se.runner.Close())
	}
	return errors.Join(append(errs, se.params.Close())...)
}

// enter begins a call on the session, which leave ends.
func (se *session) enter(ctx context.Context) (leave func(), err error) {
	se.mu.Lock()
	if se.ended {
		se.mu.Unlock()
		return nil, invalid("the session is closed")
	}
	se.calls.Add(1)
	se.mu.Unlock()
	select {
	case se.slots <- struct{}{}:
		return func() { <-se.slots; se.calls.Done() }, nil
	case <-ctx.Done():
		se.calls.Done()
		return nil, ctx.Err()
	}
}

// run computes the outputs of a batch into memory that place gives them.
func (se *session) run(ctx context.Context, n int, shape graph.Shape, in []float32, place func([]result) error) ([]result, error) {
	leave, err := se.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	out, err := se.results(n, shape)
	if err != nil {
		return nil, err
	}
	if err := place(out); err != nil {
		return nil, err
	}
	return out, se.runner.Run(ctx, n, shape, in, out)
}

// results are the outputs of a batch, without data.
func (se *session) results(n int, shape graph.Shape) ([]result, error) {
	if _, err := pluginrpc.TensorBytes(n, shape); err != nil {
		return nil, invalid("%v", err)
	}
	out, err := se.runner.Outputs(shape)
	if err != nil {
		return nil, err
	}
	for _, o := range out {
		if _, err := pluginrpc.TensorBytes(n, o.shape); err != nil {
			return nil, invalid("output %s: %v", o.name, err)
		}
	}
	return out, nil
}

// outputs describes the outputs of a batch.
func (se *session) outputs(n int, shape graph.Shape) ([]*zoov1.Output, error) {
	list, err := se.results(n, shape)
	if err != nil {
		return nil, err
	}
	out := make([]*zoov1.Output, len(list))
	for i, r := range list {
		out[i] = r.describe()
	}
	return out, nil
}

func (se *session) profile(ctx context.Context, n int, shape graph.Shape) ([]*zoov1.ProfileResponse_Row, error) {
	if _, err := pluginrpc.TensorBytes(n, shape); err != nil {
		return nil, invalid("%v", err)
	}
	leave, err := se.enter(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return se.runner.Profile(ctx, n, shape)
}

// params are a network's values: from a file, or drawn from a seed, or the classifier from a seed and the rest from a file.
type params struct {
	graph    *graph.Graph
	seed     uint64
	file     *weights.File // nil: everything is drawn
	fresh    map[string]bool
	warnings []string
}

// loadParams opens the weights and holds them strictly against the graph.
func loadParams(g *graph.Graph, w *zoov1.Weights, seed uint64) (*params, error) {
	p := &params{graph: g, seed: seed, fresh: map[string]bool{}}
	if w.GetPath() == "" {
		return p, nil
	}
	file, err := weights.Open(w.GetPath())
	if err != nil {
		return nil, err
	}
	report := weights.Match(weights.Wants(g), file)
	err = report.Err()
	if w.GetNewClassifier() {
		var fresh []string
		fresh, err = report.AllowNewClassifier()
		for _, name := range fresh {
			p.fresh[name] = true
		}
		if len(fresh) > 0 {
			p.warnings = append(p.warnings, fmt.Sprintf("the classifier is new and needs training: %s", strings.Join(fresh, ", ")))
		}
	}
	if err != nil {
		if closeErr := file.Close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
		return nil, err
	}
	p.file = file
	return p, nil
}

// Param implements engine.Params.
func (p *params) Param(name string) ([]float32, error) {
	if p.file != nil && !p.fresh[name] {
		if _, ok := p.file.Tensor(name); ok {
			return p.file.Param(name)
		}
	}
	q := p.graph.Param(name)
	if q == nil {
		return nil, fmt.Errorf("the network has no parameter %s", name)
	}
	return q.Initialise(p.seed), nil
}

// Release implements engine.Releaser.
func (p *params) Release() {
	if p.file != nil {
		p.file.Release()
	}
}

// Close unmaps the file.
func (p *params) Close() error {
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}

// checkDigest reads the weights file and compares its SHA-256 with what was asked for.
func checkDigest(ctx context.Context, w *zoov1.Weights) error {
	if w.GetSha256() == "" || w.GetPath() == "" {
		return nil
	}
	want, err := hex.DecodeString(w.GetSha256())
	if err != nil || len(want) != sha256.Size {
		return invalid("digest %q of %s is not 64 hexadecimal digits", w.GetSha256(), w.GetPath())
	}
	f, err := os.Open(w.GetPath())
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for ctx.Err() == nil {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: %w", w.GetPath(), err)
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if got := h.Sum(nil); !slices.Equal(got, want) {
		return fmt.Errorf("%s has SHA-256 %x, not %x: the file was changed or damaged: pull it again", w.GetPath(), got, want)
	}
	return nil
}
