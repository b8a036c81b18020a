package hub

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/codec"
	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
)

// Media types of a model artifact's layers.
const (
	// MediaTypeWeights is a safetensors file as it is; the two below are packed by package codec, whose shuffle is named after
	// the size of most elements.
	MediaTypeWeights         = "application/vnd.zoo.weights.v1.safetensors"
	MediaTypeWeightsShuffle4 = MediaTypeWeights + "+shuffle4+zstd"
	MediaTypeWeightsShuffle2 = MediaTypeWeights + "+shuffle2+zstd"
	// MediaTypeProvenance is an in-toto statement.
	MediaTypeProvenance = "application/vnd.in-toto+json"
)

// maxProvenance bounds a provenance statement.
const maxProvenance = 4 << 20

// artifact is a model's manifest with what it says.
type artifact struct {
	descriptor ocispec.Descriptor
	manifest   *ocispec.Manifest
	raw        []byte
	card       *card.Card
	rawCard    []byte
	weights    ocispec.Descriptor
	table      *ocispec.Descriptor
	provenance *ocispec.Descriptor
}

func (a *artifact) packed() bool { return a.weights.MediaType != MediaTypeWeights }

// pin is what the lock keeps of the artifact.
func (a *artifact) pin() lock.Model {
	m := lock.Model{Weights: a.card.Weights.Digest}
	if a.card.Weights.Source != "" {
		return m // converted: its origin is that of other weights
	}
	if a.card.Origin != nil {
		m.Origin = a.card.Origin.Digest
	}
	return m
}

// parseArtifact checks that a manifest is a model's, that its card is the one that the manifest names, and that both are for this
// name and tag.
func parseArtifact(d ocispec.Descriptor, raw []byte, readCard func(ocispec.Descriptor) ([]byte, error), name, tag string) (*artifact, error) {
	m, err := source.DecodeManifest(raw)
	if err != nil {
		return nil, fmt.Errorf("%s:%s: %w", name, tag, err)
	}
	if m.ArtifactType != card.ArtifactType || m.Config.MediaType != card.MediaType {
		return nil, fmt.Errorf("%s:%s: %w: artifact type %q with config %q is not a model", name, tag, ErrTampered, m.ArtifactType, m.Config.MediaType)
	}
	a := &artifact{descriptor: d, manifest: m, raw: raw}
	if a.rawCard, err = readCard(m.Config); err != nil {
		return nil, fmt.Errorf("%s:%s: model card: %w", name, tag, err)
	}
	if a.card, err = card.Parse(a.rawCard); err != nil {
		return nil, err
	}
	if a.card.Name != name || a.card.Tag != tag {
		return nil, fmt.Errorf("%s:%s: %w: the artifact is %s:%s", name, tag, ErrTampered, a.card.Name, a.card.Tag)
	}
	for i, l := range m.Layers {
		switch l.MediaType {
		case MediaTypeWeights, MediaTypeWeightsShuffle4, MediaTypeWeightsShuffle2:
			if a.weights.Digest != "" {
				return nil, fmt.Errorf("%s:%s: %w: it has two layers of weights", name, tag, ErrTampered)
			}
			a.weights = l
		case download.MediaTypeTable:
			a.table = &m.Layers[i]
		case MediaTypeProvenance:
			a.provenance = &m.Layers[i]
		}
	}
	unpacked := a.weights.Digest
	if a.packed() {
		unpacked = digest.Digest(a.weights.Annotations[store.AnnotationUnpacked])
	}
	if unpacked != a.card.Weights.Digest {
		return nil, fmt.Errorf("%s:%s: %w: the manifest has weights %q and the card %s", name, tag, ErrTampered, unpacked, a.card.Weights.Digest)
	}
	if !a.packed() && a.weights.Size != a.card.Weights.Size {
		return nil, fmt.Errorf("%s:%s: %w: the manifest has weights of %d bytes and the card of %d", name, tag, ErrTampered, a.weights.Size, a.card.Weights.Size)
	}
	return a, nil
}

// readArtifact reads a model's manifest and card from the store.
func (h *Hub) readArtifact(d ocispec.Descriptor, name, tag string) (*artifact, error) {
	raw, err := h.store.Read(d.Digest, source.MaxManifest)
	if err != nil {
		return nil, err
	}
	return parseArtifact(d, raw, func(c ocispec.Descriptor) ([]byte, error) { return h.store.Read(c.Digest, card.MaxBytes) }, name, tag)
}

