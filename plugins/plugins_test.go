package plugins

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"reflect"
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

// TestCheckpointDoesNotLoad compares names, order and shapes with torchvision's state_dict of every model that it has, and with timm's
// where that is installed.
func TestCheckpointDoesNotLoad(t *testing.T) {
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
	var dicts map[string][][2]json.RawMessage
	if err := json.Unmarshal(out, &dicts); err != nil {
		t.Fatal(err)
	}
	if len(dicts) < 50 {
		t.Errorf("only %d models were compared", len(dicts))
	}
	t.Logf("compared %d models", len(dicts))
	for name, dict := range dicts {
		m, _ := find(name)
		g := build(t, m, graph.Shape{}, nil)
		if len(g.Params) != len(dict) {
			t.Errorf("%s has %d parameters and buffers, want %d", name, len(g.Params), len(dict))
		}
		for i := range min(len(dict), len(g.Params)) {
			var key string
			var shape []int
			if err := errors.Join(json.Unmarshal(dict[i][0], &key), json.Unmarshal(dict[i][1], &shape)); err != nil {
				t.Fatal(err)
			}
			if p := g.Params[i]; p.Name != key || !reflect.DeepEqual(p.Shape, shape) {
				t.Errorf("%s: entry %d is %s %v, want %s %v", name, i, p.Name, p.Shape, key, shape)
				break
			}
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
