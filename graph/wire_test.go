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
	for i, n := range g.Nodes { // an operator that came back as a foreign one could be listed, and neither run nor exported
		if !reflect.DeepEqual(h.Nodes[i].Op, n.Op) {
			t.Errorf("%s is %#v, want %#v", n.Name, h.Nodes[i].Op, n.Op)
		}
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
		"not JSON":                     {func(w *Wire) { w.Nodes[2].Arguments = []byte(`{`) }, "arguments"},
		"parameter too large":          {func(w *Wire) { w.Params[0].Shape = []int{1 << 20, 1 << 20} }, "out of range"},
		"parameter shape":              {func(w *Wire) { w.Params[0].Shape = []int{8, 3, 3, 4} }, "does not fit"},
		"parameter twice":              {func(w *Wire) { w.Params[1].Name = w.Params[0].Name }, "twice"},
		"unknown role":                 {func(w *Wire) { w.Params[0].Role = "secret" }, "role"},
		"no such node":                 {func(w *Wire) { w.Params[0].Node = 999 }, "does not exist"},
		"ungrouped":                    {func(w *Wire) { w.Groups = w.Groups[:1] }, "no layer group"},
		"grouped twice":                {func(w *Wire) { w.Groups[1] = w.Groups[0] }, "two layer groups"},
		"output elsewhere":             {func(w *Wire) { w.Output = 1 << 30 }, "output"},
		"tap nowhere":                  {func(w *Wire) { w.Taps[0].Node = -5 }, "tap"},
		"auxiliary map":                {func(w *Wire) { w.Aux[0].Node = 3 }, "auxiliary output"},
		"auxiliary output nowhere":     {func(w *Wire) { w.Aux[0].Node = len(w.Nodes) }, "is no node"},
		"features nowhere":             {func(w *Wire) { w.Features = -1 }, "features -1"},
		"classes lie":                  {func(w *Wire) { w.Classes++ }, "not a vector of 6 classes"},
		"tap named as an output":       {func(w *Wire) { w.Taps[0].Name = LogitsOutput }, "of its own"},
		"tap twice":                    {func(w *Wire) { w.Taps = append(w.Taps, w.Taps[0]) }, "declared twice"},
		"node without operands":        {func(w *Wire) { w.Nodes[3].Inputs = nil }, "lacks operands"},
		"node that is its own operand": {func(w *Wire) { w.Nodes[2].Inputs = []int{2} }, "earlier node"},
		"own operator without pixels": {func(w *Wire) {
			w.Nodes[1].Kind, w.Nodes[1].Shape = "ghost", Shape{3, 0, 16}
		}, "out of range"},
		"own operator of negative cost": {func(w *Wire) { w.Nodes[1].Kind, w.Nodes[1].MACs = "ghost", -1 }, "multiply-accumulates"},
		"pooled to nothing": {func(w *Wire) {
			for i := range w.Nodes {
				if w.Nodes[i].Kind == "adaptive_avg_pool2d" {
					w.Nodes[i].Arguments, w.Nodes[i].Shape.H = []byte(`{"Out":{"H":0,"W":1}}`), 0
				}
			}
		}, "empty"},
		"channels padded beyond what an int holds": {func(w *Wire) {
			w.Nodes[1].Kind, w.Nodes[1].Shape = "subsample", Shape{1, 16, 16} // 3 + 2·(2⁶³-1)
			w.Nodes[1].Arguments = []byte(`{"Stride":1,"Before":9223372036854775807,"After":9223372036854775807}`)
		}, "channel padding"},
		"more nodes than any network":      {func(w *Wire) { w.Nodes = make([]WireNode, maxNodes+1) }, "nodes and"},
		"more parameters than any network": {func(w *Wire) { w.Params = make([]WireParam, maxNodes+1) }, "nodes and"},
		"parameter of a node before all":   {func(w *Wire) { w.Params[0].Node = -1 }, "does not exist"},
		"parameter of nine dimensions":     {func(w *Wire) { w.Params[0].Shape = make([]int, maxDims+1) }, "dimensions"},
		"own parameter without values": {func(w *Wire) {
			w.Nodes[2].Kind, w.Params[0].Shape = "ghost", []int{8, 0}
		}, "out of range"},
		"group of no parameter":         {func(w *Wire) { w.Groups[0].Params[0] = -1 }, "does not exist"},
		"group beyond the parameters":   {func(w *Wire) { w.Groups[0].Params[0] = len(w.Params) }, "does not exist"},
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

// TestWireOperatorsThatDoNotFitRefused has operators behind a node of 3x16x16: what engines take for granted of one that was inferred.
func TestWireOperatorsThatDoNotFitRefused(t *testing.T) {
	const window = `"Kernel":{"H":3,"W":3},"Stride":{"H":1,"W":1},"Dilation":{"H":1,"W":1}`
	for _, c := range []struct{ kind, arguments, want string }{
		{"conv2d", `{` + window + `,"In":4,"Out":4,"Groups":1}`, "does not fit"},
		{"conv2d", `{` + window + `,"In":3,"Out":0,"Groups":1}`, "does not fit"},
		{"conv2d", `{` + window + `,"In":3,"Out":4,"Groups":3}`, "does not fit"},
		{"conv2d", `{` + window + `,"In":3,"Out":4,"Groups":2}`, "does not fit"},
		{"conv2d", `{` + window + `,"In":3,"Out":4,"Groups":1,"Pad":{"H":-1,"W":0}}`, "padding -1×0"},
		{"conv2d", `{` + window + `,"In":3,"Out":4,"Groups":1,"Pad":{"H":0,"W":-1}}`, "padding 0×-1"},
		{"conv2d", `{` + window + `,"In":3,"Out":4,"Groups":1,"Pad":{"H":9223372036854775807,"W":0}}`, "padding"},
		{"conv2d", `{` + window + `,"In":3,"Out":4,"Groups":1,"Pad":{"H":0,"W":9223372036854775807}}`, "padding"},
		{"conv2d", `{"Kernel":{"H":3,"W":3},"Stride":{"H":1,"W":0},"Dilation":{"H":1,"W":1},"In":3,"Out":4,"Groups":1}`, "stride 1×0"},
		{"conv2d", `{"Kernel":{"H":1,"W":17},"Stride":{"H":1,"W":1},"Dilation":{"H":1,"W":1},"In":3,"Out":4,"Groups":1}`, "smaller than the 1×17 window"},
		{"linear", `{"In":4,"Out":4}`, "does not fit"},
		{"linear", `{"In":3,"Out":0}`, "does not fit"},
		{"linear", `{"In":3,"Out":134217728}`, "out of range"},
		{"batch_norm", `{"Channels":4}`, "does not fit a batch norm of 4"},
		{"layer_norm", `{"Channels":4}`, "does not fit a layer norm of 4"},
		{"layer_scale", `{"Channels":4}`, "does not fit a layer scale of 4"},
		{"affine", `{"Scale":[1,1,1],"Shift":[0,0]}`, "3 scales and 2 shifts"},
		{"local_response_norm", `{"Size":0}`, "size 0"},
		{"max_pool2d", `{` + window + `,"Pad":{"H":2,"W":0}}`, "above half"},
		{"avg_pool2d", `{` + window + `,"Pad":{"H":0,"W":2}}`, "above half"},
		{"max_pool2d", `{"Stride":{"H":1,"W":1},"Dilation":{"H":1,"W":1}}`, "kernel 0×0"},
		{"adaptive_avg_pool2d", `{"Out":{"H":1,"W":0}}`, "empty"},
		{"slice", `{"From":-1,"To":2}`, "channels -1 to 2"},
		{"slice", `{"From":2,"To":2}`, "channels 2 to 2"},
		{"slice", `{"From":1,"To":4}`, "channels 1 to 4"},
		{"channel_shuffle", `{"Groups":0}`, "0 groups"},
		{"channel_shuffle", `{"Groups":2}`, "2 groups"},
		{"subsample", `{"Stride":0}`, "stride 0"},
		{"subsample", `{"Stride":1,"Before":-1}`, "padding -1, 0"},
		{"subsample", `{"Stride":1,"After":-1}`, "padding 0, -1"},
		{"dropout", `{"P":-0.1}`, "probability -0.1"},
		{"stochastic_depth", `{"P":1}`, "probability 1"},
		{"add", `{}`, "two inputs, has 1"},
		{"mul", `{}`, "two inputs, has 1"},
	} {
		w, err := wireFixture(t).Wire()
		if err != nil {
			t.Fatal(err)
		}
		w.Nodes[1].Kind, w.Nodes[1].Arguments = c.kind, []byte(c.arguments)
		if _, err := FromWire(w); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: error %v, want one about %q", c.kind, c.arguments, err, c.want)
		}
	}
	w, err := wireFixture(t).Wire()
	if err != nil {
		t.Fatal(err)
	}
	w.Nodes[2].Inputs = []int{0, 1} // a convolution of two maps
	if _, err := FromWire(w); err == nil || !strings.Contains(err.Error(), "one input, has 2") {
		t.Errorf("error %v", err)
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
