package weights

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrMismatch is wrapped by Report.Err: the file is sound, but holds other tensors than the network has.
var ErrMismatch = errors.New("the weights do not fit the model")

// Want is a tensor that a network has.
type Want struct {
	Name  string
	Shape []int
	// Optional tensors may be absent: num_batches_tracked, auxiliary classifiers.
	Optional bool
	// Classifier marks the parameters of the classifier, which AllowNewClassifier leaves to fresh values.
	Classifier bool
}

// Mismatch is a tensor that has one shape in the network and another in the file.
type Mismatch struct {
	Name            string
	Expected, Found []int
	Classifier      bool
}

// Report is what differs between a network and a file.
type Report struct {
	Path       string
	Matched    int        // tensors that the file has as wanted
	Missing    []Want     // wanted, not optional, and not in the file
	Mismatched []Mismatch // in both, with another shape
	Unexpected []Tensor   // in the file alone
	// Ignored are the names in the file that no network needs and that are no fault: counters of batch norms.
	Ignored []string

	want []Want
}

// Match holds a file against what a network wants, strictly by name and shape, as load_state_dict(strict=True) does.
// Element types are no difference. Lists are in the order of want and of the file.
func Match(want []Want, f *File) Report {
	r := Report{Path: f.path, want: want}
	wanted := make(map[string]bool, len(want))
	for _, w := range want {
		wanted[w.Name] = true
		t, ok := f.Tensor(w.Name)
		switch {
		case ok && slices.Equal(t.Shape, w.Shape):
			r.Matched++
		case ok:
			r.Mismatched = append(r.Mismatched, Mismatch{w.Name, w.Shape, t.Shape, w.Classifier})
		case !w.Optional:
			r.Missing = append(r.Missing, w)
		}
	}
	for t := range f.All() {
		switch {
		case wanted[t.Name]:
		case lastPart(t.Name) == "num_batches_tracked" && t.Len() == 1:
			r.Ignored = append(r.Ignored, t.Name)
		default:
			r.Unexpected = append(r.Unexpected, t)
		}
	}
	return r
}

// OK says whether the file gives the network all it wants and nothing else.
func (r Report) OK() bool {
	return len(r.Missing)+len(r.Mismatched)+len(r.Unexpected) == 0
}

// OnlyClassifier says whether there are differences and all are in the classifier: its parameters have other shapes or
// are missing, or the file has others in the same module (fc.0.weight where the network has fc.weight).
func (r Report) OnlyClassifier() bool {
	modules := map[string]bool{}
	for _, w := range r.want {
		if w.Classifier {
			modules[module(w.Name)] = true
		}
	}
	within := func(name string) bool {
		for m := module(name); m != ""; m = module(m) {
			if modules[m] {
				return true
			}
		}
		return modules[module(name)]
	}
	return !r.OK() &&
		!slices.ContainsFunc(r.Missing, func(w Want) bool { return !w.Classifier }) &&
		!slices.ContainsFunc(r.Mismatched, func(m Mismatch) bool { return !m.Classifier }) &&
		!slices.ContainsFunc(r.Unexpected, func(t Tensor) bool { return !within(t.Name) })
}

// AllowNewClassifier returns the names of the classifier parameters that the file does not give and that need fresh
// values: none if everything fits. If anything outside the classifier differs, it is Err's error.
func (r Report) AllowNewClassifier() ([]string, error) {
	if r.OK() {
		return nil, nil
	}
	if !r.OnlyClassifier() {
		return nil, r.Err()
	}
	var fresh []string
	for _, w := range r.want {
		missing := slices.ContainsFunc(r.Missing, func(m Want) bool { return m.Name == w.Name })
		mismatched := slices.ContainsFunc(r.Mismatched, func(m Mismatch) bool { return m.Name == w.Name })
		if missing || mismatched {
			fresh = append(fresh, w.Name)
		}
	}
	return fresh, nil
}

// shown is how many differences Err lists, of all kinds together.
const shown = 9

