package hub

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/weights"
)

// Resolved is where a model was found.
type Resolved struct {
	Name, Tag string
	// Source is the address of the source that has it; SourceStore if it is in the store.
	Source string
	// Descriptor is of the artifact's manifest, or of the authors' file (source.MediaTypeOrigin).
	Descriptor ocispec.Descriptor
	// Row and Weights are the index's; nil if it does not list the model.
	Row     *registry.Model
	Weights *registry.Weights

	repository source.Repository
	reference  *reference
}

// String is what the model was asked for by.
func (r *Resolved) String() string { return r.reference.String() }

// Resolve finds which source has a model, without downloading it. The store comes first.
func (h *Hub) Resolve(ctx context.Context, ref string) (*Resolved, error) {
	x, err := h.Index(ctx)
	if err != nil {
		return nil, err
	}
	r, err := h.parse(x, ref)
	if err != nil {
		return nil, err
	}
	if d, err := h.store.Resolve(r.entry()); err == nil && (r.digest == "" || r.digest == d.Digest) {
		return &Resolved{Name: r.name, Tag: r.tag, Source: SourceStore, Descriptor: d, Row: r.row, Weights: r.weights, reference: r}, nil
	}
	var found *Resolved
	err = h.try(ctx, r, func(res *Resolved) error {
		found = res
		return nil
	})
	return found, err
}

// try resolves r at each source in order and calls use with what it finds, until use succeeds. Absence and unreachability lead to
// the next source; any other failure ends.
func (h *Hub) try(ctx context.Context, r *reference, use func(*Resolved) error) error {
	sources := h.sources
	if r.from != nil {
		sources = []source.Source{r.from}
	}
	var failed failures
	var asked []string
	for _, s := range sources {
		if s.String() == SourceUpstream {
			if r.row == nil {
				continue
			}
			s = source.Upstream(h.client, &registry.Index{Models: []registry.Model{*r.row}})
		}
		res, err := h.resolveAt(ctx, s, r)
		if err == nil {
			err = use(res)
		}
		if err == nil {
			for _, f := range failed {
				if !errors.Is(f, source.ErrNotFound) {
					h.warn("%s could not be had from %v", r, f)
				}
			}
			return nil
		}
		if ctx.Err() != nil || !passable(err) {
			return fmt.Errorf("%s from %s: %w", r, s, err)
		}
		failed, asked = append(failed, fmt.Errorf("%s: %w", s, err)), append(asked, s.String())
	}
	present := func(f error) bool { return !errors.Is(f, source.ErrNotFound) }
	switch {
	case r.digest != "" && !slices.ContainsFunc(failed, present):
		return fmt.Errorf("%s@%s: %w: nothing there has that digest", r, r.digest, ErrNotFound)
	case r.from != nil && !slices.ContainsFunc(failed, present):
		return fmt.Errorf("%s: %w: name a tag that is there, as in %s/%s:TAG", r, ErrNotFound, r.from, r.name)
	case !slices.ContainsFunc(failed, present) && r.untagged && r.row == nil:
		return fmt.Errorf("%s: %w (asked: %s): run zoo list, or, if another tag is meant, name it, as in %s:v1", r, ErrNotFound, cmp.Or(strings.Join(asked, ", "), "none"), r.name)
	case !slices.ContainsFunc(failed, present):
		return fmt.Errorf("%s: %w (asked: %s): run zoo list, or look at the configured sources", r, ErrNotFound, cmp.Or(strings.Join(asked, ", "), "none"))
	case len(failed) == 1:
		return fmt.Errorf("%s: %w%s", r, failed[0], advice(failed))
	default:
		return fmt.Errorf("%s: %w: %w%s", r, ErrNotFound, failed, advice(failed))
	}
}

// advice says what to do where a server could not be reached.
func advice(failed failures) string {
	var dns *net.DNSError
	var dial *net.OpError
	if errors.As(failed, &dns) || errors.As(failed, &dial) {
		return ": check network and proxy, or name a mirror in ZOO_REGISTRY"
	}
	return ""
}

// failures are what each source said, in one line.
type failures []error

