package hub

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/store"
)

// missing says that a model is not in the store, and what is there of it.
func (h *Hub) missing(ref string, r *reference) error {
	hint := "run zoo cache ls"
	if tags := h.namesakes(r.name); len(tags) > 0 {
		hint = "it has " + strings.Join(tags, ", ")
	}
	return fmt.Errorf("%s: %w: %s", ref, store.ErrNotFound, hint)
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
	entries, err := h.store.Entries()
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
		i := slices.IndexFunc(entries, func(e store.Entry) bool { return e.Name == r.entry() })
		if i < 0 {
			return freed, h.missing(ref, r)
		}
		if entries[i].Shared {
			return freed, fmt.Errorf("%s is in a shared store, which is only read: remove it there", ref)
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
	release, err := h.store.Lock(ctx, "download-"+key, store.Patiently(func() { h.warn("waiting for another process that is downloading %s", key) }))
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
