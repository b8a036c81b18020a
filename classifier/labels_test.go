package classifier

import "testing"

// A model of folders called 1, 2, 10 has these names for the classes 0, 1, 2: an accuracy is right only if the name counts.
func TestClassesNamedByNumbersAreNotIndices(t *testing.T) {
	for _, c := range []struct {
		class  string
		labels []string
		want   int // -1: an error
	}{
		{"1", []string{"1", "2", "3"}, 0},
		{"3", []string{"1", "2", "3"}, 2},
		{"0", []string{"1", "2", "3"}, 0}, // no name: an index
		{"2", []string{"1", "10", "2"}, 2},
		{"7", []string{"1", "10", "2"}, -1},
		{"1", nil, 1},
		{"bee", []string{"ant", "bee", "cat"}, 1},
		{"1", []string{"ant", "bee", "cat"}, 1},
		{"crane", []string{"crane", "bee", "crane"}, -1},
		{"wasp", []string{"ant", "bee", "cat"}, -1},
	} {
		got, err := ClassIndex(c.class, c.labels, 3)
		if err != nil {
			got = -1
		}
		if got != c.want {
			t.Errorf("class %q of %q: got %d (%v), want %d", c.class, c.labels, got, err, c.want)
		}
	}
}
