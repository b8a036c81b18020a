// Package sdk is what an architecture family imports. A family is a table of models, each one pure function that builds a
// graph; Serve turns it into a plugin process that zoo can start.
//
//	//go:embed plugin.json
//	var manifest []byte
//
//	func Family() sdk.Family {
//		return sdk.MustFamily(manifest, models...)
//	}
//
//	func main() { sdk.Serve(lenet.Family()) }
//
// Everything else (loading weights, inference, training, features, summaries) follows from the graph.
package sdk

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/internal/strictjson"
)

// Manifest is a family's plugin.json.
type Manifest struct {
	// Name is the family's: lower-case letters, digits and dashes.
	Name string `json:"name"`
	// Version is the family's own semantic version, apart from zoo's and from the protocol's.
	Version string `json:"version"`
	// Description is one line for people.
	Description string `json:"description"`
	// License is the SPDX identifier of the family's code.
	License string `json:"license"`
	// Homepage is where to read more and report problems; may be empty.
	Homepage string `json:"homepage,omitempty"`
}

// Family is a named, versioned set of models. It is immutable and safe for concurrent use.
type Family struct {
	Manifest
	Models []Model
}

// Model is one architecture with its numbers filled in.
type Model struct {
	// Name is torchvision's (timm's for SE nets and MobileNet V1), such as "resnet50". It is what users call the model by: no other family may have it.
	Name string
	// Paper cites the source.
	Paper string
	// Input is the shape that public weights expect, such as 3x224x224. Image files become square, with 1 or 3 channels; what other networks read comes in
	// as tensors (`zoo run`).
	Input graph.Shape
	// MinSize is the smallest height and width that the network can be built for.
	MinSize int
	// Options are what the model accepts besides input size and number of classes.
	Options []Option
	// Build adds the network to the builder and returns its logits. It is a pure function of its arguments. Problems are reported
	// through the builder.
	Build func(b *graph.Builder, x *graph.Node, o Options) *graph.Node
}

// Option is a setting that a model accepts, as in `--option padding=same`.
type Option struct {
	Name    string
	Default string
	// Values are the allowed ones; empty allows any that the model's Build accepts.
	Values []string
	Help   string
}

// Options are a model's settings by name, complete with defaults.
type Options map[string]string

// Is reports whether the option has the given value.
func (o Options) Is(name, value string) bool { return o[name] == value }

// Bool reports whether the option is "true".
func (o Options) Bool(name string) bool { return o[name] == "true" }

// Ints reads a comma-separated list of numbers from 1 to 65536.
func (o Options) Ints(name string) ([]int, error) {
	parts := strings.Split(o[name], ",")
	if len(parts) > 64 {
		return nil, fmt.Errorf("option %s has %d numbers: give at most 64", name, len(parts))
	}
	list := make([]int, len(parts))
	for i, p := range parts {
		n, err := strconv.Atoi(strings.TrimSpace(p))
		if err != nil || n < 1 || n > 1<<16 {
			return nil, fmt.Errorf("option %s=%.64s is not a list of numbers from 1 to 65536, such as 2,2", name, o[name])
		}
		list[i] = n
	}
	return list, nil
}

// Probability reads a number in [0, 1). Anything else is reported through the builder.
func (o Options) Probability(b *graph.Builder, name string) float64 {
	p, err := strconv.ParseFloat(o[name], 64)
	if err != nil || !(p >= 0 && p < 1) {
		b.Errorf("option %s=%s is not a number from 0 up to, not including, 1", name, o[name])
		return 0
	}
	return p
}

// MinInput returns the smallest input shape.
func (m Model) MinInput() graph.Shape { return graph.Shape{C: m.Input.C, H: m.MinSize, W: m.MinSize} }

