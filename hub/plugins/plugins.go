// Package plugins keeps the plugin binaries that were installed below $ZOO_HOME/plugins:
//
//	plugins/<name>/<version>/zoo-<name>[.exe]   the binary, read-only and executable (0555)
//	plugins/<name>/<version>/installed.json     its record: version, protocol, SHA-256, where it came from
//
// Invariants: a version's directory appears whole, by rename, after the binary's digest was compared, and goes whole, by rename; neither the binary nor
// any directory from the plugins' root down to it may be written by other users, and Check refuses to hand out one where that is no longer so,
// or whose bytes are not those of the record. Whoever starts a binary compares its digest once more at every start (SecureConfig
// of hashicorp/go-plugin takes Installed.SHA256).
//
// Functions are safe for concurrent use, in several processes too.
package plugins

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/Masterminds/semver/v3"
	"github.com/gofrs/flock"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/internal/files"
)

var (
	// ErrNotInstalled says that no installed version fits.
	ErrNotInstalled = errors.New("not installed")
	// ErrTampered says that a binary is not what was installed.
	ErrTampered = errors.New("the plugin's binary was changed since it was installed")
	// ErrWritable says that other users could replace a binary.
	ErrWritable = errors.New("other users can write to it")
)

const (
	recordName = "installed.json"
	maxRecord  = 64 << 10 // bytes

	// Names of directories that are no version's: nothing in them is found, so nothing in them runs.
	installing = ".installing-"
	removing   = ".removing-"
)

// Installed is the record of a plugin.
type Installed struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Protocol int    `json:"protocol,omitempty"`
	// SHA256 is the binary's digest in hex.
	SHA256 string `json:"sha256"`
	// Source says where the binary came from.
	Source string `json:"source"`
	// Path is the binary's.
	Path string `json:"-"`
}

// Sum returns the digest as bytes, as SecureConfig wants it.
func (i Installed) Sum() ([]byte, error) { return hex.DecodeString(i.SHA256) }

// Dir is a directory of installed plugins.
type Dir string

// BinaryName is the file name of a plugin on this system.
func BinaryName(name string) string {
	if runtime.GOOS == "windows" {
		return "zoo-" + name + ".exe"
	}
	return "zoo-" + name
}

func (d Dir) path(name, version string) string { return filepath.Join(string(d), name, version) }

// CheckNames refuses names and versions that no plugin can be installed or published under.
func CheckNames(name, version string) error {
	if !registry.ValidName(name) {
		return fmt.Errorf("%q is not a plugin name", name)
	}
	if _, err := semver.StrictNewVersion(version); err != nil || !registry.ValidTag(version) {
		return fmt.Errorf("%q is not a plugin version such as 1.2.0", version)
	}
	return nil
}

// Install copies a binary from r. It must have the digest of the record. Installing the same version with the same digest again
// does nothing; with another digest it is refused.
func (d Dir) Install(ctx context.Context, rec Installed, r io.Reader) (_ Installed, err error) {
	if err := CheckNames(rec.Name, rec.Version); err != nil {
		return rec, err
	}
	parent := filepath.Join(string(d), rec.Name)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return rec, err
	}
	unlock, err := d.lock(ctx, rec.Name)
	if err != nil {
		return rec, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if have, err := d.Check(rec.Name, rec.Version); err == nil {
		if have.SHA256 != rec.SHA256 {
			return rec, fmt.Errorf("plugin %s %s is installed with another digest (%s): remove it first if the change is wanted", rec.Name, rec.Version, have.SHA256)
		}
		return have, nil
	} else if !errors.Is(err, ErrNotInstalled) {
		return rec, err
	}
	tmp, err := os.MkdirTemp(parent, installing+"*")
	if err != nil {
		return rec, err
	}
	defer removeAll(tmp) // gone after the rename
	if err := writeBinary(ctx, filepath.Join(tmp, BinaryName(rec.Name)), rec.SHA256, r); err != nil {
		return rec, fmt.Errorf("plugin %s %s: %w", rec.Name, rec.Version, err)
	}
	text, err := json.MarshalIndent(rec, "", "  ")
	if err != nil {
		return rec, err
	}
	if err := files.Replace(filepath.Join(tmp, recordName), text, 0o444); err != nil {
		return rec, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return rec, err
	}
	// Insistently: a virus scanner reads a program as soon as it is written.
	if err := files.Insist(func() error { return os.Rename(tmp, d.path(rec.Name, rec.Version)) }); err != nil {
		return rec, err
	}
	// The directory is closed to writing only now: a rename must write to it on some systems.
	if err := os.Chmod(d.path(rec.Name, rec.Version), 0o555); err != nil {
		return rec, err
	}
	return d.Check(rec.Name, rec.Version)
}

