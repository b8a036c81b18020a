package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
)

// originKey is the key of the download of an authors' file, which all models made of it share.
func originKey(o *registry.Origin) string {
	if o == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(o.URL + o.SHA256))
	return "origin-" + hex.EncodeToString(sum[:16])
}

// fetchOrigin pulls the authors' file and converts it to safetensors.
func (h *Hub) fetchOrigin(ctx context.Context, res *Resolved) (*artifact, error) {
	name := res.String()
	blob := download.Blob{Repository: res.repository, Descriptor: res.Descriptor, Prefix: res.Descriptor.Annotations[source.AnnotationDigestPrefix]}
	unverified := blob.Descriptor.Digest == ""
	f, err := lock.Load(h.config.LockFile)
	if err != nil {
		return nil, err
	}
	if pinned := f.Models[name].Origin; pinned != "" {
		if blob.Descriptor.Digest != "" && blob.Descriptor.Digest != pinned {
			return nil, fmt.Errorf("%s: %w: the index lists the file %s and %s is pinned: if the change is wanted, remove the entry from %s",
				name, lock.ErrPinned, blob.Descriptor.Digest, pinned, h.config.LockFile)
		}
		blob.Descriptor.Digest = pinned
	}
	switch {
	case blob.Descriptor.Digest != "":
	case blob.Prefix != "":
		h.warn("%s: only the first %d bits of the file's SHA-256 are published (%s); once it is here, the whole is pinned in %s", name, 4*len(blob.Prefix), blob.Prefix, h.config.LockFile)
	case h.config.TrustUnpublished:
		h.warn("%s: no digest of the file is published; it is trusted on first use, and then pinned in %s", name, h.config.LockFile)
	default:
		return nil, fmt.Errorf("%s: %w: there is nothing to check %s against; to trust it on first use run with --trust-unpublished", name, ErrUnpublished, res.Descriptor.URLs[0])
	}
	blob.MaxSize = maxOrigin(res.Descriptor, res.Row, res.Weights)
	d, size, err := h.download(ctx, originKey(res.Weights.Origin), blob, Progress{Name: name, Source: res.Descriptor.URLs[0]})
	if err != nil {
		return nil, err
	}
	c := card.FromRow(res.Row, res.Weights)
	c.Origin = &card.Origin{URL: res.Descriptor.URLs[0], Digest: d, Size: size, Format: res.Weights.Origin.Format, Unverified: unverified, Prefix: blob.Prefix}
	a, err := h.convert(ctx, c, d)
	if err != nil {
		return nil, err
	}
	if c.Weights.Digest != d {
		err = h.store.Quarantine(d) // converted: not needed again
	}
	return a, err
}

// maxOrigin bounds a file of unknown size: a percent and a MiB over the estimate, else eight bytes a parameter.
func maxOrigin(d ocispec.Descriptor, m *registry.Model, w *registry.Weights) int64 {
	const slack = 1 << 20
	if n, err := strconv.ParseInt(d.Annotations[source.AnnotationSizeEstimate], 10, 64); err == nil {
		return n + n/100 + slack
	}
	return 8*m.With(w).Params + slack
}
