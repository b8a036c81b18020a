package panicked

import (
	"regexp"
	"strings"
	"testing"
)

func text(f func()) (s string) {
	defer func() { s = Text(recover()) }()
	f()
	return ""
}

func TestPlaceOfAPanicIsNotTold(t *testing.T) {
	var list []int
	var nowhere *struct{ a, b int }
	for want, f := range map[string]func(){
		`^boom \(panicked_test.go:\d+ < panicked_test.go:11 < panicked_test.go:\d+\)$`: func() { panic("boom") },
		`^runtime error: index out of range \[3\] with length 0 \(panicked_test.go:`:   func() { _ = list[3] },
		`^runtime error: invalid memory address .* \(panicked_test.go:`:                func() { _ = nowhere.b },
		`^again \(strings.go:\d+ < panicked_test.go:`: func() {
			defer func() { recover(); panic("again") }()
			_ = strings.Repeat("x", -1)
		},
	} {
		if got := text(f); !regexp.MustCompile(want).MatchString(got) {
			t.Errorf("got %q, want %s", got, want)
		}
	}
	if got := text(func() { panic(strings.Repeat("x", 1000)) }); len(got) > 290 {
		t.Errorf("a text of %d bytes", len(got))
	}
}
