package finetune

import (
	"cmp"
	"math"
	"slices"
)

// Metric is what decides between epochs.
type Metric string

// The metrics. F1 is the mean over the classes; kappa is the quadratic weighted one; auc is the area under the curve of two classes.
const (
	MetricAccuracy Metric = "accuracy"
	MetricLoss     Metric = "loss"
	MetricF1       Metric = "f1"
	MetricKappa    Metric = "kappa"
	MetricAUC      Metric = "auc"
)

var metrics = []Metric{MetricAccuracy, MetricLoss, MetricF1, MetricKappa, MetricAUC}

// Metrics are the results on labelled images. Shares are between 0 and 1.
type Metrics struct {
	Images int     `json:"images"`
	Loss   float64 `json:"loss"` // mean cross-entropy, without label smoothing or weights
	Top1   float64 `json:"top1"`
	Top5   float64 `json:"top5"`
	// F1 is the mean over the classes that occur.
	F1 float64 `json:"f1"`
	// Kappa is Cohen's quadratic weighted kappa, for ordered classes.
	Kappa *float64 `json:"kappa,omitempty"`
	// AUC is the area under the receiver operating characteristic, for two classes.
	AUC     *float64       `json:"auc,omitempty"`
	Classes []ClassMetrics `json:"classes,omitempty"`
	// Confusion counts images by true class (rows) and predicted class (columns).
	Confusion [][]int `json:"confusion,omitempty"`
}

// ClassMetrics are the results of one class.
type ClassMetrics struct {
	Name      string  `json:"name"`
	Images    int     `json:"images"`
	Precision float64 `json:"precision"`
	Recall    float64 `json:"recall"`
	F1        float64 `json:"f1"`
}

// percent returns a copy with shares in percent, as JSON for people and scripts has them.
func (m *Metrics) percent() *Metrics {
	if m == nil {
		return nil
	}
	p := *m
	p.Top1, p.Top5, p.F1 = 100*m.Top1, 100*m.Top5, 100*m.F1
	p.Classes = slices.Clone(m.Classes)
	for i := range p.Classes {
		c := &p.Classes[i]
		c.Precision, c.Recall, c.F1 = 100*c.Precision, 100*c.Recall, 100*c.F1
	}
	return &p
}

// Score returns the metric such that more is better.
func (m *Metrics) Score(by Metric) float64 {
	value := m.Top1
	switch by {
	case MetricLoss:
		value = -m.Loss
	case MetricF1:
		value = m.F1
	case MetricKappa:
		if m.Kappa != nil {
			value = *m.Kappa
		}
	case MetricAUC:
		if m.AUC != nil {
			value = *m.AUC
		}
	}
	if math.IsNaN(value) {
		return -math.MaxFloat64
	}
	return value
}

// measure computes the metrics of logits, images × classes.
func measure(logits []float32, labels []int, classes []string, ordered bool) *Metrics {
	k, n := len(classes), len(labels)
	m := &Metrics{Images: n, Classes: make([]ClassMetrics, k), Confusion: make([][]int, k)}
	for c := range m.Confusion {
		m.Confusion[c] = make([]int, k)
	}
	if n == 0 {
		return m
	}
	scores := make([]float64, n) // of the second class of two
	hits, near := 0, 0           // images whose class is the first of all, and among the first five
	for i, label := range labels {
		x := logits[i*k:][:k]
		best, rank := highest(x), 0
		for c, v := range x {
			if v > x[label] || v == x[label] && c < label {
				rank++
			}
		}
		m.Loss += lossOf(x, label) / float64(n)
		if rank < 5 {
			near++
		}
		m.Confusion[label][best]++
		if k == 2 {
			if scores[i] = float64(x[1]) - float64(x[0]); math.IsNaN(scores[i]) {
				scores[i] = math.Inf(-1)
			}
		}
	}
	occurring := 0
	for c := range m.Classes {
		of := &m.Classes[c]
		of.Name = classes[c]
		predicted, hit := 0, m.Confusion[c][c]
		hits += hit
		for o := range k {
			of.Images += m.Confusion[c][o]
			predicted += m.Confusion[o][c]
		}
		of.Precision, of.Recall = share(hit, predicted), share(hit, of.Images)
		of.F1 = share(2*hit, predicted+of.Images)
		if of.Images > 0 {
			occurring++
			m.F1 += of.F1
		}
	}
	m.Top1, m.Top5 = share(hits, n), share(near, n)
	m.F1 /= float64(occurring)
	if ordered {
		v := kappa(m.Confusion)
		m.Kappa = &v
	}
	if k == 2 {
		if v, ok := auc(scores, labels); ok {
			m.AUC = &v
		}
	}
	return m
}

func share(part, of int) float64 {
	if of == 0 {
		return 0
	}
	return float64(part) / float64(of)
}

// highest is the index of the largest value, the first of equal ones.
func highest(x []float32) int {
	best := 0
	for c, v := range x {
		if v > x[best] {
			best = c
		}
	}
	return best
}

// lossOf is the cross-entropy of one image.
func lossOf(x []float32, label int) float64 {
	top, sum := float64(slices.Max(x)), 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - top)
	}
	return top + math.Log(sum) - float64(x[label])
}

// kappa is 1 - Σ w·observed / Σ w·expected with w = (i-j)², Cohen (1968).
func kappa(confusion [][]int) float64 {
	k := len(confusion)
	rows, cols, n := make([]float64, k), make([]float64, k), 0.0
	for i, row := range confusion {
		for j, v := range row {
			rows[i] += float64(v)
			cols[j] += float64(v)
			n += float64(v)
		}
	}
	observed, expected := 0.0, 0.0
	for i, row := range confusion {
		for j, v := range row {
			w := float64((i - j) * (i - j))
			observed += w * float64(v)
			expected += w * rows[i] * cols[j] / n
		}
	}
	if expected == 0 { // all images and all predictions in one class
		return 1
	}
	return 1 - observed/expected
}

// auc is the probability that an image of class 1 scores above one of class 0, ties counting half (Mann and Whitney, 1947).
func auc(scores []float64, labels []int) (float64, bool) {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[a], scores[b]) })
	ranks, positive := 0.0, 0
	for i := 0; i < len(order); {
		j := i
		for j < len(order) && scores[order[j]] == scores[order[i]] {
			j++
		}
		for _, o := range order[i:j] {
			if labels[o] == 1 {
				ranks += float64(i+j+1) / 2 // the mean rank of the tie, from 1
				positive++
			}
		}
		i = j
	}
	negative := len(labels) - positive
	if positive == 0 || negative == 0 {
		return 0, false
	}
	p := float64(positive)
	return (ranks - p*(p+1)/2) / (p * float64(negative)), true
}

// Mistake is an image that the network got wrong.
type Mistake struct {
	Path string `json:"path"`
	// True and Predicted are class names; Confidence is the predicted class's probability.
	True       string  `json:"true"`
	Predicted  string  `json:"predicted"`
	Confidence float64 `json:"confidence"`
}

// worstMistakes returns the wrong predictions with the highest probability.
func worstMistakes(logits []float32, labels []int, paths func(int) string, classes []string, limit int) []Mistake {
	k := len(classes)
	var list []Mistake
	for i, label := range labels {
		x := logits[i*k:][:k]
		best := highest(x)
		if best != label {
			list = append(list, Mistake{paths(i), classes[label], classes[best], math.Exp(-lossOf(x, best))})
		}
	}
	slices.SortStableFunc(list, func(a, b Mistake) int { return cmp.Compare(b.Confidence, a.Confidence) })
	return list[:min(len(list), limit)]
}
