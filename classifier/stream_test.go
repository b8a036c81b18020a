package classifier_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/classifier"
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

func TestZeroBenchOptions(t *testing.T) {
	m := untrained(t, open(t), classifier.LoadOptions{})
	if r, err := m.Bench(t.Context(), classifier.BenchOptions{Batch: 1}); err != nil || r.MSPerImage <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
