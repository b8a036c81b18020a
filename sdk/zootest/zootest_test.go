package zootest_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk"
	"github.com/go-modelzoo/zoo/sdk/zootest"
)

// tiny is a network that keeps the contract; its parts can be replaced to break it.
type tiny struct {
	manifest, paper string
	min             int
	options         []sdk.Option
	pad             int
	groups          [][2]string
	classifier      string
	hidden          func(b *graph.Builder) int
	tap             func(b *graph.Builder, first, second *graph.Node)
	logits          func(b *graph.Builder, x *graph.Node) *graph.Node
	before          func(b *graph.Builder, o sdk.Options)
}

func good() tiny {
	return tiny{
		manifest: `{"name":"tiny","version":"1.0.0","description":"d","license":"Apache-2.0"}`,
		paper:    "None, 2024", min: 3, groups: [][2]string{{"one", "conv1"}, {"two", "conv2"}, {"fc", "fc"}}, classifier: "fc",
		hidden: func(*graph.Builder) int { return 6 },
		tap: func(b *graph.Builder, first, second *graph.Node) {
			b.Tap("stage0", first)
			b.Tap("stage1", second)
		},
		logits: func(b *graph.Builder, x *graph.Node) *graph.Node {
			return b.Linear("fc", x, graph.Fc{Out: b.Classes()})
		},
		before:  func(*graph.Builder, sdk.Options) {},
		options: []sdk.Option{{Name: "mode", Default: "a", Values: []string{"a", "b"}, Help: "does nothing"}},
	}
}

func (n tiny) family() sdk.Family {
	return sdk.MustFamily([]byte(n.manifest), sdk.Model{
		Name: "tiny", Paper: n.paper, Input: graph.Shape{C: 3, H: 24, W: 24}, MinSize: n.min, Options: n.options,
		Build: func(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
			n.before(b, o)
			first := b.ReLU(b.Conv2d("conv1", x, graph.Conv{Out: 4, Kernel: graph.Square(3), Pad: graph.Square(n.pad), Bias: true}))
			second := b.ReLU(b.Conv2d("conv2", first, graph.Conv{Out: n.hidden(b), Stride: graph.Square(2), Bias: true}))
			n.tap(b, first, second)
			for _, g := range n.groups {
				b.Group(g[0], g[1])
			}
			b.Classifier(n.classifier)
			return n.logits(b, b.Flatten(b.GlobalAvgPool(b.Features(second))))
		},
	})
}

func TestGoodFamilyFails(t *testing.T) { zootest.Run(t, good().family()) }

