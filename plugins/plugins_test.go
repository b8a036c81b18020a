package plugins

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/shared"
	"github.com/go-modelzoo/zoo/sdk"
)

// find returns the model of the given name.
func find(name string) (sdk.Model, bool) {
	for _, f := range All() {
		if m, ok := f.Model(name); ok {
			return m, true
		}
	}
	return sdk.Model{}, false
}

func build(t *testing.T, m sdk.Model, input graph.Shape, options map[string]string) *graph.Graph {
	t.Helper()
	g, err := m.Graph(input, 1000, options)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestModelInTwoFamilies(t *testing.T) {
	seen := map[string]string{}
	for _, f := range All() {
		for _, m := range f.Models {
			if other, ok := seen[m.Name]; ok {
				t.Errorf("%s is in %s and %s", m.Name, other, f.Name)
			}
			seen[m.Name] = f.Name
		}
	}
}

// python returns an interpreter that has torchvision: ZOO_PYTHON, or Debian's.
func python(t *testing.T) string {
	t.Helper()
	path := os.Getenv("ZOO_PYTHON")
	if path == "" {
		path = "/usr/bin/python3"
	}
	if err := exec.Command(path, "-c", "import torchvision").Run(); err != nil {
		t.Skipf("%s has no torchvision (Debian: python3-torchvision; or name an interpreter in ZOO_PYTHON): %v", path, err)
	}
	return path
}

// module is what testdata/state_dict.py tells of a network.
type module struct {
	State   [][3]json.RawMessage
	Dropout []float64
	Depth   []float64
	Batch   [][2]float64
	Layer   []float64
}

// modules describes every network of All that torchvision has, and those of timm where that is installed.
func modules(t *testing.T) map[string]module {
	t.Helper()
	args := []string{"testdata/state_dict.py"}
	for _, f := range All() {
		for _, m := range f.Models {
			args = append(args, m.Name)
		}
	}
	out, err := exec.Command(python(t), args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		t.Fatal(err)
	}
	var list map[string]module
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	return list
}

// TestNetworkDiffersFromTorchvision compares names, order and shapes with torchvision's state_dict, and what only training shows: probabilities of
// dropout and stochastic depth, constants of norms, initial values.
func TestNetworkDiffersFromTorchvision(t *testing.T) {
	list := modules(t)
	if len(list) < 50 {
		t.Errorf("only %d models were compared", len(list))
	}
	t.Logf("compared %d models", len(list))
	for name, want := range list {
		m, _ := find(name)
		g := build(t, m, graph.Shape{}, nil)
		if checkState(t, name, g, want.State) && initialised[name] {
			checkInitial(t, name, g, want.State)
		}
		checkTraining(t, name, g, want)
	}
}

// checkState tells whether a checkpoint of PyTorch fits.
func checkState(t *testing.T, name string, g *graph.Graph, dict [][3]json.RawMessage) bool {
	t.Helper()
	if len(g.Params) != len(dict) {
		t.Errorf("%s has %d parameters and buffers, want %d", name, len(g.Params), len(dict))
		return false
	}
	for i, p := range g.Params {
		var key string
		var shape []int
		if err := errors.Join(json.Unmarshal(dict[i][0], &key), json.Unmarshal(dict[i][1], &shape)); err != nil {
			t.Fatal(err)
		}
		if p.Name != key || !reflect.DeepEqual(p.Shape, shape) {
			t.Errorf("%s: entry %d is %s %v, want %s %v", name, i, p.Name, p.Shape, key, shape)
			return false
		}
	}
	return true
}

// checkTraining compares what inference does not show, or hardly.
func checkTraining(t *testing.T, name string, g *graph.Graph, want module) {
	t.Helper()
	var dropout, depth, layer []float64
	var batch [][2]float64
	for _, n := range g.Nodes {
		switch op := n.Op.(type) {
		case graph.Dropout:
			dropout = append(dropout, op.P)
		case graph.StochasticDepth:
			depth = append(depth, op.P)
		case graph.BatchNorm:
			batch = append(batch, [2]float64{op.Eps, op.Momentum})
		case graph.LayerNorm:
			layer = append(layer, op.Eps)
		}
	}
	if !near(dropout, want.Dropout) {
		t.Errorf("%s drops with %v, want %v", name, dropout, want.Dropout)
	}
	if !near(layer, want.Layer) {
		t.Errorf("%s has layer norms of %v, want %v", name, layer, want.Layer)
	}
	if !slices.EqualFunc(batch, want.Batch, func(a, b [2]float64) bool { return near(a[:], b[:]) }) {
		t.Errorf("%s has batch norms of %v, want %v", name, batch, want.Batch)
	}
	// torchvision gives each block of an EfficientNet one, and uses those of blocks with a shortcut; a probability of 0 has no node.
	at := 0
	for _, p := range depth {
		for at < len(want.Depth) && !near([]float64{p}, want.Depth[at:at+1]) {
			at++
		}
		if at == len(want.Depth) {
			t.Errorf("%s skips branches with %v, want those of %v with a shortcut", name, depth, want.Depth)
			return
		}
	}
	if len(depth) == 0 && len(want.Depth) > 0 {
		t.Errorf("%s skips no branches, want %v", name, want.Depth)
	}
}

func near(a, b []float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) < 1e-9 })
}

