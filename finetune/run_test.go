package finetune

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/vision/dataset"
	"github.com/go-modelzoo/zoo/weights"
)

func TestColoursAreLearnt(t *testing.T) {
	c := Defaults()
	c.Data, c.LR, c.Epochs, c.Ordered = images(t), 0.05, 5, true
	dir := t.TempDir()
	var kinds []Kind
	r := mustRun(t, c, dir, func(e Event) { kinds = append(kinds, e.Kind) })
	if r.Metrics.Top1 < 0.9 || r.Metrics.Kappa == nil || len(r.History) != 5 {
		t.Errorf("top-1 %.2f, kappa %v after %d epochs", r.Metrics.Top1, r.Metrics.Kappa, len(r.History))
	}
	if r.Strategy != StrategyScratch || r.Trained != r.Params {
		t.Errorf("strategy %s trained %d of %d values; without pretrained weights everything must train", r.Strategy, r.Trained, r.Params)
	}
	if r.TrainImages != 48 || r.ValImages != 12 {
		t.Errorf("%d images for training and %d for validation, want 48 and 12", r.TrainImages, r.ValImages)
	}
	f, err := weights.Open(r.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	g, _ := tiny(graph.Shape{C: 3, H: side, W: side}, 3)
	if f.Len() != len(g.Params) {
		t.Errorf("the model has %d tensors, the network %d", f.Len(), len(g.Params))
	}
	if n := bytes.Count(readFile(t, filepath.Join(dir, FileMetrics)), []byte("\n")); n != 5 {
		t.Errorf("metrics.jsonl has %d lines", n)
	}
	page := string(readFile(t, r.Report))
	for _, want := range []string{"<svg", "polyline", "Confusion matrix", "blue"} {
		if !strings.Contains(page, want) {
			t.Errorf("the report lacks %q", want)
		}
	}
	for _, outside := range []string{"http://", "https://", "src=\"/", "<script src", "<link"} {
		if strings.Contains(page, outside) {
			t.Errorf("the report refers to something outside: %q", outside)
		}
	}
}

func TestSameSeedGivesTheSameBits(t *testing.T) {
	c := everything(images(t))
	var models [3][]byte
	for i := range models {
		if i == 2 {
			c.Seed++
		}
		models[i] = readFile(t, mustRun(t, c, t.TempDir(), nil).Path)
	}
	if !bytes.Equal(models[0], models[1]) {
		t.Error("two runs with one seed differ")
	}
	if bytes.Equal(models[0], models[2]) {
		t.Error("two runs with different seeds do not differ")
	}
}

func TestInterruptedAnywhereEndsWithTheSameWeights(t *testing.T) {
	c := everything(images(t))
	c.CheckpointSeconds = 1e-9 // after every step
	want := readFile(t, mustRun(t, c, t.TempDir(), nil).Path)
	dir := t.TempDir()
	pool := work.New(2)
	defer pool.Close()
	rng := rand.New(rand.NewPCG(1, 2))
	for parts := 1; ; parts++ {
		ctx, cancel := context.WithCancel(context.Background())
		left := 2 + rng.IntN(9)
		_, err := Resume(ctx, tinyModel(pool), c, dir, func(Event) {
			if left--; left == 0 {
				cancel()
			}
		})
		cancel()
		if err == nil {
			t.Logf("the run had %d parts", parts)
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if parts > 100 {
			t.Fatal("the run does not advance")
		}
	}
	if !bytes.Equal(want, readFile(t, filepath.Join(dir, FileModel))) {
		t.Error("the weights differ from those of an uninterrupted run")
	}
	if n := bytes.Count(readFile(t, filepath.Join(dir, FileMetrics)), []byte("\n")); n != c.Epochs {
		t.Errorf("metrics.jsonl has %d lines for %d epochs", n, c.Epochs)
	}
}

func TestKilledAndResumedEndsWithTheSameWeights(t *testing.T) {
	kills := 3
	if os.Getenv("ZOO_SOAK") != "" {
		kills = 20
	}
	c := everything(images(t))
	c.CheckpointSeconds = 1e-9
	want := readFile(t, mustRun(t, c, t.TempDir(), nil).Path)
	for i := range kills {
		dir := t.TempDir()
		rng := rand.New(rand.NewPCG(3, uint64(i)))
		killed := 0
		for {
			cmd := child(t, childJob{Config: c, Dir: dir})
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			// A few events, then a moment within what follows.
			n := 1 + rng.IntN(60)
			if killed >= 3 {
				n = 1 << 20 // let it end
			}
			buf := make([]byte, 1)
			for n > 0 {
				if _, err := out.Read(buf); err != nil {
					break
				}
				n--
			}
			if n == 0 {
				time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
				if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
					t.Fatal(err)
				}
				killed++
			}
			if err := cmd.Wait(); err == nil {
				break
			} else if n > 0 {
				t.Fatalf("%v: %s", err, stderr.String())
			}
		}
		if !bytes.Equal(want, readFile(t, filepath.Join(dir, FileModel))) {
			t.Errorf("run %d, killed %d times, ends with other weights", i, killed)
		}
	}
}

func TestFullDiskLosesNothing(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the size of files cannot be limited here")
	}
	c := everything(images(t))
	want := readFile(t, mustRun(t, c, t.TempDir(), nil).Path)
	dir := t.TempDir()
	out, err := child(t, childJob{Config: c, Dir: dir, Limit: 3000}).CombinedOutput()
	if err == nil {
		t.Fatal("the run ended well although it could write no checkpoint")
	}
	message := strings.TrimLeft(string(out), "X")
	if !strings.Contains(message, "nothing written before is lost") || strings.Count(strings.TrimSpace(message), "\n") > 0 {
		t.Errorf("the message is %q", message)
	}
	entries, err := filepath.Glob(filepath.Join(dir, ".*.*"))
	if err != nil || len(entries) > 0 {
		t.Errorf("left behind: %v %v", entries, err)
	}
	if out, err := child(t, childJob{Config: c, Dir: dir}).CombinedOutput(); err != nil {
		t.Fatalf("the run cannot be continued: %v: %s", err, out)
	}
	if !bytes.Equal(want, readFile(t, filepath.Join(dir, FileModel))) {
		t.Error("the weights differ from those of a run with a disk that is not full")
	}
}

