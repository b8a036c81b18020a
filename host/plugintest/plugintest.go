// Package plugintest is the conformance kit of plugin binaries: what `zoo plugin test BINARY` runs. Where sdk/zootest looks at a
// family from inside, this starts the binary and asks it what a host asks, over the protocol, so that it judges a plugin in any
// language.
package plugintest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/internal/samegraph"
)

// Check is one thing that was tried on one model, or on the plugin as a whole (Model ""). Err is nil when it holds.
type Check struct {
	Model string
	Name  string
	Err   error
}

// largestRun is the most multiply-accumulates of a network that is also run; larger ones are only built.
const largestRun = 500e6

// Run starts the binary and reports each check as it is made. It returns an error only if the plugin cannot be asked at all.
func Run(ctx context.Context, binary string, options host.Options, report func(Check)) (err error) {
	path, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	// Not its folder: another version there might be preferred to it.
	options.Binaries, options.Dirs, options.Embedded, options.CacheDir = []string{path}, nil, nil, ""
	h, err := host.New(options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	p, err := h.Inspect(ctx, path)
	if err != nil {
		return fmt.Errorf("%s: %w", binary, err)
	}
	report(Check{Name: fmt.Sprintf("%s answers, protocol %d", p, p.Protocol)})
	if len(p.Models) == 0 {
		report(Check{Name: "models", Err: errors.New("has none")})
	}
	for _, m := range p.Models {
		k := kit{ctx, h, p.Family, m, report}
		k.run()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// kit checks one model.
type kit struct {
	ctx    context.Context
	host   *host.Host
	family string
	model  host.ModelInfo
	report func(Check)
}

func (k kit) check(name string, err error) bool {
	k.report(Check{k.model.Name, name, err})
	return err == nil
}

func (k kit) network(side, classes int) host.Network {
	in := k.model.Input
	if side > 0 {
		in.H, in.W = side, side
	}
	return host.Network{Family: k.family, Model: k.model.Name, Classes: classes, Input: in}
}

func (k kit) build(side, classes int) (*graph.Graph, error) {
	return k.host.Build(k.ctx, k.network(side, classes))
}

func (k kit) run() {
	g, err := k.build(0, 1000)
	if !k.check("builds at its own size", err) {
		return
	}
	again, err := k.build(0, 1000)
	k.check("builds the same network again", same(g, again, err))
	least, err := k.build(k.model.MinSize, 1)
	if !k.check(fmt.Sprintf("builds at its smallest size, %d, for one class", k.model.MinSize), err) {
		return
	}
	if k.model.MinSize > 1 { // side 0 would mean the model's own
		_, err = k.build(k.model.MinSize-1, 1)
		k.check("refuses a smaller image", refused(err))
	}
	_, err = k.build(k.model.MinSize+k.model.MinSize/2|1, 10)
	k.check("builds at an odd size", err)
	_, err = k.host.Build(k.ctx, host.Network{Family: k.family, Model: k.model.Name, Options: map[string]string{"no-such-option": "1"}})
	k.check("refuses an unknown option", refused(err))
	k.check("layer groups go from the input to the output", groups(g))
	k.check("feature taps go from fine to coarse", taps(g))
	k.check("another classifier changes the classifier's parameters alone", classifier(g, least))
	if least.MACs() <= largestRun {
		k.infer(least.Input)
	}
}

// refused turns an expected error into none, and none into one.
func refused(err error) error {
	if err == nil {
		return errors.New("was accepted")
	}
	return nil
}

// same wants the second of two builds to have succeeded and to be what the first was.
func same(a, b *graph.Graph, err error) error {
	if err != nil {
		return err
	}
	return samegraph.Check(a, b)
}

// groups wants the order in which the network computes. That each parameter is in one group the host has seen to.
func groups(g *graph.Graph) error {
	before, reached := "", 0
	for _, gr := range g.Groups {
		if len(gr.Params) == 0 {
			return fmt.Errorf("%s is empty", gr.Name)
		}
		first := len(g.Nodes)
		for _, p := range gr.Params {
			first = min(first, p.Node.ID)
		}
		if first < reached {
			return fmt.Errorf("%s begins before %s, which stands in front of it", gr.Name, before)
		}
		before, reached = gr.Name, first
	}
	return nil
}

func taps(g *graph.Graph) error {
	if len(g.Taps) == 0 {
		return errors.New("there are none")
	}
	for i, t := range g.Taps {
		want := float64(g.Input.H) / float64(t.Stride)
		if got := float64(t.Node.Shape.H); math.Abs(got-want) > 3+want/4 {
			return fmt.Errorf("%s: %v rows of an image of %d at stride %d", t.Name, got, g.Input.H, t.Stride)
		}
		if i > 0 && t.Stride <= g.Taps[i-1].Stride {
			return fmt.Errorf("%s: stride %d after %d", t.Name, t.Stride, g.Taps[i-1].Stride)
		}
	}
	return nil
}

func classifier(a, b *graph.Graph) error {
	if len(a.Params) != len(b.Params) {
		return fmt.Errorf("%d parameters became %d", len(a.Params), len(b.Params))
	}
	for i, p := range a.Params {
		q := b.Params[i]
		if p.Name != q.Name {
			return fmt.Errorf("%s became %s", p.Name, q.Name)
		}
		if same := fmt.Sprint(p.Shape) == fmt.Sprint(q.Shape); !same && !a.InClassifier(p) {
			return fmt.Errorf("%s has shape %v for %d classes and %v for %d, and is not of the classifier", p.Name, p.Shape, a.Classes, q.Shape, b.Classes)
		}
	}
	return nil
}

// infer runs one image and the same image three times, and compares.
func (k kit) infer(in graph.Shape) {
	s, err := k.host.Open(k.ctx, host.Spec{Network: k.network(in.H, 7), Seed: 1})
	if !k.check("opens with random weights", err) {
		return
	}
	defer s.Close() // the host ends the process
	one, err := k.logits(s, in, 1)
	if !k.check("runs one image", err) {
		return
	}
	three, err := k.logits(s, in, 3)
	if err == nil {
		err = equal(one, three)
	}
	k.check("gives each image of a batch of three the same", err)
}

func (k kit) logits(s *host.Session, in graph.Shape, n int) ([]float32, error) {
	t := &host.Tensor{N: n, Shape: in, Data: make([]float32, n*in.Elements())}
	for i := range t.Data {
		t.Data[i] = float32(i%in.Elements()%17)/8 - 1
	}
	out, err := s.Infer(k.ctx, t)
	if err != nil {
		return nil, err
	}
	for i, v := range out[0].Data {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("logit %d is %v", i, v)
		}
	}
	return out[0].Data, nil
}

// equal compares a row with each of several, to what reordering sums can change.
func equal(row, rows []float32) error {
	scale := 0.0
	for _, v := range row {
		scale = max(scale, math.Abs(float64(v)))
	}
	for i, v := range rows {
		if d := math.Abs(float64(v - row[i%len(row)])); d > 1e-3*scale+1e-6 {
			return fmt.Errorf("logit %d of image %d is %v, alone %v", i%len(row), i/len(row), v, row[i%len(row)])
		}
	}
	return nil
}
