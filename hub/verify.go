package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/weights"
)

// Finding is something that Verify found wrong.
type Finding struct {
	// Name is the model as NAME:TAG, or what it is about.
	Name string
	// Err is what is wrong.
	Err error
	// Warning says that the model can be used all the same, as with NaN among its weights.
	Warning bool
}

// Pinned reports whether nothing is damaged: the bytes are others than the lock pins, which no repair changes.
func (f Finding) Pinned() bool { return errors.Is(f.Err, lock.ErrPinned) }

// Verify reads every byte of the blobs of the models and of their signatures and compares digests, checks cards and pins in the store, and
// looks for values that are not finite. No ref means all models. With repair, damaged blobs lose their names, so that the next pull fetches
// them. A model that somebody removes meanwhile is no finding.
func (h *Hub) Verify(ctx context.Context, repair bool, refs ...string) ([]Finding, error) {
	var wanted []string
	x, err := h.cachedIndex()
	if err != nil {
		return nil, err
	}
	for _, ref := range refs {
		r, err := h.parse(x, ref)
		if err != nil {
			return nil, err
		}
		if _, err := h.store.Resolve(r.entry()); err != nil {
			return nil, h.missing(ref, r)
		}
		wanted = append(wanted, r.entry())
	}
	entries, err := h.store.Entries()
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, e := range entries {
		if len(wanted) > 0 && !slices.Contains(wanted, e.Name) || !isModel(e.Name) {
			continue
		}
		found, err := h.verifyEntry(ctx, e, repair && !e.Shared)
		if err != nil {
			return findings, err
		}
		findings = append(findings, found...)
	}
	if len(wanted) > 0 {
		return findings, nil
	}
	// A signature that cannot be read does not say whose it is: it is looked at by itself.
	for _, e := range entries {
		if e.Name != "" {
			continue
		}
		if _, err := h.store.Blobs(e.Descriptor); err == nil {
			continue // with its model
		}
		found, err := h.verifyBlobs(ctx, e, "a signature", []ocispec.Descriptor{e.Descriptor}, repair && !e.Shared)
		if err != nil {
			return findings, err
		}
		findings = append(findings, found...)
	}
	return findings, nil
}

func (h *Hub) verifyEntry(ctx context.Context, e store.Entry, repair bool) ([]Finding, error) {
	ref := displayName(e.Name)
	blobs, err := h.needed(e.Descriptor)
	if err != nil {
		blobs = []ocispec.Descriptor{e.Descriptor} // the manifest itself is damaged or missing
	}
	findings, err := h.verifyBlobs(ctx, e, ref, blobs, repair)
	if err != nil || len(findings) > 0 {
		return findings, err
	}
	m, err := h.Local(ctx, ref)
	if errors.Is(err, store.ErrNotFound) && h.listed(e) {
		m, err = h.Local(ctx, ref) // pulled again meanwhile
	}
	var f *weights.File
	if err == nil {
		f, err = weights.Open(m.Path)
	}
	if err != nil {
		if !h.listed(e) {
			return nil, ctx.Err() // somebody removed it since
		}
		return []Finding{{Name: ref, Err: err}}, ctx.Err()
	}
	defer f.Close() // only read
	odd, err := weights.Verify(ctx, f)
	if err != nil {
		return []Finding{{Name: ref, Err: err}}, ctx.Err()
	}
	for _, o := range odd {
		findings = append(findings, Finding{Name: ref, Err: errors.New(o.String()), Warning: true})
	}
	return findings, nil
}

// listed says whether the store still has the entry.
func (h *Hub) listed(e store.Entry) bool {
	entries, err := h.store.Entries()
	return err != nil || slices.ContainsFunc(entries, func(now store.Entry) bool { return now.Name == e.Name && now.Descriptor.Digest == e.Descriptor.Digest })
}

// verifyBlobs hashes blobs of an entry, and with repair takes the names of the damaged ones.
func (h *Hub) verifyBlobs(ctx context.Context, e store.Entry, ref string, blobs []ocispec.Descriptor, repair bool) ([]Finding, error) {
	var findings []Finding
	for _, b := range blobs {
		if b.MediaType == "" && !h.store.Has(b.Digest) {
			continue // unpacked weights are made again when needed
		}
		err := h.verifyBlob(ctx, ref, b)
		if errors.Is(err, store.ErrNotFound) {
			if !h.listed(e) {
				return nil, nil // somebody removed it since
			}
			err = h.verifyBlob(ctx, ref, b) // or pulled it again
		}
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return findings, ctx.Err()
		}
		findings = append(findings, Finding{Name: ref, Err: err})
		if repair && !errors.Is(err, store.ErrNotFound) {
			if err := h.store.Quarantine(b.Digest); err != nil {
				return findings, err
			}
		}
	}
	return findings, nil
}

// needed lists the blobs of a manifest of the store and of the signatures that are there of it.
func (h *Hub) needed(d ocispec.Descriptor) ([]ocispec.Descriptor, error) {
	list, err := h.store.Blobs(d)
	if err != nil {
		return nil, err
	}
	entries, err := h.store.Entries()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if e.Name != "" {
			continue
		}
		m, err := h.store.Manifest(e.Descriptor.Digest)
		if err != nil || m.Subject == nil || m.Subject.Digest != d.Digest {
			continue // Verify says what cannot be read
		}
		if blobs, err := h.store.Blobs(e.Descriptor); err == nil {
			list = append(list, blobs...)
		}
	}
	return list, nil
}

// whole says whether the store has all that a model was published with, and not only what using it takes.
func (h *Hub) whole(m *Model) bool {
	blobs, err := h.needed(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: m.Manifest})
	return err == nil && !slices.ContainsFunc(blobs, func(b ocispec.Descriptor) bool { return b.MediaType != "" && !h.store.Has(b.Digest) })
}

// verifyBlob hashes a blob of the store.
func (h *Hub) verifyBlob(ctx context.Context, ref string, b ocispec.Descriptor) error {
	f, err := h.store.Open(b.Digest)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if b.Size > 0 && info.Size() != b.Size {
		return fmt.Errorf("%s has %d bytes and should have %d: %w", b.Digest, info.Size(), b.Size, store.ErrMismatch)
	}
	v := digest.SHA256.Digester()
	progress := &progressWriter{h, Progress{Name: ref, Stage: StageVerify, Total: info.Size(), Source: SourceStore}}
	if _, err := io.Copy(io.MultiWriter(v.Hash(), progress), files.Reader(ctx, f)); err != nil {
		return err
	}
	if got := v.Digest(); got != b.Digest {
		return fmt.Errorf("%s is damaged, it hashes to %s: %w", b.Digest, got, store.ErrMismatch)
	}
	return nil
}
