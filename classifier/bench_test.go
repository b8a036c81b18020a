package classifier_test

import (
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/classifier"
)

func TestBenchTrainingRunsInThePlugin(t *testing.T) {
	c := open(t)
	ck, err := c.Architecture(t.Context(), "resnet20")
	if err != nil {
		t.Fatal(err)
	}
	o := classifier.BenchOptions{Batch: 2, Runs: 1}
	all, err := c.BenchTraining(t.Context(), ck, o)
	if err != nil {
		t.Fatal(err)
	}
	head, err := c.BenchTraining(t.Context(), ck, o, "features")
	if err != nil {
		t.Fatal(err)
	}
	if all.MSPerImage <= 0 || all.Model != "resnet20" || !all.Train || all.Trained != all.Params || head.Trained >= head.Params || head.Params != all.Params {
		t.Errorf("everything trained: %+v; features frozen: %+v", all, head)
	}
	if _, err := c.BenchTraining(t.Context(), ck, o, "nonsense"); err == nil || !strings.Contains(err.Error(), "nonsense") {
		t.Errorf("freezing what is not there: %v", err)
	}
}
