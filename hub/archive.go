package hub

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/files"
)

// Export writes models of the store, packed and with their signatures, as a tar archive of an OCI image layout. The same models give
// the same bytes. ctx is looked at between writes: one that w does not take is not cut short.
func (h *Hub) Export(ctx context.Context, w io.Writer, refs ...string) error {
	free, err := h.store.Hold(ctx)
	if err != nil {
		return err
	}
	defer free()
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	var blobs []ocispec.Descriptor
	for _, ref := range refs {
		m, err := h.Local(ctx, ref)
		if err != nil {
			return err
		}
		a, err := h.stored(m)
		if err != nil {
			return err
		}
		if a, err = h.pack(ctx, m.entry, a); err != nil {
			return err
		}
		signatures, err := h.storedSignatures(ctx, a.descriptor)
		if err != nil {
			return err
		}
		root := a.descriptor
		root.Annotations = map[string]string{ocispec.AnnotationRefName: source.RefName(m.Name, m.Tag)}
		index.Manifests = append(index.Manifests, root)
		blobs = append(append(blobs, a.descriptor, a.manifest.Config), a.manifest.Layers...)
		for _, s := range signatures {
			m, err := source.DecodeManifest(s.raw)
			if err != nil {
				return err
			}
			index.Manifests = append(index.Manifests, s.descriptor)
			blobs = append(append(blobs, s.descriptor, m.Config), m.Layers...)
		}
	}
	return h.writeArchive(ctx, w, &index, blobs)
}

func (h *Hub) writeArchive(ctx context.Context, w io.Writer, index *ocispec.Index, blobs []ocispec.Descriptor) error {
	t := tar.NewWriter(w)
	file := func(name string, size int64, r io.Reader) error {
		if err := t.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, Format: tar.FormatPAX}); err != nil {
			return err
		}
		_, err := io.Copy(t, files.Reader(ctx, r))
		return err
	}
	layout, err := json.Marshal(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})
	if err != nil {
		return err
	}
	text, err := json.Marshal(index)
	if err != nil {
		return err
	}
	if err := errors.Join(file(ocispec.ImageLayoutFile, int64(len(layout)), bytes.NewReader(layout)),
		file(ocispec.ImageIndexFile, int64(len(text)), bytes.NewReader(text))); err != nil {
		return err
	}
	slices.SortFunc(blobs, func(a, b ocispec.Descriptor) int { return strings.Compare(string(a.Digest), string(b.Digest)) })
	blobs = slices.CompactFunc(blobs, func(a, b ocispec.Descriptor) bool { return a.Digest == b.Digest })
	for _, d := range blobs {
		f, err := h.store.Open(d.Digest)
		if err != nil {
			return err
		}
		err = file(source.BlobPath(d.Digest), d.Size, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return t.Close()
}

// blobName is the only path, besides index.json and oci-layout, that an archive may hold.
var blobName = regexp.MustCompile(`^blobs/sha256/[0-9a-f]{64}$`)

// maxArchiveEntries bounds the files in an archive.
const maxArchiveEntries = 1 << 16

// ImportArchive reads what Export wrote, verifies every blob, card, signature and pin as Pull does, and names the models. It returns
// their references. Anything in the archive but the files of an OCI layout is refused. ctx is looked at between reads: one that r does not answer
// is not cut short.
func (h *Hub) ImportArchive(ctx context.Context, r io.Reader) ([]string, error) {
	x, err := h.cachedIndex()
	if err != nil {
		return nil, err
	}
	free, err := h.store.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	index, err := h.readArchive(ctx, r)
	if err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	s := source.Directory(h.store.Dir())
	if err := h.complete(index); err != nil {
		return nil, fmt.Errorf("archive: %w", err)
	}
	// Signatures are listed first, so that the artifacts' trust finds them.
	for _, d := range index.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] != "" {
			continue
		}
		raw, err := h.store.Read(d.Digest, source.MaxManifest)
		if err != nil {
			return nil, fmt.Errorf("archive: %w", err)
		}
		if m, err := source.DecodeManifest(raw); err != nil || m.ArtifactType != sign.ArtifactType {
			return nil, fmt.Errorf("archive: %w: %s is neither named nor a signature", ErrTampered, d.Digest)
		}
		if err := h.store.Tag(ctx, "", ocispec.Descriptor{MediaType: d.MediaType, ArtifactType: sign.ArtifactType, Digest: d.Digest, Size: d.Size}); err != nil {
			return nil, err
		}
	}
	var refs []string
	for _, d := range index.Manifests {
		name := d.Annotations[ocispec.AnnotationRefName]
		if name == "" {
			continue
		}
		model, tag, ok := strings.Cut(name, "/")
		if !ok || !registry.ValidName(model) || !registry.ValidTag(tag) {
			return refs, fmt.Errorf("archive: %q does not name a model and a tag", name)
		}
		if err := h.importArtifact(ctx, x, s, d, model, tag); err != nil {
			return refs, fmt.Errorf("archive: %w", err)
		}
		refs = append(refs, model+":"+tag)
	}
	return refs, nil
}

