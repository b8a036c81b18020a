package classifier_test

import (
	"context"
	"errors"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/vision"
)

// A service opens one model for features and classifies with it, too: the maps' values are no logits.
func TestClassifyingByFeatureMaps(t *testing.T) {
	c := open(t)
	images := pictures(t, 2)
	want, err := untrained(t, c, classifier.LoadOptions{}).Classify(t.Context(), images, 3)
	if err != nil {
		t.Fatal(err)
	}
	labelled := []classifier.Item{{Image: images[0], Label: want[0][0].Index}, {Image: images[1], Label: want[1][0].Index}}
	for _, o := range []classifier.LoadOptions{{Taps: true}, {Outputs: []string{"embedding"}}} {
		m := untrained(t, c, o)
		if p, err := m.Classify(t.Context(), images, 3); !errors.Is(err, classifier.ErrNoLogits) {
			t.Errorf("%+v: classes are %v, error is %v", o, p, err)
		}
		if e, err := m.Evaluate(t.Context(), slices.Values(labelled), classifier.EvalOptions{}); !errors.Is(err, classifier.ErrNoLogits) {
			t.Errorf("%+v: accuracy is %+v, error is %v", o, e, err)
		}
	}
	for _, o := range []classifier.LoadOptions{{Outputs: []string{"logits"}, Taps: true}, {Outputs: []string{"embedding", "logits"}}} {
		m := untrained(t, c, o)
		got, err := m.Classify(t.Context(), images, 3)
		if err != nil || !slices.Equal(got[0], want[0]) || !slices.Equal(got[1], want[1]) {
			t.Errorf("%+v: classes are %v, want %v, error is %v", o, got, want, err)
		}
		if e, err := m.Evaluate(t.Context(), slices.Values(labelled), classifier.EvalOptions{}); err != nil || e.N != 2 || e.Top1 != 100 {
			t.Errorf("%+v: accuracy is %+v, error is %v", o, e, err)
		}
	}
}

func TestLabelsThatAreNoClasses(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{})
	for _, label := range []int{-1, m.Card.Classes} {
		item := classifier.Item{Name: "photo", Image: pictures(t, 1)[0], Label: label}
		_, err := m.Evaluate(t.Context(), slices.Values([]classifier.Item{item}), classifier.EvalOptions{Confusion: true})
		if err == nil || !strings.Contains(err.Error(), "photo: label ") {
			t.Errorf("label %d: error is %v", label, err)
		}
	}
}

// One image under each of the 10 labels: one is the first, five are among the first five.
func TestTop1AndTop5AreOfTheirRanks(t *testing.T) {
	c := open(t)
	ck, err := c.Find(t.Context(), classifier.EmbeddedModel)
	if err != nil {
		t.Fatal(err)
	}
	m, err := c.Open(t.Context(), ck, classifier.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	img := pictures(t, 1)[0]
	var items []classifier.Item
	for label := range m.Card.Classes {
		items = append(items, classifier.Item{Image: img, Label: label})
	}
	best, err := m.Classify(t.Context(), []*vision.Image{img}, 1)
	if err != nil {
		t.Fatal(err)
	}
	e, err := m.Evaluate(t.Context(), slices.Values(items), classifier.EvalOptions{Confusion: true})
	if err != nil || e.N != 10 || e.Top1 != 10 || e.Top5 != 50 {
		t.Errorf("of %d images top-1 is %v, top-5 %v, want 10, 10 and 50; error is %v", e.N, e.Top1, e.Top5, err)
	}
	for label, row := range e.Confusion {
		if row[best[0][0].Index] != 1 {
			t.Errorf("label %d is taken for %v, want class %d", label, row, best[0][0].Index)
		}
	}
}

// An evaluation that skips bad images counted the one that ran when the caller gave up as bad, and succeeded.
func TestCancelledEvaluationIsNoResult(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{Batch: 1})
	img := pictures(t, 1)[0]
	ctx, cancel := context.WithCancel(t.Context())
	prepared := make(chan struct{})
	items := func(yield func(classifier.Item) bool) {
		for range 2 {
			if !yield(classifier.Item{Name: "photo", Image: img}) {
				return
			}
		}
		close(prepared)
	}
	e, err := m.Evaluate(ctx, items, classifier.EvalOptions{SkipBad: true, Progress: func(int) {
		<-prepared
		cancel()
	}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, error is %v", e, err)
	}
}

// Which of a context's two errors came depended on what ran when it ended.
func TestGivenUpForAReasonIsThatReason(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{Batch: 1})
	item := classifier.Item{Image: pictures(t, 1)[0]}
	reason := errors.New("whoever asked has hung up")
	for name, run := range map[string]func(context.Context, context.CancelCauseFunc) error{
		"while images are read": func(ctx context.Context, cancel context.CancelCauseFunc) error {
			return m.Stream(ctx, func(yield func(classifier.Item) bool) {
				cancel(reason)
				yield(item)
			}, func(classifier.Result) error { return nil })
		},
		"while the network runs": func(ctx context.Context, cancel context.CancelCauseFunc) error {
			cancel(reason)
			_, err := m.Forward(ctx, make([]float32, 3*32*32), 1, graph.Shape{C: 3, H: 32, W: 32})
			return err
		},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		if err := run(ctx, cancel); !errors.Is(err, reason) {
			t.Errorf("%s: %v", name, err)
		}
		cancel(nil)
	}
}