func TestDivergedLossStopsWithAdvice(t *testing.T) {
	c := Defaults()
	c.Data, c.LR, c.Epochs = images(t), 1e30, 3
	pool := work.New(1)
	defer pool.Close()
	for every, kept := range map[float64]bool{0: false, 1e-9: true} {
		c.CheckpointSeconds = every
		_, err := Run(context.Background(), tinyModel(pool), c, t.TempDir(), nil)
		var diverged *DivergedError
		if !errors.As(err, &diverged) || diverged.Step < 2 || diverged.Parameter == "" || !strings.Contains(err.Error(), "lower the learning rate") {
			t.Errorf("error %v", err)
		}
		if err != nil && strings.Contains(err.Error(), "checkpoint is kept") != kept {
			t.Errorf("a checkpoint each %g seconds: %v", every, err)
		}
	}
}

func TestRunIsNotBegunOverAnother(t *testing.T) {
	c := Defaults()
	c.Data, c.Epochs = images(t), 1
	dir := t.TempDir()
	mustRun(t, c, dir, nil)
	pool := work.New(1)
	defer pool.Close()
	if _, err := Run(context.Background(), tinyModel(pool), c, dir, nil); !errors.Is(err, ErrRunExists) {
		t.Errorf("error %v", err)
	}
	c.LR *= 2
	if _, err := Resume(context.Background(), tinyModel(pool), c, dir, nil); err == nil || !strings.Contains(err.Error(), "lr") {
		t.Errorf("resumed with another learning rate: %v", err)
	}
	c.LR /= 2
	var notes []string
	r, err := Resume(context.Background(), tinyModel(pool), c, dir, func(e Event) {
		if e.Kind == KindNote {
			notes = append(notes, e.Text)
		}
	})
	if err != nil || r.Metrics == nil || r.Metrics.Confusion == nil {
		t.Errorf("a finished run is not shown again: %v", err)
	}
	if text := strings.Join(notes, "; "); !strings.Contains(text, "the training is over") || strings.Contains(text, "continuing in epoch") {
		t.Errorf("of a finished run it says %q", text)
	}
}

func TestResumedInAFolderOfSomethingElse(t *testing.T) {
	c := Defaults()
	c.Data, c.Epochs = images(t), 1
	dir := t.TempDir()
	path, text := filepath.Join(dir, FileConfig), []byte(`{"hidden_sizes": [64, 128]}`) // as of another program's model
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	pool := work.New(1)
	defer pool.Close()
	for name, begin := range map[string]func(context.Context, Model, Config, string, func(Event)) (*Result, error){"begun": Run, "resumed": Resume} {
		if _, err := begin(context.Background(), tinyModel(pool), c, dir, nil); err == nil || !strings.Contains(err.Error(), "would be replaced") {
			t.Errorf("%s: error %v", name, err)
		}
		if !bytes.Equal(readFile(t, path), text) {
			t.Errorf("%s: the file was replaced", name)
		}
	}
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, FileModel), text, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(context.Background(), tinyModel(pool), c, dir, nil); err == nil || !strings.Contains(err.Error(), "no checkpoint to continue from") {
		t.Errorf("beside a result without a checkpoint: error %v", err)
	}
}

