// Package store keeps verified blobs on disk in an OCI image layout, so that the cache, an export, a mirror on a static web
// server and what other OCI tools read and write are one format.
//
// Layout below the store's directory:
//
//	oci-layout, index.json, blobs/sha256/<hex>   the OCI image layout; a blob may be a manifest, a card, packed or unpacked weights
//	partial/<key>/                               downloads that are not complete; never read as if they were
//	locks/<name>.lock                            files that processes lock; never removed
//	tmp/                                         files being written
//
// Invariants: a file below blobs has the SHA-256 of its name, was flushed to disk before it got the name, is read-only and
// is a regular file; whatever is not yet verified has no name below blobs. index.json is replaced whole, under a lock. Nothing
// is deleted but by Remove, Sweep and Quarantine. The store may be used by any number of processes and goroutines at once.
package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/internal/files"
)

var (
	// ErrNotFound says that the store has no blob or name.
	ErrNotFound = errors.New("not in the store")
	// ErrSymlink says that something in the store is a symbolic link or another special file; it is not followed.
	ErrSymlink = errors.New("not a regular file")
	// ErrMismatch says that bytes do not have the digest or the size that was asked for.
	ErrMismatch = errors.New("the bytes are not the expected ones")
	// ErrDiskFull says that the disk of the store is full.
	ErrDiskFull = errors.New("the disk is full")
)

const (
	blobDir    = ocispec.ImageBlobsDir + "/" + string(digest.SHA256)
	partialDir = "partial"
	lockDir    = "locks"
	tmpDir     = "tmp"

	indexLock = "index"
	gcLock    = "gc"

	lockPoll = 50 * time.Millisecond
)

// Store is a directory of verified blobs, with read-only stores behind it.
type Store struct {
	// Waiting, if not nil, is called once by a Remove or Sweep that has waited a second for those who hold the store. It is set before the store is used.
	Waiting func()

	dir    string
	root   *os.Root
	shared []string // OCI layouts to read from when dir has not the blob
	layout bool     // of the user's own, outside zoo's home: errors advise another folder
}

// Open opens the store in dir and creates it if need be. shared are directories of other stores, which are only read.
func Open(dir string, shared ...string) (*Store, error) {
	return open(dir, Store{shared: shared})
}

// OpenLayout is Open for a folder that the user named to publish in, not a part of zoo's home.
func OpenLayout(dir string) (*Store, error) {
	return open(dir, Store{layout: true})
}

func open(dir string, s Store) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(abs, 0o755); err != nil {
		return nil, fmt.Errorf("the store cannot be created: %w", err)
	}
	root, err := os.OpenRoot(abs)
	if err != nil {
		return nil, fmt.Errorf("the store cannot be opened: %w", err)
	}
	s.dir, s.root = abs, root
	if err := s.initialise(); err != nil {
		root.Close() // nothing was written through it that is not flushed
		return nil, fmt.Errorf("store %s: %w", abs, s.diskFull(err))
	}
	return &s, nil
}

