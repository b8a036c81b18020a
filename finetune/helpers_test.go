package finetune

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/train"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/vision/transforms"
)

const side = 16

// tiny is a network with a residual block, batch norms, dropout and three layer groups.
func tiny(input graph.Shape, classes int) (*graph.Graph, error) {
	return tinyWith(input, classes, graph.ReLU)
}

// tinyOtherwise has the parameters of tiny and computes something else, as with an option of a family.
func tinyOtherwise(input graph.Shape, classes int) (*graph.Graph, error) {
	return tinyWith(input, classes, graph.Tanh)
}

func tinyWith(input graph.Shape, classes int, f graph.Function) (*graph.Graph, error) {
	b := graph.NewBuilder(input, classes)
	b.Group("stem", "conv1", "bn1")
	b.Group("layer1", "layer1")
	b.Group("fc", "fc")
	x := b.Activation(b.BatchNorm("bn1", b.Conv2d("conv1", b.Input(), graph.Conv{Out: 8, Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)})), f)
	l := b.Scope("layer1")
	y := l.ReLU(l.BatchNorm("bn1", l.Conv2d("conv1", x, graph.Conv{Out: 8, Kernel: graph.Square(3), Pad: graph.Square(1)})))
	x = b.Features(b.ReLU(b.Add(x, y)))
	x = b.Dropout(b.Flatten(b.GlobalAvgPool(x)), 0.1)
	b.Classifier("fc")
	return b.Finish(b.Linear("fc", x, graph.Fc{Out: classes}))
}

func tinyModel(pool *work.Pool) Model {
	return Model{
		Name: "tiny", Build: tiny, Input: graph.Shape{C: 3, H: side, W: side}, Pool: pool, Precision: engine.Highest,
		Preprocess: transforms.Preprocess{Crop: side, Mean: [3]float32{.5, .5, .5}, Std: [3]float32{.25, .25, .25}},
	}
}

var colours = []struct {
	name string
	c    [3]int
}{{"blue", [3]int{40, 60, 200}}, {"green", [3]int{50, 190, 60}}, {"red", [3]int{210, 50, 40}}}

// writeImages makes a folder a class of noisy plain pictures.
func writeImages(tb testing.TB, dir string, classes, perClass int, seed uint64) {
	tb.Helper()
	rng := rand.New(rand.NewPCG(seed, 1))
	for _, class := range colours[:classes] {
		folder := filepath.Join(dir, class.name)
		if err := os.MkdirAll(folder, 0o755); err != nil {
			tb.Fatal(err)
		}
		for i := range perClass {
			img := image.NewNRGBA(image.Rect(0, 0, side, side))
			for y := range side {
				for x := range side {
					v := func(c int) uint8 { return uint8(min(max(c+rng.IntN(121)-60, 0), 255)) }
					img.Set(x, y, color.NRGBA{v(class.c[0]), v(class.c[1]), v(class.c[2]), 255})
				}
			}
			f, err := os.Create(filepath.Join(folder, fmt.Sprintf("%03d.png", i)))
			if err != nil {
				tb.Fatal(err)
			}
			if err := png.Encode(f, img); err != nil {
				tb.Fatal(err)
			}
			if err := f.Close(); err != nil {
				tb.Fatal(err)
			}
		}
	}
}

func images(tb testing.TB) string {
	dir := tb.TempDir()
	writeImages(tb, dir, 3, 20, 7)
	return dir
}

// everything is a configuration in which all that has a state takes part.
func everything(data string) Config {
	c := Defaults()
	c.Data, c.Seed, c.Strategy, c.Epochs, c.BatchSize, c.Accumulate = data, 5, StrategyFine, 6, 5, 2
	c.Optimizer, c.LR = train.Algorithm{Name: "adamw", WeightDecay: 0.01}, 0.01
	c.LayerDecay, c.NoDecayNorms, c.EMA, c.LabelSmoothing, c.ClipNorm = 0.9, true, 0.9, 0.1, 5
	c.Schedule = Schedule{Name: SchedulePlateau, PlateauEpochs: 1, WarmupEpochs: 1}
	c.Augment = Augment{Policy: AugmentCustom, Crop: "pad", Flip: true, MixUp: 0.2, CutMix: 0.5, Erase: 0.2, Jitter: [4]float64{.2, .2, .2, .1}}
	c.Freeze, c.GradualUnfreeze = []string{"features"}, 2
	return c
}

func mustRun(tb testing.TB, c Config, dir string, sink func(Event)) *Result {
	tb.Helper()
	pool := work.New(2)
	defer pool.Close()
	r, err := Run(context.Background(), tinyModel(pool), c, dir, sink)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func readFile(tb testing.TB, path string) []byte {
	tb.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// childEnv holds a childJob: the test binary then runs it and exits.
const childEnv = "ZOO_FINETUNE_TEST_CHILD"

type childJob struct {
	Config Config
	Dir    string
	Limit  uint64 // of a file's size, from the first checkpoint on
}

func TestMain(m *testing.M) {
	if text := os.Getenv(childEnv); text != "" {
		if err := runChild(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// runChild resumes a run and prints an X for every event, so that the parent can choose its moment.
func runChild(text string) error {
	var job childJob
	if err := json.Unmarshal([]byte(text), &job); err != nil {
		return err
	}
	pool := work.New(2)
	defer pool.Close()
	_, err := Resume(context.Background(), tinyModel(pool), job.Config, job.Dir, func(e Event) {
		fmt.Print("X")
		if e.Kind == KindCheckpoint && job.Limit > 0 {
			if err := limitFileSize(job.Limit); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(3)
			}
		}
	})
	return err
}

func child(tb testing.TB, job childJob) *exec.Cmd {
	tb.Helper()
	text, err := json.Marshal(job)
	if err != nil {
		tb.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childEnv+"="+string(text))
	return cmd
}

func newTrainer(tb testing.TB, g *graph.Graph) *train.Trainer {
	tb.Helper()
	pool := work.New(1)
	tb.Cleanup(pool.Close)
	t, err := train.New(g, &initial{graph: g}, train.Options{Pool: pool, Precision: engine.Highest})
	if err != nil {
		tb.Fatal(err)
	}
	return t
}
