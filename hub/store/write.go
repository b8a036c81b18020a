package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/opencontainers/go-digest"

	"github.com/go-modelzoo/zoo/internal/files"
)

func randomName() string { return rand.Text() }

// Writer takes the bytes of a blob and hashes them as they are written. Not safe for concurrent use.
type Writer struct {
	store *Store
	file  *os.File
	name  string
	hash  hash.Hash
	size  int64
	limit int64
}

// Create starts a blob of at most limit bytes. The caller must call Publish or Discard.
func (s *Store) Create(limit int64) (*Writer, error) {
	f, name, err := s.temp()
	if err != nil {
		return nil, s.diskFull(err)
	}
	return &Writer{store: s, file: f, name: name, hash: sha256.New(), limit: limit}, nil
}

// Write implements io.Writer. More than the limit in all is ErrMismatch, and nothing of p is written then.
func (w *Writer) Write(p []byte) (int, error) {
	if int64(len(p)) > w.limit-w.size {
		return 0, fmt.Errorf("more than the %d bytes declared: %w", w.limit, ErrMismatch)
	}
	n, err := w.file.Write(p)
	w.hash.Write(p[:n])
	w.size += int64(n)
	return n, w.store.diskFull(err)
}

// Publish gives the blob its name and returns its digest and size. If want is not empty and is not the digest, the bytes are
// discarded.
func (w *Writer) Publish(want digest.Digest) (digest.Digest, int64, error) {
	got := digest.NewDigest(digest.SHA256, w.hash)
	if want != "" && got != want {
		w.Discard()
		return "", 0, fmt.Errorf("%w: sha256 is %s and should be %s", ErrMismatch, got.Encoded(), want.Encoded())
	}
	if err := w.store.publish(w.file, w.name, got); err != nil {
		w.Discard()
		return "", 0, err
	}
	return got, w.size, nil
}

// Discard drops what was written.
func (w *Writer) Discard() {
	w.file.Close() // the file is removed
	w.store.root.Remove(w.name)
}

// publish flushes an open file whose digest is known, makes it read-only and renames it to the digest. It closes the file.
func (s *Store) publish(f *os.File, name string, d digest.Digest) error {
	err := f.Sync()
	if err == nil {
		err = f.Chmod(0o444)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return s.diskFull(err)
	}
	target := blobPath(d)
	if info, err := s.root.Lstat(target); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s: %w: remove it", path.Join(s.dir, target), ErrSymlink)
	}
	if err := rename(s.root, name, target); err != nil {
		return s.diskFull(err)
	}
	return syncDir(s.root, blobDir)
}

// Put publishes a small blob.
func (s *Store) Put(data []byte) (digest.Digest, error) {
	d := digest.FromBytes(data)
	if s.Has(d) {
		return d, nil
	}
	w, err := s.Create(int64(len(data)))
	if err != nil {
		return "", err
	}
	if _, err := w.Write(data); err != nil {
		w.Discard()
		return "", err
	}
	_, _, err = w.Publish(d)
	return d, err
}

// Ingest publishes the bytes of r as the blob d of the given size.
func (s *Store) Ingest(d digest.Digest, size int64, r io.Reader) error {
	w, err := s.Create(size)
	if err != nil {
		return err
	}
	if _, err := io.Copy(w, r); err != nil {
		w.Discard()
		return err
	}
	if w.size != size {
		w.Discard()
		return fmt.Errorf("%s: %d bytes came and %d were declared: %w", d, w.size, size, ErrMismatch)
	}
	_, _, err = w.Publish(d)
	return err
}

// Partial is the directory of a download that is under way. Whoever uses it holds the lock of the same key.
type Partial struct {
	store *Store
	key   string
}

// Partial returns the download of the given key, such as a digest in hex, and creates its directory.
func (s *Store) Partial(key string) (*Partial, error) {
	if !validKey(key) {
		return nil, fmt.Errorf("%q cannot name a download", key)
	}
	if err := s.root.MkdirAll(path.Join(partialDir, key), 0o755); err != nil {
		return nil, s.diskFull(err)
	}
	return &Partial{s, key}, nil
}

func (p *Partial) path(name string) string { return path.Join(partialDir, p.key, name) }

// OpenFile opens a file of the download for reading and writing, and creates it. Symbolic links are not followed.
func (p *Partial) OpenFile(name string) (*os.File, error) {
	if info, err := p.store.root.Lstat(p.path(name)); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: remove it", path.Join(p.store.dir, p.path(name)), ErrSymlink)
	}
	f, err := p.store.root.OpenFile(p.path(name), os.O_RDWR|os.O_CREATE, 0o644)
	return f, p.store.diskFull(err)
}

// Files maps the names of the download's files to their sizes in bytes.
func (p *Partial) Files() (map[string]int64, error) {
	files := make(map[string]int64)
	err := fs.WalkDir(p.store.root.FS(), path.Join(partialDir, p.key), func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil // its writer removed it since
		}
		if err == nil {
			files[path.Base(name)] = info.Size()
		}
		return err
	})
	return files, err
}

// Remove removes a file of the download; that it is gone already is no error.
func (p *Partial) Remove(name string) error {
	if err := p.store.root.Remove(p.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Publish makes the named file, which has digest d, a blob, and removes the rest of the download. It closes f.
func (p *Partial) Publish(f *os.File, name string, d digest.Digest) error {
	if err := p.store.publish(f, p.path(name), d); err != nil {
		return err
	}
	return p.Discard()
}

// Discard removes the download.
func (p *Partial) Discard() error { return p.store.root.RemoveAll(path.Join(partialDir, p.key)) }

// Recreate makes the download's directory again after Discard.
func (p *Partial) Recreate() error {
	return p.store.diskFull(p.store.root.MkdirAll(path.Join(partialDir, p.key), 0o755))
}

// PartialSize returns how many bytes of a download are on disk; 0 if there is none.
func (s *Store) PartialSize(key string) int64 {
	files, err := (&Partial{s, key}).Files()
	if err != nil {
		return 0
	}
	var sum int64
	for _, size := range files {
		sum += size
	}
	return sum
}

// HashFile returns the digest of an open file's bytes, from where it stands to its end. It ends with the context's error once the context does.
func HashFile(ctx context.Context, f *os.File) (digest.Digest, error) {
	return digest.SHA256.FromReader(files.Reader(ctx, f))
}