func TestFaultNotFound(t *testing.T) {
	for name, c := range map[string]struct {
		fault func(*tiny)
		check string
		words string
	}{
		"no paper":                 {func(n *tiny) { n.paper = "" }, "description", "Paper"},
		"option without help":      {func(n *tiny) { n.options[0].Help = "" }, "description", "Help"},
		"default not allowed":      {func(n *tiny) { n.options[0].Default = "c" }, "description", "default"},
		"minimum size too small":   {func(n *tiny) { n.min = 2 }, "sizes", "does not build"},
		"parameter in no group":    {func(n *tiny) { n.groups = n.groups[:2] }, "sizes", "layer group"},
		"parameter in two groups":  {func(n *tiny) { n.groups = append(n.groups, [2]string{"again", "fc"}) }, "sizes", "layer groups"},
		"groups out of order":      {func(n *tiny) { n.groups[0], n.groups[1] = n.groups[1], n.groups[0] }, "layer groups", "order"},
		"classifier is elsewhere":  {func(n *tiny) { n.classifier = "conv1" }, "classifier", "Builder.Classifier"},
		"trunk depends on classes": {func(n *tiny) { n.hidden = func(b *graph.Builder) int { return b.Classes() } }, "classifier", "conv2"},
		"taps from coarse to fine": {func(n *tiny) { n.tap = func(b *graph.Builder, x, y *graph.Node) { b.Tap("a", y); b.Tap("b", x) } }, "feature taps", "fine"},
		"no taps":                  {func(n *tiny) { n.tap = func(*graph.Builder, *graph.Node, *graph.Node) {} }, "feature taps", "none"},
		"tap called logits":        {func(n *tiny) { n.tap = func(b *graph.Builder, x, _ *graph.Node) { b.Tap("logits", x) } }, "sizes", "logits"},
		"any value of an option":   {func(n *tiny) { n.options[0].Values = nil }, "options", "refused"},
		"panic":                    {func(n *tiny) { n.before = func(*graph.Builder, sdk.Options) { panic("boom") } }, "sizes", "boom"},
		"place of a panic":         {func(n *tiny) { n.before = func(*graph.Builder, sdk.Options) { panic("boom") } }, "sizes", "boom (zootest_test.go:"},
		"weight of a loss that is no number": {func(n *tiny) {
			logits := n.logits
			n.logits = func(b *graph.Builder, x *graph.Node) *graph.Node {
				y := logits(b, x)
				b.Aux("aux", y, math.NaN())
				return y
			}
		}, "protocol", "NaN"},
		"tap of two lines": {func(n *tiny) { n.tap = func(b *graph.Builder, x, _ *graph.Node) { b.Tap("a\nb", x) } }, "protocol", "printable"},
		"two builds, two rates": {func(n *tiny) {
			keepState(n, func(b *graph.Builder, x *graph.Node, i int) *graph.Node { return b.Dropout(x, float64(i)/10) })
		}, "one function", "dropout"},
		"two builds, two starts": {func(n *tiny) {
			keepState(n, func(b *graph.Builder, x *graph.Node, i int) *graph.Node {
				return b.Linear("fc.0", x, graph.Fc{Out: 3, Init: graph.Normal(float64(i))})
			})
		}, "one function", "fc.0.weight"},
		"two builds, two inputs": {func(n *tiny) {
			keepState(n, func(b *graph.Builder, x *graph.Node, i int) *graph.Node {
				y := b.ReLU(x)
				return b.Add(x, []*graph.Node{x, y}[i%2])
			})
		}, "one function", "add"},
		"two builds, two groups": {func(n *tiny) {
			var calls atomic.Int32
			n.before = func(b *graph.Builder, _ sdk.Options) { b.Group(fmt.Sprint("one", calls.Add(1)), "conv1") }
			n.groups = n.groups[1:]
		}, "one function", "group one"},
		"two builds, two networks": {func(n *tiny) {
			var calls atomic.Int32
			n.hidden = func(*graph.Builder) int { return 2 + int(calls.Add(1))%2 }
		}, "one function", "two builds"},
		"weight without gradient":  {cutGradient, "gradients", "zero"},
		"layer that nothing reads": {func(n *tiny) { n.tap = deadTap }, "feature taps", "inference"},
	} {
		t.Run(name, func(t *testing.T) {
			n := good()
			c.fault(&n)
			problems := zootest.Check(context.Background(), n.family(), zootest.Options{})
			for _, p := range problems {
				if p.Check == c.check && strings.Contains(p.Error(), c.words) {
					return
				}
			}
			t.Errorf("no problem of check %q with %q among %v", c.check, c.words, problems)
		})
	}
}

// keepState adds a layer that depends on how many builds there were.
func keepState(n *tiny, layer func(b *graph.Builder, x *graph.Node, i int) *graph.Node) {
	var calls atomic.Int32
	n.logits = func(b *graph.Builder, x *graph.Node) *graph.Node {
		return b.Linear("fc.1", layer(b, x, int(calls.Add(1)%9)), graph.Fc{Out: b.Classes()})
	}
	n.classifier = "fc.1"
}

// TestOneMistakeIsToldForEverySize wants a single line of a model that builds at no size.
func TestOneMistakeIsToldForEverySize(t *testing.T) {
	n := good()
	n.groups = n.groups[:2]
	problems := zootest.Check(context.Background(), n.family(), zootest.Options{})
	if len(problems) != 1 || strings.Contains(problems[0].Error(), "\n") {
		t.Errorf("got %v", problems)
	}
}

// cutGradient multiplies the logits with zero.
func cutGradient(n *tiny) {
	n.logits = func(b *graph.Builder, x *graph.Node) *graph.Node {
		y := b.Linear("fc", x, graph.Fc{Out: b.Classes()})
		return b.Affine(y, make([]float32, b.Classes()), make([]float32, b.Classes()))
	}
}

// deadTap taps a node behind which nothing comes.
func deadTap(b *graph.Builder, first, _ *graph.Node) {
	b.Tap("stage0", b.Activation(first, graph.SiLU))
}

func TestCheckGoesOnAfterCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	problems := zootest.Check(ctx, good().family(), zootest.Options{})
	if len(problems) != 1 || !errors.Is(problems[0], context.Canceled) {
		t.Errorf("got %v", problems)
	}
}
