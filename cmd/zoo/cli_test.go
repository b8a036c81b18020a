package main

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins/resnet"
	"github.com/go-modelzoo/zoo/weights"
)

// checkpoint writes random resnet20 weights to a file and returns its path. change may alter them before.
func checkpoint(t *testing.T, change func(name string, values []float32)) string {
	t.Helper()
	m, _ := resnet.Family().Model("resnet20")
	g, err := m.Graph(graph.Shape{}, 10, nil)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []weights.Tensor
	for _, p := range g.Params {
		if p.Role == graph.NumBatchesTracked {
			continue
		}
		values := p.Initialise(1)
		if change != nil {
			change(p.Name, values)
		}
		tensors = append(tensors, weights.FromFloat32(p.Name, p.Shape, values))
	}
	var b bytes.Buffer
	if err := weights.WriteSafetensors(&b, tensors, nil); err != nil {
		t.Fatal(err)
	}
	return write(t, "model.safetensors", b.Bytes())
}

func write(t *testing.T, name string, data []byte) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(p, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

// picture is a PNG of a gradient.
func picture(t *testing.T, w, h int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.Set(x, y, color.RGBA{uint8(8 * x), uint8(8 * y), uint8(x * y), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// imported is a home folder with the random resnet20 as "mine".
func imported(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	must(t, home, "import", checkpoint(t, nil), "--as", "mine", "--model", "resnet20")
	return home
}

func TestPredictPrintsOneElementAnImage(t *testing.T) {
	home := imported(t)
	dir := t.TempDir()
	for i := range 11 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%02d.png", i)), picture(t, 32, 32), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "._00.png"), []byte("what macOS keeps beside each file on others' disks"), 0o644); err != nil {
		t.Fatal(err)
	}
	var results []imageResult
	if err := json.Unmarshal([]byte(must(t, home, "predict", "mine", dir, "--top", "3", "--batch", "4", "-o", "json")), &results); err != nil {
		t.Fatal(err)
	}
	if len(results) != 11 {
		t.Fatalf("%d results for 11 images", len(results))
	}
	for i, r := range results {
		if filepath.Base(r.Image) != fmt.Sprintf("%02d.png", i) || len(r.Top) != 3 || r.Top[0] != results[0].Top[0] {
			t.Errorf("result %d is %+v", i, r)
		}
		if p := r.Top[0].Prob + r.Top[1].Prob + r.Top[2].Prob; !(p > 0 && p <= 1) || r.Top[0].Prob < r.Top[2].Prob {
			t.Errorf("probabilities %+v", r.Top)
		}
	}
	piped := zoo(t, home, picture(t, 32, 32), "predict", "mine", "-", "--top", "3", "-o", "json")
	var one []imageResult
	if err := json.Unmarshal([]byte(piped.stdout), &one); err != nil || one[0].Top[0] != results[0].Top[0] {
		t.Errorf("standard input gave %s %s (%v)", piped.stdout, piped.stderr, err)
	}
	file := filepath.Join(dir, "00.png")
	best := results[0].Top[0]
	text := must(t, home, "predict", "mine", file)
	if !strings.HasPrefix(text, fmt.Sprintf("%s  %5.1f %%", file, 100*best.Prob)) || strings.Count(text, "\n") != 5 || strings.Count(text, file) != 1 {
		t.Errorf("text output is %q", text)
	}
	must(t, home, "import", checkpoint(t, nil), "--as", "nameless", "--model", "resnet20", "--classes", "11", "--allow-new-classifier")
	if text := must(t, home, "predict", "nameless", file, "--top", "1"); !strings.Contains(text, "  class ") || strings.Count(text, "\n") != 1 {
		t.Errorf("of a model without names: %q", text)
	}
}

func TestBadImageAmongGoodOnesIsNamed(t *testing.T) {
	home := imported(t)
	dir := t.TempDir()
	for name, data := range map[string][]byte{"a.png": picture(t, 32, 32), "b.png": []byte("not a picture"), "c.png": picture(t, 32, 32)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	o := zoo(t, home, nil, "predict", "mine", dir, "-o", "json")
	var results []imageResult
	if err := json.Unmarshal([]byte(o.stdout), &results); err != nil {
		t.Fatalf("%v: %s", err, o.stderr)
	}
	if o.code != 1 || len(results) != 3 || results[1].Error == "" || results[0].Error+results[2].Error != "" {
		t.Errorf("exit %d, results %+v", o.code, results)
	}
	if !strings.Contains(o.stderr, "1 of 3") {
		t.Errorf("standard error is %q", o.stderr)
	}
	refused(t, home, exitFailure, []string{"b.png", "--skip-bad"}, "embed", "mine", dir, "--out", filepath.Join(dir, "e.npy"))
	o = zoo(t, home, nil, "embed", "mine", dir, "--out", filepath.Join(dir, "e.npy"), "--skip-bad")
	rows, err := os.ReadFile(filepath.Join(dir, "e.csv"))
	if want := filepath.Join(dir, "a.png") + "\n" + filepath.Join(dir, "c.png") + "\n"; string(rows) != want || !strings.Contains(o.stderr, "b.png: not an image") {
		t.Errorf("rows %q, %v; %s", rows, err, o.stderr)
	}
	if o := zoo(t, home, nil, "predict", "mine", dir, "--top", "1"); o.code != 1 || strings.Count(o.stdout, "\n") != 3 || !strings.Contains(strings.Split(o.stdout, "\n")[1], "b.png: not an image") {
		t.Errorf("as text: %+v", o)
	}
}

func TestUsageMistakesExitWith2(t *testing.T) {
	home := t.TempDir()
	for _, args := range [][]string{
		{"frobnicate"}, {"predict"}, {"predict", "--top", "0", "resnet20", "x.png"}, {"list", "["}, {"summary", "resnet20", "--input", "3x0x3"},
		{"list", "--nonsense"}, {"run", "resnet20"}, {"bench", "resnet20", "--batch", "0"}, {"eval", "resnet20"}, {"list", "--precision", "double"},
		{"cache", "prune", "--older-than", "soon"}, {"cache", "prune", "--keep-last", "-1"}, {"export", "resnet20", "x.txt"}, {"plugin", "frobnicate"},
		{"info", "--system", "resnet20"}, {"summary", "resnet20", "--classes", "-1"},
		{"import", "x.pth", "--as", "x", "--model", "resnet20", "--classes", "-1"}, {"compare", "resnet20", "--batch", "0"}, {"compare", "[", "resnet20"},
		{"compare", "resnet20", "--chart", "x.gif"}, {"eval", "resnet20", "--data", "x", "--labels", "y"}, {"eval", "resnet20", "--data", "x", "--batch", "0"},
		{"predict", "--batch", "0", "x.png"}, {"bench", "resnet20", "--runs", "0"}, {"cache", "prune", "--older-than", "-1d"}, {"list", "--threads", "-1"},
		{"cache", "prune", "--older-than", "-1h"}, {"list", "--device", "tpu"}, {"list", "--plugin-timeout", "-1s"}, {"list", "--plugin-memory", "much"},
		{"list", "--rate-limit", "fast"}, {"list", "--isolation", "none"}, {"list", "-o", "yaml"}, {"export", "resnet20", "x.pth", "--format", "npz"},
		{"push", "resnet20", "--to", "x", "--dtype", "f15"},
	} {
		refused(t, home, exitUsage, nil, args...)
	}
}

func TestNamesAreSuggested(t *testing.T) {
	refused(t, t.TempDir(), exitFailure, []string{"resnet5", "did you mean resnet50"}, "summary", "resnet5")
	refused(t, t.TempDir(), exitUsage, []string{"did you mean summary"}, "sumary")
}

func TestPluginFolderThatIsNotThereIsNamed(t *testing.T) {
	file := write(t, "zoo-x", nil)
	refused(t, t.TempDir(), exitFailure, []string{"--plugin-dir", "nowhere:"}, "list", "--plugin-dir", "nowhere")
	refused(t, t.TempDir(), exitFailure, []string{"--plugin-dir", file, "not a folder"}, "list", "--plugin-dir", file)
}

func TestModelThatNobodyHasIsExplained(t *testing.T) {
	home, img := imported(t), write(t, "a.png", picture(t, 32, 32))
	for model, words := range map[string][]string{
		"resnet5":     {"did you mean resnet50"},
		"resnet50:V9": {"resnet50", "V9", "IMAGENET1K_V2"},
		"mine:V9":     {"mine", "V9", "local"},
		"vgg16_c":     {"zoo train", "zoo import"},
		"something":   {"something", "no source has it", "embedded", "zoo list"},
	} {
		refused(t, home, exitFailure, words, "pull", model, "--offline")
		refused(t, home, exitFailure, words, "predict", model, img, "--offline")
	}
}

func TestSummaryTotalsAreThePublishedOnes(t *testing.T) {
	var s struct {
		Params int64 `json:"params"`
		MACs   int64 `json:"macs"`
		Layers []layerRow
	}
	if err := json.Unmarshal([]byte(must(t, t.TempDir(), "summary", "resnet50", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	// torchvision's num_params and GFLOPS for resnet50.
	if s.Params != 25557032 || math.Round(float64(s.MACs)/1e6) != 4089 {
		t.Errorf("resnet50 has %d parameters and %d MACs", s.Params, s.MACs)
	}
	var sum int64
	for _, l := range s.Layers {
		sum += l.Params
	}
	if sum != s.Params {
		t.Errorf("layers have %d parameters, the total is %d", sum, s.Params)
	}
}

func TestRunReadsAndWritesNumPy(t *testing.T) {
	home := imported(t)
	var in bytes.Buffer
	x := make([]float32, 2*3*32*32)
	for i := range x {
		x[i] = float32(i%7) - 3
	}
	if err := weights.WriteNPY(&in, []int{2, 3, 32, 32}, x); err != nil {
		t.Fatal(err)
	}
	input, out := write(t, "x.npy", in.Bytes()), filepath.Join(t.TempDir(), "y.npy")
	must(t, home, "run", "mine", "--input", input, "--output", out)
	f, err := os.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	shape, y, err := weights.ReadNPY(f)
	if err != nil || len(shape) != 2 || shape[0] != 2 || shape[1] != 10 || len(y) != 20 {
		t.Fatalf("shape %v, %d values, %v", shape, len(y), err)
	}
	refused(t, home, exitFailure, []string{"bad.npy", "truncated"}, "run", "mine", "--input", write(t, "bad.npy", in.Bytes()[:100]), "--output", out)
}

func TestEvalCountsFoldersAndCSV(t *testing.T) {
	home := imported(t)
	img := write(t, "a.png", picture(t, 32, 32))
	var results []imageResult
	if err := json.Unmarshal([]byte(must(t, home, "predict", "mine", img, "--top", "10", "-o", "json")), &results); err != nil {
		t.Fatal(err)
	}
	best, worst := results[0].Top[0].Index, results[0].Top[9].Index
	csv := write(t, "labels.csv", fmt.Appendf(nil, "path,class\n%s,%d\n%s,%d\n", img, best, img, worst))
	var e classifier.Evaluation
	if err := json.Unmarshal([]byte(must(t, home, "eval", "mine", "--labels", csv, "-o", "json")), &e); err != nil {
		t.Fatal(err)
	}
	if e.N != 2 || e.Top1 != 50 || e.Top5 != 50 {
		t.Errorf("evaluation is %+v", e)
	}
}

func TestBenchPrintsTheLineThatScriptsRead(t *testing.T) {
	line := must(t, t.TempDir(), "bench", "resnet20", "--batch", "2", "--runs", "1", "--duration", "1ms")
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"model", "batch", "precision", "device", "ms_per_image", "images_per_s", "peak_rss_mb"} {
		if _, ok := m[key]; !ok {
			t.Errorf("%s lacks %s", line, key)
		}
	}
}

func TestBenchOfTrainingPrintsTheSameLine(t *testing.T) {
	line := must(t, t.TempDir(), "bench", "resnet20", "--train", "--batch", "2", "--runs", "1", "--duration", "1ms", "--freeze", "features", "--precision", "medium")
	var m map[string]any
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"model", "batch", "precision", "device", "ms_per_image", "images_per_s", "peak_rss_mb", "train", "params", "trained"} {
		if _, ok := m[key]; !ok {
			t.Errorf("%s lacks %s", line, key)
		}
	}
	if m["precision"] != "medium" || m["batch"] != 2.0 {
		t.Errorf("%s: batches of 2 at precision medium were asked for", line)
	}
	if m["trained"].(float64) >= m["params"].(float64) {
		t.Errorf("%s: nothing is frozen", line)
	}
	refused(t, t.TempDir(), exitFailure, []string{"nonsense"}, "bench", "resnet20", "--train", "--freeze", "nonsense")
	refused(t, t.TempDir(), exitUsage, []string{"--train"}, "bench", "resnet20", "--freeze", "features")
	refused(t, t.TempDir(), exitUsage, []string{"--explain"}, "bench", "resnet20", "--train", "--explain")
}

func TestEmptyFileRefused(t *testing.T) {
	home := imported(t)
	empty := write(t, "empty", nil)
	refused(t, home, exitFailure, []string{"empty"}, "predict", "mine", empty)
	refused(t, home, exitFailure, []string{"empty"}, "import", empty, "--as", "x", "--model", "resnet20")
}

func TestTruncatedFileRefused(t *testing.T) {
	home := imported(t)
	data := picture(t, 32, 32)
	refused(t, home, exitFailure, []string{"half.png"}, "predict", "mine", write(t, "half.png", data[:len(data)/2]))
	model, err := os.ReadFile(checkpoint(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	refused(t, home, exitFailure, []string{"half.safetensors"}, "import", write(t, "half.safetensors", model[:len(model)/2]), "--as", "x", "--model", "resnet20")
}

func TestHugePictureRefused(t *testing.T) {
	ihdr := make([]byte, 17)
	copy(ihdr, "IHDR")
	binary.BigEndian.PutUint32(ihdr[4:], 100_000)
	binary.BigEndian.PutUint32(ihdr[8:], 100_000)
	ihdr[12], ihdr[13] = 8, 2
	data := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), ihdr...)
	data = binary.BigEndian.AppendUint32(data, crc32.ChecksumIEEE(ihdr))
	refused(t, imported(t), exitFailure, []string{"huge.png", "100000"}, "predict", "mine", write(t, "huge.png", data))
}

func TestHostileSafetensorsRefused(t *testing.T) {
	home := t.TempDir()
	huge := binary.LittleEndian.AppendUint64(nil, 1<<30)
	refused(t, home, exitFailure, []string{"huge"}, "import", write(t, "huge.safetensors", append(huge, "{"...)), "--as", "x", "--model", "resnet20")
	header := `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}`
	overlap := append(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header...)
	refused(t, home, exitFailure, []string{"overlap"}, "import", write(t, "overlap.safetensors", append(overlap, make([]byte, 12)...)), "--as", "x", "--model", "resnet20")
}

func TestPickleThatRunsACommandRefused(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "ran")
	pickle := fmt.Sprintf("\x80\x02cposix\nsystem\n(X%s%s\x85R.", string(binary.LittleEndian.AppendUint32(nil, uint32(len("touch "+marker)))), "touch "+marker)
	pickle = strings.Replace(pickle, "(X", "X", 1)
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range map[string]string{"archive/data.pkl": pickle, "archive/version": "3\n"} {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Store})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	refused(t, t.TempDir(), exitFailure, []string{"posix.system"}, "import", write(t, "evil.pth", b.Bytes()), "--as", "x", "--model", "resnet20")
	if _, err := os.Stat(marker); err == nil {
		t.Error("the command ran")
	}
}

func TestNaNWeightsAreWarnedOf(t *testing.T) {
	file := checkpoint(t, func(name string, v []float32) {
		if name == "conv1.weight" {
			v[0] = float32(math.NaN())
		}
	})
	home := t.TempDir()
	o := zoo(t, home, nil, "import", file, "--as", "sick", "--model", "resnet20")
	if o.code != 0 || !strings.Contains(o.stderr, "conv1.weight") {
		t.Errorf("import: exit %d, %q", o.code, o.stderr)
	}
	o = zoo(t, home, nil, "verify", "sick")
	if o.code != 0 || !strings.Contains(o.stdout, "conv1.weight") {
		t.Errorf("verify: exit %d, %q %q", o.code, o.stdout, o.stderr)
	}
	refused(t, home, exitFailure, []string{"a.png", "zoo verify sick"}, "predict", "sick", write(t, "a.png", picture(t, 32, 32)))
}

func TestImageBelowMinimumSizeRefused(t *testing.T) {
	home := t.TempDir()
	var in bytes.Buffer
	if err := weights.WriteNPY(&in, []int{1, 3, 10, 10}, make([]float32, 300)); err != nil {
		t.Fatal(err)
	}
	refused(t, home, exitFailure, []string{"squeezenet1_1", "10×10"}, "run", "squeezenet1_1", "--input", write(t, "x.npy", in.Bytes()), "--output", filepath.Join(home, "y.npy"))
	refused(t, home, exitFailure, []string{"inception_v3", "75×75"}, "summary", "inception_v3", "--input", "3x74x75")
}

func TestCheckpointOfAnotherNetworkIsExplained(t *testing.T) {
	refused(t, t.TempDir(), exitFailure, []string{"does not fit resnet32"}, "import", checkpoint(t, nil), "--as", "x", "--model", "resnet32")
}

// The model's own names are there or not by whether its weights are in the store: `zoo predict` of the model inside the program puts them there.
func TestModelsLabelsAreNotForAnotherNumberOfClasses(t *testing.T) {
	home := t.TempDir()
	args := []string{"import", checkpoint(t, nil), "--model", "resnet20", "--classes", "3", "--allow-new-classifier", "--as"}
	must(t, home, append(args, "before")...)
	must(t, home, "pull", "resnet20")
	must(t, home, append(args, "after")...)
	for _, name := range []string{"before", "after"} {
		if text := must(t, home, "info", name, "-o", "json"); strings.Contains(text, "airplane") || !strings.Contains(text, `"classes":3`) {
			t.Errorf("%s: %s", name, text)
		}
	}
}

func TestNewClassifierIsDrawnWhenAskedFor(t *testing.T) {
	home, file := imported(t), checkpoint(t, nil)
	args := []string{"import", file, "--as", "three", "--model", "resnet20", "--classes", "3"}
	refused(t, home, exitFailure, []string{"linear.weight", "--allow-new-classifier"}, args...)
	o := zoo(t, home, nil, append(args, "--allow-new-classifier")...)
	if o.code != 0 || !strings.Contains(o.stderr, "linear.weight and linear.bias are drawn") || !strings.Contains(o.stderr, "zoo finetune") {
		t.Fatalf("exit %d, %q", o.code, o.stderr)
	}
	var in bytes.Buffer
	if err := weights.WriteNPY(&in, []int{1, 3, 32, 32}, make([]float32, 3*32*32)); err != nil {
		t.Fatal(err)
	}
	input := write(t, "x.npy", in.Bytes())
	run := func(model string, more ...string) []byte {
		out := filepath.Join(t.TempDir(), "y.npy")
		must(t, home, append([]string{"run", model, "--input", input, "--output", out}, more...)...)
		data, err := os.ReadFile(out)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	if !bytes.Equal(run("three", "--features", "embedding"), run("mine", "--features", "embedding")) {
		t.Error("more than the classifier was drawn")
	}
	if len(run("three")) == len(run("mine")) {
		t.Error("the classifier has as many classes as before")
	}
	refused(t, home, exitFailure, []string{"does not fit resnet32"}, "import", file, "--as", "x", "--model", "resnet32", "--allow-new-classifier")
}

func TestExportedFileImportsAgainBitEqual(t *testing.T) {
	home := imported(t)
	for _, format := range []string{"safetensors", "pth", "pt"} {
		out := filepath.Join(t.TempDir(), "copy."+format)
		must(t, home, "export", "mine", out)
		name := "copy-" + format
		must(t, home, "import", out, "--as", name, "--model", "resnet20")
		img := write(t, "a.png", picture(t, 32, 32))
		if a, b := must(t, home, "predict", "mine", img, "-o", "json"), must(t, home, "predict", name, img, "-o", "json"); a != b {
			t.Errorf("%s: %s became %s", format, a, b)
		}
	}
}

func TestLicenceIsRequiredOfModelsOfTheStoreToo(t *testing.T) {
	home, img := imported(t), write(t, "a.png", picture(t, 32, 32))
	refused(t, home, exitFailure, []string{"mine", "unknown", "MIT"}, "predict", "mine", img, "--require-license", "MIT")
	must(t, home, "import", checkpoint(t, nil), "--as", "mit", "--model", "resnet20", "--license", "MIT")
	must(t, home, "predict", "mit", img, "--require-license", "MIT")
}

func TestOfflinePullDialsNobody(t *testing.T) {
	o := zoo(t, t.TempDir(), nil, "pull", "resnet18", "--offline")
	if o.code != exitFailure || !strings.Contains(o.stderr, "offline") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}

func TestEvalDoesNotTakePartsOfDataForClasses(t *testing.T) {
	home, data := imported(t), t.TempDir()
	for _, part := range []string{"train", "val"} {
		if err := os.CopyFS(filepath.Join(data, part), os.DirFS(photos(t, 3))); err != nil {
			t.Fatal(err)
		}
	}
	must(t, home, "train", "resnet20", "--data", data, "--size", "32", "--epochs", "1", "--batch", "2", "--lr", "0.001", "--out", "two")
	refused(t, home, exitFailure, []string{"train, val", filepath.Join(data, "val")}, "eval", "two", "--data", data)
	must(t, home, "eval", "two", "--data", filepath.Join(data, "val"))
	if err := os.Rename(filepath.Join(data, "val", "bright"), filepath.Join(data, "val", "light")); err != nil {
		t.Fatal(err)
	}
	refused(t, home, exitFailure, []string{`"light"`}, "eval", "two", "--data", filepath.Join(data, "val"))
	if err := os.Rename(filepath.Join(data, "val", "dark"), filepath.Join(data, "val", "night")); err != nil {
		t.Fatal(err)
	}
	if o := zoo(t, home, nil, "eval", "two", "--data", filepath.Join(data, "val")); o.code != 0 || !strings.Contains(o.stderr, "light for class 0") {
		t.Errorf("exit %d: %s", o.code, o.stderr)
	}
}

func TestEvalOfNothingIsNoResult(t *testing.T) {
	home, bad := imported(t), write(t, "bad.png", []byte("no picture"))
	csv := write(t, "labels.csv", fmt.Appendf(nil, "%s,0\n", bad))
	refused(t, home, exitFailure, []string{"bad.png", "--skip-bad"}, "eval", "mine", "--labels", csv)
	refused(t, home, exitFailure, []string{"none of 1 image", "bad.png"}, "eval", "mine", "--labels", csv, "--skip-bad")
	refused(t, home, exitFailure, []string{"none of 1 image", "bad.png"}, "embed", "mine", bad, "--out", csv+".npy", "--skip-bad")
}

func TestCompareLeavesNoModelOut(t *testing.T) {
	home := imported(t)
	var rows []comparison
	text := must(t, home, "compare", "resnet18", "resnet20", "mine", "alexnet_original", "-o", "json")
	if err := json.Unmarshal([]byte(text), &rows); err != nil {
		t.Fatal(err)
	}
	if len(rows) != 4 {
		t.Errorf("%d rows for 4 models: %s", len(rows), text)
	}
	for _, r := range rows {
		if r.Params == 0 || r.MACs == 0 || r.Name == "resnet20" && r.Top1 != 0 { // that is of CIFAR-10
			t.Errorf("row %+v", r)
		}
	}
}

func TestListsInJSONAreNeverNull(t *testing.T) {
	home := t.TempDir()
	for _, args := range [][]string{{"verify"}, {"cache", "ls"}, {"cache", "prune"}, {"plugin", "verify"}} {
		if text := must(t, home, append(args, "-o", "json")...); strings.Contains(text, "null") {
			t.Errorf("zoo %v prints %s", args, text)
		}
	}
}

func TestRandomWeightsAreSaid(t *testing.T) {
	var in bytes.Buffer
	if err := weights.WriteNPY(&in, []int{1, 3, 32, 32}, make([]float32, 3*32*32)); err != nil {
		t.Fatal(err)
	}
	home, input, out := imported(t), write(t, "x.npy", in.Bytes()), filepath.Join(t.TempDir(), "y.npy")
	for model, want := range map[string]bool{"resnet32": true, "mine": false} {
		o := zoo(t, home, nil, "run", model, "--input", input, "--output", out)
		if o.code != 0 || strings.Contains(o.stderr, "random") != want {
			t.Errorf("%s: exit %d: %q", model, o.code, o.stderr)
		}
	}
}

func TestTooManyClassesRefused(t *testing.T) {
	for _, n := range []string{"200000", "4294967301", "1000000000000"} { // the second is 5 in 32 bits
		code := exitFailure
		if _, err := strconv.Atoi(n); err != nil { // on 32-bit systems
			code = exitUsage
		}
		refused(t, t.TempDir(), code, []string{"classes"}, "summary", "resnet20", "--classes", n)
	}
}

func TestWhatTheStoreLacksIsNamedAsItWasAskedFor(t *testing.T) {
	home := imported(t)
	for _, args := range [][]string{{"verify"}, {"cache", "rm"}} {
		refused(t, home, exitFailure, []string{"zoo: nothing: ", "zoo cache ls"}, append(args, "nothing")...)
		refused(t, home, exitFailure, []string{"zoo: mine:v2: ", "it has mine:local"}, append(args, "mine:v2")...)
	}
}

func TestArchiveThatIsNoneIsExplained(t *testing.T) {
	home := imported(t)
	archive := filepath.Join(t.TempDir(), "m.tar")
	must(t, home, "mirror", "export", archive, "mine")
	data, err := os.ReadFile(archive)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{100, len(data) / 2} {
		o := zoo(t, t.TempDir(), nil, "mirror", "import", write(t, "cut.tar", data[:n]))
		if o.code != exitFailure || !strings.Contains(o.stderr, "cut.tar") || !strings.Contains(o.stderr, "copy it again") {
			t.Errorf("%d bytes: exit %d: %s", n, o.code, o.stderr)
		}
	}
	refused(t, t.TempDir(), exitFailure, []string{"text.tar", "zoo mirror export"}, "mirror", "import", write(t, "text.tar", bytes.Repeat([]byte("text"), 1000)))
}

func TestNearMissesAreExplained(t *testing.T) {
	home, data := imported(t), photos(t, 2)
	file := checkpoint(t, nil)
	var in bytes.Buffer
	if err := weights.WriteNPY(&in, []int{1, 3, 32, 32}, make([]float32, 3*32*32)); err != nil {
		t.Fatal(err)
	}
	input := write(t, "x.npy", in.Bytes())
	for _, c := range []struct {
		code  int
		words []string
		args  []string
	}{
		{exitFailure, []string{"mine", "zoo predict mine IMAGE"}, []string{"predict", "mine"}},
		{exitFailure, []string{file, "zoo import"}, []string{"predict", file, file}},
		{exitFailure, []string{file, "zoo import"}, []string{"summary", file}},
		{exitFailure, []string{"ZOO_REGISTRY"}, []string{"pull", "https://example.org/mine"}},
		{exitFailure, []string{"oci://HOST/PATH/MODEL:TAG"}, []string{"pull", "registry.example.org:5000/models/mine:v1"}},
		{exitFailure, []string{"cuda", "use cpu"}, []string{"run", "mine", "--input", input, "--output", file, "--device", "cuda"}},
		{exitFailure, []string{"cuda", "use cpu"}, []string{"bench", "mine", "--train", "--device", "cuda"}},
		{exitFailure, []string{"cuda", "use cpu"}, []string{"finetune", "mine", "--data", data, "--out", "x", "--device", "cuda"}},
		{exitUsage, []string{"--treads", "did you mean --threads"}, []string{"list", "--treads", "2"}},
		{exitUsage, []string{"did you mean --output or --output-format?"}, []string{"run", "mine", "--out", "y.npy"}},
		{exitUsage, []string{"oci://localhost:5000/models", "./localhost:5000/models"}, []string{"push", "mine", "--to", "localhost:5000/models"}},
		{exitUsage, []string{"oci://example.org/zoo"}, []string{"mirror", "sync", "mine", "--to", "example.org/zoo"}},
		{exitUsage, []string{"zoo --help"}, []string{"frobnicate"}},
		{exitUsage, []string{"--cache-features=off"}, []string{"finetune", "mine", "--data", home, "--out", "x", "--cache-features", "off"}},
	} {
		refused(t, home, c.code, c.words, c.args...)
	}
}

func TestShellCompletesModelsAndWords(t *testing.T) {
	home := imported(t)
	for want, args := range map[string][]string{
		"mine\n":       {"predict", "mi"},
		"resnet18\n":   {"bench", "mine", "resnet1"},
		"adamw\n":      {"finetune", "mine", "--optimizer", ""},
		"required\n":   {"list", "--isolation", ""},
		"resnet20\n":   {"mirror", "sync", "resnet2"},
		":0\n":         {"predict", "mine", ""}, // files, by the shell
		"highest\n":    {"eval", "--precision", ""},
		"onnx\n":       {"export", "mine", "--format", ""},
		"mnasnet0_5\n": {"info", "mnas"},
		"mine:local\n": {"cache", "rm", "mi"},
		"resnet32\n":   {"import", "x.pth", "--as", "other", "--model", "resnet3"},
		"mine\n:":      {"mirror", "export", "models.tar", "mi"},
	} {
		if text := must(t, home, append([]string{"__complete"}, args...)...); !strings.Contains("\n"+text, "\n"+want) {
			t.Errorf("%v completes to %q, without %q", args, text, want)
		}
	}
	if text := must(t, home, "__complete", "cache", "rm", "mnas"); !strings.HasPrefix(text, ":") {
		t.Errorf("cache rm completes to what the store has not: %q", text)
	}
}

func TestWhatTheLockRefusesIsNotCalledDamaged(t *testing.T) {
	home := t.TempDir()
	must(t, home, "pull", "resnet20")
	file := filepath.Join(home, "zoo.lock")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	other := regexp.MustCompile(`sha256:[0-9a-f]{64}`).ReplaceAll(text, []byte("sha256:"+strings.Repeat("0", 64)))
	if err := os.WriteFile(file, other, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify"}, {"verify", "--repair"}} {
		o := zoo(t, home, nil, args...)
		if o.code != exitFailure || strings.Contains(o.stderr, "--repair") || strings.Contains(o.stderr, "forgotten") ||
			!strings.HasPrefix(o.stdout, "refused: resnet20:ZOO_CIFAR10: not what the lock pins") {
			t.Errorf("zoo %v: exit %d, %q, %q", args, o.code, o.stdout, o.stderr)
		}
	}
}

// Data sets are put together of links; zoo eval follows them.
func TestFoldersBehindLinksAreNotEmpty(t *testing.T) {
	home, data, links := imported(t), photos(t, 3), t.TempDir()
	for name, target := range map[string]string{"all": data, "dark": filepath.Join(data, "dark"), "loop": links} {
		if err := os.Symlink(target, filepath.Join(links, name)); err != nil {
			t.Skip(err)
		}
	}
	for folder, want := range map[string]int{filepath.Join(links, "all"): 6, filepath.Join(links, "dark"): 3, links: 6} { // dark is entered once
		var results []imageResult
		if err := json.Unmarshal([]byte(must(t, home, "predict", "mine", folder, "-o", "json")), &results); err != nil {
			t.Fatal(err)
		}
		if len(results) != want {
			t.Errorf("%d images in %s, want %d: %+v", len(results), folder, want, results)
		}
	}
}

func TestRepairDoesNotAskForRepair(t *testing.T) {
	home := imported(t)
	blobs, err := filepath.Glob(filepath.Join(home, "store", "blobs", "sha256", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		info, err := os.Stat(b)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() < 1<<20 { // the weights alone
			continue
		}
		if err := os.Chmod(b, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(b, make([]byte, info.Size()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if o := zoo(t, home, nil, "verify"); o.code != exitFailure || !strings.Contains(o.stderr, "1 problem found: `zoo verify --repair`") {
		t.Errorf("exit %d, %q", o.code, o.stderr)
	}
	if o := zoo(t, home, nil, "verify", "--repair"); o.code != exitFailure || strings.Contains(o.stderr, "--repair") || !strings.Contains(o.stderr, "again") {
		t.Errorf("with --repair: exit %d, %q", o.code, o.stderr)
	}
}