func TestMistakesAreOneLine(t *testing.T) {
	data := images(t)
	empty, single, few := t.TempDir(), t.TempDir(), t.TempDir()
	writeImages(t, single, 1, 4, 1)
	writeImages(t, few, 3, 1, 1)
	bad := images(t)
	if err := os.WriteFile(filepath.Join(bad, "red", "003.png"), []byte("\x89PNG\r\n\x1a\nno more"), 0o644); err != nil {
		t.Fatal(err)
	}
	labels := filepath.Join(data, "labels.csv")
	if err := os.WriteFile(labels, []byte("red/000.png,red\nblue/000.png\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	many := filepath.Join(data, "many.csv")
	if err := os.WriteFile(many, []byte("path,label\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   []string
	}{
		{"empty folder", func(c *Config) { c.Data = empty }, []string{empty, "no folder in it"}},
		{"no such folder", func(c *Config) { c.Data = filepath.Join(empty, "x") }, []string{filepath.Join(empty, "x") + ":"}},
		{"one class", func(c *Config) { c.Data = single }, []string{"one class only (blue)"}},
		{"unreadable image", func(c *Config) { c.Data = bad }, []string{"003.png", "--skip-bad"}},
		{"label missing", func(c *Config) { c.Data = labels }, []string{"line 2", "blue/000.png", "no label"}},
		{"nothing in the table", func(c *Config) { c.Data = many }, []string{"no line"}},
		{"one image a class", func(c *Config) { c.Data = few }, []string{"no class has two images"}},
		{"freeze nothing", func(c *Config) { c.Freeze = []string{"layr1"} }, []string{`"layr1" matches nothing`, "did you mean layer1"}},
		{"freeze all", func(c *Config) { c.Freeze = []string{"*"} }, []string{"leaves nothing to train"}},
		{"learning rate 0", func(c *Config) { c.LR = 0 }, []string{"learning rate 0 is not above 0"}},
		{"learning rate below 0", func(c *Config) { c.LR = -1 }, []string{"learning rate -1"}},
		{"learning rate no number", func(c *Config) { c.LR = math.NaN() }, []string{"learning rate NaN"}},
		{"optimiser", func(c *Config) { c.Optimizer.Name = "sdg" }, []string{`optimizer "sdg"`, "sgd"}},
		{"schedule", func(c *Config) { c.Schedule.Name = "cosin" }, []string{`schedule "cosin"`, "cosine"}},
		{"warm-up without end", func(c *Config) { c.Schedule.WarmupEpochs = math.Inf(1) }, []string{"+Inf epochs of warm-up"}},
		{"lowest rate above the rate", func(c *Config) { c.Schedule.MinLR = 0.01 }, []string{"lowest learning rate 0.01 is above the learning rate 0.001"}},
		{"batch", func(c *Config) { c.BatchSize = 0 }, []string{"batch size: 0"}},
		{"metric", func(c *Config) { c.Metric = MetricAUC }, []string{"auc is for two classes, the data has 3"}},
		{"cache with a moving trunk", func(c *Config) { c.CacheFeatures = On }, []string{"features cannot be cached"}},
		{"views without a cache", func(c *Config) { c.Views = 2 }, []string{"no cached features to keep 2 views"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Defaults()
			config.Data = data
			c.change(&config)
			pool := work.New(1)
			defer pool.Close()
			_, err := Run(context.Background(), tinyModel(pool), config, t.TempDir(), nil)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range c.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q lacks %q", err, w)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

// Two objects in one file, and the second was dropped without a word.
func TestConfigurationWithAnotherBehindItRefused(t *testing.T) {
	for _, text := range []string{`{"epochs": 3} {"epochs": 4}`, `{"epochs": 3} }`} {
		var c Config
		if err := ParseConfig([]byte(text), &c); err == nil || !strings.Contains(err.Error(), "behind the object") {
			t.Errorf("%s: %v", text, err)
		}
	}
	var c Config
	if err := ParseConfig([]byte("{\"epochs\": 3}\n"), &c); err != nil || c.Epochs != 3 {
		t.Error(c.Epochs, err)
	}
}

func TestValidationClassUnknownToTrainingRefused(t *testing.T) {
	dir := t.TempDir()
	writeImages(t, dir, 2, 3, 1)
	c := Defaults()
	c.Data, c.Val = dir, filepath.Join(t.TempDir(), "val")
	writeImages(t, c.Val, 3, 2, 1)
	pool := work.New(1)
	defer pool.Close()
	_, err := Run(context.Background(), tinyModel(pool), c, t.TempDir(), nil)
	if err == nil || !strings.Contains(err.Error(), `class "red"`) {
		t.Errorf("validation images of an unknown class: %v", err)
	}
}

func TestPreprocessingOfAnotherSizeRefused(t *testing.T) {
	c := Defaults()
	c.Data = images(t)
	m := tinyModel(nil)
	m.Preprocess.Crop = 0
	if _, err := Run(context.Background(), m, c, t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "700×500") {
		t.Errorf("error %v", err)
	}
}

func TestUnreadableImagesSkippedAndNamed(t *testing.T) {
	data := images(t)
	bad := filepath.Join(data, "red", "003.png")
	if err := os.WriteFile(bad, []byte("no image"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, cached := range []bool{false, true} {
		c := Defaults()
		c.Data, c.SkipBad, c.Epochs = data, true, 2
		if cached {
			c.Freeze, c.CacheFeatures = []string{"features"}, On
		}
		dir := t.TempDir()
		r := mustRun(t, c, dir, nil)
		if len(r.Skipped) != 1 || !strings.Contains(r.Skipped[0], bad) {
			t.Errorf("cached %v: skipped %v", cached, r.Skipped)
		}
		pool := work.New(1)
		again, err := Resume(context.Background(), tinyModel(pool), c, dir, nil) // nothing is left that reads the images
		pool.Close()
		if err != nil || !slices.Equal(again.Skipped, r.Skipped) {
			t.Errorf("cached %v: resumed, it skipped %v, error %v", cached, again.Skipped, err)
		}
	}
}

// TestImagesGoneBeforeTheReport has the images, which the run keeps in memory, moved away while it trains: it ended without a result, after
// hours, with the advice to make room on the disk.
func TestImagesGoneBeforeTheReport(t *testing.T) {
	data, dir := images(t), t.TempDir()
	c := Defaults()
	c.Data, c.Epochs, c.LR = data, 1, 1e-9
	r := mustRun(t, c, dir, func(e Event) {
		if e.Kind == KindEpoch {
			if err := os.RemoveAll(data); err != nil {
				t.Error(err)
			}
		}
	})
	if r.Metrics.Top1 == 1 {
		t.Fatal("no mistake to show")
	}
	if page := string(readFile(t, filepath.Join(dir, FileReport))); !strings.Contains(page, "<figure>") || strings.Contains(page, "<img") {
		t.Error("the report does not name the mistakes without their pictures")
	}
}

// TestPictureOfAStripInTheReport has an image so narrow that its picture would have had 500 million pixels: the run ended in an error.
func TestPictureOfAStripInTheReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "strip.png")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := png.Encode(f, image.NewGray(image.Rect(0, 0, 40000, 1))); err != nil {
		t.Fatal(err)
	}
	if uri, err := thumbnail(path); err != nil || len(uri) > 100<<10 {
		t.Errorf("%d characters, error %v", len(uri), err)
	}
}

func TestTrainAndValFolders(t *testing.T) {
	dir := t.TempDir()
	writeImages(t, filepath.Join(dir, "train"), 2, 6, 1)
	writeImages(t, filepath.Join(dir, "val"), 2, 4, 2)
	c := Defaults()
	c.Data, c.Epochs, c.Metric, c.LR = dir, 3, MetricAUC, 0.05
	r := mustRun(t, c, t.TempDir(), nil)
	if r.TrainImages != 12 || r.ValImages != 8 || r.Metrics.AUC == nil {
		t.Errorf("%d and %d images, AUC %v", r.TrainImages, r.ValImages, r.Metrics.AUC)
	}
}

func TestFrozenParametersStay(t *testing.T) {
	// The base model: random weights in a file.
	g, err := tiny(graph.Shape{C: 3, H: side, W: side}, 7)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(t.TempDir(), "base.safetensors")
	writeModel(t, g, base)
	data := images(t)
	for _, c := range []struct {
		name, strategy string
		freeze         []string
		stays, moves   string
	}{
		{"features", "", []string{"features"}, "layer1.conv1.weight", "fc.weight"},
		{"group", "", []string{"stem"}, "bn1.running_mean", "layer1.conv1.weight"},
		{"until", "", []string{"until:layer1"}, "conv1.weight", "layer1.conv1.weight"},
		{"glob", "", []string{"*.conv1.*"}, "layer1.conv1.weight", "conv1.weight"},
		{"feature-extract", "feature-extract", nil, "layer1.conv1.weight", "fc.weight"},
		{"head", "head", nil, "conv1.weight", "layer1.conv1.weight"},
		{"finetune", "finetune", nil, "", "conv1.weight"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := Defaults()
			config.Data, config.Epochs, config.Freeze, config.Augment.Policy, config.EMA = data, 1, c.freeze, AugmentNone, 0.9
			config.Optimizer = train.Algorithm{Name: "sgd"}
			if c.strategy != "" {
				config.Strategy = Strategy(c.strategy)
			}
			pool := work.New(1)
			defer pool.Close()
			m := tinyModel(pool)
			m.Weights = base
			r, err := Run(context.Background(), m, config, t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if same, known := sameTensor(t, base, r.Path, c.stays); known && !same {
				t.Errorf("%s was frozen and has changed", c.stays)
			}
			if same, known := sameTensor(t, base, r.Path, c.moves); known && same {
				t.Errorf("%s was to train and has not", c.moves)
			}
		})
	}
}

func writeModel(t *testing.T, g *graph.Graph, path string) {
	t.Helper()
	list, err := tensors(g, &initial{graph: g, seed: 9})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(weights.WriteSafetensors(f, list, nil), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// sameTensor compares a tensor of two files; known is false if either lacks it or its shape differs.
func sameTensor(t *testing.T, a, b, name string) (same, known bool) {
	t.Helper()
	var values [2][]float32
	for i, path := range []string{a, b} {
		f, err := weights.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if v, err := f.Param(name); err == nil {
			values[i] = append([]float32{}, v...)
		}
	}
	if values[0] == nil || len(values[0]) != len(values[1]) {
		return false, false
	}
	for i := range values[0] {
		if values[0][i] != values[1][i] {
			return false, true
		}
	}
	return true, true
}

func TestCachedFeaturesGiveTheSameModelAndAreReused(t *testing.T) {
	c := Defaults()
	c.Data, c.Epochs, c.LR, c.Freeze, c.Augment.Policy, c.CacheDir = images(t), 3, 0.05, []string{"features"}, AugmentNone, t.TempDir()
	computed := func(r *int) func(Event) {
		return func(e Event) {
			if e.Kind == KindFeatures {
				*r++
			}
		}
	}
	pool := work.New(2)
	defer pool.Close()
	m := tinyModel(pool)
	m.Digest = "of random weights"
	run := func(c Config) (*Result, int) {
		n := 0
		r, err := Run(context.Background(), m, c, t.TempDir(), computed(&n))
		if err != nil {
			t.Fatal(err)
		}
		return r, n
	}
	first, n := run(c)
	if n == 0 {
		t.Error("no features were computed")
	}
	again, n := run(c)
	if n != 0 {
		t.Error("features were computed again")
	}
	if !bytes.Equal(readFile(t, first.Path), readFile(t, again.Path)) {
		t.Error("the second run differs")
	}
	c.CacheFeatures = Off
	plain, _ := run(c)
	for i := range plain.History {
		if d := math.Abs(plain.History[i].Loss - first.History[i].Loss); d > 1e-4 {
			t.Errorf("epoch %d: loss %.6f with cached features, %.6f without", i+1, first.History[i].Loss, plain.History[i].Loss)
		}
	}
	c.CacheFeatures, c.Augment.Policy, c.Views = On, AugmentAuto, 3
	if _, n := run(c); n == 0 {
		t.Error("no views were computed")
	}
}

func TestInterruptedFeaturesGoOnBehindTheLastWholeFile(t *testing.T) {
	c := Defaults()
	c.Data, c.Val, c.Epochs, c.Freeze, c.CacheFeatures, c.Views, c.SkipBad = t.TempDir(), t.TempDir(), 1, []string{"features"}, On, 2, true
	const perClass = (shardRows/2 + 50) / 2 // the second view begins in the first file, and no batch with the second file
	writeImages(t, c.Data, 2, perClass, 3)
	writeImages(t, c.Val, 2, 4, 4)
	for _, bad := range []string{"blue/004.png", "green/270.png"} {
		if err := os.WriteFile(filepath.Join(c.Data, bad), []byte("no image"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pool := work.New(2)
	defer pool.Close()
	m := tinyModel(pool)
	m.Digest = "of random weights"
	compute := func(dir string, stopAt int) (first int, err error) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		c.CacheDir, first = dir, -1
		_, err = Run(ctx, m, c, t.TempDir(), func(e Event) {
			if e.Kind == KindFeatures && first < 0 {
				first = e.Done
			}
			if e.Kind == KindFeatures && e.Done >= stopAt {
				cancel()
			}
		})
		return first, err
	}
	whole, parts := t.TempDir(), t.TempDir()
	if first, err := compute(whole, math.MaxInt); err != nil || first > evalBatch {
		t.Fatal(first, err)
	}
	if _, err := compute(parts, shardRows+1); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if first, err := compute(parts, math.MaxInt); err != nil || first <= shardRows {
		t.Errorf("begins with %d images again: %v", first, err)
	}
	files, err := filepath.Glob(filepath.Join(whole, "*", "*"))
	if err != nil || len(files) != 2+1+1+1 { // of training and validation
		t.Fatal(files, err)
	}
	for _, f := range files {
		name, err := filepath.Rel(whole, f)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(readFile(t, f), readFile(t, filepath.Join(parts, name))) {
			t.Errorf("%s differs after an interruption", name)
		}
	}
}

func TestSameWeightsInAnotherNetworkHaveOtherFeatures(t *testing.T) {
	c := Defaults()
	c.Data, c.Epochs, c.Freeze, c.CacheFeatures, c.CacheDir = images(t), 1, []string{"features"}, On, t.TempDir()
	pool := work.New(2)
	defer pool.Close()
	m := tinyModel(pool)
	m.Digest = "of random weights"
	first, err := Run(context.Background(), m, c, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	m.Build = tinyOtherwise
	other, err := Run(context.Background(), m, c, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if other.Metrics.Loss == first.Metrics.Loss {
		t.Error("the features of another network were used")
	}
}

func TestChangedImageInvalidatesFeatures(t *testing.T) {
	c := Defaults()
	c.Data, c.Epochs, c.Freeze, c.CacheFeatures, c.CacheDir = images(t), 1, []string{"features"}, On, t.TempDir()
	pool := work.New(1)
	defer pool.Close()
	m := tinyModel(pool)
	m.Digest = "of random weights"
	for i := range 2 {
		n := 0
		if _, err := Run(context.Background(), m, c, t.TempDir(), func(e Event) {
			if e.Kind == KindFeatures {
				n++
			}
		}); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			t.Errorf("run %d used features of another image", i)
		}
		for _, class := range colours { // the split decides which part an image is in: change both
			for _, name := range []string{"000.png", "001.png", "002.png", "003.png", "004.png", "005.png"} {
				f, err := os.Create(filepath.Join(c.Data, class.name, name))
				if err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(png.Encode(f, image.NewGray(image.Rect(0, 0, side, side))), f.Close()); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestEarlyStoppingStops(t *testing.T) {
	c := Defaults()
	c.Data, c.Epochs, c.Patience, c.LR = images(t), 50, 2, 1e-9
	if r := mustRun(t, c, t.TempDir(), nil); len(r.History) > 10 {
		t.Errorf("%d epochs without progress", len(r.History))
	}
}

func TestStrategyAutoExplains(t *testing.T) {
	g, err := tiny(graph.Shape{C: 3, H: side, W: side}, 7)
	if err != nil {
		t.Fatal(err)
	}
	base := filepath.Join(t.TempDir(), "base.safetensors")
	writeModel(t, g, base)
	c := Defaults()
	c.Data, c.Epochs, c.AutoLR = images(t), 1, true
	pool := work.New(1)
	defer pool.Close()
	m := tinyModel(pool)
	m.Weights = base
	r, err := Run(context.Background(), m, c, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	// Colours are told apart even by random features.
	if r.Strategy != StrategyExtract || !strings.Contains(r.Why, "small") || !strings.Contains(r.Why, "similar") {
		t.Errorf("strategy %s: %s", r.Strategy, r.Why)
	}
}

func TestAreaUnderTheCurveOfOneClass(t *testing.T) {
	dir := t.TempDir()
	writeImages(t, filepath.Join(dir, "train"), 2, 6, 1)
	writeImages(t, filepath.Join(dir, "val"), 1, 4, 2)
	c := Defaults()
	c.Data, c.Val, c.Metric = filepath.Join(dir, "train"), filepath.Join(dir, "val"), MetricAUC
	pool := work.New(1)
	defer pool.Close()
	if _, err := Run(context.Background(), tinyModel(pool), c, t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "there is none of green") {
		t.Errorf("error %v", err) // else accuracy would decide
	}
}

func TestLowestRateAboveThatOfTheStrategy(t *testing.T) {
	c := Defaults()
	c.Data, c.Strategy, c.AutoLR, c.Schedule = images(t), StrategyFine, true, Schedule{Name: ScheduleCosine, MinLR: 0.01}
	pool := work.New(1)
	defer pool.Close()
	if _, err := Run(context.Background(), tinyModel(pool), c, t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "above the learning rate 0.001 of strategy finetune") {
		t.Errorf("error %v", err)
	}
}

func TestPlateauWithinTheWarmup(t *testing.T) {
	c := Defaults()
	c.Data, c.Strategy, c.Epochs, c.LR, c.Augment.Policy = images(t), StrategyFine, 5, 1e-9, AugmentNone // nothing is learnt
	c.Schedule = Schedule{Name: SchedulePlateau, PlateauEpochs: 1, WarmupEpochs: 4, MinLR: 1e-9}
	for _, e := range mustRun(t, c, t.TempDir(), nil).History[:4] {
		near(t, fmt.Sprintf("last rate of epoch %d", e.Epoch), e.LR, 1e-9*(0.01+0.99*float64(e.Step-1)/24), 1e-15)
	}
}

// countdown is a context that ends when it was asked often enough: thus at any point between two operators.
type countdown struct {
	context.Context
	left atomic.Int64
}

func (c *countdown) Err() error {
	if c.left.Add(-1) < 0 {
		return context.Canceled
	}
	return nil
}

func TestInterruptedWithinABatchEndsWithTheSameWeights(t *testing.T) {
	c := everything(images(t))
	c.Accumulate, c.Freeze, c.GradualUnfreeze, c.CheckpointSeconds = 1, nil, 0, 0
	want := readFile(t, mustRun(t, c, t.TempDir(), nil).Path)
	dir := t.TempDir()
	pool := work.New(2)
	defer pool.Close()
	rng := rand.New(rand.NewPCG(4, 2))
	for parts := 1; ; parts++ {
		ctx := &countdown{Context: context.Background()}
		ctx.left.Store(int64(20 + rng.IntN(200)))
		_, err := Resume(ctx, tinyModel(pool), c, dir, nil)
		if err == nil {
			t.Logf("the run had %d parts", parts)
			break
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if parts > 200 {
			t.Fatal("the run does not advance")
		}
	}
	if !bytes.Equal(want, readFile(t, filepath.Join(dir, FileModel))) {
		t.Error("the weights differ from those of an uninterrupted run")
	}
}

// TestBatchesThatCannotBeReadKeepThePosition has images whose batch is they alone.
func TestBatchesThatCannotBeReadKeepThePosition(t *testing.T) {
	data := images(t)
	for i := range 5 {
		if err := os.WriteFile(filepath.Join(data, "red", fmt.Sprintf("%03d.png", i)), []byte("no picture"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	pool := work.New(2)
	defer pool.Close()
	for _, accumulate := range []int{1, 4} {
		c := everything(data)
		c.BatchSize, c.Accumulate, c.SkipBad, c.CheckpointSeconds, c.Epochs = 1, accumulate, true, 1e-9, 2
		c.GradualUnfreeze = 1
		whole := mustRun(t, c, t.TempDir(), nil)
		dir := t.TempDir()
		var r *Result
		for parts := 1; ; parts++ {
			ctx, cancel := context.WithCancel(context.Background())
			left := 7
			var err error
			r, err = Resume(ctx, tinyModel(pool), c, dir, func(Event) {
				if left--; left == 0 {
					cancel()
				}
			})
			cancel()
			if err == nil {
				break
			}
			if !errors.Is(err, context.Canceled) || parts > 100 {
				t.Fatal(err)
			}
		}
		for i, e := range r.History {
			if of := whole.History[i]; e.Images != of.Images || e.Step != of.Step {
				t.Errorf("accumulating %d: epoch %d had %d images until step %d, uninterrupted %d until %d", accumulate, e.Epoch, e.Images, e.Step, of.Images, of.Step)
			}
		}
		if !bytes.Equal(readFile(t, whole.Path), readFile(t, r.Path)) {
			t.Errorf("accumulating %d: the weights differ from those of an uninterrupted run", accumulate)
		}
	}
}

// TestLossThatIsNoNumberAfterAnEpoch has one step an epoch: the validation is the first to see what became of the weights.
func TestLossThatIsNoNumberAfterAnEpoch(t *testing.T) {
	c := Defaults()
	c.Data, c.LR, c.Epochs, c.BatchSize, c.Strategy = images(t), 1e30, 3, 64, StrategyFine
	pool := work.New(1)
	defer pool.Close()
	dir := t.TempDir()
	_, err := Run(context.Background(), tinyModel(pool), c, dir, nil)
	var diverged *DivergedError
	if !errors.As(err, &diverged) || diverged.Step != 1 || diverged.LR != c.LR {
		t.Errorf("error %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, FileBest)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("weights that are no numbers are kept as the best: %v", err)
	}
}

func TestContinuedWithAnotherModelRefused(t *testing.T) {
	c := everything(images(t))
	dir := t.TempDir()
	pool := work.New(1)
	defer pool.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := Run(ctx, tinyModel(pool), c, dir, func(e Event) {
		if e.Kind == KindEpoch {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	for name, change := range map[string]func(m *Model){
		"weights": func(m *Model) { m.Digest = "other" },
		"network": func(m *Model) {
			m.Build = tinyOtherwise
		},
		"size": func(m *Model) { m.Input.H, m.Input.W, m.Preprocess.Crop = 2*side, 2*side, 2*side },
	} {
		m := tinyModel(pool)
		change(&m)
		if _, err := Resume(context.Background(), m, c, dir, nil); err == nil || !strings.Contains(err.Error(), "another model") {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if err := os.Rename(filepath.Join(c.Data, "blue"), filepath.Join(c.Data, "violet")); err != nil {
		t.Fatal(err)
	}
	if _, err := Resume(context.Background(), tinyModel(pool), c, dir, nil); err == nil || !strings.Contains(err.Error(), "other classes") {
		t.Errorf("with a class of another name: error %v", err)
	}
}

// TestInterruptedBehindTheLastStepOfAnEpoch has a last step of fewer batches than the others.
func TestInterruptedBehindTheLastStepOfAnEpoch(t *testing.T) {
	g, err := tiny(graph.Shape{C: 3, H: side, W: side}, 3)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for batch, saved := range map[int]bool{1: false, 2: true, 3: true} {
		r := &run{dir: t.TempDir(), config: Config{Accumulate: 2}, sink: func(Event) {}, plan: &freezePlan{}, trainer: newTrainer(t, g), state: state{Batch: batch}}
		r.trainData = &features{data: &dataset.Dataset{Samples: make([]dataset.Sample, 15)}, size: 5}
		if err := r.openLogs(); err != nil {
			t.Fatal(err)
		}
		defer r.close()
		if err := r.interrupted(ctx, ctx.Err()); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(r.dir, FileLast)); (err == nil) != saved {
			t.Errorf("after batch %d of 3, 2 a step: %v, want a checkpoint: %v", batch, err, saved)
		}
	}
}

// TestEpochInterruptedInItsValidation has nothing of its training left when it goes on.
func TestEpochInterruptedInItsValidation(t *testing.T) {
	c := everything(images(t))
	c.Freeze, c.GradualUnfreeze, c.Epochs, c.CheckpointSeconds = nil, 0, 2, 1e-9
	c.Schedule = Schedule{Name: ScheduleCosine}
	whole := mustRun(t, c, t.TempDir(), nil)
	steps := whole.History[0].Step
	dir := t.TempDir()
	pool := work.New(2)
	defer pool.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := time.Now()
	if _, err := Run(ctx, tinyModel(pool), c, dir, func(e Event) {
		if e.Kind == KindCheckpoint && e.Step == steps {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	r, err := Resume(context.Background(), tinyModel(pool), c, dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := r.History[0]
	if e.LR != whole.History[0].LR {
		t.Errorf("the epoch's last learning rate is %g, uninterrupted %g", e.LR, whole.History[0].LR)
	}
	if limit := time.Since(began).Seconds(); e.Seconds <= 0 || e.Seconds > limit || e.ImagesPerSecond != float64(e.Images)/e.Seconds || r.ImagesPerSecond < e.ImagesPerSecond/100 {
		t.Errorf("%d images in %g s, %g a second, %g in all; the test took %g s", e.Images, e.Seconds, e.ImagesPerSecond, r.ImagesPerSecond, limit)
	}
}
