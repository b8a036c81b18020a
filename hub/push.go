package hub

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"aead.dev/minisign"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/internal/files"
	"github.com/go-modelzoo/zoo/weights"
)

// PushOptions say what to do to a model on its way.
type PushOptions struct {
	// DType converts floating-point tensors to "f16" or "bf16". Empty: as they are. The card says so.
	DType string
	// Key signs the artifact. Nil: no signature.
	Key *minisign.PrivateKey
	// Tag is the tag to publish under. Empty: the model's own, with "-" and DType behind it if that is set.
	Tag string
}

// halfTypes are what PushOptions.DType may name.
var halfTypes = map[string]weights.DType{"f16": weights.F16, "bf16": weights.BF16}

// Validate reports a type that is unknown.
func (o PushOptions) Validate() error {
	if _, ok := halfTypes[strings.ToLower(o.DType)]; o.DType != "" && !ok {
		return fmt.Errorf("dtype %q is unknown: use f16 or bf16", o.DType)
	}
	return nil
}

// Pushed is what a push did.
type Pushed struct {
	// Reference is where the artifact is now.
	Reference string
	// Manifest is the artifact's.
	Manifest ocispec.Descriptor
	// Bytes were copied; 0 if everything was there.
	Bytes int64
	// Skipped says that the same was there under this tag, so that nothing was done.
	Skipped bool
	// Replaced is the manifest that the tag named before, if it was another one.
	Replaced digest.Digest
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
	if o.Key == nil {
		signatures, err = h.storedSignatures(ctx, a.descriptor)
	} else {
		signatures, err = h.signModel(ctx, a, *o.Key)
	}
	if err != nil {
		return nil, err
	}
	return h.pushModel(ctx, t, a, signatures)
}

// dress makes the artifact to publish of a store's entry: converted, under another tag, packed.
func (h *Hub) dress(ctx context.Context, entry string, a *artifact, o PushOptions) (*artifact, error) {
	if o.DType == "" && (o.Tag == "" || o.Tag == a.card.Tag) {
		return h.pack(ctx, entry, a)
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := h.sound(ctx, a.card); err != nil {
		return nil, err
	}
	c := *a.card
	if o.Tag != "" {
		c.Tag = o.Tag
	} else {
		c.Tag += "-" + strings.ToLower(o.DType)
	}
	if o.DType != "" {
		if err := h.convertDType(ctx, &c, halfTypes[strings.ToLower(o.DType)]); err != nil {
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
func (h *Hub) convertDType(ctx context.Context, c *card.Card, d weights.DType) error {
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
	out, err := h.pushTo(ctx, t, upload{repository: c.Name, tag: c.Tag, root: a.descriptor, progress: p}, signatures)
	if err != nil {
		return nil, err
	}
	return out, nil
}

// pushTo copies a manifest of the store and its signatures. The upload's progress has the name and the bytes below the manifest. The bytes copied
// are returned on errors too.
func (h *Hub) pushTo(ctx context.Context, t target, u upload, signatures []signature) (*Pushed, error) {
	out := &Pushed{Reference: t.reference(u.repository, u.tag), Manifest: u.root}
	p := &u.progress
	p.Stage, p.Source = StagePush, out.Reference
	for _, s := range signatures {
		u.referrers = append(u.referrers, s.descriptor)
	}
	var had digest.Digest
	var err error
	if out.Bytes, had, err = t.put(ctx, h, u); err != nil {
		return out, fmt.Errorf("pushing to %s: %w", out.Reference, err)
	}
	if had == u.root.Digest {
		out.Skipped = out.Bytes == 0
	} else {
		out.Replaced = had
	}
	p.Done = p.Total // what was there was not read, nor are small files counted
	h.progress(*p)
	return out, nil
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