// Graph builds the model for an input shape, a number of classes and options; missing options take their defaults. The
// zero shape means the model's own.
func (m Model) Graph(input graph.Shape, classes int, options map[string]string) (*graph.Graph, error) {
	if input == (graph.Shape{}) {
		input = m.Input
	}
	if input.C != m.Input.C {
		return nil, fmt.Errorf("%s takes images of %d channels, not %d", m.Name, m.Input.C, input.C)
	}
	if input.H < m.MinSize || input.W < m.MinSize {
		return nil, fmt.Errorf("%s needs images of at least %d×%d pixels, not %d×%d (height × width): use a larger size", m.Name, m.MinSize, m.MinSize, input.H, input.W)
	}
	complete, err := m.complete(options)
	if err != nil {
		return nil, err
	}
	b := graph.NewBuilder(input, classes)
	g, err := b.Finish(m.build(b, complete))
	if err != nil {
		return nil, fmt.Errorf("%s at %v: %w", m.Name, input, err)
	}
	return g, nil
}

// build calls Build. After an error nodes have no shape: what a family computes of one (a channel count to divide by) may panic, and the error is what
// there is to tell.
func (m Model) build(b *graph.Builder, o Options) *graph.Node {
	defer func() {
		if b.Err() != nil {
			_ = recover()
		}
	}()
	return m.Build(b, b.Input(), o)
}

func (m Model) complete(options map[string]string) (Options, error) {
	complete := Options{}
	var names []string
	for _, o := range m.Options {
		complete[o.Name] = o.Default
		names = append(names, o.Name)
	}
	for name, value := range options {
		i := slices.Index(names, name)
		if i < 0 {
			if len(names) == 0 {
				return nil, fmt.Errorf("%s has no option %q: it takes none", m.Name, name)
			}
			return nil, fmt.Errorf("%s has no option %q: it takes %s", m.Name, name, strings.Join(names, ", "))
		}
		if allowed := m.Options[i].Values; len(allowed) > 0 && !slices.Contains(allowed, value) {
			return nil, fmt.Errorf("%s: option %s is %q: use one of %s", m.Name, name, value, strings.Join(allowed, ", "))
		}
		complete[name] = value
	}
	return complete, nil
}

// Model returns the model of the given name.
func (f Family) Model(name string) (Model, bool) {
	for _, m := range f.Models {
		if m.Name == name {
			return m, true
		}
	}
	return Model{}, false
}

var modelName = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,127}$`)

// NewFamily reads a plugin.json and checks it and the models: names, the version, and that
// nothing needed is missing. zootest.Run checks that they build.
func NewFamily(manifest []byte, models ...Model) (Family, error) {
	f := Family{Models: models}
	if err := strictjson.Unmarshal(manifest, &f.Manifest); err != nil { // a misspelt license would be none
		return Family{}, fmt.Errorf("plugin.json: %w", err)
	}
	if !pluginrpc.FamilyName.MatchString(f.Name) {
		return Family{}, fmt.Errorf("plugin.json: name %q: use lower-case letters, digits and dashes, beginning with a letter", f.Name)
	}
	if _, err := semver.StrictNewVersion(f.Version); err != nil {
		return Family{}, fmt.Errorf("plugin.json of %s: version %q is not a semantic version such as 1.0.0", f.Name, f.Version)
	}
	seen := map[string]bool{}
	for _, m := range models {
		switch {
		case !modelName.MatchString(m.Name):
			return Family{}, fmt.Errorf("family %s: model name %q: use lower-case letters, digits, '_', '.' and '-'", f.Name, m.Name)
		case seen[m.Name]:
			return Family{}, fmt.Errorf("family %s: model %s is declared twice", f.Name, m.Name)
		case m.Build == nil || m.MinSize < 1 || m.Input.C < 1 || m.Input.H < 1 || m.Input.W < 1:
			return Family{}, fmt.Errorf("family %s: model %s lacks Build, MinSize or Input", f.Name, m.Name)
		}
		seen[m.Name] = true
	}
	return f, nil
}

// MustFamily is NewFamily for package-level tables: it panics on an error, which is the family author's.
func MustFamily(manifest []byte, models ...Model) Family {
	f, err := NewFamily(manifest, models...)
	if err != nil {
		panic(err)
	}
	return f
}
