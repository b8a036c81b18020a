package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/spf13/pflag"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/weights"
)

// decode reads what a command printed with -o json.
func decode[T any](t *testing.T, home string, args ...string) (v T) {
	t.Helper()
	text := must(t, home, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("zoo %v: %v: %s", args, err, text)
	}
	return v
}

func TestFlagThatTheClientDoesNotGet(t *testing.T) {
	t.Setenv("ZOO_HOME", t.TempDir())
	t.Setenv("ZOO_LOG", "")
	t.Chdir(t.TempDir())
	dir := t.TempDir()
	var a app
	f := pflag.NewFlagSet("zoo", pflag.ContinueOnError)
	a.addFlags(f)
	if c, err := a.config(); err != nil || c.Hub.Offline || c.Hub.PlainHTTP || c.Hub.TrustUnpublished || c.Hub.RateLimit != 0 || a.logger().IsError() {
		t.Errorf("without flags: %+v, %v", c, err)
	}
	if err := f.Parse([]string{
		"--plugin-dir", dir, "--precision", "medium", "--device", "cuda", "--threads", "3", "--seed", "7", "--offline", "--plain-http", "--plugin-memory", "4GB",
		"--plugin-timeout", "9s", "--require-license", "MIT", "--trust-unpublished", "--rate-limit", "20MB", "--isolation", "required", "-v", "-q", "-o", "json",
	}); err != nil {
		t.Fatal(err)
	}
	f.VisitAll(func(f *pflag.Flag) {
		if !f.Changed {
			t.Errorf("--%s is not tested", f.Name)
		}
	})
	c, err := a.config()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.PluginDirs, []string{dir}) || c.Precision != engine.Medium || c.Device != "cuda" || c.Threads != 3 || c.Seed != 7 || c.PluginMemory != 4e9 ||
		c.StartTimeout != 9*time.Second || c.CallTimeout != 9*time.Second || c.Isolation != host.IsolateRequired || !c.Logger.IsDebug() {
		t.Errorf("%+v", c)
	}
	if h := c.Hub; !h.Offline || !h.PlainHTTP || !h.TrustUnpublished || h.RateLimit != 20e6 || !slices.Equal(h.RequireLicenses, []string{"MIT"}) || h.LockFile != "" {
		t.Errorf("%+v", h)
	}
	if err := os.WriteFile("zoo.lock", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if c, err := a.config(); err != nil || filepath.Base(c.Hub.LockFile) != "zoo.lock" {
		t.Errorf("the lock is %q, %v", c.Hub.LockFile, err)
	}
}

func TestFlagOfAnImportThatTheCardLacks(t *testing.T) {
	home := t.TempDir()
	var labels strings.Builder
	for i := range 10 {
		fmt.Fprintf(&labels, "%d\tname %d\n", i, i)
	}
	must(t, home, "import", checkpoint(t, nil), "--as", "mine", "--model", "resnet20", "--resize", "48", "--crop", "40", "--interpolation", "bicubic",
		"--mean", "0.1, 0.2,0.3", "--std", "0.4,0.5,0.6", "--license", "MIT", "--labels", write(t, "labels.txt", []byte(labels.String())))
	k := decode[modelInfo](t, home, "info", "mine").Card
	p := k.Preprocess
	if p.Resize != 48 || p.Crop != 40 || p.Interpolation != "bicubic" || !slices.Equal(p.Mean, []float64{0.1, 0.2, 0.3}) || !slices.Equal(p.Std, []float64{0.4, 0.5, 0.6}) {
		t.Errorf("preprocessing is %+v", p)
	}
	if k.License != "MIT" || k.Input != [3]int{3, 40, 40} || k.Classes != 10 || k.Labels[9] != "name 9" {
		t.Errorf("card is %+v", k)
	}
	// A crop that the model's own resizing is too small for drops that.
	must(t, home, "import", checkpoint(t, nil), "--as", "large", "--model", "resnet20", "--crop", "64")
	if p := decode[modelInfo](t, home, "info", "large").Card.Preprocess; p.Crop != 64 || p.Resize != 0 {
		t.Errorf("preprocessing is %+v", p)
	}
}

