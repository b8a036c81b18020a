package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/internal/files"
)

// AnnotationUnpacked, on a layer, is the digest of what the layer decodes to. The store keeps that blob as long as the layer.
const AnnotationUnpacked = "dev.zoo.unpacked.digest"

// readIndex reads the index.json of a store's directory; an absent one is empty.
func readIndex(dir string) (*ocispec.Index, error) {
	data, err := files.ReadAll(filepath.Join(dir, ocispec.ImageIndexFile), source.MaxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		return emptyIndex(), nil
	}
	if err != nil {
		return nil, err
	}
	x, err := source.DecodeIndex(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: restore it, or remove it and pull again", filepath.Join(dir, ocispec.ImageIndexFile), err)
	}
	return x, nil
}

// update changes index.json under its lock.
func (s *Store) update(ctx context.Context, change func(*ocispec.Index)) error {
	release, err := s.Lock(ctx, indexLock, nil)
	if err != nil {
		return err
	}
	defer release()
	x, err := readIndex(s.dir)
	if err != nil {
		return err
	}
	change(x)
	text, err := json.MarshalIndent(x, "", " ")
	if err != nil {
		return err
	}
	return s.diskFull(s.replace(ocispec.ImageIndexFile, text))
}

// Tag gives the manifest d a name, taking it from another manifest that had it. The empty name lists d without one, as signatures are.
func (s *Store) Tag(ctx context.Context, name string, d ocispec.Descriptor) error {
	return s.update(ctx, func(x *ocispec.Index) {
		x.Manifests = slices.DeleteFunc(x.Manifests, func(m ocispec.Descriptor) bool {
			named := m.Annotations[ocispec.AnnotationRefName]
			return named != "" && named == name || named == "" && name == "" && m.Digest == d.Digest
		})
		d.Annotations = map[string]string{}
		if name != "" {
			d.Annotations[ocispec.AnnotationRefName] = name
		}
		x.Manifests = append(x.Manifests, d)
	})
}

// Resolve finds a named manifest, in this store or a shared one.
func (s *Store) Resolve(name string) (ocispec.Descriptor, error) {
	entries, err := s.Entries()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	for _, e := range entries {
		if e.Name == name {
			return e.Descriptor, nil
		}
	}
	return ocispec.Descriptor{}, fmt.Errorf("%s: %w", name, ErrNotFound)
}

// Entry is a line of the index.
type Entry struct {
	// Name is empty for manifests that refer to another, such as signatures.
	Name       string
	Descriptor ocispec.Descriptor
	// Shared says that the entry is in a shared store.
	Shared bool
}

// Entries lists this store's manifests, then those of the shared stores whose name is new.
func (s *Store) Entries() ([]Entry, error) {
	var list []Entry
	seen := make(map[string]bool)
	for i, dir := range append([]string{s.dir}, s.shared...) {
		x, err := readIndex(dir)
		if err != nil {
			return nil, err
		}
		for _, d := range x.Manifests {
			name := d.Annotations[ocispec.AnnotationRefName]
			if name != "" && seen[name] {
				continue
			}
			seen[name] = true
			list = append(list, Entry{name, d, i > 0})
		}
	}
	return list, nil
}

// Manifest reads and checks a manifest.
func (s *Store) Manifest(d digest.Digest) (*ocispec.Manifest, error) {
	data, err := s.Read(d, source.MaxManifest)
	if err != nil {
		return nil, err
	}
	return source.DecodeManifest(data)
}

// Touch records that a manifest was used now, for Used, to within an hour. A shared store's files are left alone.
func (s *Store) Touch(d digest.Digest) {
	p := blobPath(d)
	info, err := s.root.Lstat(p)
	if now := time.Now(); err == nil && info.Mode().IsRegular() && now.Sub(info.ModTime()) > time.Hour {
		s.root.Chtimes(p, now, now) // only a hint: a failure makes the entry look older
	}
}

