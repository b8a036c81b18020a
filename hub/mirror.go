package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"aead.dev/minisign"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/hub/source"
)

// MirrorOptions say what a mirror gets beyond the models.
type MirrorOptions struct {
	// Plugins copies the binaries, for all platforms, of the models' families.
	Plugins bool
	// Key signs each artifact, plugins too, and an index that lists the mirrored artifacts' digests. Nil: existing signatures are copied, and no index.
	Key *minisign.PrivateKey
}

// Expand turns patterns of NAME or NAME:TAG with *, ? and [] into the references that the index lists; others stay as
// they are. A pattern without a tag means default weights.
func Expand(x *registry.Index, patterns []string) ([]string, error) {
	var refs []string
	for _, p := range patterns {
		if strings.Contains(p, "://") || !strings.ContainsAny(p, "*?[") {
			refs = append(refs, p)
			continue
		}
		name, tag, tagged := strings.Cut(p, ":")
		before := len(refs)
		for _, m := range x.Models {
			ok, err := path.Match(name, m.Name)
			if err != nil {
				return nil, fmt.Errorf("pattern %q: %w", p, err)
			}
			for _, w := range m.Weights {
				good := !tagged && w.Default
				if tagged {
					if good, err = path.Match(tag, w.Tag); err != nil {
						return nil, fmt.Errorf("pattern %q: %w", p, err)
					}
				}
				if ok && good {
					refs = append(refs, m.Name+":"+w.Tag)
				}
			}
		}
		if len(refs) == before {
			return nil, fmt.Errorf("pattern %q matches no weights: run zoo list", p)
		}
	}
	return refs, nil
}

// Mirror copies models to "oci://HOST/PATH" or a directory: those that are missing there or differ, and deletes nothing. Models that are not in
// the store are pulled first. It returns what was done for each, in order; on error, for those before. The error wraps ErrPublished if a plugin's
// version has other bytes there; platforms that only the target has stay.
func (h *Hub) Mirror(ctx context.Context, patterns []string, to string, o MirrorOptions) ([]*Pushed, error) {
	x, err := h.Index(ctx)
	if err != nil {
		return nil, err
	}
	refs, err := Expand(x, patterns)
	if err != nil {
		return nil, err
	}
	t, err := h.target(to)
	if err != nil {
		return nil, err
	}
	defer t.close()
	var done []*Pushed
	families := make(map[string]bool)
	listed := make(map[string]*registry.Artifact)
	for _, ref := range refs {
		p, a, err := h.mirrorModel(ctx, ref, t, o)
		if err != nil {
			return done, err
		}
		model := a.card.Name + ":" + a.card.Tag
		if listed[model] != nil { // two patterns name it
			continue
		}
		done = append(done, p)
		families[a.card.Family] = true
		listed[model] = &registry.Artifact{Digest: p.Manifest.Digest, Size: a.weights.Size, Unpacked: a.card.Weights.Digest}
	}
	if o.Plugins {
		var without []string
		for _, name := range sortedKeys(families) {
			f := x.FamilyByName(name)
			if f == nil || len(f.Plugins) == 0 {
				without = append(without, name)
				continue
			}
			more, err := h.mirrorPlugins(ctx, f, t, o.Key)
			done = append(done, more...)
			if err != nil {
				return done, err
			}
		}
		if len(without) > 0 {
			h.warn("no plugin binaries are copied of %s: the index lists none", strings.Join(without, ", "))
		}
	}
	if o.Key != nil {
		p, err := h.mirrorIndex(ctx, x, listed, t, *o.Key)
		if err != nil {
			return done, fmt.Errorf("mirroring the index: %w", err)
		}
		done = append(done, p)
	}
	return done, nil
}

// mirrorModel copies one model unless the target has the same weights under the tag. It returns the artifact that the target has then.
func (h *Hub) mirrorModel(ctx context.Context, ref string, t target, o MirrorOptions) (*Pushed, *artifact, error) {
	m, err := h.Pull(ctx, ref)
	if err != nil {
		return nil, nil, err
	}
	d, there, err := h.published(ctx, t, m.Name, m.Tag)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", t.reference(m.Name, m.Tag), err)
	}
	done := there != nil && there.card.Weights.Digest == m.Digest
	if done && o.Key != nil { // copied before there was a key, perhaps
		if done, err = h.signedAt(ctx, t, m.Name, m.Name, m.Tag, d, *o.Key); err != nil {
			return nil, nil, err
		}
	}
	if done {
		return &Pushed{Reference: t.reference(m.Name, m.Tag), Manifest: d, Skipped: true}, there, nil
	}
	free, err := h.store.Hold(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer free()
	a, err := h.stored(m)
	if err != nil {
		return nil, nil, err
	}
	if a, err = h.pack(ctx, m.entry, a); err != nil {
		return nil, nil, err
	}
	signatures, err := h.storedSignatures(ctx, a.descriptor)
	if err != nil {
		return nil, nil, err
	}
	if o.Key != nil {
		more, err := h.signModel(ctx, a, *o.Key)
		if err != nil {
			return nil, nil, err
		}
		signatures = append(signatures, more...)
	}
	p, err := h.pushModel(ctx, t, a, signatures)
	return p, a, err
}

