package weights

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// holding returns a file of zeros with those shapes, in that order.
func holding(t *testing.T, want ...Want) *File {
	t.Helper()
	var tensors []Tensor
	for _, w := range want {
		n, _ := elements(w.Shape)
		tensors = append(tensors, FromFloat32(w.Name, w.Shape, make([]float32, n)))
	}
	f, err := parse("m.pth", pthBytes(t, tensors))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// network is a convolution, a batch norm, and a classifier.
func network(prefix string, classes int) []Want {
	return []Want{
		{Name: prefix + "conv1.weight", Shape: []int{8, 3, 3, 3}},
		{Name: prefix + "bn1.weight", Shape: []int{8}},
		{Name: prefix + "bn1.num_batches_tracked", Optional: true},
		{Name: prefix + "aux.fc.weight", Shape: []int{1, 8}, Optional: true},
		{Name: prefix + "fc.weight", Shape: []int{classes, 8}, Classifier: true},
		{Name: prefix + "fc.bias", Shape: []int{classes}, Classifier: true},
	}
}

func without(list []Want, names ...string) []Want {
	return slices.DeleteFunc(slices.Clone(list), func(w Want) bool { return slices.Contains(names, w.Name) })
}

func TestFittingFileMatches(t *testing.T) {
	all := network("", 10)
	for name, f := range map[string]*File{
		"all":              holding(t, all...),
		"without optional": holding(t, without(all, "bn1.num_batches_tracked", "aux.fc.weight")...),
		"another counter":  holding(t, append(slices.Clone(all), Want{Name: "bn9.num_batches_tracked"})...),
	} {
		r := Match(all, f)
		if err := r.Err(); err != nil || !r.OK() || r.OnlyClassifier() {
			t.Errorf("%s: %v", name, err)
		}
		if fresh, err := r.AllowNewClassifier(); len(fresh) != 0 || err != nil {
			t.Errorf("%s: fresh %v, %v", name, fresh, err)
		}
	}
}

func TestDifferencesAreNamed(t *testing.T) {
	f := holding(t, append(without(network("", 10), "bn1.weight"), Want{Name: "bn1.wieght", Shape: []int{8}})...)
	err := Match(append(network("", 10), Want{Name: "fc.bias2", Shape: []int{3}}), f).Err()
	if !errors.Is(err, ErrMismatch) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"m.pth", "2 missing, 0 of another shape, 1 unexpected",
		`"bn1.weight" [8] is missing (the file has "bn1.wieght")`,
		`"bn1.wieght" [8] is not in the model`,
		`"fc.bias2" [3] is missing`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the report lacks %q:\n%v", want, err)
		}
	}
}

func TestOnlyTheClassifierDiffers(t *testing.T) {
	want := network("", 2)
	for name, f := range map[string]*File{
		"other classes": holding(t, network("", 1000)...),
		"no classifier": holding(t, without(network("", 10), "fc.weight", "fc.bias")...),
		"a deeper one":  holding(t, append(without(network("", 10), "fc.weight", "fc.bias"), Want{Name: "fc.1.weight", Shape: []int{5, 8}})...),
	} {
		r := Match(want, f)
		if !r.OnlyClassifier() {
			t.Errorf("%s: not recognised: %v", name, r.Err())
		}
		if err := r.Err(); err == nil || !strings.Contains(err.Error(), "--allow-new-classifier") {
			t.Errorf("%s: %v", name, err)
		}
		fresh, err := r.AllowNewClassifier()
		if err != nil || !slices.Equal(fresh, []string{"fc.weight", "fc.bias"}) {
			t.Errorf("%s: fresh %v, %v", name, fresh, err)
		}
	}
}

func TestNewClassifierHidesNoOtherFault(t *testing.T) {
	for name, f := range map[string]*File{
		"body missing":    holding(t, without(network("", 1000), "conv1.weight")...),
		"body mismatched": holding(t, append(without(network("", 1000), "conv1.weight"), Want{Name: "conv1.weight", Shape: []int{8, 1, 3, 3}})...),
		"more in body":    holding(t, append(network("", 1000), Want{Name: "layer1.weight", Shape: []int{1}})...),
		"like the name":   holding(t, append(network("", 1000), Want{Name: "fcx.weight", Shape: []int{1}})...),
	} {
		r := Match(network("", 2), f)
		if r.OnlyClassifier() {
			t.Errorf("%s: taken for a classifier difference", name)
		}
		if fresh, err := r.AllowNewClassifier(); !errors.Is(err, ErrMismatch) || fresh != nil {
			t.Errorf("%s: allowed %v, %v", name, fresh, err)
		}
	}
}

func TestPrefixIsNoticed(t *testing.T) {
	err := Match(network("", 10), holding(t, network("backbone.", 10)...)).Err()
	if err == nil || !strings.Contains(err.Error(), `its names begin with "backbone."`) {
		t.Error(err)
	}
	err = Match(network("head.", 10), holding(t, network("", 10)...)).Err()
	if err == nil || !strings.Contains(err.Error(), `lack the model's "head."`) {
		t.Error(err)
	}
}

func TestReportOfAnotherModelStaysShort(t *testing.T) {
	var want, have []Want
	for i := range 500 {
		want = append(want, Want{Name: fmt.Sprintf("layer%d.weight", i), Shape: []int{i + 1}})
		have = append(have, Want{Name: fmt.Sprintf("blocks.%d.w", i), Shape: []int{2 * i}})
	}
	err := Match(want, holding(t, have...)).Err()
	if err == nil {
		t.Fatal("matched")
	}
	if n := strings.Count(err.Error(), "\n"); n > 10 {
		t.Errorf("%d lines", n+1)
	}
	for _, s := range []string{"and 991 more", "check that it is of this model"} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("the report lacks %q:\n%v", s, err)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"abc", "", 3}, {"", "abc", 3}, {"kitten", "sitting", 3}, {"fc.weight", "fc.weight", 0}} {
		if got := editDistance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}
