package registry_test

import (
	"cmp"
	"encoding/json"
	"math"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/internal/shared"
)

func embedded(t testing.TB) *registry.Index {
	t.Helper()
	x, err := registry.Parse(zoo.RegistryJSON())
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestEmbeddedIndexIsValid(t *testing.T) {
	x := embedded(t)
	rows := 0
	for _, m := range x.Models {
		for _, w := range m.Weights {
			rows++
			if w.Origin == nil && w.Artifact == nil {
				t.Errorf("%s:%s comes from nowhere", m.Name, w.Tag)
			}
			if acc1, ok := w.Metrics["acc@1"]; ok && (acc1 <= 1 || acc1 > 100 || w.Metrics["acc@5"] != 0 && acc1 > w.Metrics["acc@5"]) {
				t.Errorf("%s:%s: accuracies %v", m.Name, w.Tag, w.Metrics)
			}
			if in := m.With(&w).Input; w.Preprocess.Crop != in[1] || w.Preprocess.Crop != in[2] {
				t.Errorf("%s:%s: crop %d and input %v", m.Name, w.Tag, w.Preprocess.Crop, in)
			}
			if o := w.Origin; o != nil && o.SizeEstimate != 0 && m.Name != "googlenet" { // its file has the auxiliary heads, its count has not
				perParam := float64(o.SizeEstimate) / float64(m.With(&w).Params)
				if perParam < 3.9 || perParam > 4.9 {
					t.Errorf("%s:%s: %.2f bytes a parameter", m.Name, w.Tag, perParam)
				}
			}
		}
	}
	t.Logf("%d families, %d models, %d weights", len(x.Families), len(x.Models), rows)
}

// fact is a row of the collected facts about public weights, the table that the index was made from.
type fact struct {
	Model, Family, Source, Weights, URL, SHA256, Interpolation, Recipe, License, Note string

	HubID   string  `json:"hf_hub_id"`
	HubFile string  `json:"hf_file"`
	Prefix  string  `json:"sha256_prefix"`
	Bytes   int64   `json:"file_bytes"`
	MiB     float64 `json:"file_size_mb"`
	Params  int64   `json:"num_params"`
	Classes int     `json:"num_classes"`
	MinSize [2]int  `json:"min_size"`

	GFLOPS, Acc1, Acc5 float64
	Crop, Resize       int
	Default            bool
	Mean, Std          []float64
}

func TestRowThatIsNotWhatItsPublisherStates(t *testing.T) {
	data, err := os.ReadFile(shared.Path(t, "data/torchvision_weights.json"))
	if err != nil {
		t.Fatal(err)
	}
	var table struct{ Models []fact }
	if err := json.Unmarshal(data, &table); err != nil {
		t.Fatal(err)
	}
	x := embedded(t)
	unchecked := map[string]bool{}
	for _, m := range x.Models {
		for _, w := range m.Weights {
			unchecked[m.Name+":"+w.Tag] = m.Variant != "cifar" // which nobody's table has
		}
	}
	licenses := map[string]string{"": "unknown", "apache-2.0": "Apache-2.0", "https://github.com/facebookresearch/SWAG/blob/main/LICENSE": "CC-BY-NC-4.0"}
	for _, f := range table.Models {
		if f.Family == "regnet" || f.Model == "inception_v4" || f.Model == "inception_resnet_v2" {
			continue // no family builds them
		}
		ref := f.Model + ":" + f.Weights
		if !unchecked[ref] {
			t.Errorf("%s is not in the index", ref)
			continue
		}
		unchecked[ref] = false
		w := x.ByName(f.Model).ByTag(f.Weights)
		m, o, p := x.ByName(f.Model).With(w), w.Origin, w.Preprocess
		estimate := int64(math.Round(f.MiB * (1 << 20)))
		if f.Bytes != 0 {
			estimate = 0
		}
		if f.SHA256 != "" {
			f.Prefix = ""
		}
		for _, c := range []struct {
			what      string
			got, want any
		}{
			{"address", o.URL, cmp.Or(f.URL, "https://huggingface.co/"+f.HubID+"/resolve/main/"+f.HubFile)},
			{"digest", [2]string{o.SHA256, o.SHA256Prefix}, [2]string{f.SHA256, f.Prefix}},
			{"size and its estimate", [2]int64{o.Size, o.SizeEstimate}, [2]int64{f.Bytes, estimate}},
			{"parameters", m.Params, f.Params},
			{"multiply-accumulates", m.MACs, int64(math.Round(f.GFLOPS * 1e9))},
			{"classes", m.Classes, f.Classes},
			{"input", m.Input, [3]int{3, f.Crop, f.Crop}},
			{"resize and crop", [2]int{p.Resize, p.Crop}, [2]int{f.Resize, f.Crop}},
			{"interpolation", p.Interpolation, f.Interpolation},
			{"mean and deviation", [2][]float64{p.Mean, p.Std}, [2][]float64{f.Mean, f.Std}},
			{"accuracies", [2]float64{w.Metrics["acc@1"], w.Metrics["acc@5"]}, [2]float64{f.Acc1, f.Acc5}},
			{"licence", w.License, licenses[f.License]},
			{"recipe", w.Recipe, f.Recipe},
			{"note", w.Note, f.Note},
		} {
			if !reflect.DeepEqual(c.got, c.want) {
				t.Errorf("%s: %s %v, and its publisher states %v", ref, c.what, c.got, c.want)
			}
		}
		if f.Source == "torchvision" && (w.Default != f.Default || m.MinSize != f.MinSize) { // timm states neither
			t.Errorf("%s: default %v and smallest size %v, and its publisher states %v and %v", ref, w.Default, m.MinSize, f.Default, f.MinSize)
		}
	}
	for ref, left := range unchecked {
		if left {
			t.Errorf("%s is in no table of its publisher's", ref)
		}
	}
}

func TestEveryRowOfRenamedEfficientNetsIsTheOneThatHashes(t *testing.T) {
	x := embedded(t)
	for _, name := range []string{"efficientnet_b0", "efficientnet_b2", "efficientnet_b5"} {
		o := x.ByName(name).ByTag("IMAGENET1K_V1").Origin
		if p := o.SHA256 + o.SHA256Prefix; !strings.Contains(o.URL, p[:8]) {
			t.Errorf("%s: %s is not the file with digest %s", name, o.URL, p)
		}
	}
}

func TestRollbackRefused(t *testing.T) {
	x := &registry.Index{Version: 4, Expires: time.Unix(2000, 0)}
	if _, err := (registry.Policy{Floor: 5, Now: time.Unix(1000, 0)}).Check(x); err == nil || !strings.Contains(err.Error(), "version 5 was seen") {
		t.Errorf("version 4 after 5: %v", err)
	}
	if _, err := (registry.Policy{Floor: 4, Now: time.Unix(1000, 0)}).Check(x); err != nil {
		t.Errorf("version 4 after 4: %v", err)
	}
}

func TestFreezeWarnedThenRefused(t *testing.T) {
	x := &registry.Index{Version: 4, Expires: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)}
	cases := []struct {
		name    string
		now     time.Time
		fixed   bool
		warning string
		refused bool
	}{
		{"valid", x.Expires, false, "", false},
		{"in grace", x.Expires.Add(time.Hour), false, "refused from 2027-01-31 on", false},
		{"frozen", x.Expires.Add(registry.DefaultGrace + 1), false, "", true},
		{"in the program", x.Expires.Add(10 * registry.DefaultGrace), true, "update zoo", false},
	}
	for _, c := range cases {
		warning, err := registry.Policy{Now: c.now, Grace: registry.DefaultGrace, Fixed: c.fixed}.Check(x)
		if (err != nil) != c.refused || !strings.Contains(warning, c.warning) || c.warning == "" && warning != "" {
			t.Errorf("%s: warning %q, error %v", c.name, warning, err)
		}
	}
}

