package graph

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Wire is a graph as plain data: what crosses the border between a plugin's process and its host. The numbers are
// indices into Nodes and Params.
type Wire struct {
	Nodes            []WireNode
	Params           []WireParam
	Output, Features int
	Classes          int
	Taps             []WireTap
	Groups           []WireGroup
	Aux              []WireAux
}

// WireNode is a Node of a Wire.
type WireNode struct {
	Name      string
	Kind      string
	Arguments []byte // the operator's fields as a JSON object
	Inputs    []int
	Shape     Shape
	MACs      int64 // read for foreign operators only
}

// WireParam is a Param of a Wire.
type WireParam struct {
	Name                 string
	Shape                []int
	Role                 string
	Node                 int
	Classifier, Features bool
}

// WireTap is a Tap of a Wire.
type WireTap struct {
	Name string
	Node int
}

// WireGroup is a Group of a Wire.
type WireGroup struct {
	Name   string
	Params []int
}

// WireAux is an Aux of a Wire.
type WireAux struct {
	Name   string
	Node   int
	Weight float64
}

// Foreign stands for an operator of a family's own in a process that does not have the family's code. It can be listed, not run.
type Foreign struct {
	Name  string
	Shape Shape // output for the graph's input
	Cost  int64 // multiply-accumulates for one image
}

// Kind implements Op.
func (f Foreign) Kind() string { return f.Name }

// Infer implements Op: it returns the shape that the family gave.
func (f Foreign) Infer([]Shape) (Shape, error) { return f.Shape, nil }

// MACs implements Op.
func (f Foreign) MACs([]Shape, Shape) int64 { return f.Cost }

// operators are the types that a kind's arguments decode to.
var operators = func() map[string]reflect.Type {
	types := map[string]reflect.Type{}
	for _, op := range []Op{
		InputOp{}, Conv2d{}, Linear{}, BatchNorm{}, LayerNorm{}, LocalResponseNorm{}, MaxPool{}, AvgPool{}, AdaptiveAvgPool{},
		Add{}, Mul{}, Concat{}, ChannelShuffle{}, Slice{}, Subsample{}, Dropout{}, StochasticDepth{}, Flatten{}, LayerScale{}, Affine{},
	} {
		types[op.Kind()] = reflect.TypeOf(op)
	}
	return types
}()

// ownKind reports whether kind is that of an operator of this package.
func ownKind(kind string) bool {
	_, known := operators[kind]
	return known || slices.Contains(functionNames[:], kind)
}

// Limits of what FromWire accepts: an order of magnitude above the largest public network.
const (
	maxNodes     = 1 << 16
	maxDims      = 8
	maxNameBytes = 512
)