func TestEvalConfusesNoClasses(t *testing.T) {
	home := imported(t)
	picture := picture(t, 32, 32)
	top := decode[[]imageResult](t, home, "predict", "mine", write(t, "a.png", picture), "--top", "10")[0].Top
	best, worst := top[0].Index, top[9].Index
	data := t.TempDir()
	for path, content := range map[string][]byte{
		fmt.Sprintf("%d/a.png", best): picture, fmt.Sprintf("%d/a.png", worst): picture, fmt.Sprintf("%d/b.png", worst): picture, fmt.Sprintf("%d/c.png", worst): []byte("no picture"),
	} {
		path = filepath.Join(data, filepath.FromSlash(path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	refused(t, home, exitFailure, []string{"c.png"}, "eval", "mine", "--data", data)
	e := decode[classifier.Evaluation](t, home, "eval", "mine", "--data", data, "--skip-bad", "--confusion")
	if e.N != 3 || len(e.Skipped) != 1 || fmt.Sprintf("%.1f", e.Top1) != "33.3" || e.Confusion[best][best] != 1 || e.Confusion[worst][best] != 2 {
		t.Errorf("%+v", e)
	}
	text := must(t, home, "eval", "mine", "--data", data, "--skip-bad", "--confusion")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) != 5 || !strings.HasPrefix(lines[0], "3 images: top-1 33.33 %") || !strings.HasPrefix(lines[1], "skipped: ") || len(strings.Fields(lines[4])) < 3 {
		t.Errorf("%s", text)
	}
	if plain := must(t, home, "eval", "mine", "--data", data, "--skip-bad"); strings.Contains(plain, "PREDICTED") {
		t.Errorf("without --confusion: %s", plain)
	}
}

func TestIndexIsSignedCheckedAndPinned(t *testing.T) {
	home := t.TempDir()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := private.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "registry.json"))
	if err != nil {
		t.Fatal(err)
	}
	index, key := write(t, "registry.json", text), write(t, "zoo.key", plain)
	if o := zoo(t, home, nil, "registry", "sign", index, "--key", key); o.code != 0 || !strings.Contains(o.stderr, "wrote "+index+".minisig") {
		t.Fatalf("%+v", o)
	}
	if o := zoo(t, home, nil, "registry", "check", index); o.code != 0 || !strings.Contains(o.stderr, "is not checked") || strings.Contains(o.stdout, "signed by") {
		t.Errorf("without a key: %+v", o)
	}
	must(t, home, "registry", "pin", public.String())
	if o := zoo(t, home, nil, "registry", "check", index); o.code != 0 || o.stderr != "" || !strings.Contains(o.stdout, "signed by ") || !strings.Contains(o.stdout, " models, ") {
		t.Errorf("with its key: %+v", o)
	}
	if r := decode[map[string]any](t, home, "registry", "check", index); r["signed_by"] == nil || r["weights"].(float64) < 90 || r["expires"] == nil {
		t.Errorf("%v", r)
	}
	if err := os.WriteFile(index, bytes.Replace(text, []byte(`"version": 1`), []byte(`"version": 2`), 1), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, home, exitFailure, []string{"signature"}, "registry", "check", index)

	// What is published with the key is taken from then on, and nothing else.
	signed, unsigned, mirrored := t.TempDir(), t.TempDir(), t.TempDir()
	must(t, imported(t), "push", "mine", "--to", signed, "--key", key)
	must(t, imported(t), "push", "mine", "--to", unsigned)
	t.Setenv("ZOO_TEST_REGISTRY", unsigned)
	if o := zoo(t, home, nil, "pull", "mine:local"); o.code != exitFailure || !strings.Contains(o.stderr, "sign") {
		t.Errorf("what is not signed: %+v", o)
	}
	if o := zoo(t, imported(t), nil, "mirror", "sync", "mine", "--to", mirrored, "--key", key, "--plugins"); o.code != 0 || !strings.Contains(o.stderr, "no plugin binaries are copied of resnet") {
		t.Errorf("%+v", o)
	}
	for _, from := range []string{signed, mirrored} {
		t.Setenv("ZOO_TEST_REGISTRY", from)
		must(t, home, "pull", "mine:local")
		must(t, home, "cache", "rm", "mine:local")
	}
}