// stored reads the artifact of a model of the store.
func (h *Hub) stored(m *Model) (*artifact, error) {
	d, err := h.store.Resolve(m.entry)
	if err != nil {
		return nil, err
	}
	d.Annotations = nil // its name here
	return h.readArtifact(d, m.Name, m.Tag)
}

// unpack makes sure that the safetensors file of an artifact in the store is there.
func (h *Hub) unpack(ctx context.Context, a *artifact, from string) error {
	want := a.card.Weights
	if size, err := h.store.Size(want.Digest); err == nil && size == want.Size {
		return nil
	}
	release, err := h.store.Lock(ctx, "unpack-"+want.Digest.Encoded(), nil)
	if err != nil {
		return err
	}
	defer release()
	if size, err := h.store.Size(want.Digest); err == nil {
		if size != want.Size {
			err = fmt.Errorf("%s:%s: %s has %d bytes and should have %d: %w: run zoo verify --repair, then zoo pull", a.card.Name, a.card.Tag, want.Digest, size, want.Size, store.ErrMismatch)
		}
		return err
	}
	f, err := h.store.Open(a.weights.Digest)
	if err != nil {
		return fmt.Errorf("%s:%s: weights: %w: run zoo pull", a.card.Name, a.card.Tag, err)
	}
	defer f.Close() // only read
	w, err := h.store.Create(want.Size)
	if err != nil {
		return err
	}
	progress := &progressWriter{hub: h, p: Progress{Name: a.card.Name + ":" + a.card.Tag, Stage: StageUnpack, Total: want.Size, Source: from}}
	if err := codec.Unpack(ctx, io.MultiWriter(w, progress), f, a.weights.Size, want.Size, codec.Options{}); err != nil {
		w.Discard()
		return fmt.Errorf("%s:%s: %w", a.card.Name, a.card.Tag, err)
	}
	if _, _, err := w.Publish(want.Digest); err != nil {
		return fmt.Errorf("%s:%s: unpacked weights: %w: %w", a.card.Name, a.card.Tag, ErrTampered, err)
	}
	return nil
}

// progressWriter reports the bytes written to it.
type progressWriter struct {
	hub *Hub
	p   Progress
}

func (w *progressWriter) Write(b []byte) (int, error) {
	w.p.Done += int64(len(b))
	w.hub.progress(w.p)
	return len(b), nil
}

// manifestDescriptor describes a manifest or an index of manifests.
func manifestDescriptor(mediaType, artifactType string, raw []byte) ocispec.Descriptor {
	d := content.NewDescriptorFromBytes(mediaType, raw)
	d.ArtifactType = artifactType
	return d
}

// publish builds the manifest of a card and the layers, stores card and manifest, and enters it in the store's index unless entry is empty.
func (h *Hub) publish(ctx context.Context, entry string, c *card.Card, layers []ocispec.Descriptor) (*artifact, error) {
	rawCard, err := c.Encode()
	if err != nil {
		return nil, err
	}
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: card.ArtifactType,
		Config: content.NewDescriptorFromBytes(card.MediaType, rawCard),
		Layers: layers,
		Annotations: map[string]string{
			ocispec.AnnotationTitle: c.Name, ocispec.AnnotationVersion: c.Tag, ocispec.AnnotationLicenses: c.License,
		},
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if err := h.putAll(rawCard, raw); err != nil {
		return nil, err
	}
	d := manifestDescriptor(ocispec.MediaTypeImageManifest, card.ArtifactType, raw)
	if entry != "" {
		if err := h.store.Tag(ctx, entry, d); err != nil {
			return nil, err
		}
	}
	return parseArtifact(d, raw, func(ocispec.Descriptor) ([]byte, error) { return rawCard, nil }, c.Name, c.Tag)
}

// pack returns the artifact of an entry with packed weights and a chunk table, making it and putting it in the entry's place if the one in the
// store has them plain.
func (h *Hub) pack(ctx context.Context, entry string, a *artifact) (*artifact, error) {
	if a.packed() {
		return a, nil
	}
	if err := h.sound(ctx, a.card); err != nil {
		return nil, err
	}
	layers, err := h.packLayers(ctx, a.card)
	if err != nil {
		return nil, fmt.Errorf("packing %s:%s: %w", a.card.Name, a.card.Tag, err)
	}
	if a.provenance != nil {
		layers = append(layers, *a.provenance)
	}
	return h.publish(ctx, entry, a.card, layers)
}

