package finetune

import (
	"math"
	"reflect"
	"testing"
)

func near(t *testing.T, what string, got, want, tolerance float64) {
	t.Helper()
	if !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s is %.9g, want %.9g", what, got, want)
	}
}

func TestMetricsAgainstHandComputedValues(t *testing.T) {
	// Predictions 0 0 1 2 2 1 for labels 0 0 0 1 2 2.
	logits := []float32{
		3, 1, 0,
		2, 0, 1,
		1, 2, 0,
		0, 1, 2,
		0, 1, 3,
		1, 2, 0,
	}
	m := measure(logits, []int{0, 0, 0, 1, 2, 2}, []string{"a", "b", "c"}, true)
	near(t, "top-1", m.Top1, 3./6, 0)
	near(t, "top-5", m.Top5, 1, 0)
	for i, want := range []ClassMetrics{{"a", 3, 1, 2. / 3, 0.8}, {"b", 1, 0, 0, 0}, {"c", 2, 0.5, 0.5, 0.5}} {
		if m.Classes[i] != want {
			t.Errorf("class %d: %+v, want %+v", i, m.Classes[i], want)
		}
	}
	near(t, "mean F1", m.F1, (0.8+0+0.5)/3, 1e-15)
	// Observed disagreement: one at distance 1 for each of (0,1), (1,2), (2,1) = 3. Expected: rows 3 1 2, columns 2 2 2, over 6:
	// row 0: (0·2 + 1·2 + 4·2)·3 = 30, row 1: (2 + 0 + 2)·1 = 4, row 2: (8 + 2 + 0)·2 = 20; 54/6 = 9.
	near(t, "kappa", *m.Kappa, 1-3./9, 1e-15)
	near(t, "loss of the first image", lossOf(logits[:3], 0), math.Log(math.Exp(3)+math.E+1)-3, 1e-15)
	loss := 0.0
	for i, label := range []int{0, 0, 0, 1, 2, 2} {
		loss += lossOf(logits[3*i:][:3], label) / 6
	}
	near(t, "mean loss", m.Loss, loss, 1e-15)
	if m.AUC != nil {
		t.Error("three classes have an AUC")
	}
	if m.Confusion[0][1] != 1 || m.Confusion[2][1] != 1 || m.Confusion[1][2] != 1 {
		t.Errorf("confusion %v", m.Confusion)
	}
}

func TestAreaUnderCurveWithTies(t *testing.T) {
	// Pairs (positive, negative): 0.4>0.1 0.4>0.35 | 0.35>0.1, 0.35=0.35 | 0.8 both: 5.5 of 6.
	v, ok := auc([]float64{0.1, 0.35, 0.4, 0.35, 0.8}, []int{0, 0, 1, 1, 1})
	if !ok {
		t.Fatal("none")
	}
	near(t, "AUC", v, 5.5/6, 1e-15)
	for _, labels := range [][]int{{1, 1}, {0, 0}} {
		if _, ok := auc([]float64{1, 2}, labels); ok {
			t.Error("one class alone has an AUC")
		}
	}
	// Differences 3, -1, 1 and 2 for the classes 1, 0, 0 and 1, and not-a-number, which counts as the lowest, for 1: four of six pairs.
	m := measure([]float32{0, 3, 1, 0, 1, 2, 0, 2, float32(math.NaN()), 1}, []int{1, 0, 0, 1, 1}, []string{"a", "b"}, false)
	if m.AUC == nil {
		t.Fatal("two classes have no AUC")
	}
	near(t, "AUC of logits", *m.AUC, 4./6, 1e-15)
}

func TestKappaOfOneClassIsNoNumber(t *testing.T) {
	near(t, "kappa", kappa([][]int{{5, 0}, {0, 0}}), 1, 0)
}

func TestBestEpochByAnotherMetric(t *testing.T) {
	kappa, auc := 0.4, 0.5
	m := &Metrics{Top1: 0.1, Loss: 0.2, F1: 0.3, Kappa: &kappa, AUC: &auc}
	for by, want := range map[Metric]float64{MetricAccuracy: 0.1, MetricLoss: -0.2, MetricF1: 0.3, MetricKappa: 0.4, MetricAUC: 0.5} {
		near(t, string(by), m.Score(by), want, 0)
	}
	for _, by := range []Metric{MetricKappa, MetricAUC} { // validation images of one class have none
		near(t, string(by)+" that is not there", (&Metrics{Top1: 0.1}).Score(by), 0.1, 0)
	}
}

func TestPercentChangesWhatItIsOf(t *testing.T) {
	val := Metrics{Top1: 0.25, Top5: 0.75, F1: 0.5, Loss: 0.125, Classes: []ClassMetrics{{"a", 4, 0.1, 0.2, 0.3}}}
	r := &Result{Metrics: &val, History: []EpochResult{{Accuracy: 0.5, Loss: 3, Val: val}}}
	p := r.Percent()
	want := Metrics{Top1: 25, Top5: 75, F1: 50, Loss: 0.125, Classes: []ClassMetrics{{"a", 4, 10, 20, 30}}}
	if !reflect.DeepEqual(*p.Metrics, want) || p.Last != nil || p.History[0].Accuracy != 50 || p.History[0].Loss != 3 || !reflect.DeepEqual(p.History[0].Val, want) {
		t.Errorf("%+v, %+v", *p.Metrics, p.History[0])
	}
	if val.Top1 != 0.25 || val.Classes[0].Recall != 0.2 || r.History[0].Accuracy != 0.5 {
		t.Errorf("the result itself is now %+v, %+v", val, r.History[0])
	}
}

func TestTop5CountsTiesByIndex(t *testing.T) {
	logits := make([]float32, 8) // all equal: the first five are the top five
	for label, want := range []float64{0: 1, 4: 1, 5: 0, 7: 0} {
		if label == 0 || label == 4 || label == 5 || label == 7 {
			m := measure(logits, []int{label}, make([]string, 8), false)
			near(t, "top-5", m.Top5, want, 0)
		}
	}
	logits[7] = 1
	near(t, "top-5 of the last class, which is the first of all", measure(logits, []int{7}, make([]string, 8), false).Top5, 1, 0)
	near(t, "top-5 of the first class, behind five", measure([]float32{0, 1, 2, 3, 4, 5}, []int{0}, make([]string, 6), false).Top5, 0, 0)
}

func TestNaNLogitsAreTheWorstScore(t *testing.T) {
	m := measure([]float32{float32(math.NaN()), 1}, []int{0}, []string{"a", "b"}, false)
	if s := m.Score(MetricLoss); s != -math.MaxFloat64 {
		t.Errorf("score %v", s)
	}
}

func TestWorstMistakesFirst(t *testing.T) {
	list := worstMistakes([]float32{0, 1, 0, 5, 9, 0}, []int{0, 0, 0}, func(i int) string { return string(rune('a' + i)) }, []string{"x", "y"}, 10)
	if len(list) != 2 || list[0].Path != "b" || list[0].True != "x" || list[0].Predicted != "y" {
		t.Fatalf("%+v", list)
	}
	near(t, "confidence", list[0].Confidence, 1/(1+math.Exp(-5)), 1e-7)
}
