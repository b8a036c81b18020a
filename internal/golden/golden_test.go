package golden

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
)

// The values of the next two tests were computed with numpy from the rules in testdata/goldens/README.md.

func TestInputDiffersFromRule(t *testing.T) {
	got := Input("input", 1, graph.Shape{C: 3, H: 1, W: 1})
	for i, want := range []float32{-1.6087267398834229, 0.6094415187835693, -1.1855030059814453} {
		if got[i] != want {
			t.Errorf("value %d is %v, want %v", i, got[i], want)
		}
	}
}

func TestFillDiffersFromRules(t *testing.T) {
	b := graph.NewBuilder(graph.Shape{C: 3, H: 8, W: 8}, 2)
	x := b.Conv2d("conv1", b.Input(), graph.Conv{Out: 4, Kernel: graph.Square(3)})
	x = b.BatchNorm("bn1", x)
	x = b.Features(b.GlobalAvgPool(x))
	x = b.Linear("fc", b.Flatten(x), graph.Fc{Out: 2})
	b.Classifier("fc")
	b.Group("all", "conv1", "bn1", "fc")
	g, err := b.Finish(x)
	if err != nil {
		t.Fatal(err)
	}
	values := Fill(g, 1)
	for name, want := range map[string][]float32{
		"conv1.weight":            {0.04249706119298935, 0.23114067316055298, -0.4497937560081482},
		"bn1.weight":              {0.9440816044807434, 1.1297636032104492},
		"bn1.running_var":         {1.1423075199127197, 1.2867534160614014},
		"bn1.bias":                {-0.06556075811386108, -0.0919690877199173},
		"bn1.num_batches_tracked": {0},
	} {
		for i, w := range want {
			if values[name][i] != w {
				t.Errorf("%s[%d] is %v, want %v", name, i, values[name][i], w)
			}
		}
	}
	if len(values) != len(g.Params) {
		t.Errorf("%d values for %d parameters", len(values), len(g.Params))
	}
}

func TestRelL2HidesNaN(t *testing.T) {
	nan := float32(math.NaN())
	for _, got := range [][]float32{{1, nan}, {1}, {1, float32(math.Inf(-1))}} {
		if e := RelL2(got, []float32{1, 2}); !math.IsInf(e, 1) {
			t.Errorf("error of %v is %v, want +Inf", got, e)
		}
	}
	if e := RelL2([]float32{3, 4}, []float32{3, 4}); e != 0 {
		t.Errorf("error of equal values is %v", e)
	}
}

func TestEveryFileLoads(t *testing.T) {
	forward, err := ForwardCases()
	if err != nil {
		t.Fatal(err)
	}
	train, err := TrainCases()
	if err != nil {
		t.Fatal(err)
	}
	if len(forward) == 0 || len(train) == 0 {
		t.Fatalf("%d forward and %d train cases", len(forward), len(train))
	}
}

func TestAdditionalFolderIgnored(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "forward"), 0o755); err != nil {
		t.Fatal(err)
	}
	one := `{"model":"m","gain":1,"input":[1,3,2,2],"logits_shape":[1,1],"logits_f32le_base64":"AACAPw=="}`
	if err := os.WriteFile(filepath.Join(dir, "forward", "m.json"), []byte(one), 0o644); err != nil {
		t.Fatal(err)
	}
	before, err := ForwardCases()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("ZOO_GOLDENS", dir)
	after, err := ForwardCases()
	if err != nil {
		t.Fatal(err)
	}
	if len(after) != len(before)+1 || after[len(after)-1].Logits[0] != 1 {
		t.Errorf("%d cases with the folder, %d without", len(after), len(before))
	}
	t.Setenv("ZOO_GOLDENS", filepath.Join("testdata", "goldens")) // the module's own, relative to its root
	if twice, err := ForwardCases(); err != nil || len(twice) != 2*len(before) {
		t.Errorf("%d cases with the module's folder a second time, %d once: %v", len(twice), len(before), err)
	}
	for _, bad := range []string{"missing", "forward"} {
		t.Setenv("ZOO_GOLDENS", filepath.Join(dir, bad))
		if _, err := ForwardCases(); err == nil {
			t.Errorf("%s in ZOO_GOLDENS is no error", bad)
		}
	}
}