// initialised are networks that together have every block that torchvision has.
var initialised = map[string]bool{
	"alexnet": true, "convnext_tiny": true, "densenet121": true, "efficientnet_b0": true, "efficientnet_v2_s": true, "googlenet": true, "inception_v3": true,
	"mnasnet0_5": true, "mobilenet_v2": true, "mobilenet_v3_small": true, "resnet18": true, "resnet50": true, "shufflenet_v2_x0_5": true,
	"squeezenet1_1": true, "vgg11_bn": true,
}

// checkInitial compares mean and deviation of what training from nothing begins with.
func checkInitial(t *testing.T, name string, g *graph.Graph, dict [][3]json.RawMessage) {
	t.Helper()
	for i, p := range g.Params {
		var want *[2]float64
		if err := json.Unmarshal(dict[i][2], &want); err != nil {
			t.Fatal(err)
		}
		// The large layers of a classifier are drawn as its smaller ones. torchvision asks for 0.01 in the auxiliary classifier, where its
		// loop over the layers does not look.
		if want == nil || p.Elements() > 1<<22 || name == "inception_v3" && p.Name == "AuxLogits.conv1.conv.weight" {
			continue
		}
		var sum, squares float64
		values := p.Initialise(1)
		for _, v := range values {
			sum += float64(v)
			squares += float64(v) * float64(v)
		}
		n := float64(len(values))
		mean := sum / n
		std := math.Sqrt(max(0, squares/n-mean*mean))
		if math.Abs(mean-want[0]) > 6*want[1]/math.Sqrt(n)+1e-7 || math.Abs(std-want[1]) > 6*want[1]/math.Sqrt(n)+1e-7 {
			t.Errorf("%s: %s has mean %.4g and deviation %.4g, want %.4g and %.4g", name, p.Name, mean, std, want[0], want[1])
		}
	}
}

// Architectures with public weights that no first-party family builds.
var notShipped = map[string]bool{"inception_v4": true, "inception_resnet_v2": true}

// published is a row of the collected facts about public weights.
type published struct {
	Model, Family, Source, Weights string
	NumParams                      int64 `json:"num_params"`
	GFLOPS                         float64
	Crop                           int
	MinSize                        []int `json:"min_size"`
}

func TestPublishedNumbersDiffer(t *testing.T) {
	data, err := os.ReadFile(shared.Path(t, "data/torchvision_weights.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Models []published }
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, row := range file.Models {
		if row.Family == "regnet" || notShipped[row.Model] {
			continue
		}
		m, ok := find(row.Model)
		if !ok {
			t.Errorf("%s %s has no model", row.Model, row.Weights)
			continue
		}
		checked++
		options := map[string]string{}
		if row.Model == "googlenet" || row.Model == "inception_v3" && row.Source == "timm" {
			options["aux_logits"] = "false" // published without auxiliary classifiers
		}
		g := build(t, m, graph.Shape{C: 3, H: row.Crop, W: row.Crop}, options)
		if n := g.NumParams(); n != row.NumParams {
			t.Errorf("%s %s has %d parameters, want %d", row.Model, row.Weights, n, row.NumParams)
		}
		if gmacs := float64(g.MACs()) / 1e9; math.Abs(gmacs-row.GFLOPS) > 0.0005+1e-9 {
			t.Errorf("%s %s has %.4f GMACs, want %.3f", row.Model, row.Weights, gmacs, row.GFLOPS)
		}
		if len(row.MinSize) == 2 && m.MinSize > row.MinSize[0] { // TestSmallestSizeIsLargerThanNeeded looks at the other side
			t.Errorf("%s has minimum size %d, its weights %d", row.Model, m.MinSize, row.MinSize[0])
		}
	}
	t.Logf("checked %d rows", checked)
}
