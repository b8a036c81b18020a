package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/weights"
)

// ImportOptions say what Import may do.
type ImportOptions struct {
	// Overwrite replaces a model that has the name. Without it only the same file with the same card is taken again, which changes nothing.
	Overwrite bool
}

// Import makes a model of a checkpoint file, under the card's name and tag (TagLocal if it has none). The file may be in any
// format that package weights reads. A name that another model has is refused with ErrNameTaken.
func (h *Hub) Import(ctx context.Context, path string, c *card.Card, o ImportOptions) (*Model, error) {
	x, err := h.cachedIndex()
	if err != nil {
		return nil, err
	}
	full := *c
	if full.Tag == "" {
		full.Tag = TagLocal
	}
	if full.License == "" {
		full.License = "unknown"
	}
	if m := x.ByName(full.Name); m != nil && m.ByTag(full.Tag) != nil {
		return nil, fmt.Errorf("%s:%s is a name of the registry: choose another name or tag", full.Name, full.Tag)
	}
	r := &reference{}
	if r.name, r.tag, err = registry.SplitReference(full.Name + ":" + full.Tag); err != nil {
		return nil, err
	}
	release, err := h.store.Lock(ctx, "pull-"+r.key(), nil) // of two that take the name, one finds it taken
	if err != nil {
		return nil, err
	}
	defer release()
	free, err := h.store.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	d, err := store.HashFile(ctx, f)
	if err != nil {
		return nil, err
	}
	if full.Origin == nil {
		info, err := f.Stat()
		if err != nil {
			return nil, err
		}
		full.Origin = &card.Origin{Digest: d, Size: info.Size(), Unverified: true}
	}
	if !o.Overwrite {
		if same, err := h.taken(r, &full, d); err != nil {
			return nil, err
		} else if same {
			return h.local(ctx, r)
		}
	}
	if err := h.storeWeights(ctx, &full, path, ""); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	provenance, err := h.putProvenance(&full)
	if err != nil {
		return nil, err
	}
	a, err := h.publish(ctx, r.entry(), &full, []ocispec.Descriptor{plainLayer(&full), provenance})
	if err != nil {
		return nil, err
	}
	return h.model(a, SourceStore, r)
}

// taken refuses a name that another model has. It says whether the one that has it is the same: it has the same card, and was made of the file
// with digest d or is that file.
func (h *Hub) taken(r *reference, c *card.Card, d digest.Digest) (same bool, err error) {
	have, err := h.store.Resolve(r.entry())
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	a, err := h.readArtifact(have, r.name, r.tag)
	if err != nil {
		return false, fmt.Errorf("the store has a model %s that cannot be read; --overwrite replaces it: %w", r, err)
	}
	old, now := *a.card, *c
	same = old.Weights.Digest == d || now.Origin.Digest == d && old.Origin != nil && old.Origin.Digest == d
	old.Weights, now.Weights = card.Weights{}, card.Weights{}
	before, err := json.Marshal(old)
	if err != nil {
		return false, err
	}
	after, err := json.Marshal(now)
	if err != nil {
		return false, err
	}
	if same && bytes.Equal(before, after) {
		return true, nil
	}
	return false, fmt.Errorf("%s: %w (%s, %s): choose another name, or replace it with --overwrite", r, ErrNameTaken, a.card.Model, a.card.Weights.Digest)
}

func copyFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	_, err = io.Copy(w, f)
	return err
}

// missing says that a model is not in the store, and what is there of it.
func (h *Hub) missing(ref string, r *reference) error {
	hint := "run zoo cache ls"
	if tags := h.namesakes(r.name); len(tags) > 0 {
		hint = "it has " + strings.Join(tags, ", ")
	}
	return fmt.Errorf("%s: %w: %s", ref, store.ErrNotFound, hint)
}

// Finding is something that Verify found wrong.
type Finding struct {
	// Name is the model as NAME:TAG, or what it is about.
	Name string
	// Err is what is wrong.
	Err error
	// Warning says that the model can be used all the same, as with NaN among its weights.
	Warning bool
}

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

// CacheEntry is a model in the store, or a download that is not complete.
type CacheEntry struct {
	// Reference is what to ask for the model by, as Model.Reference; for a download, its key.
	Reference string
	// Bytes on disk. Blobs that several models share count for each.
	Bytes int64
	// Used is when the model was last used; when the download last got bytes.
	Used time.Time
	// Partial marks an incomplete download, Shared an entry of a shared store.
	Partial bool
	Shared  bool
	// Damaged marks a model whose manifest cannot be read: Verify says more, and Bytes is less than it has.
	Damaged bool

	name string // of the store's index
}