// Err returns nil if the file fits. Else it wraps ErrMismatch in a report: a line that says what to do, then one for
// each of the first differences, and a count of the others.
func (r Report) Err() error {
	if r.OK() {
		return nil
	}
	var lines []string
	for _, m := range r.Mismatched {
		lines = append(lines, fmt.Sprintf("%.80q has shape %v, the model wants %v", m.Name, m.Found, m.Expected))
	}
	near := r.near()
	for _, w := range r.Missing {
		line := fmt.Sprintf("%.80q %v is missing", w.Name, w.Shape)
		if n := near[w.Name]; n != "" {
			line += fmt.Sprintf(" (the file has %.80q)", n)
		}
		lines = append(lines, line)
	}
	for _, t := range r.Unexpected {
		lines = append(lines, fmt.Sprintf("%.80q %v is not in the model", t.Name, t.Shape))
	}
	if more := len(lines) - shown; more > 0 {
		lines = append(lines[:shown], fmt.Sprintf("and %d more", more))
	}
	return fmt.Errorf("%s: %w: %d missing, %d of another shape, %d unexpected: %s\n  %s", r.Path, ErrMismatch,
		len(r.Missing), len(r.Mismatched), len(r.Unexpected), r.advice(), strings.Join(lines, "\n  "))
}

// advice says what to do next.
func (r Report) advice() string {
	switch prefix, inFile := r.prefix(); {
	case r.OnlyClassifier():
		return "only the classifier differs: import it with --classes for as many classes as the file has, or start it afresh with --allow-new-classifier"
	case prefix != "" && inFile:
		return fmt.Sprintf("its names begin with %.80q where the model's do not: save it without", prefix)
	case prefix != "":
		return fmt.Sprintf("its names lack the model's %.80q: save it with", prefix)
	case r.Matched == 0:
		return "nothing fits: check that it is of this model"
	default:
		return "check the model's variant and options"
	}
}

// prefix returns what stands before most missing names in the file, or before the file's in the model.
func (r Report) prefix() (prefix string, inFile bool) {
	if len(r.Missing) == 0 || len(r.Unexpected) == 0 {
		return "", false
	}
	missing := make([]string, len(r.Missing))
	for i, w := range r.Missing {
		missing[i] = w.Name
	}
	unexpected := make([]string, len(r.Unexpected))
	for i, t := range r.Unexpected {
		unexpected[i] = t.Name
	}
	if p := prefixBetween(missing, unexpected); p != "" {
		return p, true
	}
	return prefixBetween(unexpected, missing), false
}

// prefixBetween returns the p, ending in a dot, for which at least half of bare are in full with p before them. The
// candidates are those that work for the first of bare.
func prefixBetween(bare, full []string) string {
	have := make(map[string]bool, len(full))
	for _, name := range full {
		have[name] = true
	}
	for _, name := range full {
		p, ok := strings.CutSuffix(name, bare[0])
		if !ok || !strings.HasSuffix(p, ".") {
			continue
		}
		n := 0
		for _, b := range bare {
			if have[p+b] {
				n++
			}
		}
		if 2*n >= len(bare) {
			return p
		}
	}
	return ""
}

// near returns, for the first missing names, the likeliest of the unexpected ones: the same shape, and the fewest
// letters to change.
func (r Report) near() map[string]string {
	const compared = 2000 // of the unexpected: enough for every known network
	near := map[string]string{}
	candidates := r.Unexpected[:min(len(r.Unexpected), compared)]
	for _, w := range r.Missing[:min(len(r.Missing), shown)] {
		best, distance := "", len(w.Name)/2+1
		for _, t := range candidates {
			if len(t.Name) > 4*len(w.Name) || !slices.Equal(t.Shape, w.Shape) {
				continue
			}
			if d := editDistance(w.Name, t.Name); d < distance {
				best, distance = t.Name, d
			}
		}
		if best != "" {
			near[w.Name] = best
		}
	}
	return near
}

// editDistance is Levenshtein's: the fewest bytes to insert, delete or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := diagonal
			if a[i] != b[j] {
				replace++
			}
			diagonal = row[j+1]
			row[j+1] = min(replace, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// module returns the name without its last part: "layer1.0.conv1" of "layer1.0.conv1.weight".
func module(name string) string {
	i := strings.LastIndexByte(name, '.')
	return name[:max(i, 0)]
}

func lastPart(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
