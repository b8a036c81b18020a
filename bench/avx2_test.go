package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
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

// TestHiddenInstructionsStayVisible runs a program that asks the processor itself.
func TestHiddenInstructionsStayVisible(t *testing.T) {
	flags, _ := os.ReadFile("/proc/cpuinfo")
	if _, err := exec.LookPath("cc"); err != nil || runtime.GOARCH != "amd64" || !strings.Contains(string(flags), " cpuid_fault ") {
		t.Skip("needs a C compiler and a processor whose CPUID can be made to fault")
	}
	program := filepath.Join(t.TempDir(), "program")
	cc := exec.Command("cc", "-o", program, "-x", "c", "-")
	cc.Stdin = strings.NewReader(`
#include <cpuid.h>
#include <stdio.h>
int main(void)
{
	unsigned a, b, c, d;
	__cpuid_count(7, 0, a, b, c, d);
	printf("avx2 %u, avx512f %u, amx-tile %u\n", b >> 5 & 1, b >> 16 & 1, d >> 24 & 1);
	return 0;
}`)
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := restriction{dir: t.TempDir()}
	env, err := r.environment(context.Background(), "onnxruntime-avx2")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if want := "avx2 1, avx512f 0, amx-tile 0\n"; err != nil || string(out) != want {
		t.Errorf("the program saw %q (%v), want %q", out, err, want)
	}
}