func TestPathTraversalInNamesRefused(t *testing.T) {
	const index = `{"version":1,"expires":"2030-01-01T00:00:00Z","families":[{"name":"f"}],"models":[{"name":%q,"family":"f","params":1,"macs":1,"input":[3,1,1],"classes":1}]}`
	for _, name := range []string{"", ".", "..", "../x", "a/b", `a\b`, "/etc", "a..b", "a\x00b", "-a", "a.", "C:", "A", "a b", "é", strings.Repeat("a", 81)} {
		if registry.ValidName(name) {
			t.Errorf("name %q passes", name)
		}
		text := strings.Replace(index, "%q", `"`+strings.NewReplacer(`\`, `\\`, "\x00", `\u0000`).Replace(name)+`"`, 1)
		if _, err := registry.Parse([]byte(text)); err == nil {
			t.Errorf("an index with model %q passes", name)
		}
	}
	for _, ref := range []string{"resnet50:", "resnet50:../x", "resnet50:a/b", "resnet50:.x", "resnet50:a:b"} {
		if _, _, err := registry.SplitReference(ref); err == nil {
			t.Errorf("reference %q passes", ref)
		}
	}
}

func TestCutAddress(t *testing.T) {
	for _, c := range []struct {
		ref, address, model string
		ok                  bool
	}{
		{"oci://host:5000/team/models/ants:v1", "oci://host:5000/team/models", "ants:v1", true},
		{"oci://host/ants", "oci://host", "ants", true},
		{"oci://ants", "", "oci://ants", false},
		{"oci:///ants", "", "oci:///ants", false},
		{"oci/host/ants", "", "oci/host/ants", false},
		{"ants:v1", "", "ants:v1", false},
	} {
		if address, model, ok := registry.CutAddress(c.ref); address != c.address || model != c.model || ok != c.ok {
			t.Errorf("%s: %q, %q, %v", c.ref, address, model, ok)
		}
	}
}

func TestInvalidIndexRefused(t *testing.T) {
	const row = `{"name":"m","family":"f","params":1,"macs":1,"input":[3,8,8],"classes":1,"weights":[{"tag":"A","default":true,"license":"MIT",` +
		`"origin":{"url":"https://h/f.pth","sha256_prefix":"0123456789","format":"pth"},"preprocess":{"mean":[0,0,0],"std":[1,1,1]}}]}`
	wrap := func(models string) string {
		return `{"version":1,"expires":"2030-01-01T00:00:00Z","families":[{"name":"f"}],"models":[` + models + `]}`
	}
	if _, err := registry.Parse([]byte(wrap(row))); err != nil {
		t.Fatal(err)
	}
	edits := []struct{ name, old, new, want string }{
		{"twice the same model", row, row + "," + row, "listed twice"},
		{"unlisted family", `"family":"f"`, `"family":"g"`, "not listed"},
		{"plain http", "https://h", "http://h", "not https"},
		{"password in address", "https://h", "https://u:p@h", "no user"},
		{"odd prefix", "0123456789", "0123XYZ", "hex"},
		{"no licence", `"license":"MIT"`, `"license":""`, "license is missing"},
		{"two defaults", `"default":true`, `"default":false`, "marked default"},
		{"std of zero", "[1,1,1]", "[1,0,1]", "std positive"},
		{"two channels", "[0,0,0]", "[0,0]", "values for 3 channels"},
		{"negative count", `"params":1`, `"params":-1`, "positive"},
		{"resize that no transform does", `"preprocess":{`, `"preprocess":{"resize":32769,"interpolation":"bilinear",`, "0..32768"},
		{"huge input", "[3,8,8]", "[3,8,99999999]", "1..65536"},
		{"format", `"format":"pth"`, `"format":"exe"`, "format"},
	}
	for _, e := range edits {
		_, err := registry.Parse([]byte(strings.Replace(wrap(row), e.old, e.new, 1)))
		if err == nil || !strings.Contains(err.Error(), e.want) {
			t.Errorf("%s: %v", e.name, err)
		}
	}
	for _, text := range []string{"", "null", "[]", `{"version":0}`, wrap(row) + "{}", `{"version":1}`} {
		if _, err := registry.Parse([]byte(text)); err == nil {
			t.Errorf("%.20q passes", text)
		}
	}
}

func TestWeightsReplaceWhatDiffers(t *testing.T) {
	x := embedded(t)
	m := x.ByName("inception_v3")
	tv, timm := m.With(m.ByTag("IMAGENET1K_V1")), m.With(m.ByTag("gluon_in1k"))
	if tv.Params != 27161264 || timm.Params != 23834568 {
		t.Errorf("parameters %d with and %d without the auxiliary head", tv.Params, timm.Params)
	}
	if tv.Options["transform_input"] != "true" || timm.Options["transform_input"] != "" || m.Options != nil {
		t.Errorf("options %v, %v, %v", tv.Options, timm.Options, m.Options)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"expires":"2030-01-01T00:00:00Z","families":[{"name":"f","plugins":[{"version":"1.2.3","protocol":1,"platforms":{"linux/amd64":{"digest":"sha256:264914a91519be38a72c03de8b111b88a0846159361706e262bba9a10055f7ff","size":1}}}]}],` +
		`"models":[{"name":"m","family":"f","params":1,"macs":1,"input":[3,8,8],"classes":1,"weights":[{"tag":"A","default":true,"license":"MIT","origin":{"url":"https://h/f.pth","sha256_prefix":"0123456789","format":"pth"},"preprocess":{"mean":[0,0,0],"std":[1,1,1]}}]}]}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := registry.Parse(data)
		if err != nil {
			return
		}
		for _, m := range x.Models {
			if strings.ContainsAny(m.Name, `/\`) || m.Name == "." || m.Name == ".." || x.ByName(m.Name) == nil {
				t.Fatalf("name %q passed", m.Name)
			}
			if len(m.Weights) > 0 && m.ByTag("") == nil {
				t.Fatalf("model %q has no default weights", m.Name)
			}
		}
	})
}
