package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"aead.dev/minisign"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/hub/source"
)

// signature is a manifest that refers to an artifact, with its layers.
type signature struct {
	descriptor ocispec.Descriptor
	raw        []byte
	statement  []byte
	signature  []byte
	key        string // of the pinned key that made it, once verified
}

// newSignature signs an artifact under a name and tag.
func newSignature(key minisign.PrivateKey, name, tag string, subject ocispec.Descriptor) (signature, error) {
	statement, err := sign.NewStatement(name, tag, subject.Digest)
	if err != nil {
		return signature{}, err
	}
	s := signature{statement: statement, signature: sign.Sign(key, statement, name+":"+tag)}
	config, _ := emptyConfig()
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: sign.ArtifactType, Config: config,
		Layers:  []ocispec.Descriptor{content.NewDescriptorFromBytes(sign.MediaTypeStatement, s.statement), content.NewDescriptorFromBytes(sign.MediaTypeSignature, s.signature)},
		Subject: &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	}
	if s.raw, err = json.Marshal(m); err != nil {
		return signature{}, err
	}
	s.descriptor = manifestDescriptor(ocispec.MediaTypeImageManifest, sign.ArtifactType, s.raw)
	return s, nil
}

// signModel signs an artifact of the store, which keeps the signature.
func (h *Hub) signModel(ctx context.Context, a *artifact, key minisign.PrivateKey) ([]signature, error) {
	s, err := newSignature(key, a.card.Name, a.card.Tag, a.descriptor)
	if err != nil {
		return nil, err
	}
	return []signature{s}, h.keepSignature(ctx, s)
}

// readSignatures reads the signatures of an artifact at a source.
func (h *Hub) readSignatures(ctx context.Context, repo source.Repository, subject ocispec.Descriptor) ([]signature, error) {
	referrers, err := repo.Referrers(ctx, subject, sign.ArtifactType)
	if errors.Is(err, source.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []signature
	for _, d := range referrers {
		raw, err := source.ReadAll(ctx, repo, d, source.MaxManifest)
		if err != nil {
			return nil, err
		}
		m, err := source.DecodeManifest(raw)
		if err != nil {
			return nil, err
		}
		s := signature{descriptor: manifestDescriptor(ocispec.MediaTypeImageManifest, sign.ArtifactType, raw), raw: raw}
		for _, l := range m.Layers {
			switch l.MediaType {
			case sign.MediaTypeStatement:
				s.statement, err = source.ReadAll(ctx, repo, l, maxSignature)
			case sign.MediaTypeSignature:
				s.signature, err = source.ReadAll(ctx, repo, l, maxSignature)
			}
			if err != nil {
				return nil, err
			}
		}
		list = append(list, s)
	}
	return list, nil
}

// storedSignatures are those of an artifact in the store.
func (h *Hub) storedSignatures(ctx context.Context, subject ocispec.Descriptor) ([]signature, error) {
	repo, err := source.Directory(h.store.Dir()).Repository("")
	if err != nil {
		return nil, err
	}
	return h.readSignatures(ctx, repo, subject)
}

// verifySignatures returns the pinned key by which one of the signatures is good.
func (h *Hub) verifySignatures(list []signature, name, tag string, d digest.Digest) (string, error) {
	err := fmt.Errorf("%w: %s:%s has none, and keys are pinned: who publishes it must sign it, with --key", sign.ErrUntrusted, name, tag)
	for i := range list {
		id, failure := h.keys.VerifyStatement(list[i].statement, list[i].signature, name, tag, d)
		if failure == nil {
			list[i].key = id
			return id, nil
		}
		err = failure
	}
	return "", err
}

// signedAt reports whether the target has a signature by the key for an artifact of its, under a name and tag.
func (h *Hub) signedAt(ctx context.Context, t target, repository, name, tag string, d ocispec.Descriptor, key minisign.PrivateKey) (bool, error) {
	public, err := publicKey(key)
	if err != nil {
		return false, err
	}
	repo, err := repositoryAt(t, repository)
	if err != nil {
		return false, err
	}
	list, err := h.readSignatures(ctx, repo, d)
	return slices.ContainsFunc(list, func(have signature) bool {
		_, err := (sign.Keys{public}).VerifyStatement(have.statement, have.signature, name, tag, d.Digest)
		return err == nil
	}), err
}

// publicKey is the public part of a signing key.
func publicKey(key minisign.PrivateKey) (minisign.PublicKey, error) {
	public, ok := key.Public().(minisign.PublicKey)
	if !ok {
		return public, errors.New("the signing key has no public part")
	}
	return public, nil
}

// keepSignature stores a signature beside its artifact.
func (h *Hub) keepSignature(ctx context.Context, s signature) error {
	if err := h.putSignature(s); err != nil {
		return err
	}
	return h.store.Tag(ctx, "", s.descriptor)
}

// putSignature stores the blobs of a signature, for a target: the store does not list it.
func (h *Hub) putSignature(s signature) error {
	_, config := emptyConfig()
	return h.putAll(config, s.statement, s.signature, s.raw)
}

func (h *Hub) putAll(blobs ...[]byte) error {
	for _, b := range blobs {
		if _, err := h.store.Put(b); err != nil {
			return err
		}
	}
	return nil
}
