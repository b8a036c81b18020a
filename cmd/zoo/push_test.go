package main

import (
	"strings"
	"testing"
)

// The second push of the older model copied nothing, and said "already there" although the tag named the newer one before.
func TestPushThatMovesATagDoesNotSayItWasThere(t *testing.T) {
	home, to := t.TempDir(), t.TempDir()
	older, newer := checkpoint(t, nil), checkpoint(t, func(name string, values []float32) { values[0]++ })
	push := func(file string) string {
		must(t, home, "import", file, "--as", "mine", "--model", "resnet20", "--overwrite")
		return must(t, home, "push", "mine", "--to", to, "--tag", "v1")
	}
	digest := func(text string) string {
		_, rest, _ := strings.Cut(text, "@")
		d, _, _ := strings.Cut(rest, ": ")
		return d
	}
	first := push(older)
	second := push(newer)
	if !strings.HasSuffix(first, " copied\n") || !strings.HasSuffix(second, " copied, in place of "+digest(first)+"\n") {
		t.Errorf("printed %q, then %q", first, second)
	}
	if text := push(older); !strings.HasSuffix(text, ": its bytes were there, the tag is set, in place of "+digest(second)+"\n") {
		t.Errorf("printed %q", text)
	}
	if text := push(older); !strings.HasSuffix(text, ": already there\n") {
		t.Errorf("printed %q", text)
	}
}

func TestMirrorThatFailsSaysWhatItHadDone(t *testing.T) {
	o := zoo(t, imported(t), nil, "mirror", "sync", "mine", "nothing", "--to", t.TempDir())
	if o.code != exitFailure || !strings.Contains(o.stdout, "mine/local@sha256:") || !strings.Contains(o.stderr, "nothing") {
		t.Errorf("%+v", o)
	}
}
