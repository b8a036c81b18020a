package main

import (
	"context"
	"slices"
	"strings"
	"testing"
)

// TestUnrestrictedSubjects: only subjects that ask for it are restricted, and zoo needs no library for it.
func TestUnrestrictedSubjects(t *testing.T) {
	var r restriction
	for subject, want := range map[string][]string{"zoo-high": nil, "onnxruntime": nil, "zoo-highest-avx2": {"ZOO_CPU=avx2"}} {
		if got, err := r.environment(context.Background(), subject); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v; want %q", subject, got, err, want)
		}
	}
}

// TestNoCompiler: a peer that cannot be restricted is an error, not a figure of the wrong instructions.
func TestNoCompiler(t *testing.T) {
	t.Setenv("PATH", "")
	r := restriction{dir: t.TempDir()}
	if env, err := r.environment(context.Background(), "onnxruntime-avx2"); err == nil || !strings.Contains(err.Error(), "C compiler") {
		t.Errorf("environment %q, error %v", env, err)
	}
}
