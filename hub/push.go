package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"

	"aead.dev/minisign"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"

	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/weights"
)

// PushOptions say what to do to a model on its way.
type PushOptions struct {
	// DType converts floating-point tensors to "f16" or "bf16". Empty: as they are. The card says so.
	DType string
	// Key signs the artifact. Nil: no signature.
	Key *minisign.PrivateKey
	// Tag is the tag to publish under. Empty: the model's own.
	Tag string
}

// Pushed is what a push did.
type Pushed struct {
	// Reference is where the artifact is now.
	Reference string
	// Manifest is the artifact's.
	Manifest ocispec.Descriptor
	// Bytes were copied; 0 if everything was there.
	Bytes int64
	// Skipped says that the same weights were there under this tag, so that nothing was done.
	Skipped bool
}

// Push publishes a model of the store at "oci://HOST/PATH", as HOST/PATH/NAME:TAG, or in a directory as an OCI layout.
func (h *Hub) Push(ctx context.Context, ref, to string, o PushOptions) (*Pushed, error) {
	m, err := h.Local(ctx, ref)
	if err != nil {
		return nil, err
	}
	t, done, err := h.holdTarget(ctx, to)
	if err != nil {
		return nil, err
	}
	defer done()
	a, err := h.stored(m)
	if err != nil {
		return nil, err
	}
	if a, err = h.dress(ctx, m.entry, a, o); err != nil {
		return nil, err
	}
	var signatures []signature
	if o.Key != nil {
		s, err := newSignature(*o.Key, a.card.Name, a.card.Tag, a.descriptor)
		if err != nil {
			return nil, err
		}
		if err := h.keepSignature(ctx, s); err != nil {
			return nil, err
		}
		signatures = append(signatures, s)
	} else if signatures, err = h.storedSignatures(a.descriptor); err != nil {
		return nil, err
	}
	return h.pushModel(ctx, t, a, signatures)
}

// dress makes the artifact to publish of a store's entry: converted, under another tag, packed.
func (h *Hub) dress(ctx context.Context, entry string, a *artifact, o PushOptions) (*artifact, error) {
	if o.DType == "" && (o.Tag == "" || o.Tag == a.card.Tag) {
		return h.pack(ctx, entry, a)
	}
	c := *a.card
	if o.Tag != "" {
		c.Tag = o.Tag
	} else {
		c.Tag += "-" + strings.ToLower(o.DType)
	}
	if o.DType != "" {
		if err := h.convertDType(ctx, &c, o.DType); err != nil {
			return nil, err
		}
	}
	layers, err := h.packLayers(ctx, &c)
	if err != nil {
		return nil, err
	}
	provenance, err := h.putProvenance(&c)
	if err != nil {
		return nil, err
	}
	return h.publish(ctx, "", &c, append(layers, provenance)) // only for the target: the name may be another model's here
}