func (f failures) Error() string {
	texts := make([]string, len(f))
	for i, err := range f {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap makes errors.Is look at each.
func (f failures) Unwrap() []error { return f }

// passable says whether a source's failure is one that another source may make up for: it does not have the thing or
// cannot be reached. Whatever looks like tampering is not.
func passable(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.Is(err, source.ErrNotFound) || errors.Is(err, source.ErrUnavailable) || errors.Is(err, source.ErrOffline) ||
		errors.Is(err, source.ErrUnauthorized) || source.Temporary(err)
}

func (h *Hub) resolveAt(ctx context.Context, s source.Source, r *reference) (*Resolved, error) {
	repo, err := s.Repository(r.name)
	if err != nil {
		return nil, err
	}
	what := r.tag
	if r.digest != "" {
		what = r.digest.String()
	}
	d, err := repo.Resolve(ctx, what)
	if err != nil {
		return nil, err
	}
	if d.MediaType != source.MediaTypeOrigin {
		if r.digest != "" && d.Digest != r.digest {
			return nil, fmt.Errorf("%w: asked for %s and got %s", ErrTampered, r.digest, d.Digest)
		}
		if r.weights != nil && r.weights.Artifact != nil && d.Digest != r.weights.Artifact.Digest {
			return nil, fmt.Errorf("%w: the index lists artifact %s and the tag is %s: the tag was moved, or the index is old", ErrTampered, r.weights.Artifact.Digest, d.Digest)
		}
	}
	return &Resolved{Name: r.name, Tag: r.tag, Source: s.String(), Descriptor: d, Row: r.row, Weights: r.weights, repository: repo, reference: r}, nil
}

// Pull makes sure that a model is in the store and returns it. ref is NAME, NAME:TAG, oci://HOST/PATH/NAME[:TAG] or oci://HOST/PATH/NAME:TAG@DIGEST.
func (h *Hub) Pull(ctx context.Context, ref string) (*Model, error) {
	x, err := h.Index(ctx)
	if err != nil {
		return nil, err
	}
	r, err := h.parse(x, ref)
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

// originKey is the key of the download of an authors' file, which all models made of it share.
func originKey(o *registry.Origin) string {
	if o == nil {
		return ""
	}
	sum := sha256.Sum256([]byte(o.URL + o.SHA256))
	return "origin-" + hex.EncodeToString(sum[:16])
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
		h.warn("%s from %s is trusted on first use: no key is pinned and the index does not list the artifact; it is pinned in %s", name, res.Source, h.config.LockFile)
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
			return nil, fmt.Errorf("%s: %w: the index lists the file %s and %s is pinned", name, lock.ErrPinned, blob.Descriptor.Digest, pinned)
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

// convert makes a model of a checkpoint in the store, in any format that package weights reads.
func (h *Hub) convert(ctx context.Context, c *card.Card, checkpoint digest.Digest) (*artifact, error) {
	path, err := h.store.Path(checkpoint)
	if err != nil {
		return nil, err
	}
	if err := h.storeWeights(ctx, c, path, checkpoint); err != nil {
		return nil, fmt.Errorf("%s:%s: %w", c.Name, c.Tag, err)
	}
	if c.Origin == nil || c.Origin.Digest == "" {
		c.Origin = &card.Origin{Digest: checkpoint}
	}
	provenance, err := h.putProvenance(c)
	if err != nil {
		return nil, err
	}
	// The lock is asked before the model gets its name.
	if err := h.pinModel(ctx, c.Name+":"+c.Tag, &artifact{card: c}); err != nil {
		return nil, err
	}
	return h.publish(ctx, source.RefName(c.Name, c.Tag), c, []ocispec.Descriptor{plainLayer(c), provenance})
}

func plainLayer(c *card.Card) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: MediaTypeWeights, Digest: c.Weights.Digest, Size: c.Weights.Size,
		Annotations: map[string]string{ocispec.AnnotationTitle: c.Name + ".safetensors"},
	}
}

// storeWeights stores the checkpoint at path as safetensors and notes digest and size in the card. A safetensors file stays
// as it is; stored is its digest if it is in the store already, else empty.
func (h *Hub) storeWeights(ctx context.Context, c *card.Card, path string, stored digest.Digest) error {
	f, err := weights.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	for _, note := range f.Notes() {
		h.warn("%s:%s: %s", c.Name, c.Tag, note)
	}
	if f.Format() == weights.Safetensors && stored != "" {
		c.Weights.Digest = stored
		c.Weights.Size, err = h.store.Size(stored)
		return err
	}
	tensors := slices.Collect(f.All())
	var most int64 = 1 << 20
	for _, t := range tensors {
		most += int64(t.Len())*int64(t.DType.Size()) + int64(len(t.Name)) + 1<<10
	}
	progress := &progressWriter{h, Progress{Name: c.Name + ":" + c.Tag, Stage: StageConvert, Total: most}}
	w, err := h.store.Create(most + int64(len(fmt.Sprint(f.Metadata()))*6))
	if err != nil {
		return err
	}
	if f.Format() == weights.Safetensors {
		err = copyFile(files.Writer(ctx, w), path)
	} else {
		err = weights.WriteSafetensors(files.Writer(ctx, w), tensors, map[string]string{"format": "pt"})
	}
	if err != nil {
		w.Discard()
		return err
	}
	if c.Weights.Digest, c.Weights.Size, err = w.Publish(""); err != nil {
		return err
	}
	progress.p.Done, progress.p.Total = c.Weights.Size, c.Weights.Size
	h.progress(progress.p)
	return nil
}