// mirrorIndex publishes a signed index that lists the mirrored artifacts.
func (h *Hub) mirrorIndex(ctx context.Context, x *registry.Index, listed map[string]*registry.Artifact, t target, key minisign.PrivateKey) (*Pushed, error) {
	return merge(ctx, t, t.reference(indexRepository, indexTag), func() (*Pushed, error) { return h.addToIndex(ctx, x, listed, t, key) })
}

// addToIndex lists the artifacts in the target's index as it is now, with a version above its if that changes anything.
func (h *Hub) addToIndex(ctx context.Context, x *registry.Index, listed map[string]*registry.Artifact, t target, key minisign.PrivateKey) (*Pushed, error) {
	out := &Pushed{Reference: t.reference(indexRepository, indexTag)}
	// The target's own index is the base if it is ours, so that several syncs add up.
	public, err := publicKey(key)
	if err != nil {
		return nil, err
	}
	next := *x
	there, old, signature, err := h.fetchIndex(ctx, t.source())
	if err == nil {
		if _, err := (sign.Keys{public}).Verify(old, signature); err != nil {
			return nil, fmt.Errorf("the index at %s is by another key: %w", out.Reference, err)
		}
		have, err := registry.Parse(old)
		if err != nil {
			return nil, err
		}
		carryArtifacts(listed, have)
		next.Version = max(next.Version, have.Version)
	} else if !errors.Is(err, source.ErrNotFound) {
		return nil, err
	}
	next.Models = withArtifacts(x.Models, listed)
	text, err := json.Marshal(&next)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(text, old) {
		out.Manifest, out.Skipped = there, true
		return out, nil
	}
	if old != nil {
		next.Version++
		if text, err = json.Marshal(&next); err != nil {
			return nil, err
		}
	}
	free, err := h.store.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	root, err := h.putIndex(text, sign.Sign(key, text, fmt.Sprintf("registry version %d", next.Version)))
	if err != nil {
		return nil, err
	}
	out.Manifest = root
	out.Bytes, _, err = t.put(ctx, h, upload{repository: indexRepository, tag: indexTag, root: root, onto: &there.Digest})
	return out, err
}

// carryArtifacts adds the artifacts that an index lists and listed does not.
func carryArtifacts(listed map[string]*registry.Artifact, x *registry.Index) {
	for _, m := range x.Models {
		for _, w := range m.Weights {
			if ref := m.Name + ":" + w.Tag; w.Artifact != nil && listed[ref] == nil {
				listed[ref] = w.Artifact
			}
		}
	}
}

// withArtifacts returns a copy of models with the listed artifacts filled in.
func withArtifacts(models []registry.Model, listed map[string]*registry.Artifact) []registry.Model {
	models = slices.Clone(models)
	for i := range models {
		models[i].Weights = slices.Clone(models[i].Weights)
		for k := range models[i].Weights {
			w := &models[i].Weights[k]
			if a := listed[models[i].Name+":"+w.Tag]; a != nil {
				w.Artifact = a
			}
		}
	}
	return models
}

// putIndex stores an index and its signature as an artifact.
func (h *Hub) putIndex(text, signature []byte) (ocispec.Descriptor, error) {
	config, configData := emptyConfig()
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactTypeIndex, Config: config,
		Layers: []ocispec.Descriptor{content.NewDescriptorFromBytes(MediaTypeIndex, text), content.NewDescriptorFromBytes(sign.MediaTypeSignature, signature)},
	}
	raw, err := json.Marshal(m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if err := h.putAll(configData, text, signature, raw); err != nil {
		return ocispec.Descriptor{}, err
	}
	return manifestDescriptor(ocispec.MediaTypeImageManifest, ArtifactTypeIndex, raw), nil
}
