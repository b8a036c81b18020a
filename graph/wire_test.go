package graph

import (
	"reflect"
	"strings"
	"testing"
)

func wireFixture(t testing.TB) *Graph {
	b := NewBuilder(Shape{3, 16, 16}, 5)
	x := b.Affine(b.Input(), []float32{1, 2, 3}, []float32{0, 0.5, 1})
	x = b.Conv2d("conv1", x, Conv{Out: 8, Kernel: Square(3), Stride: Square(2), Pad: Square(1)})
	x = b.ReLU(b.BatchNorm("bn1", x))
	x = b.Tap("stage1", x)
	scale := b.Activation(b.Conv2d("se", b.GlobalAvgPool(x), Conv{Out: 8, Bias: true}), Sigmoid)
	x = b.Mul(x, scale)
	x = b.MaxPool(x, Pool{Kernel: Square(3), Stride: Square(2), Ceil: true})
	x = b.LayerScale("gamma", b.LayerNorm("norm", x), 1e-6)
	aux := b.Linear("aux", b.Flatten(b.GlobalAvgPool(x)), Fc{Out: 5})
	b.Aux("aux", aux, 0.4)
	x = b.Features(x)
	logits := b.Linear("fc", b.Dropout(b.Flatten(b.GlobalAvgPool(x)), 0.2), Fc{Out: 5})
	b.Classifier("fc", "aux")
	b.Group("stem", "conv1", "bn1", "se", "norm", "gamma")
	b.Group("head", "fc", "aux")
	g, err := b.Finish(logits)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestWireRoundTripKeepsEverything(t *testing.T) {
	g := wireFixture(t)
	w, err := g.Wire()
	if err != nil {
		t.Fatal(err)
	}
	h, err := FromWire(w)
	if err != nil {
		t.Fatal(err)
	}
	again, err := h.Wire()
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(w, again) {
		t.Errorf("the wire form changed on its way")
	}
	if h.MACs() != g.MACs() || h.NumParams() != g.NumParams() || h.Taps[0].Stride != g.Taps[0].Stride {
		t.Errorf("MACs %d, parameters %d, stride %d; want %d, %d, %d", h.MACs(), h.NumParams(), h.Taps[0].Stride, g.MACs(), g.NumParams(), g.Taps[0].Stride)
	}
	want, got := g.Summary(), h.Summary()
	for i := range want {
		if got[i].ReceptiveField != want[i].ReceptiveField || got[i].Params != want[i].Params || got[i].Training != want[i].Training {
			t.Errorf("row %d is %+v, want %+v", i, got[i], want[i])
		}
	}
}

func TestWireHostileGraphsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Wire)
		want  string
	}{
		"empty":            {func(w *Wire) { *w = Wire{} }, "0 nodes"},
		"cycle":            {func(w *Wire) { w.Nodes[2].Inputs = []int{3} }, "earlier node"},
		"negative operand": {func(w *Wire) { w.Nodes[2].Inputs = []int{-1} }, "earlier node"},
		"shape lies":       {func(w *Wire) { w.Nodes[2].Shape.C = 1 << 20 }, "output is"},
		"two inputs":       {func(w *Wire) { w.Nodes[1] = w.Nodes[0] }, "first node"},
		"zero stride":      {func(w *Wire) { w.Nodes[2].Arguments = []byte(`{"In":3,"Out":8,"Groups":1}`) }, "kernel"},
		"zero groups": {func(w *Wire) {
			w.Nodes[2].Arguments = []byte(strings.Replace(string(w.Nodes[2].Arguments), `"Groups":1`, `"Groups":0`, 1))
		}, "does not fit"},
		"not JSON":                      {func(w *Wire) { w.Nodes[2].Arguments = []byte(`{`) }, "arguments"},
		"parameter too large":           {func(w *Wire) { w.Params[0].Shape = []int{1 << 20, 1 << 20} }, "out of range"},
		"parameter shape":               {func(w *Wire) { w.Params[0].Shape = []int{8, 3, 3, 4} }, "does not fit"},
		"parameter twice":               {func(w *Wire) { w.Params[1].Name = w.Params[0].Name }, "twice"},
		"unknown role":                  {func(w *Wire) { w.Params[0].Role = "secret" }, "role"},
		"no such node":                  {func(w *Wire) { w.Params[0].Node = 999 }, "does not exist"},
		"ungrouped":                     {func(w *Wire) { w.Groups = w.Groups[:1] }, "no layer group"},
		"grouped twice":                 {func(w *Wire) { w.Groups[1] = w.Groups[0] }, "two layer groups"},
		"output elsewhere":              {func(w *Wire) { w.Output = 1 << 30 }, "output"},
		"tap nowhere":                   {func(w *Wire) { w.Taps[0].Node = -5 }, "tap"},
		"auxiliary map":                 {func(w *Wire) { w.Aux[0].Node = 3 }, "auxiliary output"},
		"name that clears the screen":   {func(w *Wire) { w.Nodes[1].Name = "conv\x1b[2J" }, "not printable"},
		"kind of two lines":             {func(w *Wire) { w.Nodes[1].Kind = "own\nkind" }, "not printable"},
		"parameter of two lines":        {func(w *Wire) { w.Params[0].Name = "a\nb" }, "not printable"},
		"tap written from the right":    {func(w *Wire) { w.Taps[0].Name = "a\u202eb" }, "printable"},
		"group that is no text":         {func(w *Wire) { w.Groups[0].Name = "a\xff" }, "not printable"},
		"auxiliary output without name": {func(w *Wire) { w.Aux[0].Name = "" }, "printable"},
		"name of a megabyte":            {func(w *Wire) { w.Nodes[1].Name = strings.Repeat("x", 1<<20) }, "longer"},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := wireFixture(t).Wire()
			if err != nil {
				t.Fatal(err)
			}
			c.spoil(&w)
			_, err = FromWire(w)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one about %q", err, c.want)
			}
			if len(err.Error()) > 2000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

func TestWireForeignOperatorKeepsItsShapeAndCost(t *testing.T) {
	w, err := wireFixture(t).Wire()
	if err != nil {
		t.Fatal(err)
	}
	w.Nodes[1].Kind, w.Nodes[1].MACs = "ghost", 77
	g, err := FromWire(w)
	if err != nil {
		t.Fatal(err)
	}
	if row := g.Summary()[1]; row.MACs != 77 || row.Node.Op.Kind() != "ghost" {
		t.Errorf("row %+v", row)
	}
}