func (s *Store) initialise() error {
	for _, d := range []string{blobDir, partialDir, lockDir, tmpDir} {
		if err := s.root.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	if _, err := s.root.Lstat(ocispec.ImageLayoutFile); err == nil {
		return nil
	}
	text, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	return s.replace(ocispec.ImageLayoutFile, text)
}

// Close releases the store. Files opened from it stay usable.
func (s *Store) Close() error { return s.root.Close() }

// Dir is the store's directory.
func (s *Store) Dir() string { return s.dir }

// Path returns the path of a blob, from the first store that has it as a regular file.
func (s *Store) Path(d digest.Digest) (string, error) {
	p, _, err := s.stat(d)
	return p, err
}

// Size returns the size of a blob in bytes.
func (s *Store) Size(d digest.Digest) (int64, error) {
	_, info, err := s.stat(d)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Has says whether the store has the blob.
func (s *Store) Has(d digest.Digest) bool {
	_, _, err := s.stat(d)
	return err == nil
}

func (s *Store) stat(d digest.Digest) (string, fs.FileInfo, error) {
	if err := source.CheckDescriptor(ocispec.Descriptor{Digest: d}); err != nil {
		return "", nil, err
	}
	for _, dir := range append([]string{s.dir}, s.shared...) {
		p := filepath.Join(dir, filepath.FromSlash(source.BlobPath(d)))
		info, err := os.Lstat(p)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if !info.Mode().IsRegular() {
			return "", nil, fmt.Errorf("%s: %w: remove it and pull again", p, ErrSymlink)
		}
		return p, info, nil
	}
	return "", nil, fmt.Errorf("%s: %w", d, ErrNotFound)
}

// Open opens a blob for reading.
func (s *Store) Open(d digest.Digest) (*os.File, error) {
	p, before, err := s.stat(d)
	if err != nil {
		return nil, err
	}
	f, err := openShared(p)
	if err != nil {
		return nil, err
	}
	if after, err := f.Stat(); err != nil || !os.SameFile(before, after) {
		f.Close() // only opened
		return nil, fmt.Errorf("%s: %w: it was replaced while being opened", p, ErrSymlink)
	}
	return f, nil
}

// Read reads a small blob, such as a manifest, whole. It hashes what it read and refuses more than limit bytes.
func (s *Store) Read(d digest.Digest, limit int64) ([]byte, error) {
	f, err := s.Open(d)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes: %w", d, limit, ErrMismatch)
	}
	if got := digest.FromBytes(data); got != d {
		return nil, fmt.Errorf("%s holds %s: %w: run zoo verify", f.Name(), got, ErrMismatch)
	}
	return data, nil
}

// Lock waits for the named lock, which one process and one goroutine at a time holds, until the context ends. While another
// holds it, waiting (if not nil) is called about 20 times a second. The caller must call release; the lock of a killed process is
// released by the operating system.
func (s *Store) Lock(ctx context.Context, name string, waiting func()) (release func(), err error) {
	return s.lock(ctx, name, waiting, (*flock.Flock).TryLock)
}

// Hold keeps Remove and Sweep of every process from deleting blobs until release is called. It is held between finding or
// publishing blobs and naming them.
func (s *Store) Hold(ctx context.Context) (release func(), err error) {
	return s.lock(ctx, gcLock, nil, (*flock.Flock).TryRLock)
}

// exclude waits until nobody holds the store, and lets nobody until release is called.
func (s *Store) exclude(ctx context.Context) (release func(), err error) {
	return s.lock(ctx, gcLock, Patiently(s.Waiting), tryExclusive)
}

// Patiently returns what Lock may call while it waits: it calls f, if that is not nil, once it has waited a second.
func Patiently(f func()) (waiting func()) {
	polls := 0
	return func() {
		if polls++; polls == int(time.Second/lockPoll) && f != nil {
			f()
		}
	}
}

func (s *Store) lock(ctx context.Context, name string, waiting func(), try func(*flock.Flock) (bool, error)) (func(), error) {
	l := flock.New(filepath.Join(s.dir, lockDir, name+".lock"))
	for {
		ok, err := try(l)
		if err != nil {
			return nil, fmt.Errorf("lock %s: %w", l.Path(), s.unwritable(s.diskFull(err)))
		}
		if ok {
			return func() { l.Close() }, nil // closing releases; the file stays
		}
		if waiting != nil {
			waiting()
		}
		if err := source.Sleep(ctx, lockPoll); err != nil {
			return nil, fmt.Errorf("waiting for another process (lock %s): %w", l.Path(), err)
		}
	}
}

// diskFull wraps a write error in ErrDiskFull, with advice, where that is the cause.
func (s *Store) diskFull(err error) error {
	if s.layout && isFull(err) {
		return fmt.Errorf("%w: %w: make room for %s or name a folder on another disk, then run again: what was copied is kept", ErrDiskFull, err, s.dir)
	}
	return DiskFull(err)
}

// DiskFull is what the store of zoo's home makes of a write error: it wraps it in ErrDiskFull, with advice, where that is the cause.
func DiskFull(err error) error {
	if isFull(err) {
		return fmt.Errorf("%w: %w: make room (zoo cache ls; zoo cache prune) or set ZOO_HOME to another disk, then run again: what was downloaded is kept", ErrDiskFull, err)
	}
	return err
}

// isFull says whether an error is of a full disk, and has no advice yet.
func isFull(err error) bool {
	return isAny(err, fullErrors) && !errors.Is(err, ErrDiskFull)
}

// isAny says whether an error is one of a list.
func isAny(err error, list []error) bool {
	return slices.ContainsFunc(list, func(e error) bool { return errors.Is(err, e) })
}

// replace writes a small file atomically and flushes it.
func (s *Store) replace(name string, data []byte) error {
	f, tmp, err := s.temp()
	if err != nil {
		return err
	}
	defer s.root.Remove(tmp) // gone after the rename
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := files.Insist(func() error { return s.root.Rename(tmp, name) }); err != nil {
		return err
	}
	return syncDir(s.root, path.Dir(name))
}

// temp creates a file in the store's own tmp directory, on the same file system as the blobs.
func (s *Store) temp() (*os.File, string, error) {
	for {
		name := path.Join(tmpDir, randomName())
		f, err := s.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
		if unwritten := s.unwritable(err); unwritten != err {
			return nil, "", unwritten
		}
		if !errors.Is(err, fs.ErrExist) {
			return f, name, err
		}
	}
}

// unwritable adds advice to the error of a store that is read-only or another user's.
func (s *Store) unwritable(err error) error {
	switch {
	case !errors.Is(err, fs.ErrPermission) && !isAny(err, readOnlyErrors):
		return err
	case s.layout:
		return fmt.Errorf("%s cannot be written: %w: name a folder of yours", s.dir, err)
	default:
		return fmt.Errorf("the store %s cannot be written: %w: set ZOO_HOME to a folder of yours", s.dir, err)
	}
}

// validKey says whether s may name a lock or a partial download.
func validKey(s string) bool {
	return s != "" && len(s) <= 230 && !strings.ContainsAny(s, `/\:`) && s[0] != '.' && filepath.IsLocal(s)
}

// emptyIndex is the index of a new store.
func emptyIndex() *ocispec.Index {
	return &ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
}

func tryExclusive(l *flock.Flock) (bool, error) { return l.TryLock() }