func TestSkippedImageIsNoProgress(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{})
	items := []classifier.Item{{Name: filepath.Join(t.TempDir(), "missing.jpg")}, {Image: pictures(t, 1)[0]}, {Name: "missing.jpg"}}
	var done []int
	e, err := m.Evaluate(t.Context(), slices.Values(items), classifier.EvalOptions{SkipBad: true, Progress: func(n int) { done = append(done, n) }})
	if err != nil || e.N != 1 || !slices.Equal(done, []int{1, 2, 3}) {
		t.Errorf("%+v, %v, progress %v", e, err, done)
	}
}

// A handler's panic is its server's to recover, and a test that fails in a callback ends its goroutine. On another goroutine the one ended the
// program, and the other hung.
func TestCallbackThatPanicsOrEndsItsGoroutine(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{Batch: 1})
	items := slices.Values(slices.Repeat([]classifier.Item{{Image: pictures(t, 1)[0]}}, 20))
	for what, end := range map[string]func(){"panic": func() { panic("mine") }, "end": runtime.Goexit} {
		recovered := make(chan any)
		go func() {
			defer func() { recovered <- recover() }()
			t.Errorf("%s: Stream returned %v", what, m.Stream(t.Context(), items, func(classifier.Result) error {
				end()
				return nil
			}))
		}()
		if r := <-recovered; what == "panic" && r != "mine" {
			t.Errorf("recovered %v", r)
		}
	}
	if _, err := m.Classify(t.Context(), pictures(t, 3), 1); err != nil {
		t.Error(err)
	}
}

// One vector of an image's outputs: made by append, it overwrote the first output of the next image.
func TestAppendingToAResult(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{Outputs: []string{"embedding", "logits"}})
	run := func(join bool) (out [][]float32) {
		var items []classifier.Item
		for _, img := range pictures(t, 3) {
			items = append(items, classifier.Item{Image: img})
		}
		if err := m.Stream(t.Context(), slices.Values(items), func(r classifier.Result) error {
			if join {
				out = append(out, append(r.Outputs[0], r.Outputs[1]...))
			} else {
				out = append(out, slices.Concat(r.Outputs...))
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return out
	}
	want, got := run(false), run(true)
	for i := range want {
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("image %d: other values", i)
		}
	}
}

// It was looked for in a file called "image 0".
func TestNilImageIsNoFile(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{})
	if _, err := m.Classify(t.Context(), []*vision.Image{nil}, 1); err == nil || !strings.Contains(err.Error(), "image 0: image has no pixels") {
		t.Errorf("error %v", err)
	}
}

// Every image that there is was taken for one batch.
func TestNegativeBatch(t *testing.T) {
	c := open(t)
	ck, err := c.Architecture(t.Context(), "resnet20")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(t.Context(), ck, classifier.LoadOptions{Batch: -1}); err == nil || !strings.Contains(err.Error(), "batch of -1") {
		t.Error(err)
	}
}

// A checkpoint that a program makes itself may leave the classes to the network.
func TestConfusionOfACardWithoutClasses(t *testing.T) {
	c := open(t)
	ck := &classifier.Checkpoint{Name: "mine", Card: card.Card{Family: "resnet", Model: "resnet20", Input: [3]int{3, 32, 32}}}
	m, err := c.Open(t.Context(), ck, classifier.LoadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	images := classifier.Item{Image: pictures(t, 1)[0], Label: 999}
	e, err := m.Evaluate(t.Context(), slices.Values([]classifier.Item{images}), classifier.EvalOptions{Confusion: true})
	if err != nil || len(e.Confusion) != 1000 {
		t.Errorf("%d rows, %v", len(e.Confusion), err)
	}
}

func TestZeroBenchOptions(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{})
	if r, err := m.Bench(t.Context(), classifier.BenchOptions{Batch: 1}); err != nil || r.MSPerImage <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
