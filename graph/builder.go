package graph

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Builder adds nodes to a graph under a scope. Its methods return the new node; the first error sticks, later calls on
// the builder or on any of its scopes do nothing, and Finish reports it. A network can thus be written without
// looking at an error at each layer.
//
// Layer names are relative to the scope: Scope("layer1").Scope("0").Conv2d("conv1", …) makes "layer1.0.conv1". The name
// "" puts the parameters directly into the scope.
//
// A Builder is not safe for concurrent use.
type Builder struct {
	*state
	scope string
}

type state struct {
	graph      *Graph
	classes    int
	err        error
	names      map[string]bool
	groups     []groupRule
	classifier []string
}

type groupRule struct {
	name    string
	modules []string
}

// NewBuilder starts a graph for images of the given shape and a classifier of the given number of classes.
func NewBuilder(input Shape, classes int) *Builder {
	s := &state{
		graph:   &Graph{Input: input, Classes: classes, byName: map[string]*Param{}},
		classes: classes,
		names:   map[string]bool{},
	}
	b := &Builder{state: s}
	if classes < 1 || classes > maxExtent {
		s.err = fmt.Errorf("graph: %d classes is outside 1..%d", classes, maxExtent)
	}
	if !input.within(maxExtent) {
		s.err = fmt.Errorf("graph: input %v is outside 1..%d", input, maxExtent)
	}
	s.names["input"] = true
	s.graph.Nodes = []*Node{{Name: "input", Op: InputOp{input}, Shape: input}} // there even after an error: families read its shape
	return b
}

// Input returns the image's node.
func (b *Builder) Input() *Node { return b.graph.Nodes[0] }

// Classes returns the number of classes that the classifier must have.
func (b *Builder) Classes() int { return b.classes }

// Scope returns a builder for the submodule of the given name.
func (b *Builder) Scope(name string) *Builder {
	return &Builder{state: b.state, scope: b.path(name)}
}

// Scopef is Scope with a formatted name.
func (b *Builder) Scopef(format string, args ...any) *Builder {
	return b.Scope(fmt.Sprintf(format, args...))
}

// Path returns the scope's module path, "" at the root.
func (b *Builder) Path() string { return b.scope }

// Errorf records an error of the family's own, such as an option out of range. The first error wins.
func (b *Builder) Errorf(format string, args ...any) {
	b.fail(fmt.Errorf(format, args...))
}

// Err returns the first error so far.
func (b *Builder) Err() error { return b.err }

