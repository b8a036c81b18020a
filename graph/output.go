package graph

import "fmt"

// Names of a network's outputs besides those of its feature taps. No tap has one of them.
const (
	LogitsOutput    = "logits"    // the classifier's result, one value a class
	FeaturesOutput  = "features"  // the feature part's result, a map or a vector
	EmbeddingOutput = "embedding" // the features averaged over their pixels, a vector
)

// isOutput reports whether name is that of an output which every network has.
func isOutput(name string) bool {
	return name == LogitsOutput || name == FeaturesOutput || name == EmbeddingOutput
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
