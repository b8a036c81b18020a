package hub

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
)

// Pull makes sure that a model is in the store and returns it. ref is NAME, NAME:TAG, oci://HOST/PATH/NAME[:TAG] or oci://HOST/PATH/NAME:TAG@DIGEST.
func (h *Hub) Pull(ctx context.Context, ref string) (*Model, error) {
	r, err := h.referenceTo(ctx, ref)
	if err != nil {
		return nil, err
	}
	return h.pull(ctx, r)
}

func (h *Hub) pull(ctx context.Context, r *reference) (*Model, error) {
	if r.weights != nil {
		if err := h.CheckLicense(r.String(), r.weights.License); err != nil {
			return nil, err
		}
	}
	m, err := h.local(ctx, r)
	if err == nil {
		if err := h.CheckLicense(r.String(), m.Card.License); err != nil {
			return nil, err
		}
		if h.whole(m) {
			return m, h.pinStored(ctx, r, m)
		}
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	// One process downloads a model, others wait for it and find it in the store.
	var waited *Progress
	release, err := h.store.Lock(ctx, "pull-"+r.key(), func() { waited = h.reportWaiting(r) })
	if waited != nil {
		waited.Total = waited.Done
		h.progress(*waited)
	}
	if err != nil {
		return nil, err
	}
	defer release()
	have, err := h.local(ctx, r)
	if err == nil && h.whole(have) {
		return have, h.pinStored(ctx, r, have)
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if have != nil && (r.weights == nil || r.weights.Artifact == nil) { // what is fetched again must be the same, whatever the tag is there by now
		same := *r
		same.digest = have.Manifest
		r = &same
	}
	free, err := h.store.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	var a *artifact
	var from string
	err = h.try(ctx, r, func(res *Resolved) error {
		from = res.Source
		if res.Descriptor.MediaType == source.MediaTypeOrigin {
			a, err = h.fetchOrigin(ctx, res)
		} else {
			a, err = h.fetchArtifact(ctx, res)
		}
		return err
	})
	if err != nil && have != nil && ctx.Err() == nil && (errors.Is(err, ErrNotFound) || passable(err)) {
		h.warn("%s can be used, but some of what it was published with is missing or damaged in the store, and could not be fetched again: %v", r, err)
		return have, nil
	}
	if err != nil {
		if tags := h.namesakes(r.name); len(tags) > 0 {
			return nil, fmt.Errorf("%w; the store has %s", err, strings.Join(tags, ", "))
		}
		return nil, err
	}
	return h.model(a, from, r)
}

// pinStored pins what a pull found in the store: a project's lock may be younger. Models of this machine change with every training and are not pinned.
func (h *Hub) pinStored(ctx context.Context, r *reference, m *Model) error {
	if m.Tag == TagLocal {
		return nil
	}
	return h.pinModel(ctx, r.String(), &artifact{card: m.Card})
}

// reportWaiting shows another process's download, as far as its bytes on disk tell.
func (h *Hub) reportWaiting(r *reference) *Progress {
	downloads, err := h.store.Downloads()
	if err != nil {
		return nil
	}
	p := Progress{Name: r.String(), Stage: StageWait, Total: -1, Source: "another process"}
	for _, d := range downloads {
		if r.weights != nil && d.Key == originKey(r.weights.Origin) || d.Key == r.key() {
			p.Done += d.Bytes
		}
	}
	h.progress(p)
	return &p
}

// download fetches a blob into the store, under the lock of its key.
func (h *Hub) download(ctx context.Context, key string, b download.Blob, p Progress) (digest.Digest, int64, error) {
	release, err := h.store.Lock(ctx, "download-"+key, nil)
	if err != nil {
		return "", 0, err
	}
	defer release()
	if size, err := h.store.Size(b.Descriptor.Digest); err == nil {
		return b.Descriptor.Digest, size, nil
	}
	partial, err := h.store.Partial(key)
	if err != nil {
		return "", 0, err
	}
	p.Stage = StageDownload
	d, size, err := download.Fetch(ctx, partial, b, download.Options{
		Parallel: h.config.Parallel, Limiter: h.limiter,
		Progress: func(done, total int64) {
			p.Done, p.Total = done, total
			h.progress(p)
		},
	})
	if err != nil && h.store.PartialSize(key) == 0 {
		err = errors.Join(err, partial.Discard()) // nothing came: there is nothing to keep
	}
	return d, size, err
}

// fetchArtifact pulls an OCI artifact: manifest, card, signature, then weights.
func (h *Hub) fetchArtifact(ctx context.Context, res *Resolved) (*artifact, error) {
	raw, err := source.ReadAll(ctx, res.repository, res.Descriptor, source.MaxManifest)
	if err != nil {
		return nil, err
	}
	d := manifestDescriptor(ocispec.MediaTypeImageManifest, card.ArtifactType, raw)
	a, err := parseArtifact(d, raw, func(c ocispec.Descriptor) ([]byte, error) {
		return source.ReadAll(ctx, res.repository, c, card.MaxBytes)
	}, res.Name, res.Tag)
	if err != nil {
		return nil, err
	}
	signatures, err := h.trust(ctx, res, a)
	if err != nil {
		return nil, err
	}
	if err := h.fetchLayers(ctx, res, a); err != nil {
		return nil, err
	}
	return a, h.accept(ctx, a, signatures, res)
}

// trust decides whether an artifact may be used, before its weights are fetched: by the index, by a signature, or by the lock
// and first use. It returns the signatures, to be kept with the artifact.
func (h *Hub) trust(ctx context.Context, res *Resolved, a *artifact) ([]signature, error) {
	name := res.String()
	if err := h.CheckLicense(name, a.card.License); err != nil {
		return nil, err
	}
	if w := res.Weights; w != nil {
		if a.card.Model != res.Row.Name || a.card.Family != res.Row.Family {
			return nil, fmt.Errorf("%w: the card says %s of family %s, the index %s of %s", ErrTampered, a.card.Model, a.card.Family, res.Row.Name, res.Row.Family)
		}
		if w.Artifact != nil && a.card.Weights.Digest != w.Artifact.Unpacked {
			return nil, fmt.Errorf("%w: the card's weights are %s, the index's %s", ErrTampered, a.card.Weights.Digest, w.Artifact.Unpacked)
		}
		if o := a.card.Origin; o != nil && w.Origin != nil && w.Origin.SHA256 != "" && o.Digest.Encoded() != w.Origin.SHA256 {
			return nil, fmt.Errorf("%w: the card's weights are made of a file %s, the index's of sha256:%s", ErrTampered, o.Digest, w.Origin.SHA256)
		}
	}
	f, err := lock.Load(h.config.LockFile)
	if err != nil {
		return nil, err
	}
	fresh, err := f.PinModel(name, a.pin()) // the change to f is dropped
	if err != nil {
		return nil, err
	}
	signatures, err := h.readSignatures(ctx, res.repository, a.descriptor)
	if err != nil {
		return nil, fmt.Errorf("signatures: %w", err)
	}
	listed := res.Weights != nil && res.Weights.Artifact != nil
	switch {
	case listed:
	case len(h.keys) > 0:
		key, err := h.verifySignatures(signatures, res.Name, res.Tag, a.descriptor.Digest)
		if err != nil {
			return nil, err
		}
		for _, s := range signatures {
			if s.key == key {
				return []signature{s}, nil
			}
		}
	case fresh:
		h.warn("%s from %s is trusted on first use: no key is pinned and the index does not list the artifact; once it is here, it is pinned in %s", name, res.Source, h.config.LockFile)
	}
	return signatures, nil
}

// fetchLayers downloads what is not in the store yet.
func (h *Hub) fetchLayers(ctx context.Context, res *Resolved, a *artifact) error {
	var table *download.Table
	for _, small := range []struct {
		d     *ocispec.Descriptor
		limit int64
	}{{a.table, download.MaxTable}, {a.provenance, maxProvenance}} {
		if small.d == nil {
			continue
		}
		data, err := source.ReadAll(ctx, res.repository, *small.d, small.limit)
		if err != nil {
			return err
		}
		if small.d == a.table {
			if table, err = download.ParseTable(data); err != nil {
				return err
			}
		}
		if _, err := h.store.Put(data); err != nil {
			return err
		}
	}
	_, _, err := h.download(ctx, res.reference.key(), download.Blob{Repository: res.repository, Descriptor: a.weights, Table: table},
		Progress{Name: res.String(), Source: res.Source})
	return err
}

// accept stores what remains of an artifact, unpacks its weights, pins and names it.
func (h *Hub) accept(ctx context.Context, a *artifact, signatures []signature, res *Resolved) error {
	if err := h.putAll(a.rawCard, a.raw); err != nil {
		return err
	}
	if err := h.unpack(ctx, a, res.Source); err != nil {
		return err
	}
	if err := h.pinModel(ctx, res.String(), a); err != nil {
		return err
	}
	for _, s := range signatures {
		if err := h.keepSignature(ctx, s); err != nil {
			return err
		}
	}
	return h.store.Tag(ctx, res.reference.entry(), a.descriptor)
}
