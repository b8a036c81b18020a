// Package zootest is the conformance kit of architecture families: what the first-party families pass, and any other family has to.
//
//	func TestFamily(t *testing.T) { zootest.Run(t, ghostnet.Family()) }
//
// Every model is built at its smallest, at odd and at its own size, for few and many classes, and its layer groups, feature taps, totals,
// classifier and options are checked. Small models, and the cheapest of every family, also run: inference at batch
// 1 and 3, a round trip of the weights through a file, another classifier on the same trunk, and a gradient for every parameter. Whether an operator of
// the family's own has the right one is for [Gradients] to say.
//
// Run, Check and Gradients are safe for concurrent use. They write only to temporary folders.
package zootest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/panicked"
	"github.com/go-modelzoo/zoo/sdk"
)

// Problem is a way in which a model does not keep the contract.
type Problem struct {
	Model string
	// Check is the name of the rule, such as "layer groups".
	Check string
	Err   error
}

// Error tells which rule of which model is broken, and how.
func (p Problem) Error() string { return fmt.Sprintf("%s: %s: %v", p.Model, p.Check, p.Err) }

// Unwrap returns Err.
func (p Problem) Unwrap() error { return p.Err }

// Options choose how much is checked.
type Options struct {
	// BuildOnly runs no network.
	BuildOnly bool
	// All runs every network, however large.
	All bool
}

// check is one rule. It returns all the ways in which the model breaks it.
type check struct {
	name string
	run  func(c *subject) error
}

// subject is a model under test.
type subject struct {
	ctx   context.Context
	model sdk.Model
	// size is a size at which every map has pixels and the network is cheap.
	size graph.Shape
	// initial are the parameters that the running checks share; nil until needed.
	initial engine.ParamMap
}

// graph builds the model with its default options.
func (s *subject) graph(input graph.Shape, classes int) (*graph.Graph, error) {
	return s.model.Graph(input, classes, nil)
}

var checks = []check{
	{"description", description},
	{"sizes", sizes},
	{"numbers of classes", classCounts},
	{"one function", pure},
	{"names", uniqueNames},
	{"protocol", crosses},
	{"layer groups", groups},
	{"feature taps", taps},
	{"totals", totals},
	{"classifier", classifier},
	{"options", options},
}

var running = []check{
	{"inference", inference},
	{"features", features},
	{"weights file", roundTrip},
	{"classifier swap", swap},
	{"gradients", gradients},
}

// Run checks a family as subtests, one a model. With -short only the building is checked.
func Run(t *testing.T, f sdk.Family) {
	t.Helper()
	runs := selected(f, Options{BuildOnly: testing.Short()})
	for _, m := range f.Models {
		t.Run(m.Name, func(t *testing.T) {
			for _, p := range checkModel(t.Context(), m, runs[m.Name]) {
				t.Errorf("%s: %v", p.Check, p.Err)
			}
		})
	}
}

// Check checks a family outside of tests and returns what is wrong with it. It ends early, with what it has found, when the context does.
func Check(ctx context.Context, f sdk.Family, o Options) []Problem {
	var problems []Problem
	runs := selected(f, o)
	for _, m := range f.Models {
		problems = append(problems, checkModel(ctx, m, runs[m.Name])...)
	}
	return problems
}

func checkModel(ctx context.Context, m sdk.Model, runs bool) []Problem {
	s := &subject{ctx: ctx, model: m, size: testSize(m)}
	list := checks
	if runs {
		list = append(list[:len(list):len(list)], running...)
	}
	var problems []Problem
	for _, c := range list {
		if err := ctx.Err(); err != nil {
			return append(problems, Problem{m.Name, c.name, err})
		}
		if err := guard(c.run, s); err != nil {
			problems = append(problems, Problem{m.Name, c.name, err})
			if c.name == "sizes" {
				break // nothing else can be said of a model that does not build
			}
		}
	}
	return problems
}

// guard turns a panic of the family into a problem.
func guard(run func(*subject) error, s *subject) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %s", panicked.Text(r))
		}
	}()
	return run(s)
}

// testSize is 40×43 pixels or, for networks that need more, a little above their smallest size: odd, and not square.
func testSize(m sdk.Model) graph.Shape {
	s := m.MinInput()
	s.H, s.W = max(s.H, 40), max(s.W, 40)+3
	return s
}

// selected names the models that run: all, or the small ones and the cheapest.
func selected(f sdk.Family, o Options) map[string]bool {
	runs := map[string]bool{}
	if o.BuildOnly {
		return runs
	}
	const small = 60e6
	cheapest, least := "", int64(0)
	for _, m := range f.Models {
		c := cost(m)
		if cheapest == "" || c < least {
			cheapest, least = m.Name, c
		}
		runs[m.Name] = o.All || c < small
	}
	runs[cheapest] = true
	return runs
}

// cost is a rough measure of what running a model takes: values to move and multiply. A model that does not build costs all there is.
func cost(m sdk.Model) (c int64) {
	defer func() {
		if recover() != nil {
			c = math.MaxInt64 // the checks tell of the panic
		}
	}()
	g, err := m.Graph(testSize(m), 10, nil)
	if err != nil {
		return math.MaxInt64
	}
	return 4*g.NumParams() + g.MACs()
}

// faults collects what a check finds, up to a few.
type faults []error

func (f *faults) add(format string, args ...any) {
	const enough = 8
	switch {
	case len(*f) < enough:
		*f = append(*f, fmt.Errorf(format, args...))
	case len(*f) == enough:
		*f = append(*f, errors.New("… and more"))
	}
}

func (f faults) err() error { return errors.Join(f...) }
