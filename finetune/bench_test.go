package finetune

import (
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/engine/work"
)

func TestMeasureCountsWhatTrains(t *testing.T) {
	pool := work.New(1)
	defer pool.Close()
	m := tinyModel(pool)
	all, err := Measure(t.Context(), m, Bench{Batch: 2, Classes: 3, Warmup: 1, Runs: 2}, 1)
	if err != nil {
		t.Fatal(err)
	}
	frozen, err := Measure(t.Context(), m, Bench{Batch: 2, Classes: 3, Freeze: []string{"features"}, Runs: 1}, 1)
	if err != nil {
		t.Fatal(err)
	}
	if all.Step <= 0 || all.Precision != "highest" || all.Trained != all.Params || frozen.Params != all.Params || frozen.Trained != 8*3+3 {
		t.Errorf("everything trained: %+v; features frozen: %+v", all, frozen)
	}
}

func TestMeasureRefusesWhatItCannotTime(t *testing.T) {
	pool := work.New(1)
	defer pool.Close()
	for _, c := range []struct {
		b    Bench
		want string
	}{
		{Bench{Batch: 0, Classes: 3, Runs: 1}, "0 images"},
		{Bench{Batch: 1, Classes: 3, Runs: 1, Freeze: []string{"nonsense"}}, "nonsense"},
		{Bench{Batch: 1, Classes: 3, Runs: 1, Freeze: []string{"*"}}, "nothing to train"},
	} {
		if _, err := Measure(t.Context(), tinyModel(pool), c.b, 1); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v, want one with %q", c.b, err, c.want)
		}
	}
}
