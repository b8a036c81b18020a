package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/store"
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