// convertDType stores the card's weights in another type and notes it in the card.
func (h *Hub) convertDType(ctx context.Context, c *card.Card, dtype string) error {
	types := map[string]weights.DType{"f16": weights.F16, "bf16": weights.BF16}
	d, ok := types[strings.ToLower(dtype)]
	if !ok {
		return fmt.Errorf("dtype %q is unknown: use f16 or bf16", dtype)
	}
	path, err := h.store.Path(c.Weights.Digest)
	if err != nil {
		return err
	}
	f, err := weights.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	tensors := slices.Collect(f.All())
	for i, t := range tensors {
		if !t.DType.IsFloat() || t.DType.Size() <= 2 {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		values, err := t.Float32()
		if err != nil {
			return err
		}
		tensors[i] = weights.Half(t.Name, d, t.Shape, values)
	}
	w, err := h.store.Create(c.Weights.Size + 1<<20)
	if err != nil {
		return err
	}
	if err := weights.WriteSafetensors(files.Writer(ctx, w), tensors, f.Metadata()); err != nil {
		w.Discard()
		return err
	}
	c.Weights = card.Weights{DType: d.String(), Source: c.Weights.Digest}
	c.Weights.Digest, c.Weights.Size, err = w.Publish("")
	return err
}

// storedSignatures are those of an artifact in the store.
func (h *Hub) storedSignatures(subject ocispec.Descriptor) ([]signature, error) {
	s, err := source.Directory(h.store.Dir())
	if err != nil {
		return nil, err
	}
	repo, err := s.Repository("")
	if err != nil {
		return nil, err
	}
	return h.readSignatures(context.Background(), repo, subject)
}

// target is a place that artifacts are written to.
type target interface {
	// reference is what a repository's tag is called there.
	reference(repository, tag string) string
	// source reads what is there.
	source() (source.Source, error)
	// put copies a manifest of the hub's store with all below it, then those that refer to it, and tags it last: nobody finds it by the tag
	// without its signatures. It returns the bytes copied.
	put(ctx context.Context, h *Hub, repository, tag string, root ocispec.Descriptor, referrers []ocispec.Descriptor, p Progress) (int64, error)
	close()
}

// target parses the address that Push and Mirror write to.
func (h *Hub) target(to string) (target, error) {
	if strings.HasPrefix(to, registry.OCIPrefix) {
		r, err := source.OCI(h.client, to)
		if err != nil {
			return nil, err
		}
		return ociTarget{r}, nil
	}
	if strings.Contains(to, "://") {
		return nil, fmt.Errorf("%s cannot be written to: use oci://HOST/PATH or a directory", to)
	}
	s, err := store.OpenLayout(to)
	if err != nil {
		return nil, err
	}
	return dirTarget{s}, nil
}

// holdTarget is target, with the store kept from being pruned until done is called.
func (h *Hub) holdTarget(ctx context.Context, to string) (t target, done func(), err error) {
	if t, err = h.target(to); err != nil {
		return nil, nil, err
	}
	free, err := h.store.Hold(ctx)
	if err != nil {
		t.close()
		return nil, nil, err
	}
	return t, func() {
		free()
		t.close()
	}, nil
}

// repositoryAt is a repository of a target, to read.
func repositoryAt(t target, name string) (source.Repository, error) {
	s, err := t.source()
	if err != nil {
		return nil, err
	}
	return s.Repository(name)
}

// pushModel copies a model's artifact and its signatures.
func (h *Hub) pushModel(ctx context.Context, t target, a *artifact, signatures []signature) (*Pushed, error) {
	c := a.card
	if c.Name == indexRepository && c.Tag == indexTag {
		return nil, fmt.Errorf("%s is where clients look for the index: push under another tag, with --tag", t.reference(c.Name, c.Tag))
	}
	p := Progress{Name: c.Name + ":" + c.Tag}
	for _, l := range a.manifest.Layers {
		p.Total += l.Size
	}
	return h.pushTo(ctx, t, c.Name, c.Tag, a.descriptor, signatures, p)
}

// pushTo copies a manifest of the store and its signatures. p has the name and the bytes below the manifest.
func (h *Hub) pushTo(ctx context.Context, t target, repository, tag string, root ocispec.Descriptor, signatures []signature, p Progress) (*Pushed, error) {
	out := &Pushed{Reference: t.reference(repository, tag), Manifest: root}
	p.Stage, p.Source = StagePush, out.Reference
	referrers := make([]ocispec.Descriptor, len(signatures))
	for i, s := range signatures {
		referrers[i] = s.descriptor
	}
	var err error
	if out.Bytes, err = t.put(ctx, h, repository, tag, root, referrers, p); err != nil {
		return nil, fmt.Errorf("pushing to %s: %w", out.Reference, err)
	}
	p.Done = p.Total // what was there was not read, nor are small files counted
	h.progress(p)
	return out, nil
}

// ociTarget is a registry.
type ociTarget struct{ registry *source.Registry }

func (t ociTarget) reference(repository, tag string) string {
	return t.registry.String() + "/" + repository + ":" + tag
}

func (t ociTarget) source() (source.Source, error) { return t.registry, nil }

func (ociTarget) close() {}

func (t ociTarget) put(ctx context.Context, h *Hub, repository, tag string, root ocispec.Descriptor, referrers []ocispec.Descriptor, p Progress) (int64, error) {
	var copied atomic.Int64
	err := source.Retry(ctx, source.DefaultAttempts, func() error {
		repo, err := t.registry.Remote(ctx, repository)
		if err != nil {
			return err
		}
		options := oras.DefaultCopyGraphOptions
		options.PostCopy = func(_ context.Context, d ocispec.Descriptor) error {
			copied.Add(d.Size)
			return nil
		}
		from := &pushStorage{hub: h, p: p}
		for _, d := range slices.Concat([]ocispec.Descriptor{root}, referrers) {
			if err := oras.CopyGraph(ctx, from, repo, d, options); err != nil {
				return t.registry.Explain(err)
			}
		}
		return t.registry.Explain(repo.Tag(ctx, root, tag))
	})
	return copied.Load(), err
}

// pushStorage is the store as oras-go reads it. It reports bytes of large blobs.
type pushStorage struct {
	hub *Hub
	p   Progress
}

var _ content.ReadOnlyStorage = (*pushStorage)(nil)

func (s *pushStorage) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	return s.hub.store.Has(d.Digest), nil
}

