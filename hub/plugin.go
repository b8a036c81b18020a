package hub

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/plugins"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
)

// A plugin version in OCI form: an image index with a manifest a platform, whose config is PluginConfig and whose layer is the
// binary.
const (
	ArtifactTypePlugin    = "application/vnd.zoo.plugin.v1"
	MediaTypePluginConfig = "application/vnd.zoo.plugin.config.v1+json"
	MediaTypePluginBinary = "application/vnd.zoo.plugin.binary.v1"

	pluginRepositories = "plugins/"
	maxPlugin          = 1 << 30
)

// PluginConfig is the config of a plugin's manifests.
type PluginConfig struct {
	Name     string `json:"name"`
	Version  string `json:"version"`
	Protocol int    `json:"protocol"`
}

// Plugins is the directory of installed plugins.
func (h *Hub) Plugins() plugins.Dir { return plugins.Dir(filepath.Join(h.config.Home, "plugins")) }

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// InstallPlugin installs "NAME[@CONSTRAINT]" as the index and the lock have it, a binary file ("./FILE", with name and version from
// describe), or "oci://HOST/PATH/plugins/NAME:VERSION". It pins what it installs, for all platforms known.
//
// describe tells the name, version and protocol of a binary file, by starting it; it is called only for files that the caller named.
func (h *Hub) InstallPlugin(ctx context.Context, spec string, describe func(ctx context.Context, path string) (PluginConfig, error)) (plugins.Installed, error) {
	switch {
	case strings.HasPrefix(spec, registry.OCIPrefix):
		return h.installFromOCI(ctx, spec)
	case strings.ContainsAny(spec, `/\`):
		return h.installFile(ctx, spec, describe)
	}
	name, constraint, _ := strings.Cut(spec, "@")
	return h.installNamed(ctx, name, constraint)
}

// ResolvePlugin returns the newest version of a family that fits the constraint, has a binary for this platform, and is the pinned one if the
// lock pins one that fits.
func (h *Hub) ResolvePlugin(ctx context.Context, name, constraint string) (*registry.Plugin, error) {
	x, err := h.Index(ctx)
	if err != nil {
		return nil, err
	}
	family := x.FamilyByName(name)
	if family == nil {
		return nil, fmt.Errorf("plugin %s: %w: the index lists no such family", name, ErrNotFound)
	}
	c, err := plugins.ParseConstraint(constraint)
	if err != nil {
		return nil, err
	}
	f, err := lock.Load(h.config.LockFile)
	if err != nil {
		return nil, err
	}
	pinned := f.Plugins[name].Version
	if v, err := semver.NewVersion(pinned); err != nil || !c.Check(v) {
		pinned = "" // the lock pins none, or another one is asked for
	}
	var best *registry.Plugin
	var bestVersion *semver.Version
	for i := range family.Plugins {
		p := &family.Plugins[i]
		v, err := semver.StrictNewVersion(p.Version)
		if err != nil {
			return nil, err
		}
		if _, ok := p.Platforms[platform()]; !ok || !c.Check(v) || pinned != "" && p.Version != pinned || best != nil && !v.GreaterThan(bestVersion) {
			continue
		}
		best, bestVersion = p, v
	}
	if best == nil {
		if pinned != "" {
			constraint = pinned + ", which the lock pins"
		}
		if constraint != "" {
			name += " " + constraint
		}
		return nil, fmt.Errorf("plugin %s: %w for %s: the index lists %s", name, ErrNotFound, platform(), versionList(family))
	}
	return best, nil
}

func versionList(f *registry.Family) string {
	var list []string
	for _, p := range f.Plugins {
		list = append(list, p.Version)
	}
	if len(list) == 0 {
		return "no published binaries; the family is part of zoo itself"
	}
	return strings.Join(list, ", ")
}

func (h *Hub) installNamed(ctx context.Context, name, constraint string) (plugins.Installed, error) {
	p, err := h.ResolvePlugin(ctx, name, constraint)
	if err != nil {
		return plugins.Installed{}, err
	}
	b := p.Platforms[platform()]
	from, err := h.fetchBinary(ctx, name, p.Version, b)
	if err != nil {
		return plugins.Installed{}, err
	}
	pin := lock.Plugin{Version: p.Version, Constraint: constraint, Platforms: make(map[string]digest.Digest, len(p.Platforms))}
	for platform, b := range p.Platforms {
		pin.Platforms[platform] = b.Digest
	}
	return h.installBlob(ctx, PluginConfig{name, p.Version, p.Protocol}, b.Digest, from, pin)
}

// fetchBinary brings a listed binary into the store, from the first source that has it.
func (h *Hub) fetchBinary(ctx context.Context, name, version string, b registry.Binary) (from string, err error) {
	d := ocispec.Descriptor{MediaType: MediaTypePluginBinary, Digest: b.Digest, Size: b.Size}
	if h.store.Has(b.Digest) {
		return SourceStore, nil
	}
	failure := fmt.Errorf("plugin %s %s: %w", name, version, ErrNotFound)
	for _, s := range h.sources {
		var repo source.Repository
		blob := d
		switch {
		case s.String() == SourceUpstream && b.URL == "":
			continue
		case s.String() == SourceUpstream:
			repo = source.File(h.client)
			blob.URLs = []string{b.URL}
		default:
			if repo, err = s.Repository(pluginRepositories + name); err != nil {
				return "", err
			}
		}
		_, _, err := h.download(ctx, "plugin-"+b.Digest.Encoded(), download.Blob{Repository: repo, Descriptor: blob}, Progress{Name: name + "@" + version, Source: s.String()})
		if err == nil {
			return s.String(), nil
		}
		if ctx.Err() != nil || !passable(err) {
			return "", fmt.Errorf("plugin %s %s from %s: %w", name, version, s, err)
		}
		failure = fmt.Errorf("%w; %s: %w", failure, s, err)
	}
	return "", failure
}

// installBlob installs a binary of the store, checks it against the lock before and pins it after.
func (h *Hub) installBlob(ctx context.Context, c PluginConfig, d digest.Digest, from string, pin lock.Plugin) (plugins.Installed, error) {
	f, err := h.store.Open(d)
	if err != nil {
		return plugins.Installed{}, err
	}
	defer f.Close() // only read
	return h.installReader(ctx, c, d, from, pin, f)
}

func (h *Hub) installReader(ctx context.Context, c PluginConfig, d digest.Digest, from string, pin lock.Plugin, r io.Reader) (plugins.Installed, error) {
	var rec plugins.Installed
	err := lock.Update(ctx, h.config.LockFile, func(f *lock.File) error {
		if f.Plugins[c.Name].Version == c.Version { // the same version must be the same bytes; another one was asked for
			if err := f.CheckPlugin(c.Name, c.Version, platform(), d); err != nil {
				return err
			}
		}
		var err error
		rec, err = h.Plugins().Install(ctx, plugins.Installed{Name: c.Name, Version: c.Version, Protocol: c.Protocol, SHA256: d.Encoded(), Source: from}, r)
		if err == nil {
			f.PinPlugin(c.Name, pin)
		}
		return err
	})
	return rec, err
}

// RemovePlugin removes the installed versions of a plugin that fit the constraint, and the lock's pin if it is of one of them: a pin of a version
// that is not there keeps every other one from running. It returns the versions, and the pinned one or "".
func (h *Hub) RemovePlugin(ctx context.Context, name, constraint string) (removed []string, unpinned string, err error) {
	removed, err = h.Plugins().Remove(name, constraint)
	if len(removed) == 0 {
		return nil, "", err
	}
	return removed, unpinned, errors.Join(err, lock.Update(ctx, h.config.LockFile, func(f *lock.File) error {
		if version := f.Plugins[name].Version; slices.Contains(removed, version) {
			unpinned = version
			delete(f.Plugins, name)
		}
		return nil
	}))
}

func (h *Hub) installFile(ctx context.Context, path string, describe func(context.Context, string) (PluginConfig, error)) (plugins.Installed, error) {
	if describe == nil {
		return plugins.Installed{}, errors.New("a plugin file needs somebody to ask for its name and version")
	}
	c, err := describe(ctx, path)
	if err != nil {
		return plugins.Installed{}, fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.Open(path)
	if err != nil {
		return plugins.Installed{}, err
	}
	defer f.Close() // only read
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return plugins.Installed{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return plugins.Installed{}, err
	}
	d := digest.NewDigestFromEncoded(digest.SHA256, hex.EncodeToString(sum.Sum(nil)))
	abs, err := filepath.Abs(path)
	if err != nil {
		return plugins.Installed{}, err
	}
	return h.installReader(ctx, c, d, abs, lock.Plugin{Version: c.Version, Constraint: c.Version, Platforms: map[string]digest.Digest{platform(): d}}, f)
}

// installFromOCI installs what a reference names, after the signature, if keys are pinned, and the lock.
func (h *Hub) installFromOCI(ctx context.Context, spec string) (plugins.Installed, error) {
	address, plugin, ok := registry.CutAddress(spec)
	name, version, tagged := cutLast(plugin, ":")
	if !ok || !tagged {
		return plugins.Installed{}, fmt.Errorf("%q names no version: use oci://HOST/PATH/plugins/NAME:VERSION", spec)
	}
	s, err := source.OCI(h.client, address)
	if err != nil {
		return plugins.Installed{}, err
	}
	repo, err := s.Repository(name)
	if err != nil {
		return plugins.Installed{}, err
	}
	root, err := repo.Resolve(ctx, version)
	if err != nil {
		return plugins.Installed{}, fmt.Errorf("%s: %w", spec, err)
	}
	raw, err := source.ReadAll(ctx, repo, root, source.MaxManifest)
	if err != nil {
		return plugins.Installed{}, err
	}
	x, err := source.DecodeIndex(raw)
	if err != nil {
		return plugins.Installed{}, fmt.Errorf("%s: %w", spec, err)
	}
	if len(h.keys) > 0 {
		list, err := h.readSignatures(ctx, repo, root)
		if err != nil {
			return plugins.Installed{}, err
		}
		if _, err := h.verifySignatures(list, name, version, root.Digest); err != nil {
			return plugins.Installed{}, err
		}
	} else {
		h.warn("plugin %s is trusted on first use: no key is pinned; it is pinned in %s", spec, h.config.LockFile)
	}
	pin := lock.Plugin{Version: version, Constraint: version, Platforms: make(map[string]digest.Digest)}
	var binary ocispec.Descriptor
	var config PluginConfig
	for _, d := range x.Manifests {
		c, layer, err := readPlugin(ctx, repo, d)
		if err != nil {
			return plugins.Installed{}, fmt.Errorf("%s: %w", spec, err)
		}
		if c.Name != name || c.Version != version || d.Platform == nil {
			return plugins.Installed{}, fmt.Errorf("%s: %w: it holds plugin %s %s", spec, ErrTampered, c.Name, c.Version)
		}
		on := d.Platform.OS + "/" + d.Platform.Architecture
		pin.Platforms[on] = layer.Digest
		if on == platform() {
			binary, config = layer, c
		}
	}
	if binary.Digest == "" {
		return plugins.Installed{}, fmt.Errorf("%s: %w for %s", spec, ErrNotFound, platform())
	}
	if _, _, err := h.download(ctx, "plugin-"+binary.Digest.Encoded(), download.Blob{Repository: repo, Descriptor: binary}, Progress{Name: name + "@" + version, Source: spec}); err != nil {
		return plugins.Installed{}, err
	}
	return h.installBlob(ctx, config, binary.Digest, spec, pin)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// readPlugin reads one platform's manifest.
func readPlugin(ctx context.Context, repo source.Repository, d ocispec.Descriptor) (c PluginConfig, binary ocispec.Descriptor, err error) {
	raw, err := source.ReadAll(ctx, repo, d, source.MaxManifest)
	if err != nil {
		return c, binary, err
	}
	m, err := source.DecodeManifest(raw)
	if err != nil {
		return c, binary, err
	}
	if m.ArtifactType != ArtifactTypePlugin || len(m.Layers) != 1 || m.Layers[0].Size > maxPlugin {
		return c, binary, fmt.Errorf("%w: %s is not a plugin", ErrTampered, d.Digest)
	}
	text, err := source.ReadAll(ctx, repo, m.Config, maxSignature)
	if err != nil {
		return c, binary, err
	}
	return c, m.Layers[0], json.Unmarshal(text, &c)
}

// mirrorPlugins copies all published binaries of a family.
func (h *Hub) mirrorPlugins(ctx context.Context, f *registry.Family, t target) ([]*Pushed, error) {
	var done []*Pushed
	for _, p := range f.Plugins {
		root, size, err := h.putPlugin(ctx, f.Name, p)
		if err != nil {
			return done, err
		}
		repository := pluginRepositories + f.Name
		out := &Pushed{Reference: t.reference(repository, p.Version), Manifest: root}
		s, err := t.source()
		if err != nil {
			return done, err
		}
		repo, err := s.Repository(repository)
		if err != nil {
			return done, err
		}
		have, err := repo.Resolve(ctx, p.Version)
		switch {
		case err == nil && have.Digest == root.Digest:
			out.Skipped = true
		case err == nil, errors.Is(err, source.ErrNotFound):
			out.Bytes, err = t.put(ctx, h, repository, p.Version, root, Progress{Name: f.Name + "@" + p.Version, Stage: StagePush, Total: size, Source: out.Reference})
		}
		if err != nil && !out.Skipped {
			return done, fmt.Errorf("mirroring plugin %s %s: %w", f.Name, p.Version, err)
		}
		done = append(done, out)
	}
	return done, nil
}

// putPlugin fetches the binaries of a version for all platforms and stores their index and manifests.
func (h *Hub) putPlugin(ctx context.Context, name string, p registry.Plugin) (root ocispec.Descriptor, size int64, err error) {
	config, err := json.Marshal(PluginConfig{name, p.Version, p.Protocol})
	if err != nil {
		return root, 0, err
	}
	if _, err := h.store.Put(config); err != nil {
		return root, 0, err
	}
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: ArtifactTypePlugin}
	for _, on := range sortedKeys(p.Platforms) {
		b := p.Platforms[on]
		if _, err := h.fetchBinary(ctx, name, p.Version, b); err != nil {
			return root, 0, err
		}
		goos, arch, _ := strings.Cut(on, "/")
		m := ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactTypePlugin,
			Config: ocispec.Descriptor{MediaType: MediaTypePluginConfig, Digest: digest.FromBytes(config), Size: int64(len(config))},
			Layers: []ocispec.Descriptor{{MediaType: MediaTypePluginBinary, Digest: b.Digest, Size: b.Size}},
		}
		raw, err := json.Marshal(m)
		if err != nil {
			return root, 0, err
		}
		d, err := h.store.Put(raw)
		if err != nil {
			return root, 0, err
		}
		size += b.Size
		x.Manifests = append(x.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactTypePlugin, Digest: d, Size: int64(len(raw)),
			Platform: &ocispec.Platform{OS: goos, Architecture: arch},
		})
	}
	raw, err := json.Marshal(x)
	if err != nil {
		return root, 0, err
	}
	d, err := h.store.Put(raw)
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, ArtifactType: ArtifactTypePlugin, Digest: d, Size: int64(len(raw))}, size, err
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// VerifyPlugins checks the bytes and permissions of every installed plugin, and its pin.
func (h *Hub) VerifyPlugins() ([]Finding, error) {
	list, err := h.Plugins().List()
	if err != nil {
		return nil, err
	}
	f, err := lock.Load(h.config.LockFile)
	if err != nil {
		return nil, err
	}
	var findings []Finding
	for _, p := range list {
		rec, err := h.Plugins().Check(p.Name, p.Version)
		if err == nil && f.Plugins[p.Name].Version == p.Version {
			err = f.CheckPlugin(p.Name, p.Version, platform(), digest.NewDigestFromEncoded(digest.SHA256, rec.SHA256))
		}
		if err != nil {
			findings = append(findings, Finding{Name: p.Name + "@" + p.Version, Err: err})
		}
	}
	return findings, nil
}