// sound hashes a card's weights: what is made of damaged ones would be refused wherever it comes to, or, converted, be a model of its own.
func (h *Hub) sound(ctx context.Context, c *card.Card) error {
	if err := h.verifyBlob(ctx, c.Name+":"+c.Tag, ocispec.Descriptor{Digest: c.Weights.Digest}); err != nil {
		return fmt.Errorf("%s:%s: weights: %w: run zoo verify --repair, and pull or import it again", c.Name, c.Tag, err)
	}
	return nil
}

// packLayers packs a card's weights, which are in the store and sound.
func (h *Hub) packLayers(ctx context.Context, c *card.Card) ([]ocispec.Descriptor, error) {
	path, err := h.store.Path(c.Weights.Digest)
	if err != nil {
		return nil, err
	}
	spans, err := codec.Spans(path)
	if err != nil {
		return nil, err
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()                                   // only read
	w, err := h.store.Create(2*c.Weights.Size + 1<<20) // packing never doubles
	if err != nil {
		return nil, err
	}
	progress := &progressReader{in, progressWriter{h, Progress{Name: c.Name + ":" + c.Tag, Stage: StagePack, Total: c.Weights.Size}}}
	if _, err := codec.Pack(ctx, w, progress, spans, codec.Options{}); err != nil {
		w.Discard()
		return nil, err
	}
	d, size, err := w.Publish("")
	if err != nil {
		return nil, err
	}
	packed, err := h.store.Open(d)
	if err != nil {
		return nil, err
	}
	defer packed.Close() // only read
	table, err := download.NewTable(packed, download.DefaultChunkSize)
	if err != nil {
		return nil, err
	}
	encoded := table.Encode()
	td, err := h.store.Put(encoded)
	if err != nil {
		return nil, err
	}
	return []ocispec.Descriptor{
		{MediaType: packedMediaType(spans), Digest: d, Size: size, Annotations: map[string]string{
			store.AnnotationUnpacked: c.Weights.Digest.String(), ocispec.AnnotationTitle: c.Name + ".safetensors",
		}},
		{MediaType: download.MediaTypeTable, Digest: td, Size: int64(len(encoded))},
	}, nil
}

// progressReader reports the bytes read; codec reads each once.
type progressReader struct {
	io.ReaderAt
	w progressWriter
}

func (r *progressReader) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.ReaderAt.ReadAt(p, off)
	r.w.hub.say.Lock()
	r.w.p.Done += int64(n)
	r.w.hub.config.Progress(r.w.p)
	r.w.hub.say.Unlock()
	return n, err
}

// packedMediaType tells by the size of most elements.
func packedMediaType(spans []codec.Span) string {
	var bytes [9]int64
	for _, s := range spans {
		bytes[s.Width] += s.Bytes
	}
	if bytes[2] > bytes[4] {
		return MediaTypeWeightsShuffle2
	}
	return MediaTypeWeightsShuffle4
}

// CheckLicense refuses licences that the configuration does not list. Pull asks it; whoever uses a model of the store does too.
func (h *Hub) CheckLicense(what, license string) error {
	allowed := h.config.RequireLicenses
	if len(allowed) == 0 || slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, license) }) {
		return nil
	}
	return fmt.Errorf("%s is under %q: %w: require_licenses has %s", what, license, ErrLicense, strings.Join(allowed, ", "))
}

// pinModel checks the lock, and pins what is new to it. Where nothing is, the lock may be one that nobody here can write to.
func (h *Hub) pinModel(ctx context.Context, ref string, a *artifact) error {
	f, err := lock.Load(h.config.LockFile)
	if err != nil {
		return err
	}
	before := f.Models[ref]
	if _, err := f.PinModel(ref, a.pin()); err != nil || f.Models[ref] == before {
		return err
	}
	return h.updateLock(ctx, func(f *lock.File) error {
		_, err := f.PinModel(ref, a.pin())
		return err
	})
}

// updateLock changes the lock file.
func (h *Hub) updateLock(ctx context.Context, change func(*lock.File) error) error {
	return store.DiskFull(lock.Update(ctx, h.config.LockFile, change))
}
