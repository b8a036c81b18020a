// Package shared finds the optional folder of real checkpoints and images that some tests check against.
//
// The folder is not part of the module: tests that need it call Path, which skips them with a message when it is
// absent. It is looked for in $ZOO_SHARED, else as a folder "shared" beside the module's root.
package shared

import (
	"os"
	"path/filepath"
	"testing"
)

// Path returns the path of name (slash-separated, such as "weights/resnet20-12fca82f.th") in the shared folder.
// It skips the test, saying how to provide the file, when the folder or the file is not there.
func Path(tb testing.TB, name string) string {
	tb.Helper()
	root, ok := Root()
	if !ok {
		tb.Skipf("%s is needed: set ZOO_SHARED to a folder that holds it", name)
	}
	p := filepath.Join(root, filepath.FromSlash(name))
	if _, err := os.Stat(p); err != nil {
		tb.Skipf("%s is needed and not in %s: %v", name, root, err)
	}
	return p
}

// Root returns the shared folder and whether there is one.
func Root() (string, bool) {
	if dir := os.Getenv("ZOO_SHARED"); dir != "" {
		info, err := os.Stat(dir)
		return dir, err == nil && info.IsDir()
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			p := filepath.Join(filepath.Dir(dir), "shared")
			info, err := os.Stat(p)
			return p, err == nil && info.IsDir()
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}