// printable reports whether a name can stand in tables and error messages: those of a plugin must not steer the terminal they are shown on.
func printable(name string) bool {
	return name != "" && len(name) <= maxNameBytes && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// Wire returns the graph as plain data.
func (g *Graph) Wire() (Wire, error) {
	w := Wire{Classes: g.Classes, Output: g.Output.ID, Features: g.Features.ID}
	for _, n := range g.Nodes {
		args := []byte("{}")
		if _, known := operators[n.Op.Kind()]; known {
			var err error
			if args, err = json.Marshal(n.Op); err != nil {
				return Wire{}, fmt.Errorf("graph: node %s (%s): %w", n.Name, n.Op.Kind(), err)
			}
		}
		node := WireNode{Name: n.Name, Kind: n.Op.Kind(), Arguments: args, Shape: n.Shape, MACs: n.Op.MACs(n.InputShapes(), n.Shape)}
		for _, in := range n.Inputs {
			node.Inputs = append(node.Inputs, in.ID)
		}
		w.Nodes = append(w.Nodes, node)
	}
	index := make(map[*Param]int, len(g.Params))
	for i, p := range g.Params {
		index[p] = i
		w.Params = append(w.Params, WireParam{
			Name: p.Name, Shape: p.Shape, Role: p.Role.String(), Node: p.Node.ID,
			Classifier: g.InClassifier(p), Features: g.InFeatures(p),
		})
	}
	for _, t := range g.Taps {
		w.Taps = append(w.Taps, WireTap{t.Name, t.Node.ID})
	}
	for _, gr := range g.Groups {
		group := WireGroup{Name: gr.Name}
		for _, p := range gr.Params {
			group.Params = append(group.Params, index[p])
		}
		w.Groups = append(w.Groups, group)
	}
	for _, a := range g.Aux {
		w.Aux = append(w.Aux, WireAux{a.Name, a.Node.ID, a.Weight})
	}
	return w, nil
}

// FromWire makes a graph of plain data that may come from anywhere. Everything is checked: the result satisfies the invariants of
// the package comment, every shape is inferred again, and parameters have the shapes that their operators need. Operators
// that this package does not know become Foreign. Initial distributions are not part of a Wire.
func FromWire(w Wire) (*Graph, error) {
	if len(w.Nodes) == 0 || len(w.Nodes) > maxNodes || len(w.Params) > maxNodes {
		return nil, fmt.Errorf("graph: %d nodes and %d parameters is outside 1..%d", len(w.Nodes), len(w.Params), maxNodes)
	}
	g := &Graph{Classes: w.Classes, byName: map[string]*Param{}, classifier: map[string]bool{}, features: map[string]bool{}}
	for i, n := range w.Nodes {
		if err := g.addNode(i, n); err != nil {
			return nil, fmt.Errorf("graph: node %d %.*q (%.40q): %w", i, maxNameBytes, n.Name, n.Kind, err)
		}
	}
	for i, p := range w.Params {
		if err := g.addParam(p); err != nil {
			return nil, fmt.Errorf("graph: parameter %d %.*q: %w", i, maxNameBytes, p.Name, err)
		}
	}
	node := func(i int) *Node {
		if i < 0 || i >= len(g.Nodes) {
			return nil
		}
		return g.Nodes[i]
	}
	g.Output, g.Features = node(w.Output), node(w.Features)
	if g.Features == nil || g.Output == nil || g.Output.Shape != (Shape{w.Classes, 1, 1}) {
		return nil, fmt.Errorf("graph: output %d is not a vector of %d classes, or features %d are not a node", w.Output, w.Classes, w.Features)
	}
	for _, t := range w.Taps {
		if _, twice := g.Tap(t.Name); twice || isOutput(t.Name) || node(t.Node) == nil || !printable(t.Name) {
			return nil, fmt.Errorf("graph: tap %.*q at node %d is declared twice, is no node, or has no printable name of its own", maxNameBytes, t.Name, t.Node)
		}
		g.Taps = append(g.Taps, Tap{Name: t.Name, Node: node(t.Node)})
	}
	g.setStrides()
	for _, a := range w.Aux {
		if node(a.Node) == nil || !printable(a.Name) {
			return nil, fmt.Errorf("graph: auxiliary output %.*q at node %d is no node or has no printable name", maxNameBytes, a.Name, a.Node)
		}
		if s := node(a.Node).Shape; s != g.Output.Shape {
			return nil, fmt.Errorf("graph: auxiliary output %.*q is %v, not a vector of %d classes", maxNameBytes, a.Name, s, w.Classes)
		}
		g.Aux = append(g.Aux, Aux{a.Name, node(a.Node), a.Weight})
	}
	return g, g.addGroups(w.Groups)
}

func (g *Graph) addNode(i int, w WireNode) error {
	if !printable(w.Name) || !printable(w.Kind) {
		return fmt.Errorf("name or operator is empty, longer than %d bytes or not printable", maxNameBytes)
	}
	op, err := operator(w)
	if err != nil {
		return err
	}
	in, isInput := op.(InputOp)
	if isInput != (i == 0) || isInput != (len(w.Inputs) == 0) {
		return fmt.Errorf("the first node is the input, and no other one is or lacks operands")
	}
	n := &Node{ID: i, Name: w.Name, Op: op}
	for _, j := range w.Inputs {
		if j < 0 || j >= i {
			return fmt.Errorf("operand %d is not an earlier node", j)
		}
		n.Inputs = append(n.Inputs, g.Nodes[j])
	}
	if n.Shape, err = op.Infer(n.InputShapes()); err != nil {
		return err
	}
	s := n.Shape
	if s != w.Shape || !s.within(maxChannels) {
		return fmt.Errorf("output is %v, not %v, or out of range", s, w.Shape)
	}
	if isInput {
		g.Input = in.Shape
	}
	g.Nodes = append(g.Nodes, n)
	return nil
}

func operator(w WireNode) (Op, error) {
	if f := slices.Index(functionNames[:], w.Kind); f >= 0 {
		return Activation{Function(f)}, nil
	}
	t, known := operators[w.Kind]
	if !known {
		if w.MACs < 0 {
			return nil, fmt.Errorf("%d multiply-accumulates", w.MACs)
		}
		return Foreign{w.Kind, w.Shape, w.MACs}, nil
	}
	v := reflect.New(t)
	if err := json.Unmarshal(w.Arguments, v.Interface()); err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	return v.Elem().Interface().(Op), nil
}

func (g *Graph) addParam(w WireParam) error {
	role := slices.Index(roleNames[:], w.Role)
	switch {
	case !printable(w.Name) || g.byName[w.Name] != nil:
		return fmt.Errorf("name is empty, too long, not printable or there twice")
	case role < 0:
		return fmt.Errorf("role %.40q is unknown", w.Role)
	case w.Node < 0 || w.Node >= len(g.Nodes):
		return fmt.Errorf("node %d does not exist", w.Node)
	case len(w.Shape) > maxDims:
		return fmt.Errorf("%d dimensions", len(w.Shape))
	}
	if err := checkSize(w.Shape); err != nil {
		return err
	}
	n := g.Nodes[w.Node]
	p := &Param{Name: w.Name, Shape: slices.Clone(w.Shape), Role: Role(role), Node: n}
	if want, known := paramShape(n.Op, p.Role); known && !slices.Equal(want, p.Shape) {
		return fmt.Errorf("shape %v does not fit node %s (%s), which needs %v", p.Shape, n.Name, n.Op.Kind(), want)
	}
	n.Params = append(n.Params, p)
	g.Params = append(g.Params, p)
	g.byName[p.Name] = p
	g.classifier[p.Name], g.features[p.Name] = w.Classifier, w.Features
	return nil
}

// paramShape returns the shape that a parameter of an operator of this package has.
func paramShape(op Op, role Role) (shape []int, known bool) {
	vector := func(n int) ([]int, bool) {
		if role == NumBatchesTracked {
			return nil, true
		}
		return []int{n}, true
	}
	switch o := op.(type) {
	case Conv2d:
		if role == Weight {
			return []int{o.Out, o.In / o.Groups, o.Kernel.H, o.Kernel.W}, true
		}
		return vector(o.Out)
	case Linear:
		if role == Weight {
			return []int{o.Out, o.In}, true
		}
		return vector(o.Out)
	case BatchNorm:
		return vector(o.Channels)
	case LayerNorm:
		return vector(o.Channels)
	}
	return nil, false
}

func (g *Graph) addGroups(groups []WireGroup) error {
	grouped := make([]bool, len(g.Params))
	for _, w := range groups {
		if !printable(w.Name) {
			return fmt.Errorf("graph: layer group %.*q: name is empty, longer than %d bytes or not printable", maxNameBytes, w.Name, maxNameBytes)
		}
		gr := Group{Name: w.Name}
		for _, i := range w.Params {
			if i < 0 || i >= len(g.Params) || grouped[i] {
				return fmt.Errorf("graph: parameter %d is in two layer groups or does not exist", i)
			}
			grouped[i] = true
			gr.Params = append(gr.Params, g.Params[i])
		}
		g.Groups = append(g.Groups, gr)
	}
	if i := slices.Index(grouped, false); i >= 0 {
		return fmt.Errorf("graph: parameter %s is in no layer group", g.Params[i].Name)
	}
	return nil
}