// complete reports a blob that an archive's manifests list and that neither the archive had nor the store has: what ends early between two files
// is a good tar file.
func (h *Hub) complete(index *ocispec.Index) error {
	for _, d := range index.Manifests {
		raw, err := h.store.Read(d.Digest, source.MaxManifest)
		if err != nil {
			return fmt.Errorf("it is not complete: copy it again: %w", err)
		}
		m, err := source.DecodeManifest(raw)
		if err != nil {
			return err
		}
		for _, b := range append([]ocispec.Descriptor{m.Config}, m.Layers...) {
			if !h.store.Has(b.Digest) {
				return fmt.Errorf("it is not complete, %s is missing: copy it again: %w", b.Digest, store.ErrNotFound)
			}
		}
	}
	return nil
}

// importArtifact verifies and names an artifact whose blobs are in the store.
func (h *Hub) importArtifact(ctx context.Context, x *registry.Index, s source.Source, d ocispec.Descriptor, name, tag string) error {
	r, err := h.parse(x, name+":"+tag)
	if err != nil {
		return err
	}
	repo, err := s.Repository(name)
	if err != nil {
		return err
	}
	if r.weights != nil && r.weights.Artifact != nil && r.weights.Artifact.Digest != d.Digest {
		return fmt.Errorf("%w: the index lists artifact %s of %s and the archive has %s", ErrTampered, r.weights.Artifact.Digest, r, d.Digest)
	}
	a, err := h.readArtifact(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: d.ArtifactType, Digest: d.Digest, Size: d.Size}, name, tag)
	if err != nil {
		return err
	}
	if have, err := h.local(ctx, r); err == nil && have.Digest != a.card.Weights.Digest {
		return fmt.Errorf("%s: %w (%s), and the archive's is %s: remove the store's first with zoo cache rm %s", r, ErrNameTaken, have.Digest, a.card.Weights.Digest, r)
	}
	res := &Resolved{Name: name, Tag: tag, Source: "the archive", Descriptor: d, Row: r.row, Weights: r.weights, repository: repo, reference: r}
	signatures, err := h.trust(ctx, res, a)
	if err != nil {
		return err
	}
	return h.accept(ctx, a, signatures, res)
}

// readArchive stores an archive's blobs, each checked against its name, and returns its index.
func (h *Hub) readArchive(ctx context.Context, r io.Reader) (*ocispec.Index, error) {
	var index *ocispec.Index
	t := tar.NewReader(files.Reader(ctx, r))
	for n := 0; ; n++ {
		header, err := t.Next()
		if err == io.EOF {
			break
		}
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("it is cut off: copy it again: %w", err)
		case errors.Is(err, tar.ErrHeader):
			return nil, fmt.Errorf("it is no tar file such as zoo mirror export writes: %w", err)
		case err != nil:
			return nil, err
		}
		if n >= maxArchiveEntries {
			return nil, fmt.Errorf("more than %d files", maxArchiveEntries)
		}
		if header.Typeflag == tar.TypeDir && slices.Contains([]string{"./", "blobs/", "blobs/sha256/"}, header.Name) {
			continue
		}
		if header.Typeflag != tar.TypeReg {
			return nil, fmt.Errorf("%w: %q is not a regular file", ErrTampered, header.Name)
		}
		for key := range header.PAXRecords { // holes: a few bytes that unpack to a full disk
			if strings.HasPrefix(key, "GNU.sparse.") {
				return nil, fmt.Errorf("%w: %q is a sparse file", ErrTampered, header.Name)
			}
		}
		switch {
		case header.Name == ocispec.ImageLayoutFile:
		case header.Name == ocispec.ImageIndexFile:
			data, err := io.ReadAll(io.LimitReader(t, source.MaxManifest+1))
			if err == nil && len(data) > source.MaxManifest {
				err = fmt.Errorf("index.json has more than %d bytes", source.MaxManifest)
			}
			if err == nil {
				index, err = source.DecodeIndex(data)
			}
			if err != nil {
				return nil, err
			}
		case blobName.MatchString(header.Name):
			d := digest.NewDigestFromEncoded(digest.SHA256, header.Name[len("blobs/sha256/"):])
			if h.store.Has(d) {
				continue
			}
			if err := h.store.Ingest(d, header.Size, t); errors.Is(err, io.ErrUnexpectedEOF) {
				return nil, fmt.Errorf("it is cut off: copy it again: %w", err)
			} else if err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%w: %q is not a path of an OCI layout", ErrTampered, header.Name)
		}
	}
	if index == nil {
		return nil, fmt.Errorf("%w: it has no index.json", ErrTampered)
	}
	return index, nil
}
