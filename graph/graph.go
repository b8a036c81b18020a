// Package graph describes an image classifier as a directed acyclic graph of operators with inferred shapes and named
// parameters, and no values. A family builds a Graph once with a Builder; the summary, the inference plan, training,
// class activation maps and export all consume it.
//
// Shapes are those of one image: channels, height, width. The batch is not part of a graph. Parameter names, shapes and
// layouts are PyTorch's (torchvision's names, timm's for SE nets and MobileNet V1; convolution weights are
// [out, in/groups, kernel height, kernel width], linear weights [out, in]), so that public checkpoints load by name.
//
// Invariants of a Graph that a Builder has finished: Nodes is in topological order and begins with the input; every
// node but the input has at least one input node, all of them earlier in Nodes; parameter names are unique; Groups cover
// every parameter exactly once. A Graph is immutable and safe for concurrent use.
package graph

import (
	"fmt"
	"strings"
)

// Shape is the shape of one image's feature map. A vector has H = W = 1.
type Shape struct{ C, H, W int }

// Elements returns C·H·W.
func (s Shape) Elements() int { return s.C * s.H * s.W }

// IsVector reports whether the map is a single pixel.
func (s Shape) IsVector() bool { return s.H == 1 && s.W == 1 }

// String returns "CxHxW", the form that ParseShape reads.
func (s Shape) String() string { return fmt.Sprintf("%dx%dx%d", s.C, s.H, s.W) }

// ParseShape reads "CxHxW", such as "3x224x224".
func ParseShape(text string) (Shape, error) {
	var s Shape
	n, err := fmt.Sscanf(strings.ReplaceAll(text, "x", " "), "%d %d %d", &s.C, &s.H, &s.W)
	if err != nil || n != 3 || s.String() != text {
		return Shape{}, fmt.Errorf("shape %q is not CHANNELSxHEIGHTxWIDTH, such as 3x224x224", text)
	}
	if !s.within(maxExtent) {
		return Shape{}, fmt.Errorf("shape %q: each number must be between 1 and %d", text, maxExtent)
	}
	return s, nil
}

// maxExtent bounds channels, height and width, so that products of a few of them cannot overflow int64; maxChannels bounds the channels of what is
// computed, which may be a map made flat.
const (
	maxExtent   = 1 << 17
	maxChannels = 1 << 26
)

// within reports whether a map has pixels, and no more channels, rows and columns than it may.
func (s Shape) within(channels int) bool {
	return min(s.C, s.H, s.W) >= 1 && s.C <= channels && max(s.H, s.W) <= maxExtent
}

// Node is one operator applied to the outputs of earlier nodes.
type Node struct {
	// ID is the node's position in Graph.Nodes.
	ID int
	// Name is the module path, such as "layer1.0.conv1", or for operators that are not modules in PyTorch the path of
	// their scope and their kind, such as "layer1.0.add". Unique within a graph.
	Name string
	// Op says what the node computes.
	Op Op
	// Inputs are the operands in order.
	Inputs []*Node
	// Shape is the shape of the output for one image.
	Shape Shape
	// Params are the node's parameters and buffers in PyTorch's state_dict order.
	Params []*Param
}

// InputShapes returns the shapes of the operands.
func (n *Node) InputShapes() []Shape {
	shapes := make([]Shape, len(n.Inputs))
	for i, in := range n.Inputs {
		shapes[i] = in.Shape
	}
	return shapes
}

// Param returns the node's parameter of the given role, or nil.
func (n *Node) Param(role Role) *Param {
	for _, p := range n.Params {
		if p.Role == role {
			return p
		}
	}
	return nil
}

// Aux is an output that counts towards the loss in training and is not computed in inference.
type Aux struct {
	Name   string
	Node   *Node
	Weight float64 // factor of its loss
}

// Tap is a named intermediate feature map, the last one of its resolution.
type Tap struct {
	Name   string
	Node   *Node
	Stride int // input pixels per feature-map pixel
}

// Group is one of a model's ordered layer groups, from the input towards the output. Freezing, layer-wise learning rates and
// gradual unfreezing share this list.
type Group struct {
	Name   string
	Params []*Param
}

// Graph is a finished network. See the package comment for its invariants.
type Graph struct {
	Input    Shape
	Nodes    []*Node
	Output   *Node   // logits, a vector of Classes channels
	Features *Node   // output of the feature part: what the classifier reads
	Classes  int     // channels of Output
	Aux      []Aux   // auxiliary classifiers, training only
	Taps     []Tap   // from the finest to the coarsest
	Groups   []Group // from the input towards the output
	Params   []*Param

	classifier map[string]bool // parameter name -> belongs to the layers that depend on the number of classes
	features   map[string]bool // parameter name -> belongs to the feature part
	byName     map[string]*Param
}

// Param returns the parameter or buffer of the given name, or nil.
func (g *Graph) Param(name string) *Param { return g.byName[name] }

// InClassifier reports whether the parameter's shape depends on the number of classes: these are replaced when the
// classifier is reset.
func (g *Graph) InClassifier(p *Param) bool { return g.classifier[p.Name] }

// InFeatures reports whether the parameter belongs to the feature part, what `--freeze features` freezes.
func (g *Graph) InFeatures(p *Param) bool { return g.features[p.Name] }

// Tap returns the tap of the given name.
func (g *Graph) Tap(name string) (Tap, bool) {
	for _, t := range g.Taps {
		if t.Name == name {
			return t, true
		}
	}
	return Tap{}, false
}

// Node returns the node of the given name, or nil.
func (g *Graph) Node(name string) *Node {
	for _, n := range g.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// NumParams counts trainable values, those of auxiliary classifiers included, as torchvision's num_params does. Buffers
// do not count.
func (g *Graph) NumParams() int64 {
	var total int64
	for _, p := range g.Params {
		if !p.Role.Buffer() {
			total += int64(p.Elements())
		}
	}
	return total
}

// MACs counts the multiply-accumulates of convolutions and linear layers for one image, those of auxiliary classifiers
// not included: what torchvision publishes as GFLOPS.
func (g *Graph) MACs() int64 {
	needed := ancestors(g.Output)
	var total int64
	for _, n := range g.Nodes {
		if needed[n.ID] {
			total += n.Op.MACs(n.InputShapes(), n.Shape)
		}
	}
	return total
}

// InferenceNodes returns, in order, the nodes that the given outputs need. Without outputs it takes Output.
func (g *Graph) InferenceNodes(outputs ...*Node) []*Node {
	if len(outputs) == 0 {
		outputs = []*Node{g.Output}
	}
	needed := ancestors(outputs...)
	nodes := make([]*Node, 0, len(needed))
	for _, n := range g.Nodes {
		if needed[n.ID] {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

func ancestors(roots ...*Node) map[int]bool {
	seen := make(map[int]bool)
	stack := append([]*Node(nil), roots...)
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if n == nil || seen[n.ID] {
			continue
		}
		seen[n.ID] = true
		stack = append(stack, n.Inputs...)
	}
	return seen
}
