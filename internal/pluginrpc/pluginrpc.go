// Package pluginrpc is what the two ends of the plugin border share: the handshake, the environment, graphs and shapes as
// messages, what errors are told apart by, and the memory that both map. The contract itself is sdk/proto/zoo/v1/plugin.proto.
package pluginrpc

import (
	"fmt"
	"math"
	"os"
	"regexp"

	"github.com/hashicorp/go-plugin"

	"github.com/go-modelzoo/zoo/graph"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// Handshake tells a plugin that zoo started it. It is no secret.
var Handshake = plugin.HandshakeConfig{
	MagicCookieKey:   "ZOO_PLUGIN_MAGIC_COOKIE",
	MagicCookieValue: "6f6c7a3f-zoo-family",
}

// Unserved reports a process that was started to serve a family linked into the program, and does something else: its main does not begin with
// sdk.ServeEmbedded, and would start processes in turn.
func Unserved() error {
	family := os.Getenv(EnvFamily)
	if family == "" || os.Getenv(Handshake.MagicCookieKey) != Handshake.MagicCookieValue {
		return nil
	}
	return fmt.Errorf("this process was started to serve family %s: begin the program's main with sdk.ServeEmbedded(plugins.All)", family)
}

// FamilyName matches the names that families may have.
var FamilyName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,63}$`)

// Protocol versions.
const (
	ProtocolFamily = 1 // service Family
	ProtocolEngine = 2 // and service Engine
)

// Service is the name under which go-plugin dispenses the family.
const Service = "family"

// Environment of a plugin process, besides go-plugin's.
const (
	EnvSharedMemory = "ZOO_PLUGIN_SHM"    // number of the file descriptor of the shared file
	EnvLine         = "ZOO_PLUGIN_LINE"   // number of the file descriptor of the line
	EnvFamily       = "ZOO_PLUGIN_FAMILY" // which of the embedded families to serve
	EnvLog          = "ZOO_LOG"           // level of the plugin's log
)

// Message sizes in bytes. A chunk of a tensor is at most Chunk; no message is larger than MaxMessage.
const (
	Chunk      = 1 << 20
	MaxMessage = 16 << 20
)

// MaxTensor bounds a tensor in bytes: what a batch of 256 images of 1024x1024 takes.
const MaxTensor = 4 << 30

// ShapeOf reads a shape; absent is the zero shape.
func ShapeOf(s *zoov1.Shape) graph.Shape {
	return graph.Shape{C: int(s.GetChannels()), H: int(s.GetHeight()), W: int(s.GetWidth())}
}

// ToShape writes a shape.
func ToShape(s graph.Shape) *zoov1.Shape {
	return &zoov1.Shape{Channels: int32(s.C), Height: int32(s.H), Width: int32(s.W)}
}

// TensorBytes returns the size of n feature maps, or an error if that is no sensible size.
func TensorBytes(n int, s graph.Shape) (int64, error) {
	const most = MaxTensor / 4
	elements := int64(1)
	for _, d := range []int{n, s.C, s.H, s.W} {
		if d < 1 || int64(d) > most/elements {
			return 0, fmt.Errorf("a batch of %d maps of shape %v is empty or above %d GiB", n, s, MaxTensor>>30)
		}
		elements *= int64(d)
	}
	return 4 * elements, nil
}

// Align rounds a size up to a multiple of a power of two.
func Align(n, to int64) int64 { return (n + to - 1) &^ (to - 1) }

// OutputAlign is the alignment in bytes of each output in the shared file.
const OutputAlign = 64

// PageAlign is the alignment in bytes of ranges in the shared file. It suits systems with pages of 4, 16 and 64 KiB.
const PageAlign = 64 << 10

// FromGraph writes a graph as a message.
func FromGraph(g *graph.Graph) (*zoov1.Graph, error) {
	w, err := g.Wire()
	if err != nil {
		return nil, err
	}
	m := &zoov1.Graph{Output: int32(w.Output), Features: int32(w.Features), Classes: int32(w.Classes)}
	for _, n := range w.Nodes {
		m.Nodes = append(m.Nodes, &zoov1.Node{
			Name: n.Name, Operator: n.Kind, Arguments: string(n.Arguments), Inputs: int32s(n.Inputs), Shape: ToShape(n.Shape), Macs: n.MACs,
		})
	}
	for _, p := range w.Params {
		m.Parameters = append(m.Parameters, &zoov1.Parameter{
			Name: p.Name, Shape: int32s(p.Shape), Role: p.Role, Node: int32(p.Node), Classifier: p.Classifier, Features: p.Features,
		})
	}
	for _, t := range g.Taps {
		m.Taps = append(m.Taps, &zoov1.Tap{Name: t.Name, Node: int32(t.Node.ID), Stride: int32(t.Stride)})
	}
	for _, gr := range w.Groups {
		m.Groups = append(m.Groups, &zoov1.Group{Name: gr.Name, Parameters: int32s(gr.Params)})
	}
	for _, a := range w.Aux {
		m.Aux = append(m.Aux, &zoov1.Aux{Name: a.Name, Node: int32(a.Node), Weight: a.Weight})
	}
	return m, nil
}

// ToGraph makes a graph of a message from anywhere; see graph.FromWire.
func ToGraph(m *zoov1.Graph) (*graph.Graph, error) {
	w := graph.Wire{Output: int(m.GetOutput()), Features: int(m.GetFeatures()), Classes: int(m.GetClasses())}
	for _, n := range m.GetNodes() {
		w.Nodes = append(w.Nodes, graph.WireNode{
			Name: n.GetName(), Kind: n.GetOperator(), Arguments: []byte(n.GetArguments()), Inputs: ints(n.GetInputs()),
			Shape: ShapeOf(n.GetShape()), MACs: n.GetMacs(),
		})
	}
	for _, p := range m.GetParameters() {
		w.Params = append(w.Params, graph.WireParam{
			Name: p.GetName(), Shape: ints(p.GetShape()), Role: p.GetRole(), Node: int(p.GetNode()),
			Classifier: p.GetClassifier(), Features: p.GetFeatures(),
		})
	}
	for _, t := range m.GetTaps() {
		w.Taps = append(w.Taps, graph.WireTap{Name: t.GetName(), Node: int(t.GetNode())})
	}
	for _, gr := range m.GetGroups() {
		w.Groups = append(w.Groups, graph.WireGroup{Name: gr.GetName(), Params: ints(gr.GetParameters())})
	}
	for _, a := range m.GetAux() {
		if math.IsNaN(a.GetWeight()) || math.IsInf(a.GetWeight(), 0) {
			return nil, fmt.Errorf("graph: auxiliary output %.100q has weight %v", a.GetName(), a.GetWeight())
		}
		w.Aux = append(w.Aux, graph.WireAux{Name: a.GetName(), Node: int(a.GetNode()), Weight: a.GetWeight()})
	}
	return graph.FromWire(w)
}

func int32s(list []int) []int32 {
	out := make([]int32, len(list))
	for i, v := range list {
		out[i] = int32(v)
	}
	return out
}

func ints(list []int32) []int {
	out := make([]int, len(list))
	for i, v := range list {
		out[i] = int(v)
	}
	return out
}
