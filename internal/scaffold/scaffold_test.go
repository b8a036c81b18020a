package scaffold

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNewFamilyBuildsAndConforms makes a module outside of this one, runs its tests and builds its plugin.
func TestNewFamilyBuildsAndConforms(t *testing.T) {
	if testing.Short() {
		t.Skip("builds a module: not with -short")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "my-net")
	if _, err := Write(dir, Module{Name: "my-net", Zoo: "v0.0.0", Replace: root, Go: "1.26"}); err != nil {
		t.Fatal(err)
	}
	// The sums of zoo's own dependencies are those of this module.
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), sums, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"mod", "tidy"},
		{"vet", "./..."},
		{"test", "./..."},
		{"build", "-o", "plugins/zoo-my-net", "./cmd/zoo-my-net"},
	} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

func TestBadNamesAndExistingFoldersRefused(t *testing.T) {
	if _, err := Write(filepath.Join(t.TempDir(), "x"), Module{Name: "../x"}); err == nil {
		t.Error("a name with a path was taken")
	}
	if _, err := Write(t.TempDir(), Module{Name: "x"}); err == nil {
		t.Error("an existing folder was taken")
	}
}
