// Package dataset reads labelled images: a folder per class as torchvision's ImageFolder, or a CSV of paths and labels, and
// feeds them in batches.
//
// A Dataset is a list of files with labels; its classes and its order are those of torchvision for the same folder. Nothing
// is decoded until a Loader asks for it. All that is random (splits, orders, augmentation) depends on seeds given by the
// caller and on nothing else, least of all on the number of workers.
//
// A Dataset is not modified after it has been made and is safe for concurrent use.
package dataset

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// Sample is an image file and the index of its class.
type Sample struct {
	Path  string
	Label int
}

// Dataset is a list of labelled image files.
type Dataset struct {
	Classes []string // names in order of their index
	Samples []Sample
	// Ignored lists the files found beside the samples that are no image by IsImage, such as .gif.
	Ignored []string
}

// WithClasses numbers the samples by another list of classes, which must have all of the dataset's names.
func (d *Dataset) WithClasses(classes []string) (*Dataset, error) {
	index := make([]int, len(d.Classes))
	for i, name := range d.Classes {
		if index[i] = slices.Index(classes, name); index[i] < 0 {
			return nil, fmt.Errorf("class %q is not one of the %d known classes", name, len(classes))
		}
	}
	out := &Dataset{Classes: classes, Samples: slices.Clone(d.Samples), Ignored: d.Ignored}
	for i := range out.Samples {
		out.Samples[i].Label = index[out.Samples[i].Label]
	}
	return out, nil
}

// Counts returns the number of samples of each class.
func (d *Dataset) Counts() []int {
	counts := make([]int, len(d.Classes))
	for _, s := range d.Samples {
		counts[s.Label]++
	}
	return counts
}

// byClass returns the indices of the samples of each class.
func (d *Dataset) byClass() [][]int {
	all := make([][]int, len(d.Classes))
	for i, s := range d.Samples {
		all[s.Label] = append(all[s.Label], i)
	}
	return all
}

// CheckTrainable reports a dataset that a classifier cannot be trained on.
func (d *Dataset) CheckTrainable() error {
	if len(d.Samples) == 0 {
		return errors.New("the data holds no image")
	}
	if len(d.Samples) < len(d.Classes) {
		return fmt.Errorf("the data has more classes (%d) than images (%d)", len(d.Classes), len(d.Samples))
	}
	used := 0
	for _, n := range d.Counts() {
		if n > 0 {
			used++
		}
	}
	if used < 2 {
		return fmt.Errorf("the data has one class only (%s): add images of at least one other", d.Classes[d.Samples[0].Label])
	}
	return nil
}

// ClassWeights returns weights inversely proportional to the size of a class, with mean 1 over the samples: N/(K*n), K being
// the number of classes that have samples. A class without samples has weight 0.
func (d *Dataset) ClassWeights() []float32 {
	counts := d.Counts()
	used := 0
	for _, n := range counts {
		if n > 0 {
			used++
		}
	}
	weights := make([]float32, len(counts))
	for i, n := range counts {
		if n > 0 {
			weights[i] = float32(float64(len(d.Samples)) / (float64(used) * float64(n)))
		}
	}
	return weights
}

// Split divides each class at random, so that about fraction of its samples (at least one of two or more, never all) go to
// val. The parts keep the dataset's order and depend on its samples and the seed alone.
func (d *Dataset) Split(fraction float64, seed uint64) (train, val *Dataset, err error) {
	if !(fraction > 0 && fraction < 1) {
		return nil, nil, fmt.Errorf("validation fraction %v is not between 0 and 1", fraction)
	}
	rng := rand.New(rand.NewPCG(seed, 0x53504c4954))
	held := make([]bool, len(d.Samples))
	for _, members := range d.byClass() {
		n := int(math.Round(fraction * float64(len(members))))
		if len(members) >= 2 {
			n = min(max(n, 1), len(members)-1)
		} else {
			n = 0
		}
		rng.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		for _, i := range members[:n] {
			held[i] = true
		}
	}
	train, val = &Dataset{Classes: d.Classes, Ignored: d.Ignored}, &Dataset{Classes: d.Classes}
	for i, s := range d.Samples {
		if held[i] {
			val.Samples = append(val.Samples, s)
		} else {
			train.Samples = append(train.Samples, s)
		}
	}
	if len(val.Samples) == 0 {
		return nil, nil, errors.New("no class has two images: nothing can be held back for validation")
	}
	return train, val, nil
}

// Sampling is the order in which an epoch visits the samples.
type Sampling uint8

const (
	Sequential Sampling = iota // every sample once, in order
	Shuffled                   // every sample once, in random order
	Balanced                   // as many draws as samples, with replacement, every class equally likely
)

// Order returns the indices of the samples that an epoch visits, which depend on the arguments alone.
func (d *Dataset) Order(how Sampling, seed uint64, epoch int) []int {
	n := len(d.Samples)
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	rng := rand.New(rand.NewPCG(seed, 0x4f52444552+uint64(epoch)))
	switch how {
	case Shuffled:
		rng.Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
	case Balanced:
		byClass := slices.DeleteFunc(d.byClass(), func(members []int) bool { return len(members) == 0 })
		for i := range order {
			members := byClass[rng.IntN(len(byClass))]
			order[i] = members[rng.IntN(len(members))]
		}
	}
	return order
}
