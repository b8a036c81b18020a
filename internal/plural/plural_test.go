package plural

import "testing"

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 families", 1: "1 family", 2: "2 families", -1: "-1 families"} {
		if got := Count(n, "family", "families"); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
