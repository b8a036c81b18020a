package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"aead.dev/minisign"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/files"
)

// The index in sources: an artifact with the signed registry.json and its signature as layers.
const (
	ArtifactTypeIndex = "application/vnd.zoo.index.v1"
	MediaTypeIndex    = "application/vnd.zoo.index.v1+json"

	indexRepository = "registry"
	indexTag        = "latest"
	signedFile      = "signed.json"
	signatureSuffix = ".minisig"
	seenFile        = "seen.json"
)

// Index returns the index to use: the newest signed by a pinned key that a source or an earlier run had, else the program's own.
// It asks the sources at most once in a Hub's life, and none if no key is pinned.
func (h *Hub) Index(ctx context.Context) (*registry.Index, error) {
	if err := h.refreshOnce(ctx); err != nil {
		return nil, err
	}
	return h.cachedIndex()
}

// refreshOnce asks the sources for the index, unless that has been done or no key is pinned. Whoever comes meanwhile waits no longer than its own
// context, and who needs no newer index does not wait.
func (h *Hub) refreshOnce(ctx context.Context) error {
	if len(h.keys) == 0 {
		return nil
	}
	select {
	case h.refreshing <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("waiting for the index: %w", context.Cause(ctx))
	}
	defer func() { <-h.refreshing }()
	if h.refreshed {
		return nil
	}
	err := h.refresh(ctx)
	h.refreshed = err == nil
	return err
}