// lock waits until nobody else installs or removes versions of a plugin, and removes what those left that were killed.
func (d Dir) lock(ctx context.Context, name string) (unlock func() error, err error) {
	lock := flock.New(filepath.Join(string(d), "."+name+".lock"))
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return nil, fmt.Errorf("waiting for another installation or removal of %s: %w", name, err)
	}
	entries, err := os.ReadDir(filepath.Join(string(d), name))
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), installing) || strings.HasPrefix(e.Name(), removing) {
			err = errors.Join(err, removeAll(filepath.Join(string(d), name, e.Name())))
		}
	}
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock.Close, nil
}

func writeBinary(ctx context.Context, path, want string, r io.Reader) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o700)
	if err != nil {
		return err
	}
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, sum), files.Reader(ctx, r))
	if got := hex.EncodeToString(sum.Sum(nil)); err == nil && got != want {
		err = fmt.Errorf("%w: it hashes to %s and should to %s", ErrTampered, got, want)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = f.Chmod(0o555)
	}
	return errors.Join(err, f.Close())
}

// removeAll removes a directory that may be read-only.
func removeAll(dir string) error {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			err = os.Chmod(path, 0o755)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.RemoveAll(dir)
}

// Check returns an installed version after comparing its bytes with the record and the permissions on the way to it.
func (d Dir) Check(name, version string) (Installed, error) {
	if err := CheckNames(name, version); err != nil {
		return Installed{}, err
	}
	rec, err := d.check(name, version)
	if err != nil && !errors.Is(err, ErrNotInstalled) && !errors.Is(err, ErrWritable) {
		err = fmt.Errorf("%w: run zoo plugin remove %s@%s and install it again", err, name, version)
	}
	return rec, err
}

func (d Dir) check(name, version string) (Installed, error) {
	dir := d.path(name, version)
	rec, err := readRecord(dir, name, version)
	if err != nil {
		return rec, err
	}
	for _, path := range []string{string(d), filepath.Dir(dir), dir, filepath.Join(dir, recordName), rec.Path} {
		if err := checkPath(path, path == rec.Path || strings.HasSuffix(path, recordName)); err != nil {
			return rec, fmt.Errorf("plugin %s %s: %w", name, version, err)
		}
	}
	f, err := os.Open(rec.Path)
	if err != nil {
		return rec, err
	}
	defer f.Close() // only read
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return rec, err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != rec.SHA256 {
		return rec, fmt.Errorf("plugin %s %s: %w: %s hashes to %s and should to %s", name, version, ErrTampered, rec.Path, got, rec.SHA256)
	}
	return rec, nil
}

func readRecord(dir, name, version string) (Installed, error) {
	data, err := files.ReadAll(filepath.Join(dir, recordName), maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return Installed{}, fmt.Errorf("plugin %s %s: %w", name, version, ErrNotInstalled)
	}
	var rec Installed
	if err == nil {
		err = json.Unmarshal(data, &rec)
	}
	if err != nil {
		return rec, fmt.Errorf("plugin %s %s: %w", name, version, err)
	}
	if rec.Name != name || rec.Version != version {
		return rec, fmt.Errorf("plugin %s %s: %w: its record is of %s %s", name, version, ErrTampered, rec.Name, rec.Version)
	}
	rec.Path = filepath.Join(dir, BinaryName(name))
	return rec, nil
}

// checkPath refuses links, special files, and what the group or all may write to.
func checkPath(path string, file bool) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if file && !info.Mode().IsRegular() || !file && !info.IsDir() {
		return fmt.Errorf("%s is not a plain file or directory: %w", path, ErrTampered)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 { // Windows has no such bits
		return fmt.Errorf("%s: %w: run chmod go-w on it", path, ErrWritable)
	}
	return nil
}

// noDigest is a digest that no binary has.
var noDigest = strings.Repeat("0", 2*sha256.Size)