// Cache lists what the store holds, models before downloads.
func (h *Hub) Cache() ([]CacheEntry, error) {
	entries, err := h.store.Entries()
	if err != nil {
		return nil, err
	}
	var list []CacheEntry
	for _, e := range entries {
		if e.Name == "" {
			continue
		}
		c := CacheEntry{Reference: displayName(e.Name), name: e.Name, Used: h.store.Used(e.Descriptor.Digest), Shared: e.Shared}
		blobs, err := h.store.Blobs(e.Descriptor)
		if err != nil { // it can be removed by its name, which is seen here
			c.Damaged, blobs = true, []ocispec.Descriptor{e.Descriptor}
		}
		for _, b := range blobs {
			if size, err := h.store.Size(b.Digest); err == nil {
				c.Bytes += size
			}
		}
		list = append(list, c)
	}
	downloads, err := h.store.Downloads()
	if err != nil {
		return nil, err
	}
	for _, d := range downloads {
		list = append(list, CacheEntry{Reference: d.Key, Bytes: d.Bytes, Used: d.Modified, Partial: true})
	}
	return list, nil
}

// Remove removes models and what only they need, and incomplete downloads by the key that Cache shows. It returns the bytes freed.
func (h *Hub) Remove(ctx context.Context, refs ...string) (int64, error) {
	x, err := h.cachedIndex()
	if err != nil {
		return 0, err
	}
	downloads, err := h.store.Downloads()
	if err != nil {
		return 0, err
	}
	var names []string
	var freed int64
	for _, ref := range refs {
		if i := slices.IndexFunc(downloads, func(d store.Download) bool { return d.Key == ref }); i >= 0 {
			if err := h.discard(ctx, ref); err != nil {
				return freed, err
			}
			freed += downloads[i].Bytes
			continue
		}
		r, err := h.parse(x, ref)
		if err != nil {
			return freed, err
		}
		if _, err := h.store.Resolve(r.entry()); err != nil {
			return freed, h.missing(ref, r)
		}
		names = append(names, r.entry())
	}
	if len(names) == 0 {
		return freed, nil
	}
	n, err := h.store.Remove(ctx, names...)
	return freed + n, err
}

// discard removes an incomplete download that nobody is working on.
func (h *Hub) discard(ctx context.Context, key string) error {
	release, err := h.store.Lock(ctx, "download-"+key, nil)
	if err != nil {
		return err
	}
	defer release()
	p, err := h.store.Partial(key)
	if err != nil {
		return err
	}
	return p.Discard()
}

// PruneOptions say what Prune may remove. With neither limit it removes no model, only what no model needs.
type PruneOptions struct {
	// OlderThan removes models not used for so long. Zero: none. Less is an error.
	OlderThan time.Duration
	// KeepLast keeps so many models, those last used, whatever their age. Models tagged TagLocal are kept always: nothing can bring them back.
	KeepLast int
	// DryRun removes nothing.
	DryRun bool
}

// sweepAge is how old unneeded blobs and downloads must be to be pruned, unless a shorter age is asked for: with them another attempt goes on where
// one was cut off. (What is in use is safe at any age: the store is held.)
const sweepAge = 24 * time.Hour

// Prune removes models by age, then blobs and downloads that nothing needs and that are a day old, or as old as OlderThan if that is less. It returns the models and the bytes
// freed; with DryRun those that would be.
func (h *Hub) Prune(ctx context.Context, o PruneOptions) (models []string, freed int64, err error) {
	if o.OlderThan < 0 {
		return nil, 0, fmt.Errorf("an age of %v is below zero", o.OlderThan)
	}
	list, err := h.Cache()
	if err != nil {
		return nil, 0, err
	}
	list = slices.DeleteFunc(list, func(c CacheEntry) bool { return c.Partial || c.Shared })
	slices.SortStableFunc(list, func(a, b CacheEntry) int { return b.Used.Compare(a.Used) })
	now := h.config.Now()
	var names []string
	for i, c := range list {
		if o.OlderThan == 0 || i < o.KeepLast || now.Sub(c.Used) < o.OlderThan || strings.HasSuffix(c.Reference, ":"+TagLocal) {
			continue
		}
		models = append(models, c.Reference)
		freed += c.Bytes
		names = append(names, c.name)
	}
	if !o.DryRun && len(names) > 0 {
		if freed, err = h.store.Remove(ctx, names...); err != nil {
			return models, freed, err
		}
	}
	age := sweepAge
	if o.OlderThan > 0 {
		age = min(age, o.OlderThan)
	}
	n, err := h.store.Sweep(ctx, now.Add(-age), o.DryRun)
	return models, freed + n, err
}
