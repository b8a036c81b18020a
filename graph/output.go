package graph

import (
	"fmt"
	"strconv"
	"strings"
)

// Names of a network's outputs besides those of its feature taps. No tap has one of them.
const (
	LogitsOutput    = "logits"    // the classifier's result, one value a class
	FeaturesOutput  = "features"  // the feature part's result, a map or a vector
	EmbeddingOutput = "embedding" // the features averaged over their pixels, a vector
)

// GradCAMOutput begins the names of class activation maps, which other than all outputs take a backward pass: see ActivationMap.
const GradCAMOutput = "gradcam"

// ActivationMap says which class activation map (engine/train.GradCAM) an output is: one channel of the height and width of a feature map.
// Its text is "gradcam", behind it "@" and an output's name if it is not that of the features, and ":" and a class if it is not that of
// the image's largest logit, as in "gradcam@stage4:281".
type ActivationMap struct {
	At    string // FeaturesOutput or the name of a tap
	Class int    // -1: that of the image's largest logit
}

// String returns the output's name.
func (m ActivationMap) String() string {
	name := GradCAMOutput
	if m.At != FeaturesOutput {
		name += "@" + m.At
	}
	if m.Class >= 0 {
		name += ":" + strconv.Itoa(m.Class)
	}
	return name
}

// ParseActivationMap reads an output's name. ok is false if it is that of another output.
func ParseActivationMap(name string) (m ActivationMap, ok bool, err error) {
	rest, ok := strings.CutPrefix(name, GradCAMOutput)
	if !ok || rest != "" && rest[0] != '@' && rest[0] != ':' {
		return m, false, nil
	}
	m = ActivationMap{FeaturesOutput, -1}
	at, class, chosen := strings.Cut(rest, ":")
	if at != "" {
		m.At = at[1:]
	}
	if chosen {
		if m.Class, err = strconv.Atoi(class); err != nil || m.Class < 0 {
			return m, true, fmt.Errorf("output %q: class %q is not a number from 0 on", name, class)
		}
	}
	return m, true, nil
}

// isOutput reports whether name is that of an output which every network has.
func isOutput(name string) bool {
	_, activation, _ := ParseActivationMap(name)
	return activation || name == LogitsOutput || name == FeaturesOutput || name == EmbeddingOutput
}

// NamedOutput returns the node that gives the output of a name, or of a tap's, and the output's shape: that of the node, but for an embedding
// of a map, which is averaged over the pixels. The error lists the names that there are.
func (g *Graph) NamedOutput(name string) (*Node, Shape, error) {
	switch name {
	case LogitsOutput:
		return g.Output, g.Output.Shape, nil
	case FeaturesOutput:
		return g.Features, g.Features.Shape, nil
	case EmbeddingOutput:
		return g.Features, Shape{C: g.Features.Shape.C, H: 1, W: 1}, nil
	}
	if t, ok := g.Tap(name); ok {
		return t.Node, t.Node.Shape, nil
	}
	known := []string{LogitsOutput, FeaturesOutput, EmbeddingOutput}
	for _, t := range g.Taps {
		known = append(known, t.Name)
	}
	return nil, Shape{}, fmt.Errorf("the model has no output %q: use one of %v", name, known)
}