func TestPushConvertsAndTags(t *testing.T) {
	home, to := imported(t), t.TempDir()
	whole := decode[[]pushResult](t, home, "push", "mine", "--to", to)[0]
	half := decode[[]pushResult](t, home, "push", "mine", "--to", to, "--dtype", "bf16")[0]
	if !strings.HasSuffix(half.Reference, "mine/local-bf16") || half.Bytes == 0 || half.Bytes > 6*whole.Bytes/10 || half.Digest == whole.Digest {
		t.Errorf("%+v beside %+v", half, whole)
	}
	if again := decode[[]pushResult](t, home, "push", "mine", "--to", to)[0]; !again.Skipped || again.Digest != whole.Digest {
		t.Errorf("%+v", again)
	}
}

func TestPruneTakesWhatItIsToldTo(t *testing.T) {
	home := imported(t)
	must(t, home, "pull", "resnet20")
	type freed struct {
		Removed []string `json:"removed"`
		Bytes   int64    `json:"bytes"`
		DryRun  bool     `json:"dry_run"`
	}
	listed := func() (names []string) {
		for _, e := range decode[[]cacheResult](t, home, "cache", "ls") {
			if e.Bytes < 1e6 || time.Since(e.Used) > time.Hour || e.Partial || e.Shared || e.Damaged || e.Features {
				t.Errorf("entry %+v", e)
			}
			names = append(names, e.Reference)
		}
		return names
	}
	all := []string{"mine:local", "resnet20:ZOO_CIFAR10"}
	for _, c := range []struct {
		args    []string
		removed int
		dry     bool
	}{
		{[]string{"--older-than", "90d"}, 0, false},
		{[]string{"--older-than", "1ns", "--keep-last", "2"}, 0, false},
		{[]string{"--older-than", "1ns", "--dry-run"}, 1, true},
	} {
		r := decode[freed](t, home, append([]string{"cache", "prune"}, c.args...)...)
		if len(r.Removed) != c.removed || r.DryRun != c.dry || r.Bytes > 1e6 != (c.removed > 0) || !slices.Equal(listed(), all) {
			t.Errorf("%v: %+v, left are %v", c.args, r, listed())
		}
	}
	if r := decode[freed](t, home, "cache", "prune", "--older-than", "0.0000000001d"); !slices.Equal(r.Removed, all[1:]) || r.DryRun || r.Bytes < 1e6 || !slices.Equal(listed(), all[:1]) {
		t.Errorf("%+v, left are %v", r, listed())
	}
	if out := must(t, home, "cache", "rm", "mine"); !strings.Contains(out, "removed mine\n") || !strings.Contains(out, " MB freed") || len(listed()) > 0 {
		t.Errorf("%s, left are %v", out, listed())
	}
}

