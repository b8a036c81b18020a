package plugintest

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
)

func TestBuildThatDependsOnTheOneBeforeNotFound(t *testing.T) {
	build := func(rate float64, tap string) *graph.Graph {
		b := graph.NewBuilder(graph.Shape{C: 3, H: 4, W: 4}, 2)
		x := b.Tap(tap, b.Features(b.Dropout(b.Input(), rate)))
		x = b.Linear("fc", b.GlobalAvgPool(x), graph.Fc{Out: 2})
		b.Group("fc", "fc")
		b.Classifier("fc")
		g, err := b.Finish(x)
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	first := build(0.1, "t")
	if err := same(first, build(0.1, "t"), nil); err != nil {
		t.Error(err)
	}
	for want, second := range map[string]*graph.Graph{"dropout": build(0.2, "t"), "adaptive": build(0, "t"), "taps": build(0.1, "u")} {
		if err := same(first, second, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if err := same(first, nil, errors.New("boom")); err == nil {
		t.Error("a second build that fails passes")
	}
}

// Gradual unfreezing and rates by depth would begin at the wrong end.
func TestGroupsInTheWrongOrderFound(t *testing.T) {
	for _, order := range [][]string{{"stem", "fc"}, {"fc", "stem"}} {
		b := graph.NewBuilder(graph.Shape{C: 3, H: 4, W: 4}, 2)
		x := b.Features(b.Conv2d("stem", b.Input(), graph.Conv{Out: 4}))
		x = b.Linear("fc", b.GlobalAvgPool(x), graph.Fc{Out: 2})
		for _, module := range order {
			b.Group(module, module)
		}
		b.Classifier("fc")
		g, err := b.Finish(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := groups(g); (err != nil) != (order[0] == "fc") {
			t.Errorf("%v: %v", order, err)
		}
	}
}
