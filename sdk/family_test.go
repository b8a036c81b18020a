package sdk

import (
	"bytes"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/go-modelzoo/zoo/graph"
)

func modelOf(middle func(b *graph.Builder, x *graph.Node) *graph.Node) Model {
	return Model{Name: "m", Input: graph.Shape{C: 6, H: 8, W: 8}, MinSize: 1, Build: func(b *graph.Builder, x *graph.Node, _ Options) *graph.Node {
		x = middle(b, x)
		x = b.Linear("fc", b.GlobalAvgPool(b.Features(x)), graph.Fc{Out: b.Classes()})
		b.Group("all", "conv", "fc")
		b.Classifier("fc")
		return x
	}}
}

func TestErrorIsHiddenByThePanicThatFollowsIt(t *testing.T) {
	m := modelOf(func(b *graph.Builder, x *graph.Node) *graph.Node {
		x = b.Conv2d("conv", x, graph.Conv{Out: 6, Groups: 4}) // a node without a shape
		return b.ChannelShuffle(x, 12/x.Shape.C)
	})
	if _, err := m.Graph(graph.Shape{}, 2, nil); err == nil || !strings.Contains(err.Error(), "4 groups") {
		t.Errorf("error %v", err)
	}
}

func TestInputWithoutASizeAccepted(t *testing.T) {
	m := modelOf(nil)
	m.Input.H = 0 // a host would refuse the whole family
	if _, err := NewFamily([]byte(`{"name":"f","version":"1.0.0"}`), m); err == nil || !strings.Contains(err.Error(), "model m lacks") {
		t.Errorf("error %v", err)
	}
}

func TestMisspeltLicenseIsNone(t *testing.T) {
	for manifest, want := range map[string]string{
		`{"name":"f","version":"1.0.0","licence":"MIT"}`: `"licence"`,
		`{"name":"f","version":"1.0.0"} {}`:              "behind the object",
	} {
		if _, err := NewFamily([]byte(manifest)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", manifest, err)
		}
	}
}

func TestPanicOfAFamilyIsSwallowed(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("there is no panic")
		}
	}()
	_, err := modelOf(func(*graph.Builder, *graph.Node) *graph.Node { panic("boom") }).Graph(graph.Shape{}, 2, nil)
	t.Error(err)
}

// TestRecoveredPanicReadsLikeTheEndOfTheProcess wants other words in the log than those of a Go program that dies: hosts keep these as what the process
// died of, and told of them with every later error of the process that lived on.
func TestRecoveredPanicReadsLikeTheEndOfTheProcess(t *testing.T) {
	var log bytes.Buffer
	s := &server{log: hclog.New(&hclog.LoggerOptions{Output: &log, JSONFormat: true})}
	err := func() (err error) {
		defer s.recover("/zoo.v1.Family/Build", &err)
		panic("boom")
	}()
	if err == nil || !strings.Contains(err.Error(), "panicked: boom (family_test.go:") {
		t.Errorf("error %v", err)
	}
	if text := log.String(); strings.Contains(text, `"@message":"panic"`) || !strings.Contains(text, "boom (family_test.go:") || !strings.Contains(text, "goroutine") {
		t.Errorf("log %s", text)
	}
}

func TestOptionsOutOfRangeAccepted(t *testing.T) {
	for text, ok := range map[string]bool{"1": true, " 2, 65536": true, "0": false, "65537": false, "2,,2": false, "": false, "a": false,
		strings.Repeat("1,", 63) + "1": true, strings.Repeat("1,", 64) + "1": false} {
		if list, err := (Options{"n": text}).Ints("n"); (err == nil) != ok || ok && len(list) != 1+strings.Count(text, ",") {
			t.Errorf("%q: %v, %v", text, list, err)
		}
	}
	for text, ok := range map[string]bool{"0": true, "0.5": true, "1": false, "-0.1": false, "NaN": false, "": false} {
		b := graph.NewBuilder(graph.Shape{C: 1, H: 1, W: 1}, 2)
		if (Options{"p": text}).Probability(b, "p"); (b.Err() == nil) != ok {
			t.Errorf("%q: %v", text, b.Err())
		}
	}
}

func TestModelsWithoutANameOfTheirOwnAccepted(t *testing.T) {
	m := modelOf(func(_ *graph.Builder, x *graph.Node) *graph.Node { return x })
	shouting := m
	shouting.Name = "M 1"
	for want, models := range map[string][]Model{"twice": {m, m}, "lower-case": {shouting}} {
		if _, err := NewFamily([]byte(`{"name":"f","version":"1.0.0"}`), models...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}