func TestFlagsOfANetworkChangeIt(t *testing.T) {
	home := imported(t)
	var in bytes.Buffer
	if err := weights.WriteNPY(&in, []int{1, 3, 32, 32}, slices.Repeat([]float32{1}, 3*32*32)); err != nil {
		t.Fatal(err)
	}
	input, out := write(t, "x.npy", in.Bytes()), filepath.Join(t.TempDir(), "y.npy")
	run := func(args ...string) []float32 {
		t.Helper()
		must(t, home, append([]string{"run", "--input", input, "--output", out}, args...)...)
		_, y := array(t, out)
		return y
	}
	seeds := [][]float32{run("resnet32"), run("resnet32", "--seed", "1"), run("resnet32", "--seed", "1")}
	if slices.Equal(seeds[0], seeds[1]) || !slices.Equal(seeds[1], seeds[2]) {
		t.Error("--seed")
	}
	other := checkpoint(t, func(_ string, v []float32) { v[0]++ })
	if y := run("mine", "--weights", other); slices.Equal(y, run("mine")) {
		t.Error("--weights")
	}
	if y := run("resnet_custom", "--option", "layers=1,1", "--option", "widths=8,16", "--features", "embedding"); len(y) != 16 {
		t.Errorf("--option: %d features", len(y))
	}
	type summary struct {
		Input  [3]int     `json:"input"`
		Params int64      `json:"params"`
		Layers []layerRow `json:"layers"`
	}
	plain := decode[summary](t, home, "summary", "resnet20")
	if s := decode[summary](t, home, "summary", "resnet20", "--input", "3x64x48", "--classes", "3"); s.Input != [3]int{3, 64, 48} || s.Layers[len(s.Layers)-1].Output != [3]int{3, 1, 1} || plain.Params-s.Params != 7*65 {
		t.Errorf("%+v", s)
	}
	if s := decode[summary](t, home, "summary", "resnet_custom", "--option", "layers=1,1", "--option", "widths=8,16"); s.Params >= plain.Params {
		t.Errorf("%d parameters", s.Params)
	}
}

func TestBenchExplainsAndCompareMeasures(t *testing.T) {
	home := t.TempDir()
	bench := []string{"bench", "resnet20", "--batch", "2", "--runs", "1", "--duration", "1ms", "--precision", "medium", "--explain"}
	r := decode[struct {
		classifier.Measurement
		Steps []stepResult `json:"steps"`
	}](t, home, bench...)
	if r.Model != "resnet20" || r.Batch != 2 || r.Precision != "medium" || r.Device != "cpu" || r.MSPerImage <= 0 || r.PeakRSSMB < 1 || len(r.Steps) < 5 {
		t.Errorf("%+v", r)
	}
	var macs int64
	for _, s := range r.Steps {
		if s.Name == "" || s.Operator == "" || s.Kernel == "" || s.Milliseconds <= 0 {
			t.Errorf("%+v", s)
		}
		macs += s.MACs
	}
	if macs < 2*40_000_000 {
		t.Errorf("%d MACs for two images", macs)
	}
	if text := must(t, home, bench...); !strings.HasPrefix(text, "STEP ") || !strings.Contains(text, " ms an image at batch 2, medium, ") {
		t.Errorf("%s", text)
	}

	chart := filepath.Join(t.TempDir(), "c.svg")
	rows := decode[[]comparison](t, home, "compare", "resnet20", "squeezenet1_1", "resnet20", "--measure", "--chart", chart)
	if len(rows) != 2 || rows[0].Name != "resnet20" || rows[0].MSPerImage <= 0 || rows[1].MSPerImage <= 0 || rows[1].Top1 == 0 {
		t.Errorf("%+v", rows)
	}
	if svg, err := os.ReadFile(chart); err != nil || !bytes.Contains(svg, []byte("squeezenet1_1")) || !bytes.Contains(svg, []byte("milliseconds")) {
		t.Errorf("%s, %v", svg, err)
	}
	refused(t, home, exitFailure, []string{"leave --chart out"}, "compare", "resnet20", "--chart", chart)
	refused(t, home, exitFailure, []string{`no model matches "resnet5?x"`}, "compare", "resnet20", "resnet5?x")
}

func TestModuleOfAFamilyIsAsAskedFor(t *testing.T) {
	t.Setenv(zooDir, t.TempDir())
	home, dir := t.TempDir(), filepath.Join(t.TempDir(), "folder")
	files := decode[[]string](t, home, "plugin", "new", "tiny", "--dir", dir, "--module", "example.org/x/tiny", "--replace", "zoo")
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil || !strings.HasPrefix(string(mod), "module example.org/x/tiny\n") || !strings.Contains(string(mod), "=> "+filepath.Join(os.Getenv(zooDir), "zoo")) || !slices.Contains(files, "go.mod") {
		t.Errorf("%v, %s, %v", files, mod, err)
	}
}