// Used returns when a manifest was last used; the zero time if it is not there.
func (s *Store) Used(d digest.Digest) time.Time {
	_, info, err := s.stat(d)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// Blobs lists what a manifest of this store needs: itself, its config and layers, and what its layers unpack to.
func (s *Store) Blobs(d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	list := []ocispec.Descriptor{d}
	if d.MediaType == ocispec.MediaTypeImageIndex {
		data, err := s.Read(d.Digest, source.MaxManifest)
		if err != nil {
			return nil, err
		}
		x, err := source.DecodeIndex(data)
		if err != nil {
			return nil, err
		}
		for _, m := range x.Manifests {
			if !s.Has(m.Digest) {
				continue // an index may list platforms that were not fetched
			}
			below, err := s.Blobs(m)
			if err != nil {
				return nil, err
			}
			list = append(list, below...)
		}
		return list, nil
	}
	m, err := s.Manifest(d.Digest)
	if err != nil {
		return nil, err
	}
	list = append(list, m.Config)
	for _, l := range m.Layers {
		list = append(list, l)
		if u := digest.Digest(l.Annotations[AnnotationUnpacked]); u != "" && u.Validate() == nil {
			list = append(list, ocispec.Descriptor{Digest: u})
		}
	}
	return list, nil
}

// Remove removes names and the blobs that only they need. It returns the bytes freed.
func (s *Store) Remove(ctx context.Context, names ...string) (int64, error) {
	release, err := s.exclude(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	x, err := readIndex(s.dir)
	if err != nil {
		return 0, err
	}
	doomed := make(map[digest.Digest]bool)
	for _, d := range x.Manifests {
		if name := d.Annotations[ocispec.AnnotationRefName]; name != "" && slices.Contains(names, name) {
			doomed[d.Digest] = true
		}
	}
	kept := func(d ocispec.Descriptor) bool {
		name := d.Annotations[ocispec.AnnotationRefName]
		if name != "" {
			return !slices.Contains(names, name)
		}
		m, err := s.Manifest(d.Digest)
		return err != nil && !errors.Is(err, ErrNotFound) || err == nil && (m.Subject == nil || !doomed[m.Subject.Digest])
	}
	candidates, needed := make(map[digest.Digest]bool), make(map[digest.Digest]bool)
	keep := x.Manifests[:0:0]
	for _, d := range x.Manifests {
		set := candidates
		if kept(d) {
			set = needed
			keep = append(keep, d)
		}
		set[d.Digest] = true
		blobs, err := s.Blobs(d)
		if err != nil && kept(d) {
			return 0, unreadable(d, err)
		}
		for _, b := range blobs {
			set[b.Digest] = true
		}
	}
	var freed int64
	var stuck error
	err = s.forget(ctx, func(x *ocispec.Index) { x.Manifests = keep }, func() error {
		for d := range candidates {
			if needed[d] {
				continue
			}
			n, err := s.delete(d)
			freed += n
			stuck = cmp.Or(stuck, err)
		}
		return nil
	})
	return freed, cmp.Or(err, later(stuck))
}

// forget takes from the index what is to be removed, and removes it: in this order, so that no name is of what is gone, but where the disk is too
// full for a new index. Who makes room is then helped more than by an index that is never wrong.
func (s *Store) forget(ctx context.Context, change func(*ocispec.Index), remove func() error) error {
	full := s.update(ctx, change)
	if full != nil && !errors.Is(full, ErrDiskFull) {
		return full
	}
	if err := remove(); err != nil || full == nil {
		return err
	}
	return s.update(ctx, change)
}

// later adds advice to the error of a blob that is in use: Windows removes none that a process has mapped.
func later(stuck error) error {
	if stuck == nil || !files.InUse(stuck) {
		return stuck
	}
	return fmt.Errorf("%w: zoo cache prune removes it once no program uses it", stuck)
}

// unreadable is the error of a manifest of which nobody can say what it needs.
func unreadable(d ocispec.Descriptor, err error) error {
	name := cmp.Or(d.Annotations[ocispec.AnnotationRefName], "a signature")
	return fmt.Errorf("%s cannot be read, so nothing is removed; zoo verify --repair forgets what is damaged, and pulling or removing the model ends this: %w", name, err)
}

func blobPath(d digest.Digest) string { return path.Join(blobDir, d.Encoded()) }

// delete removes one blob of this store, if it has it.
func (s *Store) delete(d digest.Digest) (int64, error) {
	p := blobPath(d)
	info, err := s.root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := s.root.Remove(p); err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Sweep removes blobs that no named manifest needs, nor one that refers to such a manifest, files left by killed writers and partial downloads, all
// of them only if they were last written before the given time. With dryRun it only counts. It returns the bytes.
func (s *Store) Sweep(ctx context.Context, before time.Time, dryRun bool) (int64, error) {
	release, err := s.exclude(ctx)
	if err != nil {
		return 0, err
	}
	defer release()
	x, err := readIndex(s.dir)
	if err != nil {
		return 0, err
	}
	needed, orphans, err := s.needed(x)
	if err != nil {
		return 0, err
	}
	var freed int64
	var stuck error
	remove := func() (err error) {
		freed, stuck, err = s.removeUnneeded(needed, before, dryRun)
		return err
	}
	if len(orphans) > 0 && !dryRun {
		err = s.forget(ctx, func(x *ocispec.Index) {
			x.Manifests = slices.DeleteFunc(x.Manifests, func(d ocispec.Descriptor) bool {
				return d.Annotations[ocispec.AnnotationRefName] == "" && slices.Contains(orphans, d.Digest)
			})
		}, remove)
	} else {
		err = remove()
	}
	if err != nil || dryRun {
		return freed, err
	}
	downloads, err := s.Downloads()
	if err != nil {
		return freed, err
	}
	for _, d := range downloads {
		if files, err := (&Partial{s, d.Key}).Files(); err == nil && len(files) == 0 {
			if err := s.root.RemoveAll(path.Join(partialDir, d.Key)); err != nil {
				return freed, err
			}
		}
	}
	return freed, later(stuck)
}

// needed finds the blobs, by path, that stay, and the manifests without a name that go because they refer to nothing that stays.
func (s *Store) needed(x *ocispec.Index) (needed map[string]bool, orphans []digest.Digest, err error) {
	needed = make(map[string]bool)
	for _, named := range []bool{true, false} { // first what has a name: the others are needed if they refer to that
		for _, d := range x.Manifests {
			if (d.Annotations[ocispec.AnnotationRefName] != "") != named {
				continue
			}
			m, err := s.Manifest(d.Digest)
			if !named && (errors.Is(err, ErrNotFound) || err == nil && m.Subject != nil && !needed[blobPath(m.Subject.Digest)]) {
				orphans = append(orphans, d.Digest)
				continue
			}
			blobs, err := s.Blobs(d)
			if err != nil {
				return nil, nil, unreadable(d, err)
			}
			for _, b := range blobs {
				needed[blobPath(b.Digest)] = true
			}
		}
	}
	return needed, orphans, nil
}

// removeUnneeded is the part of Sweep that goes through the folders. stuck is the first file that somebody holds.
func (s *Store) removeUnneeded(needed map[string]bool, before time.Time, dryRun bool) (freed int64, stuck, err error) {
	for _, dir := range []string{blobDir, tmpDir, partialDir} {
		err := fs.WalkDir(s.root.FS(), dir, func(name string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || needed[name] {
				return err
			}
			info, err := entry.Info()
			if err != nil || info.ModTime().After(before) {
				return err
			}
			if !dryRun {
				if err := s.root.Remove(name); err != nil {
					stuck = cmp.Or(stuck, err)
					return nil
				}
			}
			freed += info.Size()
			return nil
		})
		if err != nil {
			return freed, stuck, err
		}
	}
	return freed, stuck, nil
}

// Download is an incomplete download.
type Download struct {
	Key      string
	Bytes    int64
	Modified time.Time
}

// Downloads lists the incomplete downloads.
func (s *Store) Downloads() ([]Download, error) {
	entries, err := fs.ReadDir(s.root.FS(), partialDir)
	if err != nil {
		return nil, err
	}
	var list []Download
	for _, e := range entries {
		if info, err := e.Info(); err == nil && e.IsDir() {
			list = append(list, Download{e.Name(), s.PartialSize(e.Name()), info.ModTime()})
		}
	}
	return list, nil
}

// Quarantine takes the name from a damaged blob, so that the next pull fetches it again.
func (s *Store) Quarantine(d digest.Digest) error {
	_, err := s.delete(d)
	return err
}
