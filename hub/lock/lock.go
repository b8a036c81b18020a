// Package lock reads and writes zoo.lock, the file in a project's folder that pins the models and plugin binaries that the
// project uses: trusted on first use, refused when they change.
//
// A model is pinned by the digest of its safetensors file, which is the same whichever source serves it, and by the digest
// of the file that its authors published, once that is known. A plugin is pinned by version and by the digests of its
// binaries on all platforms, so that colleagues on other machines run the same code.
//
// Invariants: the file is replaced whole (written, flushed, renamed) while a lock beside it is held; entries change only
// through Update; a File is not safe for concurrent use.
package lock

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/internal/strictjson"
)

// Name is the file's name in a project's folder.
const Name = "zoo.lock"

// ErrPinned says that something is not what the lock pins.
var ErrPinned = errors.New("not what the lock pins")

// ErrInvalid says that a lock file is not well-formed.
var ErrInvalid = errors.New("lock file is not valid")

const (
	schema   = 1
	maxBytes = 4 << 20
)

// File is the content of zoo.lock.
type File struct {
	// Schema is the version of the format.
	Schema int `json:"schema"`
	// Models maps "NAME:TAG", or "oci://HOST/PATH/NAME:TAG" for a model that was asked of that registry, to its pin.
	Models map[string]Model `json:"models,omitempty"`
	// Plugins maps a family's name to its pin.
	Plugins map[string]Plugin `json:"plugins,omitempty"`

	path string // where it was loaded from, for errors
}

// where names the file in an error.
func (f *File) where() string { return cmp.Or(f.path, Name) }

// Model pins a model's weights.
type Model struct {
	// Weights is the digest of the safetensors file.
	Weights digest.Digest `json:"weights"`
	// Origin is the digest of the file that the authors published. Empty: not known.
	Origin digest.Digest `json:"origin,omitempty"`
}

// Plugin pins a family's plugin.
type Plugin struct {
	Version string `json:"version"`
	// Constraint is what was asked for, such as "^1.2".
	Constraint string `json:"constraint,omitempty"`
	// Platforms maps GOOS/GOARCH to the digest of the binary.
	Platforms map[string]digest.Digest `json:"platforms"`
}

// Parse reads and checks a lock file.
func Parse(data []byte) (*File, error) {
	if len(data) > maxBytes {
		return nil, fmt.Errorf("%w: it has more than %d bytes", ErrInvalid, maxBytes)
	}
	f := new(File)
	if err := strictjson.Unmarshal(data, f); err != nil { // a pin that is not understood must not be ignored
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if f.Schema != schema {
		return nil, fmt.Errorf("%w: schema %d is not %d: update zoo", ErrInvalid, f.Schema, schema)
	}
	for ref, m := range f.Models {
		if !validModel(ref) {
			return nil, fmt.Errorf("%w: %q is neither NAME:TAG nor oci://HOST/PATH/NAME:TAG", ErrInvalid, ref)
		}
		if !valid(m.Weights) || m.Origin != "" && !valid(m.Origin) {
			return nil, fmt.Errorf("%w: %s has digests %q and %q", ErrInvalid, ref, m.Weights, m.Origin)
		}
	}
	for name, p := range f.Plugins {
		if _, err := semver.StrictNewVersion(p.Version); err != nil || !registry.ValidName(name) {
			return nil, fmt.Errorf("%w: plugin %q version %q", ErrInvalid, name, p.Version)
		}
		for platform, d := range p.Platforms {
			if !valid(d) {
				return nil, fmt.Errorf("%w: plugin %s on %s has digest %q", ErrInvalid, name, platform, d)
			}
		}
	}
	return f, nil
}

// validModel says whether ref can be the key of a model: NAME:TAG, with an address before it if the model was asked of one registry.
func validModel(ref string) bool {
	_, model, _ := registry.CutAddress(ref)
	_, tag, err := registry.SplitReference(model)
	return err == nil && tag != ""
}

func valid(d digest.Digest) bool { return d.Validate() == nil && d.Algorithm() == digest.SHA256 }

// Load reads the file at path; one that does not exist, or has no bytes as touch makes it, pins nothing.
func Load(path string) (*File, error) {
	data, err := files.ReadAll(path, maxBytes)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return &File{Schema: schema, path: path}, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.path = path
	return f, nil
}

// Find returns the path of the nearest zoo.lock in dir or a folder above it, and whether there is one.
func Find(dir string) (string, bool) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", false
	}
	for {
		path := filepath.Join(dir, Name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, true
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", false
		}
		dir = parent
	}
}

// Update changes the file at path: change gets its content and may alter it; if it returns an error nothing is written.
func Update(ctx context.Context, path string, change func(*File) error) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// Whoever may write to the folder may lock the guard, also one that another user's process made.
	guard := flock.New(filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".guard"), flock.SetPermissions(0o644))
	if _, err := guard.TryLockContext(ctx, 20*time.Millisecond); ctx.Err() != nil {
		return fmt.Errorf("waiting for another process that writes %s: %w", path, err)
	} else if err != nil {
		return fmt.Errorf("%s cannot be changed: %w", path, err)
	}
	defer func() { err = errors.Join(err, guard.Close()) }()
	f, err := Load(path)
	if err != nil {
		return err
	}
	before, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := change(f); err != nil {
		return err
	}
	after, err := json.MarshalIndent(f, "", "  ")
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	if _, err := Parse(after); err != nil {
		return err
	}
	files.RemoveLeft(path)
	return files.Replace(path, append(after, '\n'), 0o644)
}

// PinModel checks a model against its pin, and pins it if it has none. It says whether the pin is new.
func (f *File) PinModel(ref string, m Model) (added bool, err error) {
	old, pinned := f.Models[ref]
	if pinned {
		if old.Weights != m.Weights || old.Origin != "" && m.Origin != "" && old.Origin != m.Origin {
			return false, fmt.Errorf("%s: %w: weights %s (origin %s) and %s (origin %s) is pinned: if the change is wanted, remove the entry from %s and pull again",
				ref, ErrPinned, m.Weights, m.Origin, old.Weights, old.Origin, f.where())
		}
		if old.Origin == "" && m.Origin != "" {
			f.Models[ref] = m
		}
		return false, nil
	}
	if f.Models == nil {
		f.Models = make(map[string]Model)
	}
	f.Models[ref] = m
	return true, nil
}

// CheckPlugin checks a plugin binary against its pin. A plugin that is not pinned passes.
func (f *File) CheckPlugin(name, version, platform string, d digest.Digest) error {
	p, ok := f.Plugins[name]
	if !ok {
		return nil
	}
	if p.Version != version {
		return fmt.Errorf("plugin %s %s: %w: version %s is, in %s: run zoo plugin install %s@%s", name, version, ErrPinned, p.Version, f.where(), name, p.Version)
	}
	if want, ok := p.Platforms[platform]; ok && want != d {
		return fmt.Errorf("plugin %s %s on %s: %w: %s is, and the binary has %s: if the change is wanted, remove the entry from %s and install again",
			name, version, platform, ErrPinned, want, d, f.where())
	}
	return nil
}

// PinPlugin pins a plugin, replacing an older pin.
func (f *File) PinPlugin(name string, p Plugin) {
	if f.Plugins == nil {
		f.Plugins = make(map[string]Plugin)
	}
	f.Plugins[name] = p
}
