package scaffold

import (
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path"
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

// TestNameThatGoKnowsDoesNotCompile makes families whose names mean something else in Go, or to the module's own files.
func TestNameThatGoKnowsDoesNotCompile(t *testing.T) {
	for _, name := range []string{"type", "go", "main", "init", "sdk", "zootest", "testing"} {
		dir := filepath.Join(t.TempDir(), name)
		if _, err := Write(dir, Module{Name: name, Zoo: "v0.0.0", Go: "1.26"}); err != nil {
			t.Fatal(err)
		}
		imported := map[string]bool{}
		for _, file := range []string{"family.go", "family_test.go", "net.go", "cmd/zoo-" + name + "/main.go"} {
			f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, file), nil, 0)
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			clear(imported)
			for _, i := range f.Imports {
				as := path.Base(strings.Trim(i.Path.Value, `"`))
				if i.Name != nil && i.Name.Name != "_" {
					as = i.Name.Name
				}
				if imported[as] || as == "main" || as == "init" {
					t.Errorf("%s: %s imports two packages as %s, or one that cannot be", name, file, as)
				}
				imported[as] = true
			}
		}
	}
}

func TestModuleFileThatGoCannotRead(t *testing.T) {
	for path, ok := range map[string]bool{"example.com/a-b/c_d/v2": true, "x": true, "bad path": false, "a//b": false, "/a": false, "a\nreplace b => c": false} {
		_, err := Write(filepath.Join(t.TempDir(), "x"), Module{Name: "x", Path: path})
		if (err == nil) != ok {
			t.Errorf("%q: error %v", path, err)
		}
	}
	dir := filepath.Join(t.TempDir(), "x")
	if _, err := Write(dir, Module{Name: "x", Zoo: "v0.0.0", Replace: "/my files/zoo", Go: "1.26"}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil || !strings.Contains(string(text), `=> "/my files/zoo"`) {
		t.Errorf("%v\n%s", err, text)
	}
}
