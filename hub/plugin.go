package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/plugins"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/internal/files"
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
	oci := strings.HasPrefix(spec, registry.OCIPrefix)
	if !oci && strings.ContainsAny(spec, `/\`) {
		return h.installFile(ctx, spec, describe)
	}
	free, err := h.store.Hold(ctx) // what is downloaded has no name in the store
	if err != nil {
		return plugins.Installed{}, err
	}
	defer free()
	if oci {
		return h.installFromOCI(ctx, spec)
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
	err := h.updateLock(ctx, func(f *lock.File) error {
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
// that is not there keeps every other one from running, so that the pin goes first. It returns the versions, and the pinned one or "".
func (h *Hub) RemovePlugin(ctx context.Context, name, constraint string) (removed []string, unpinned string, err error) {
	versions, err := h.Plugins().Versions(name, constraint)
	if err != nil {
		return nil, "", err
	}
	f, err := lock.Load(h.config.LockFile)
	if err != nil {
		return nil, "", err
	}
	if slices.Contains(versions, f.Plugins[name].Version) { // else the lock may be one that nobody here can write to
		err := h.updateLock(ctx, func(f *lock.File) error {
			if version := f.Plugins[name].Version; slices.Contains(versions, version) {
				unpinned = version
				delete(f.Plugins, name)
			}
			return nil
		})
		if err != nil {
			return nil, "", err
		}
	}
	for _, v := range versions { // and none that was installed, and pinned, since
		gone, err := h.Plugins().Remove(ctx, name, v)
		if err != nil {
			return removed, unpinned, err
		}
		removed = append(removed, gone...)
	}
	return removed, unpinned, nil
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
	d, err := digest.SHA256.FromReader(files.Reader(ctx, f))
	if err != nil {
		return plugins.Installed{}, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return plugins.Installed{}, err
	}
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
	if len(h.keys) > 0 {
		list, err := h.readSignatures(ctx, repo, root)
		if err != nil {
			return plugins.Installed{}, fmt.Errorf("%s: signatures: %w", spec, err)
		}
		if _, err := h.verifySignatures(list, name, version, root.Digest); err != nil {
			return plugins.Installed{}, err
		}
	}
	v, err := readPlugin(ctx, repo, root, name, version)
	if err != nil {
		return plugins.Installed{}, fmt.Errorf("%s: %w", spec, err)
	}
	own, ok := v.platforms[platform()]
	if !ok {
		return plugins.Installed{}, fmt.Errorf("%s: %w for %s: it has %s", spec, ErrNotFound, platform(), strings.Join(sortedKeys(v.platforms), ", "))
	}
	pin := lock.Plugin{Version: version, Constraint: version, Platforms: make(map[string]digest.Digest)}
	for on, m := range v.platforms {
		pin.Platforms[on] = m.binary.Digest
	}
	if _, _, err := h.download(ctx, "plugin-"+own.binary.Digest.Encoded(), download.Blob{Repository: repo, Descriptor: own.binary}, Progress{Name: name + "@" + version, Source: spec}); err != nil {
		return plugins.Installed{}, fmt.Errorf("%s: %w", spec, err)
	}
	p, err := h.installBlob(ctx, own.config, own.binary.Digest, spec, pin)
	if err == nil && len(h.keys) == 0 {
		h.warn("plugin %s is trusted on first use: no key is pinned; it is pinned in %s", spec, h.config.LockFile)
	}
	return p, err
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// pluginVersion is a version of a plugin as a repository has it.
type pluginVersion struct {
	root      ocispec.Descriptor
	raw       []byte                    // the index
	platforms map[string]pluginManifest // by GOOS/GOARCH
}

// pluginManifest is a version's manifest for one platform.
type pluginManifest struct {
	descriptor ocispec.Descriptor // as the index has it
	raw        []byte
	config     PluginConfig
	rawConfig  []byte
	binary     ocispec.Descriptor
}

// readPlugin reads the index of a version and its manifests, and refuses those of another plugin or version.
func readPlugin(ctx context.Context, repo source.Repository, root ocispec.Descriptor, name, version string) (*pluginVersion, error) {
	raw, err := source.ReadAll(ctx, repo, root, source.MaxManifest)
	if err != nil {
		return nil, err
	}
	x, err := source.DecodeIndex(raw)
	if err != nil {
		return nil, err
	}
	if len(x.Manifests) == 0 {
		return nil, fmt.Errorf("%w: %s is not a plugin", ErrTampered, root.Digest)
	}
	v := &pluginVersion{root, raw, make(map[string]pluginManifest)}
	for _, d := range x.Manifests {
		m, err := readPluginManifest(ctx, repo, d)
		if err != nil {
			return nil, err
		}
		if m.config.Name != name || m.config.Version != version || d.Platform == nil {
			return nil, fmt.Errorf("%w: it holds plugin %s %s", ErrTampered, m.config.Name, m.config.Version)
		}
		v.platforms[d.Platform.OS+"/"+d.Platform.Architecture] = m
	}
	return v, nil
}

// readPluginManifest reads one platform's manifest.
func readPluginManifest(ctx context.Context, repo source.Repository, d ocispec.Descriptor) (pluginManifest, error) {
	p := pluginManifest{descriptor: d}
	var err error
	if p.raw, err = source.ReadAll(ctx, repo, d, source.MaxManifest); err != nil {
		return p, err
	}
	m, err := source.DecodeManifest(p.raw)
	if err != nil {
		return p, err
	}
	if m.ArtifactType != ArtifactTypePlugin || len(m.Layers) != 1 || m.Layers[0].Size > maxPlugin {
		return p, fmt.Errorf("%w: %s is not a plugin", ErrTampered, d.Digest)
	}
	p.binary = m.Layers[0]
	if p.rawConfig, err = source.ReadAll(ctx, repo, m.Config, maxSignature); err != nil {
		return p, err
	}
	return p, json.Unmarshal(p.rawConfig, &p.config)
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
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