// List returns the records of all installed plugins, by name, then newest first. It does not read the binaries. In place of a record that cannot be
// read there is one with a digest that no binary has: nobody starts that plugin, the others can be used, and Check says what is wrong.
func (d Dir) List() ([]Installed, error) {
	names, err := os.ReadDir(string(d))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []Installed
	for _, n := range names {
		if n.Type().IsRegular() { // a lock, or a binary that the user put here to be found without being installed
			continue
		}
		versions, err := d.versions(n.Name())
		if err != nil {
			return nil, err
		}
		for _, v := range versions {
			rec, err := readRecord(d.path(n.Name(), v.Original()), n.Name(), v.Original())
			if errors.Is(err, ErrNotInstalled) {
				continue
			}
			if err != nil {
				rec = Installed{Name: n.Name(), Version: v.Original(), SHA256: noDigest, Path: filepath.Join(d.path(n.Name(), v.Original()), BinaryName(n.Name()))}
			}
			list = append(list, rec)
		}
	}
	return list, nil
}

// versions are the installed versions of a plugin, newest first.
func (d Dir) versions(name string) ([]*semver.Version, error) {
	if !registry.ValidName(name) {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Join(string(d), name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []*semver.Version
	for _, e := range entries {
		if v, err := semver.StrictNewVersion(e.Name()); err == nil {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b *semver.Version) int { return b.Compare(a) })
	return list, nil
}

// Find returns the newest installed version that fits the constraint ("" fits all), checked as Check does.
func (d Dir) Find(name, constraint string) (Installed, error) {
	c, err := ParseConstraint(constraint)
	if err != nil {
		return Installed{}, err
	}
	versions, err := d.versions(name)
	if err != nil {
		return Installed{}, err
	}
	for _, v := range versions {
		if c.Check(v) {
			return d.Check(name, v.Original())
		}
	}
	return Installed{}, fmt.Errorf("plugin %s %s: %w: run zoo plugin install %s", name, constraint, ErrNotInstalled, name)
}

// ParseConstraint reads a constraint such as "^1.2" or ">=1.0, <2"; "" is any release.
func ParseConstraint(s string) (*semver.Constraints, error) {
	if s == "" {
		s = "*"
	}
	c, err := semver.NewConstraint(s)
	if err != nil {
		return nil, fmt.Errorf("%q is not a version constraint such as ^1.2 or 1.2.0: %w", s, err)
	}
	return c, nil
}

// Versions returns the installed versions of a plugin that fit the constraint ("" fits all), newest first; ErrNotInstalled if there are none.
func (d Dir) Versions(name, constraint string) ([]string, error) {
	c, err := ParseConstraint(constraint)
	if err != nil {
		return nil, err
	}
	versions, err := d.versions(name)
	if err != nil {
		return nil, err
	}
	var list []string
	for _, v := range versions {
		if constraint == "" || c.Check(v) {
			list = append(list, v.Original())
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("plugin %s: %w: run zoo plugin list", strings.TrimSpace(name+" "+constraint), ErrNotInstalled)
	}
	return list, nil
}

// Remove removes the installed versions of a plugin that fit the constraint, and returns them. Each goes whole, by rename: a binary
// without its record would be one that nobody verifies.
func (d Dir) Remove(ctx context.Context, name, constraint string) (removed []string, err error) {
	versions, err := d.Versions(name, constraint)
	if err != nil {
		return nil, err
	}
	unlock, err := d.lock(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	for _, v := range versions {
		if err := d.remove(name, v); err != nil {
			return removed, err
		}
		removed = append(removed, v)
	}
	return removed, nil
}

func (d Dir) remove(name, version string) error {
	dir, gone := d.path(name, version), filepath.Join(string(d), name, removing+version)
	if info, err := os.Lstat(dir); err == nil && info.IsDir() {
		if err := os.Chmod(dir, 0o755); err != nil { // a rename must write to it on some systems
			return err
		}
	}
	err := files.Insist(func() error { return os.Rename(dir, gone) })
	if files.InUse(err) {
		return fmt.Errorf("plugin %s %s cannot be removed: if a program runs it, end that and remove it again: %w", name, version, err)
	}
	if err != nil {
		return err
	}
	return files.Insist(func() error { return removeAll(gone) })
}