func (b *Builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

func (b *Builder) path(name string) string {
	switch {
	case b.scope == "":
		return name
	case name == "":
		return b.scope
	}
	return b.scope + "." + name
}

// spec is a parameter of a node to be.
type spec struct {
	role  Role
	name  string
	shape []int
	init  Init
}

// layer adds a node that is a module of the given name, with parameters below it.
func (b *Builder) layer(name string, op Op, params []spec, in ...*Node) *Node {
	n := b.node(b.path(name), op, in...)
	if b.err != nil {
		return n
	}
	for _, s := range params {
		p := &Param{Name: b.path(join(name, s.name)), Shape: s.shape, Role: s.role, Init: s.init, Node: n}
		if b.graph.byName[p.Name] != nil {
			b.fail(fmt.Errorf("graph: parameter %s exists twice: two layers of one scope share a name", p.Name))
			return n
		}
		if err := checkSize(p.Shape); err != nil {
			b.fail(fmt.Errorf("graph: node %s (%s): parameter %s: %w", n.Name, op.Kind(), p.Name, err))
			return n
		}
		b.graph.byName[p.Name] = p
		b.graph.Params = append(b.graph.Params, p)
		n.Params = append(n.Params, p)
	}
	return n
}

func join(scope, name string) string {
	if scope == "" {
		return name
	}
	return scope + "." + name
}

// function adds a node that is not a module: its name is made of the scope and the kind.
func (b *Builder) function(op Op, in ...*Node) *Node {
	return b.node(b.path(op.Kind()), op, in...)
}

func (b *Builder) node(name string, op Op, in ...*Node) *Node {
	n := &Node{ID: len(b.graph.Nodes), Name: name, Op: op, Inputs: in}
	if b.err != nil {
		return n
	}
	for i := 1; b.names[n.Name]; i++ {
		n.Name = fmt.Sprintf("%s_%d", name, i)
	}
	b.names[n.Name] = true
	shapes := make([]Shape, len(in))
	for i, x := range in {
		if err := b.owns(x); err != nil {
			b.fail(fmt.Errorf("graph: node %s (%s): input %d %w", n.Name, op.Kind(), i, err))
			return n
		}
		shapes[i] = x.Shape
	}
	if len(in) == 0 {
		b.fail(fmt.Errorf("graph: node %s (%s) has no input", n.Name, op.Kind()))
		return n
	}
	shape, err := op.Infer(shapes)
	if err == nil && !shape.within(maxChannels) {
		err = fmt.Errorf("output %v is out of range", shape)
	}
	if err != nil {
		b.fail(fmt.Errorf("graph: node %s (%s): %w", n.Name, op.Kind(), err))
		return n
	}
	n.Shape = shape
	b.graph.Nodes = append(b.graph.Nodes, n)
	return n
}

// owns returns an error that goes on from the name of what x was given for, if x is not a node of this graph.
func (b *Builder) owns(x *Node) error {
	switch {
	case x == nil:
		return errors.New("is nil")
	case x.ID >= len(b.graph.Nodes) || b.graph.Nodes[x.ID] != x:
		return errors.New("belongs to another graph")
	}
	return nil
}

// channels returns those of x, 0 of none: node refuses that, and names the layer.
func channels(x *Node) int {
	if x == nil {
		return 0
	}
	return x.Shape.C
}

// Conv says what a Builder needs to know of a convolution. Zero Kernel, Stride and Dilation mean 1, zero Groups means 1.
type Conv struct {
	Out            int
	Kernel, Stride Pair
	Pad, Dilation  Pair
	Groups         int
	Same           bool // TensorFlow's SAME padding in place of Pad
	Bias           bool
	Init           Init // of the weight
	BiasInit       Init
}

// Conv2d adds a convolution with parameters name.weight and, with Bias, name.bias.
func (b *Builder) Conv2d(name string, x *Node, c Conv) *Node {
	op := Conv2d{
		Window: Window{Kernel: c.Kernel.or(1), Stride: c.Stride.or(1), Pad: c.Pad, Dilation: c.Dilation.or(1), Same: c.Same},
		In:     channels(x), Out: c.Out, Groups: cmp.Or(c.Groups, 1), Bias: c.Bias,
	}
	params := []spec{{Weight, "weight", []int{op.Out, op.In / op.Groups, op.Kernel.H, op.Kernel.W}, c.Init}}
	if c.Bias {
		params = append(params, spec{Bias, "bias", []int{op.Out}, c.BiasInit})
	}
	return b.layer(name, op, params, x)
}

// Fc says what a Builder needs to know of a linear layer.
type Fc struct {
	Out            int
	NoBias         bool
	Init, BiasInit Init
}

// Linear adds a linear layer over the channels of every pixel with parameters name.weight and, unless NoBias, name.bias.
func (b *Builder) Linear(name string, x *Node, f Fc) *Node {
	op := Linear{In: channels(x), Out: f.Out, Bias: !f.NoBias}
	params := []spec{{Weight, "weight", []int{op.Out, op.In}, f.Init}}
	if op.Bias {
		params = append(params, spec{Bias, "bias", []int{op.Out}, f.BiasInit})
	}
	return b.layer(name, op, params, x)
}

// Norm says what differs from PyTorch's defaults in a batch norm (eps 1e-5, momentum 0.1) or a layer norm (eps 1e-5).
type Norm struct {
	Eps, Momentum float64
	Init          Init // of the weight; Constant(1) unless set
}

// BatchNorm adds a batch norm with parameters weight and bias and buffers running_mean, running_var and num_batches_tracked.
func (b *Builder) BatchNorm(name string, x *Node, norm ...Norm) *Node {
	n := normOf(norm)
	c := channels(x)
	return b.layer(name, BatchNorm{Channels: c, Eps: n.Eps, Momentum: n.Momentum}, []spec{
		{Weight, "weight", []int{c}, n.Init},
		{Bias, "bias", []int{c}, Constant(0)},
		{RunningMean, "running_mean", []int{c}, Constant(0)},
		{RunningVar, "running_var", []int{c}, Constant(1)},
		{NumBatchesTracked, "num_batches_tracked", []int{}, Constant(0)},
	}, x)
}

// LayerNorm adds a layer norm over the channels of each pixel.
func (b *Builder) LayerNorm(name string, x *Node, norm ...Norm) *Node {
	n := normOf(norm)
	c := channels(x)
	return b.layer(name, LayerNorm{Channels: c, Eps: n.Eps}, []spec{
		{Weight, "weight", []int{c}, n.Init},
		{Bias, "bias", []int{c}, Constant(0)},
	}, x)
}

func normOf(norm []Norm) Norm {
	var n Norm
	if len(norm) > 0 {
		n = norm[0]
	}
	if n.Eps == 0 {
		n.Eps = 1e-5
	}
	if n.Momentum == 0 {
		n.Momentum = 0.1
	}
	if n.Init == (Init{}) {
		n.Init = Constant(1)
	}
	return n
}

// LayerScale adds a per-channel factor whose parameter is called name itself (torchvision's "layer_scale", of shape [C, 1, 1]). As in
// a state_dict, it is listed before the parameters of the scope's submodules.
func (b *Builder) LayerScale(name string, x *Node, initial float64) *Node {
	n := b.node(b.path(name), LayerScale{channels(x)}, x)
	if b.err != nil {
		return n
	}
	p := &Param{Name: b.path(name), Shape: []int{x.Shape.C, 1, 1}, Role: Scale, Init: Constant(initial), Node: n}
	if b.graph.byName[p.Name] != nil {
		b.fail(fmt.Errorf("graph: parameter %s exists twice: two layers of one scope share a name", p.Name))
		return n
	}
	at := slices.IndexFunc(b.graph.Params, func(q *Param) bool { return strings.HasPrefix(q.Name, b.scope+".") })
	if at < 0 {
		at = len(b.graph.Params)
	}
	b.graph.byName[p.Name] = p
	b.graph.Params = slices.Insert(b.graph.Params, at, p)
	n.Params = append(n.Params, p)
	return n
}

// LocalResponseNorm adds a normalisation over neighbouring channels.
func (b *Builder) LocalResponseNorm(x *Node, op LocalResponseNorm) *Node { return b.function(op, x) }

// Pool says what a Builder needs to know of a pooling. Zero Stride means Kernel, as in PyTorch; zero Kernel and Dilation mean 1.
type Pool struct {
	Kernel, Stride Pair
	Pad, Dilation  Pair
	Same           bool
	Ceil           bool
	ExcludePad     bool // AvgPool: do not count padding (count_include_pad=False)
}

func (p Pool) window() Window {
	k := p.Kernel.or(1)
	s := p.Stride
	if s == (Pair{}) {
		s = k
	}
	return Window{Kernel: k, Stride: s, Pad: p.Pad, Dilation: p.Dilation.or(1), Same: p.Same}
}

// MaxPool adds a max pooling.
func (b *Builder) MaxPool(x *Node, p Pool) *Node {
	return b.function(MaxPool{p.window(), p.Ceil}, x)
}

// AvgPool adds an average pooling.
func (b *Builder) AvgPool(x *Node, p Pool) *Node {
	return b.function(AvgPool{p.window(), p.Ceil, !p.ExcludePad}, x)
}

// AdaptiveAvgPool adds an average pooling to a fixed output size.
func (b *Builder) AdaptiveAvgPool(x *Node, out Pair) *Node {
	return b.function(AdaptiveAvgPool{out}, x)
}

// GlobalAvgPool averages over all pixels.
func (b *Builder) GlobalAvgPool(x *Node) *Node { return b.AdaptiveAvgPool(x, Square(1)) }

// Activation adds an elementwise function.
func (b *Builder) Activation(x *Node, f Function) *Node { return b.function(Activation{f}, x) }

// ReLU adds max(x, 0).
func (b *Builder) ReLU(x *Node) *Node { return b.Activation(x, ReLU) }

// Add sums maps of one shape.
func (b *Builder) Add(x ...*Node) *Node { return b.function(Add{}, x...) }

// Mul multiplies two maps, or scales the channels of x by the vector y.
func (b *Builder) Mul(x, y *Node) *Node { return b.function(Mul{}, x, y) }

// Concat joins maps along channels.
func (b *Builder) Concat(x ...*Node) *Node { return b.function(Concat{}, x...) }

// ChannelShuffle interleaves the given number of channel groups.
func (b *Builder) ChannelShuffle(x *Node, groups int) *Node {
	return b.function(ChannelShuffle{groups}, x)
}

// Slice takes channels from up to, not including, to.
func (b *Builder) Slice(x *Node, from, to int) *Node { return b.function(Slice{from, to}, x) }

// Subsample takes every stride-th pixel and pads channels with zeros.
func (b *Builder) Subsample(x *Node, stride, before, after int) *Node {
	return b.function(Subsample{stride, before, after}, x)
}

// Dropout adds dropout; a probability of 0 adds nothing.
func (b *Builder) Dropout(x *Node, p float64) *Node {
	if p == 0 {
		return x
	}
	return b.function(Dropout{p}, x)
}

// StochasticDepth adds stochastic depth; a probability of 0 adds nothing.
func (b *Builder) StochasticDepth(x *Node, p float64) *Node {
	if p == 0 {
		return x
	}
	return b.function(StochasticDepth{p}, x)
}

// Flatten makes a vector in PyTorch's order (channel, row, column).
func (b *Builder) Flatten(x *Node) *Node { return b.function(Flatten{}, x) }

// Affine scales and shifts each channel by constants.
func (b *Builder) Affine(x *Node, scale, shift []float32) *Node {
	return b.function(Affine{scale, shift}, x)
}

// CustomParam is a parameter of a family's own operator.
type CustomParam struct {
	Name  string // relative to the layer, such as "weight"; one that ends in "bias" has the role Bias
	Shape []int
	Init  Init
}

// Custom adds an operator of the family's own. Its Kind must not be that of an operator of this package: a host, and an export, know operators by it.
func (b *Builder) Custom(name string, op Custom, params []CustomParam, in ...*Node) *Node {
	if kind := op.Kind(); kind == "" || ownKind(kind) {
		b.fail(fmt.Errorf("graph: node %s: Kind of an operator of a family's own is %q: give it a name that none of zoo's operators has", b.path(name), kind))
	}
	specs := make([]spec, len(params))
	for i, p := range params {
		role := Weight
		if strings.HasSuffix(p.Name, "bias") {
			role = Bias
		}
		specs[i] = spec{role, p.Name, p.Shape, p.Init}
	}
	return b.layer(name, op, specs, in...)
}

// Features declares x to be the output of the feature part: every parameter that x depends on can be frozen as
// "features", and the rest is the classifier. It returns x.
func (b *Builder) Features(x *Node) *Node {
	if err := b.owns(x); err != nil {
		b.fail(fmt.Errorf("graph: the node of Builder.Features %w", err))
	}
	b.graph.Features = x
	return x
}

// Tap names a feature map for multi-scale use; declare taps from the finest to the coarsest. Names of other outputs, such as
// FeaturesOutput, are an error. It returns x.
func (b *Builder) Tap(name string, x *Node) *Node {
	if err := b.owns(x); err != nil {
		b.fail(fmt.Errorf("graph: the node of tap %s %w", name, err))
	}
	if isOutput(name) {
		b.fail(fmt.Errorf("graph: a tap is called %s, as an output of every network is", name))
	}
	for _, t := range b.graph.Taps {
		if t.Name == name {
			b.fail(fmt.Errorf("graph: two taps are called %s", name))
		}
	}
	b.graph.Taps = append(b.graph.Taps, Tap{Name: name, Node: x})
	return x
}

// Group declares the next layer group: all parameters whose module path is, or lies below, one of the given modules (relative to the
// scope). No two groups share a name, every parameter is in exactly one, and a group without parameters is left out.
func (b *Builder) Group(name string, modules ...string) {
	if slices.ContainsFunc(b.groups, func(r groupRule) bool { return r.name == name }) {
		b.fail(fmt.Errorf("graph: two layer groups are called %s", name))
	}
	r := groupRule{name: name}
	for _, m := range modules {
		r.modules = append(r.modules, b.path(m))
	}
	b.groups = append(b.groups, r)
}

// Classifier declares the modules (relative to the scope) whose parameter shapes depend on the number of classes. They
// are what resetting the classifier replaces.
func (b *Builder) Classifier(modules ...string) {
	for _, m := range modules {
		b.classifier = append(b.classifier, b.path(m))
	}
}

// Aux declares an auxiliary classifier's logits, a vector of as many classes as the classifier's, and the weight of its loss. Its parameters need a
// layer group, too, and what depends on the number of classes is named to Classifier.
func (b *Builder) Aux(name string, logits *Node, weight float64) {
	if err := b.owns(logits); err != nil {
		b.fail(fmt.Errorf("graph: the node of auxiliary output %s %w", name, err))
	} else if logits.Shape != (Shape{b.classes, 1, 1}) {
		b.fail(fmt.Errorf("graph: auxiliary output %s is %v, not a vector of %d classes", name, logits.Shape, b.classes))
	}
	b.graph.Aux = append(b.graph.Aux, Aux{name, logits, weight})
}

func below(param string, modules []string) bool {
	for _, m := range modules {
		if param == m || strings.HasPrefix(param, m+".") {
			return true
		}
	}
	return false
}

// Finish declares the logits, a vector of as many channels as classes, and returns the graph, or the first error of its building.
// Features, Classifier and the layer groups of all parameters must have been declared.
func (b *Builder) Finish(logits *Node) (*Graph, error) {
	g := b.graph
	if b.err != nil {
		return nil, b.err
	}
	if err := b.owns(logits); err != nil {
		return nil, fmt.Errorf("graph: the output %w", err)
	}
	if logits.Shape != (Shape{b.classes, 1, 1}) {
		return nil, fmt.Errorf("graph: output %v is not a vector of %d classes", logits.Shape, b.classes)
	}
	g.Output = logits
	if g.Features == nil {
		return nil, errors.New("graph: the feature part is not declared: call Builder.Features")
	}
	if len(b.classifier) == 0 {
		return nil, errors.New("graph: the classifier is not declared: call Builder.Classifier")
	}
	g.classifier, g.features = map[string]bool{}, map[string]bool{}
	if !slices.ContainsFunc(g.Params, func(p *Param) bool { return below(p.Name, b.classifier) }) {
		return nil, fmt.Errorf("graph: no layer is called %s, as Builder.Classifier was told", strings.Join(b.classifier, " or "))
	}
	trunk := ancestors(g.Features)
	for _, p := range g.Params {
		g.classifier[p.Name] = below(p.Name, b.classifier)
		g.features[p.Name] = trunk[p.Node.ID]
	}
	g.setStrides()
	group := map[string]string{}
	for _, r := range b.groups {
		gr := Group{Name: r.name}
		for _, p := range g.Params {
			if !below(p.Name, r.modules) {
				continue
			}
			if other, ok := group[p.Name]; ok {
				return nil, fmt.Errorf("graph: parameter %s is in layer groups %s and %s", p.Name, other, r.name)
			}
			group[p.Name] = r.name
			gr.Params = append(gr.Params, p)
		}
		if len(gr.Params) > 0 {
			g.Groups = append(g.Groups, gr)
		}
	}
	for _, p := range g.Params {
		if _, ok := group[p.Name]; !ok {
			return nil, fmt.Errorf("graph: parameter %s is in no layer group: call Builder.Group", p.Name)
		}
	}
	return g, nil
}
