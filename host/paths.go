package host

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
)

// within reports whether a path is one of others or lies below one.
func within(path string, others []string) bool {
	for _, o := range others {
		rel, err := filepath.Rel(o, path)
		if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return true
		}
	}
	return false
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