func (s *pushStorage) Fetch(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	f, err := s.hub.store.Open(d.Digest)
	if err != nil {
		return nil, err
	}
	if d.Size < 1<<20 || s.p.Total == 0 {
		return f, nil
	}
	progress := &progressWriter{hub: s.hub, p: s.p}
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(f, progress), f}, nil
}

// dirTarget is an OCI layout in a directory.
type dirTarget struct{ store *store.Store }

func (t dirTarget) reference(repository, tag string) string {
	return t.store.Dir() + ":" + source.RefName(repository, tag)
}

func (t dirTarget) source() (source.Source, error) { return source.Directory(t.store.Dir()) }

func (t dirTarget) close() { t.store.Close() } // everything was flushed

func (t dirTarget) put(ctx context.Context, h *Hub, repository, tag string, root ocispec.Descriptor, referrers []ocispec.Descriptor, p Progress) (int64, error) {
	free, err := t.store.Hold(ctx)
	if err != nil {
		return 0, err
	}
	defer free()
	var copied int64
	from := &pushStorage{hub: h, p: p}
	var graph func(d ocispec.Descriptor) error
	graph = func(d ocispec.Descriptor) error {
		below, err := content.Successors(ctx, from, d)
		if err != nil {
			return err
		}
		for _, b := range below {
			if err := graph(b); err != nil {
				return err
			}
		}
		if t.store.Has(d.Digest) {
			return ctx.Err()
		}
		r, err := from.Fetch(ctx, d)
		if err != nil {
			return err
		}
		defer r.Close() // only read
		copied += d.Size
		return t.store.Ingest(d.Digest, d.Size, files.Reader(ctx, r))
	}
	if err := graph(root); err != nil {
		return copied, err
	}
	for _, d := range referrers {
		if err := graph(d); err != nil {
			return copied, err
		}
		if err := t.store.Tag(ctx, "", d); err != nil {
			return copied, err
		}
	}
	name := source.RefName(repository, tag)
	if have, err := t.store.Resolve(name); err == nil && have.Digest == root.Digest {
		return copied, nil
	}
	return copied, t.store.Tag(ctx, name, root)
}

// published returns what a target has under a name and tag: the manifest, and the card's weights. Both are empty if it has nothing.
func (h *Hub) published(ctx context.Context, t target, name, tag string) (ocispec.Descriptor, *artifact, error) {
	repo, err := repositoryAt(t, name)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	d, err := repo.Resolve(ctx, tag)
	if errors.Is(err, source.ErrNotFound) {
		return ocispec.Descriptor{}, nil, nil
	}
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	raw, err := source.ReadAll(ctx, repo, d, source.MaxManifest)
	if err != nil {
		return d, nil, err
	}
	a, err := parseArtifact(d, raw, func(c ocispec.Descriptor) ([]byte, error) { return source.ReadAll(ctx, repo, c, card.MaxBytes) }, name, tag)
	return d, a, err
}
