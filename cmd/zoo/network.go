package main

import (
	"maps"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/hub/card"
)

// overrideCard puts what the command line says about a network in place of the model's own: a zero shape, no options and zero
// classes change nothing.
func overrideCard(k *card.Card, shape graph.Shape, options map[string]string, classes int) {
	if shape != (graph.Shape{}) {
		k.Input = [3]int{shape.C, shape.H, shape.W}
	}
	if classes > 0 {
		k.Classes = classes
	}
	if len(options) > 0 {
		merged := maps.Clone(k.Options)
		if merged == nil {
			merged = map[string]string{}
		}
		maps.Copy(merged, options)
		k.Options = merged
	}
}

// parseInput reads --input of summary; "" is the zero shape.
func parseInput(text string) (graph.Shape, error) {
	if text == "" {
		return graph.Shape{}, nil
	}
	s, err := graph.ParseShape(text)
	if err != nil {
		return s, &usageError{err}
	}
	return s, nil
}
