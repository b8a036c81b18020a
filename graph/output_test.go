package graph_test

import (
	"testing"

	"github.com/go-modelzoo/zoo/graph"
)

func TestActivationMapNamesAreReadAsWritten(t *testing.T) {
	for name, want := range map[string]graph.ActivationMap{
		"gradcam": {At: "features", Class: -1}, "gradcam:281": {At: "features", Class: 281},
		"gradcam@stage4": {At: "stage4", Class: -1}, "gradcam@stage4:0": {At: "stage4", Class: 0},
	} {
		m, ok, err := graph.ParseActivationMap(name)
		if m != want || !ok || err != nil || m.String() != name {
			t.Errorf("%s: %+v, %v, %v; written as %s", name, m, ok, err, m)
		}
	}
	for _, name := range []string{"gradcam:", "gradcam:-1", "gradcam:cat", "gradcam@a:b"} {
		if _, ok, err := graph.ParseActivationMap(name); !ok || err == nil {
			t.Errorf("%s accepted: %v, %v", name, ok, err)
		}
	}
	for _, name := range []string{"", "logits", "gradcamera", "stage1:3"} {
		if _, ok, err := graph.ParseActivationMap(name); ok || err != nil {
			t.Errorf("%s is a class activation map: %v, %v", name, ok, err)
		}
	}
	b := graph.NewBuilder(graph.Shape{C: 3, H: 8, W: 8}, 2)
	if b.Tap("gradcam", b.Input()); b.Err() == nil {
		t.Error("a tap may be called gradcam")
	}
}
