package ui

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestMistypedNamesGetSuggestions(t *testing.T) {
	names := []string{"resnet18", "resnet50", "resnext50_32x4d", "mobilenet_v2", "vgg16", "vgg16_bn", "ghcr.io/somebody/lenet5:1.0"}
	for _, c := range []struct {
		typed string
		want  []string
	}{
		{"resnet5", []string{"resnet50"}},
		{"rensnet50", []string{"resnet50"}},
		{"MobileNetV2", []string{"mobilenet_v2"}},
		{"mobilenet-v2", []string{"mobilenet_v2"}},
		{"vgg", []string{"vgg16", "vgg16_bn"}},
		{"lenet6", []string{"ghcr.io/somebody/lenet5:1.0"}},
		{"zebra", nil},
	} {
		got := Suggest(c.typed, names)
		for _, w := range c.want {
			if !slices.Contains(got, w) {
				t.Errorf("Suggest(%q) = %v, want %v among them", c.typed, got, c.want)
			}
		}
		if c.want == nil && got != nil {
			t.Errorf("Suggest(%q) = %v, want none", c.typed, got)
		}
	}
}

func TestNumbersForPeople(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 25557032: "25,557,032", -1234: "-1,234", -123456: "-123,456"} {
		if got := Count(n); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 102500000: "102.5 MB", 999_960_000: "1.0 GB"} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
	for text, want := range map[string]int64{"": 0, "1000": 1000, "4GB": 4e9, "512 MiB": 512 << 20, "1.5k": 1500, "0.5tib": 1 << 39} {
		if got, err := ParseBytes(text); got != want || err != nil {
			t.Errorf("ParseBytes(%q) = %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"GB", "-1", "4XB", "4 GB or so", "1.2.3", "9999999TiB"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d", text, got)
		}
	}
	for share, want := range map[float64]string{0: "    ", 0.5: "██  ", 1: "████", 2: "████", 0.3: "█▎  "} {
		if got := Bar(share, 4); got != want {
			t.Errorf("Bar(%g) = %q, want %q", share, got, want)
		}
	}
}

func TestTextDoesNotCommandTheTerminal(t *testing.T) {
	var out, notes bytes.Buffer
	c := Console{Out: &out, Err: &notes, Format: Text}
	evil := "cat\x1b]0;title\x07\u009b2Jdog"
	if err := c.Print(nil, func(w io.Writer) error { return Table(w, nil, [][]string{{evil, "böe"}}) }); err != nil {
		t.Fatal(err)
	}
	c.Note("%s", evil)
	for _, text := range []string{out.String(), notes.String()} {
		if strings.ContainsAny(text, "\x1b\x07\u009b") || !strings.Contains(text, "cat") || !strings.HasSuffix(text, "\n") {
			t.Errorf("printed %q", text)
		}
	}
	if !strings.Contains(out.String(), "böe") {
		t.Errorf("printed %q", out.String())
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestWhatCouldNotBePrintedIsAnError(t *testing.T) {
	c := Console{Out: full{}, Format: Text}
	if err := c.Print(nil, func(w io.Writer) error { fmt.Fprintln(w, "text"); return nil }); err == nil {
		t.Error("no error")
	}
}
