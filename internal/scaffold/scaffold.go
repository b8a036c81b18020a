// Package scaffold writes the Go module of a new family: what `zoo plugin new` makes.
package scaffold

import (
	"bytes"
	"embed"
	"fmt"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
)

// files are the module's, as templates. Their names are those of the module with ".tmpl" behind, so that Go tools leave them alone; NAME stands for the
// family's name.
//
//go:embed template
var files embed.FS

// Module describes the family to be.
type Module struct {
	// Name is the family's: lower-case letters, digits and dashes.
	Name string
	// Path is the Go module's, such as "example.com/ghostnet".
	Path string
	// Zoo is the version of zoo to require, such as "v0.1.0".
	Zoo string
	// Replace is a folder with zoo's source to use in place of a published version; may be empty.
	Replace string
	// Go is the language version, such as "1.26".
	Go string
}

// Package is the name as that of a Go package which the module's other files can import.
func (m Module) Package() string {
	name := strings.ReplaceAll(m.Name, "-", "")
	switch {
	case token.IsKeyword(name), slices.Contains([]string{"main", "init", "sdk", "testing", "zootest"}, name): // the latter are imported beside it
		return name + "net"
	}
	return name
}

// Source is Replace as go.mod wants it.
func (m Module) Source() string {
	if strings.ContainsAny(m.Replace, " \t\"'`()[]{},") {
		return strconv.Quote(m.Replace)
	}
	return m.Replace
}

var modulePath = regexp.MustCompile(`^[A-Za-z0-9~_][A-Za-z0-9.~_-]*(/[A-Za-z0-9.~_-]+)*$`)

// Write writes the module to a folder, which must not exist, and returns the names of its files.
func Write(dir string, m Module) ([]string, error) {
	if !pluginrpc.FamilyName.MatchString(m.Name) {
		return nil, fmt.Errorf("name %q: use lower-case letters, digits and dashes, beginning with a letter", m.Name)
	}
	if m.Path == "" {
		m.Path = "example.com/" + m.Name
	}
	if !modulePath.MatchString(m.Path) {
		return nil, fmt.Errorf("module path %q: use letters, digits, dots, dashes and slashes, as in example.com/%s", m.Path, m.Name)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("a new family needs a folder of its own: %w", err)
	}
	var written []string
	err := fs.WalkDir(files, "template", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(files, p)
		if err != nil {
			return err
		}
		t, err := template.New(path.Base(p)).Parse(string(text))
		if err != nil {
			return err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, m); err != nil {
			return err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(p, "template/"), ".tmpl")
		name = filepath.FromSlash(strings.ReplaceAll(name, "NAME", m.Name))
		written = append(written, name)
		target := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		return os.WriteFile(target, b.Bytes(), 0o644)
	})
	return written, err
}
