package main

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// avx2 is the end of the name of a subject that is to compute with AVX2 and nothing above it.
const avx2 = "-avx2"

//go:embed avx2/hide.c
var hideSource []byte

// restriction keeps subjects to AVX2: zoo by its environment variable, peers, which have no such switch, by a library that hides what
// else the processor can do (avx2/hide.c). Peers need a C compiler once, Linux, and an Intel processor.
type restriction struct {
	dir     string // for the library
	library string // "" until it is needed
}

// environment returns what a subject's environment has besides this process's.
func (r *restriction) environment(ctx context.Context, subject string) ([]string, error) {
	if !strings.HasSuffix(subject, avx2) {
		return nil, nil
	}
	if strings.HasPrefix(subject, "zoo-") {
		return []string{cpu.Env + "=avx2"}, nil
	}
	if r.library == "" {
		library := filepath.Join(r.dir, "hide.so")
		cc := exec.CommandContext(ctx, "cc", "-O2", "-shared", "-fPIC", "-o", library, "-x", "c", "-")
		cc.Stdin = bytes.NewReader(hideSource)
		if out, err := cc.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s needs a C compiler named cc: %w: %s", subject, err, out)
		}
		r.library = library
	}
	return []string{
		"LD_PRELOAD=" + strings.Join(append([]string{r.library}, strings.Fields(os.Getenv("LD_PRELOAD"))...), " "),
		"GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW",
	}, nil
}
