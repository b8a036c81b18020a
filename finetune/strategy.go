package finetune

import (
	"context"
	"fmt"
	"math"

	"github.com/go-modelzoo/zoo/engine/infer"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/plural"
	"github.com/go-modelzoo/zoo/vision/dataset"
)

// Strategy is what of a pretrained network trains. The four follow from two questions (Stanford CS231n, "Transfer learning"): is the data
// large or small, and are its images like those that the network knows?
//
//	              similar            different
//	small data    feature-extract    head
//	large data    finetune           scratch
type Strategy string

// The strategies. Auto asks the two questions of the data and says why it chose.
const (
	StrategyAuto    Strategy = "auto"
	StrategyExtract Strategy = "feature-extract" // the classifier alone trains
	StrategyHead    Strategy = "head"            // the classifier and the last layer group of the features
	StrategyFine    Strategy = "finetune"        // everything, from the pretrained weights
	StrategyScratch Strategy = "scratch"         // everything, from random weights
)

var strategies = []Strategy{StrategyAuto, StrategyExtract, StrategyHead, StrategyFine, StrategyScratch}

const (
	// largeClass is how many images a class needs on average for the data to count as large.
	largeClass = 500
	// similarAccuracy is the part of the way from chance to perfection that a nearest-centroid classifier on the pretrained features must
	// cover for the images to count as similar. On unlike images (microscopy, for networks that know photographs) it covers little.
	similarAccuracy = 0.5
	// similaritySample is how many images are looked at.
	similaritySample = 400
)

// learningRates are the base rates of the strategies for stochastic gradient descent; adaptive methods take a tenth.
var learningRates = map[Strategy]float64{StrategyExtract: 1e-3, StrategyHead: 1e-3, StrategyFine: 1e-3, StrategyScratch: 0.05}

func (c *Config) autoLR() float64 {
	lr := learningRates[c.Strategy]
	switch c.Optimizer.Name {
	case "adam", "adamw", "rmsprop":
		lr /= 10
	}
	return lr
}

// patterns returns what the strategy freezes.
func (s Strategy) patterns(g *graph.Graph) []string {
	switch s {
	case StrategyExtract:
		return []string{"features"}
	case StrategyHead:
		var names []string
		for _, group := range g.Groups {
			for _, p := range group.Params {
				if g.InFeatures(p) {
					names = append(names, group.Name)
					break
				}
			}
		}
		if len(names) > 1 {
			return names[:len(names)-1]
		}
	}
	return nil
}

// choose answers the two questions. It returns the strategy and the reason.
func choose(ctx context.Context, r *run) (Strategy, string, error) {
	images, classes := len(r.train.Samples), len(r.train.Classes)
	if r.model.Weights == "" {
		return StrategyScratch, "there are no pretrained weights", nil
	}
	large := images >= largeClass*classes
	size := "small"
	if large {
		size = "large"
	}
	accuracy, sampled, err := r.separability(ctx)
	if err != nil {
		return "", "", err
	}
	chance := 1 / float64(classes)
	similar := (accuracy-chance)/(1-chance) >= similarAccuracy
	likeness, s := "different", map[bool]Strategy{false: StrategyHead, true: StrategyScratch}
	if similar {
		likeness, s = "similar", map[bool]Strategy{false: StrategyExtract, true: StrategyFine}
	}
	why := fmt.Sprintf("the data is %s (%s of %s; large is %d a class) and its images are %s to those the network knows (its features tell %.0f %% of %d images apart by the nearest class centre)",
		size, plural.Count(images, "image", "images"), plural.Count(classes, "class", "classes"), largeClass, likeness, 100*accuracy, sampled)
	return s[large], why, nil
}

// separability is the accuracy of a nearest-centroid classifier on the features of the untouched network: centres from one half of a
// sample of the training images, accuracy on the other.
func (r *run) separability(ctx context.Context) (accuracy float64, images int, err error) {
	sample := &dataset.Dataset{Classes: r.train.Classes}
	for _, i := range r.train.Order(dataset.Shuffled, r.config.Seed^0x73696d, 0) {
		if len(sample.Samples) == max(similaritySample, 8*len(r.train.Classes)) {
			break
		}
		sample.Samples = append(sample.Samples, r.train.Samples[i])
	}
	l, err := r.loader(sample, loaderPlain)
	if err != nil {
		return 0, 0, err
	}
	m, err := infer.New(r.buildFull, r.params, infer.Options{Precision: r.model.Precision, Pool: r.model.Pool, Outputs: []string{graph.EmbeddingOutput}})
	if err != nil {
		return 0, 0, err
	}
	defer m.Close()
	var features [][]float32
	var labels []int
	for b, err := range l.Epoch(ctx, 0, 0) {
		if err != nil {
			return 0, 0, r.explain(err)
		}
		out, err := m.Run(ctx, infer.Input{Data: b.Images, N: b.N, H: b.Height, W: b.Width, C: b.Channels})
		if err != nil {
			return 0, 0, err
		}
		d := out[0].Shape.Elements()
		for i := range b.N {
			features = append(features, append([]float32(nil), out[0].Data[i*d:][:d]...))
			labels = append(labels, b.Labels[i])
		}
	}
	hits, tested := nearestCentroid(features, labels, len(r.train.Classes))
	if tested == 0 {
		return 0, 0, nil
	}
	return float64(hits) / float64(tested), tested, nil
}

// nearestCentroid takes every other image of each class for the class's centre and classifies the rest by the smallest angle.
func nearestCentroid(features [][]float32, labels []int, classes int) (hits, tested int) {
	if len(features) == 0 {
		return 0, 0
	}
	d := len(features[0])
	centres, seen := make([][]float64, classes), make([]int, classes)
	var rest []int
	for i, f := range features {
		c := labels[i]
		if seen[c]++; seen[c]%2 == 0 {
			rest = append(rest, i)
			continue
		}
		if centres[c] == nil {
			centres[c] = make([]float64, d)
		}
		norm := 0.0
		for _, v := range f {
			norm += float64(v) * float64(v)
		}
		for k, v := range f {
			centres[c][k] += float64(v) / math.Sqrt(max(norm, 1e-30))
		}
	}
	for _, i := range rest {
		best, at := 0.0, -1
		for c, centre := range centres {
			if centre == nil {
				continue
			}
			dot, norm := 0.0, 1e-30
			for k, v := range features[i] {
				dot += centre[k] * float64(v)
				norm += centre[k] * centre[k]
			}
			if score := dot * math.Abs(dot) / norm; at < 0 || score > best {
				best, at = score, c
			}
		}
		if at == labels[i] {
			hits++
		}
	}
	return hits, len(rest)
}
