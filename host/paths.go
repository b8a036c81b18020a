package host

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// within reports whether a path is another or lies below it.
func within(path, other string) bool {
	rel, err := filepath.Rel(other, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// resolve returns the absolute path without links. A path that does not exist is made absolute only.
func resolve(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return abs, nil
	}
	return real, err
}

// resolveAll resolves a list, leaving out "".
func resolveAll(paths []string) ([]string, error) {
	var out []string
	for _, p := range paths {
		if p == "" {
			continue
		}
		r, err := resolve(p)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}