// cachedIndex is Index without asking any source.
func (h *Hub) cachedIndex() (*registry.Index, error) {
	h.indexes.Lock()
	defer h.indexes.Unlock()
	if h.remote == nil && len(h.keys) > 0 {
		path := filepath.Join(h.registryDir(), signedFile)
		data, err := files.ReadAll(path, 2*registry.MaxBytes) // in base64
		if err == nil {
			var s signedIndex
			if err = json.Unmarshal(data, &s); err == nil {
				h.remote, err = h.checkIndex(s.Index, s.Signature)
			}
			if err != nil {
				return nil, fmt.Errorf("the index in %s: %w", path, err)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if h.remote != nil {
		return h.remote, nil
	}
	warning, err := registry.Policy{Now: h.config.Now(), Fixed: true}.Check(h.shipped)
	if warning != "" && !h.warnedExpiry {
		h.warnedExpiry = true
		h.warn("%s", warning)
	}
	return h.shipped, err
}

// signedIndex is the last accepted index with its signature, in one file so that they cannot come apart.
type signedIndex struct {
	Index     []byte `json:"index"`
	Signature []byte `json:"signature"`
}

func (h *Hub) registryDir() string { return filepath.Join(h.config.Home, "registry") }

// seen is the highest version of the index that was ever accepted, for each key that signed one.
type seen map[string]int64

func (h *Hub) loadSeen() (seen, error) {
	s := make(seen)
	path := filepath.Join(h.registryDir(), seenFile)
	data, err := files.ReadAll(path, maxSeen)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		return nil, fmt.Errorf("the highest index version seen, in %s, cannot be read: restore the file, or remove it if you know why: %w", path, err)
	}
	return s, nil
}

// checkIndex verifies signature, form, version floor and expiry of an index, and shows its warning.
func (h *Hub) checkIndex(data, signature []byte) (*registry.Index, error) {
	key, err := h.keys.Verify(data, signature)
	if err != nil {
		return nil, err
	}
	x, err := registry.Parse(data)
	if err != nil {
		return nil, err
	}
	s, err := h.loadSeen()
	if err != nil {
		return nil, err
	}
	warning, err := registry.Policy{Floor: s[key], Now: h.config.Now(), Grace: registry.DefaultGrace}.Check(x)
	if err != nil {
		return nil, err
	}
	if warning != "" {
		h.warn("%s", warning)
	}
	return x, nil
}

// refresh gets the index from the first source that has one, and keeps it. Unreachable sources are only warned about;
// an index that is refused is an error.
func (h *Hub) refresh(ctx context.Context) error {
	for _, s := range h.sources {
		if s.String() == SourceUpstream {
			continue
		}
		_, data, signature, err := h.fetchIndex(ctx, s)
		if errors.Is(err, source.ErrNotFound) || errors.Is(err, source.ErrOffline) {
			continue
		}
		if err != nil {
			if ctx.Err() != nil {
				return err
			}
			h.warn("the index of %s was not read: %v", s, err)
			continue
		}
		x, err := h.checkIndex(data, signature)
		if err != nil {
			return fmt.Errorf("the index of %s: %w", s, err)
		}
		kept, err := h.keepIndex(ctx, data, signature, x.Version)
		if err != nil {
			return err
		}
		if !kept {
			x = nil // the newer one is read
		}
		h.indexes.Lock()
		defer h.indexes.Unlock()
		h.remote = x
		return nil
	}
	return nil
}

// fetchIndex reads the index of a source: its manifest, the text and the signature.
func (h *Hub) fetchIndex(ctx context.Context, s source.Source) (d ocispec.Descriptor, data, signature []byte, err error) {
	repo, err := s.Repository(indexRepository)
	if err != nil {
		return d, nil, nil, err
	}
	d, err = repo.Resolve(ctx, indexTag)
	if err != nil {
		return d, nil, nil, err
	}
	raw, err := source.ReadAll(ctx, repo, d, source.MaxManifest)
	if err != nil {
		return d, nil, nil, err
	}
	m, err := source.DecodeManifest(raw)
	if err != nil {
		return d, nil, nil, err
	}
	for _, l := range m.Layers {
		switch l.MediaType {
		case MediaTypeIndex:
			data, err = source.ReadAll(ctx, repo, l, registry.MaxBytes)
		case sign.MediaTypeSignature:
			signature, err = source.ReadAll(ctx, repo, l, maxSignature)
		}
		if err != nil {
			return d, nil, nil, err
		}
	}
	return d, data, signature, nil
}

// What is read is bounded, in bytes: a signature and a statement, and the versions seen.
const (
	maxSignature = 16 << 10
	maxSeen      = 1 << 20
)

// keepIndex stores an accepted index and raises the floor first, so that a crash between the two cannot lower it. It keeps nothing where another
// process has kept a newer one since this one was checked: that one is there to be read.
func (h *Hub) keepIndex(ctx context.Context, data, signature []byte, version int64) (kept bool, err error) {
	dir := h.registryDir()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	release, err := h.store.Lock(ctx, "registry", nil)
	if err != nil {
		return false, err
	}
	defer release()
	files.RemoveLeft(filepath.Join(dir, seenFile))
	files.RemoveLeft(filepath.Join(dir, signedFile))
	s, err := h.loadSeen()
	if err != nil {
		return false, err
	}
	key, err := h.keys.Verify(data, signature)
	if err != nil {
		return false, err
	}
	if s[key] > version {
		return false, nil
	}
	s[key] = version
	floor, err := json.Marshal(s)
	if err != nil {
		return false, err
	}
	if err := files.Replace(filepath.Join(dir, seenFile), floor, 0o644); err != nil {
		return false, store.DiskFull(err)
	}
	text, err := json.Marshal(signedIndex{data, signature})
	if err != nil {
		return false, err
	}
	return true, store.DiskFull(files.Replace(filepath.Join(dir, signedFile), text, 0o644))
}

// SignIndex checks the index at path and writes its signature beside it, as PATH.minisig. It returns that path.
func SignIndex(path string, key minisign.PrivateKey) (string, error) {
	data, err := files.ReadAll(path, registry.MaxBytes)
	if err != nil {
		return "", err
	}
	x, err := registry.Parse(data)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	out := path + signatureSuffix
	return out, files.Replace(out, sign.Sign(key, data, fmt.Sprintf("registry version %d", x.Version)), 0o644)
}

// CheckIndex checks the index at path and, if any key is given, the signature beside it. It returns the index, and the
// key's identifier if there is one.
func CheckIndex(path string, keys sign.Keys) (*registry.Index, string, error) {
	data, err := files.ReadAll(path, registry.MaxBytes)
	if err != nil {
		return nil, "", err
	}
	x, err := registry.Parse(data)
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	if len(keys) == 0 {
		return x, "", nil
	}
	signature, err := files.ReadAll(path+signatureSuffix, maxSignature)
	if err != nil {
		return nil, "", fmt.Errorf("the signature: %w: make one with zoo registry sign", err)
	}
	id, err := keys.Verify(data, signature)
	return x, id, err
}

// PinKey adds a public key, or a file with one, to the configuration in home.
func PinKey(home, key string) error {
	keys, err := sign.ParseKeys(key)
	if err != nil {
		return err
	}
	c, err := readConfig(home) // the environment is for one command
	if err != nil {
		return err
	}
	for _, have := range c.Keys {
		if have == keys[0].String() {
			return nil
		}
	}
	c.Keys = append(c.Keys, keys[0].String())
	return SaveConfig(c)
}

// emptyConfig is the config of manifests that need none (OCI image specification, "guidance for an empty descriptor").
func emptyConfig() (ocispec.Descriptor, []byte) {
	return ocispec.DescriptorEmptyJSON, ocispec.DescriptorEmptyJSON.Data
}
