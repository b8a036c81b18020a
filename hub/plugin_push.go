package hub

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"aead.dev/minisign"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"

	"github.com/go-modelzoo/zoo/hub/plugins"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
	"github.com/go-modelzoo/zoo/internal/files"
)

// ErrPublished says that a version of a plugin is published with other bytes.
var ErrPublished = errors.New("it is published with other bytes")

// PluginPushOptions say how to publish a plugin.
type PluginPushOptions struct {
	// Key signs the version, with its binaries for all platforms. Nil: no signature.
	Key *minisign.PrivateKey
	// Overwrite replaces binaries that the version has. Clients that pinned those refuse the new ones.
	Overwrite bool
}

// PushPlugin publishes the binaries of one version of a plugin at "oci://HOST/PATH", as HOST/PATH/plugins/NAME:VERSION, or in a directory as an
// OCI layout. A binary is "FILE", a Go program, which says what platform it was built for, or "OS/ARCH=FILE". Platforms that the version has
// there already stay, those too that others push at the same moment. The error wraps ErrPublished if it has other bytes for one of these.
//
// describe tells the name, version and protocol of the binary for this platform, by starting it; those of other platforms are taken to be the same.
func (h *Hub) PushPlugin(ctx context.Context, binaries []string, to string, describe func(ctx context.Context, path string) (PluginConfig, error), o PluginPushOptions) (*Pushed, error) {
	paths, err := byPlatform(binaries)
	if err != nil {
		return nil, err
	}
	own, ok := paths[platform()]
	if !ok {
		return nil, fmt.Errorf("no binary is for %s: name that one too, since it is started here to ask for name and version", platform())
	}
	c, err := describe(ctx, own)
	if err == nil {
		err = plugins.CheckNames(c.Name, c.Version)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", own, err)
	}
	layers := make(map[string]ocispec.Descriptor, len(paths))
	for on, path := range paths {
		if layers[on], err = binaryLayer(ctx, path); err != nil {
			return nil, err
		}
	}
	t, done, err := h.holdTarget(ctx, to)
	if err != nil {
		return nil, err
	}
	defer done()
	return h.publishPlugin(ctx, t, &pluginPush{
		config: c, layers: layers, key: o.Key, overwrite: o.Overwrite,
		fetch: func(ctx context.Context, on string) error { return h.ingest(ctx, layers[on], paths[on]) },
	})
}

// pluginPush is a version of a plugin, or a part of its platforms, on its way to a target.
type pluginPush struct {
	config PluginConfig
	layers map[string]ocispec.Descriptor // the binaries by platform
	// fetch brings a platform's binary into the store.
	fetch func(ctx context.Context, on string) error
	key   *minisign.PrivateKey
	// overwrite replaces binaries that the target has.
	overwrite bool
	// mirrored says that the binaries are those of an index.
	mirrored bool
}

// publishPlugin adds the binaries to what a target has of the version, until it finds them there.
func (h *Hub) publishPlugin(ctx context.Context, t target, p *pluginPush) (*Pushed, error) {
	return merge(ctx, t, t.reference(pluginRepositories+p.config.Name, p.config.Version), func() (*Pushed, error) { return h.addPlugin(ctx, t, p) })
}

// addPlugin adds the binaries, and a signature if there is a key, to what a target has of the version now. It does nothing if all is there.
func (h *Hub) addPlugin(ctx context.Context, t target, p *pluginPush) (*Pushed, error) {
	c, repository := p.config, pluginRepositories+p.config.Name
	reference := t.reference(repository, c.Version)
	have, err := publishedPlugin(ctx, t, c.Name, c.Version)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, on := range sortedKeys(p.layers) {
		old, ok := have.platforms[on]
		if ok && old.binary.Digest == p.layers[on].Digest {
			continue
		}
		if ok && p.mirrored {
			return nil, fmt.Errorf("%s for %s: %w (%s) than the index lists (%s): the version was pushed there by somebody: remove it there to have the index's, or mirror to another path",
				reference, on, ErrPublished, old.binary.Digest, p.layers[on].Digest)
		}
		if ok && !p.overwrite {
			return nil, fmt.Errorf("%s for %s: %w: raise the version in plugin.json, or replace it with --overwrite", reference, on, ErrPublished)
		}
		missing = append(missing, on)
	}
	manifests := make(map[string]ocispec.Descriptor)
	for on, m := range have.platforms {
		manifests[on] = m.descriptor
		if err := h.putAll(m.rawConfig, m.raw); err != nil {
			return nil, err
		}
	}
	root, total := have.root, int64(0)
	if len(missing) == 0 {
		done := true
		if p.key != nil {
			if done, err = h.signedAt(ctx, t, repository, c.Name, c.Version, root, *p.key); err != nil {
				return nil, err
			}
		}
		if done {
			return &Pushed{Reference: reference, Manifest: root, Skipped: true}, nil
		}
		if err := h.putAll(have.raw); err != nil {
			return nil, err
		}
	} else {
		if err := h.staysSigned(ctx, t, c, have, p.key); err != nil {
			return nil, fmt.Errorf("%s: %w", reference, err)
		}
		for _, on := range missing {
			total += p.layers[on].Size
			if err := p.fetch(ctx, on); err != nil {
				return nil, err
			}
			if manifests[on], err = h.putPluginManifest(c, on, p.layers[on]); err != nil {
				return nil, err
			}
		}
		if root, err = h.putPluginIndex(manifests); err != nil {
			return nil, err
		}
	}
	var signatures []signature
	if p.key != nil {
		s, err := newSignature(*p.key, c.Name, c.Version, root)
		if err != nil {
			return nil, err
		}
		if err := h.putSignature(s); err != nil {
			return nil, err
		}
		signatures = append(signatures, s)
	}
	out, err := h.pushTo(ctx, t, upload{
		repository: repository, tag: c.Version, root: root, onto: &have.root.Digest, progress: Progress{Name: c.Name + "@" + c.Version, Total: total},
	}, signatures)
	if err == nil && p.mirrored {
		h.sayKept(reference, have, p.layers)
	}
	return out, err
}

// sayKept says which platforms a mirrored version has that the index does not list.
func (h *Hub) sayKept(reference string, have *pluginVersion, listed map[string]ocispec.Descriptor) {
	var others []string
	for _, on := range sortedKeys(have.platforms) {
		if _, ok := listed[on]; !ok {
			others = append(others, on)
		}
	}
	if len(others) > 0 {
		h.warn("%s keeps its binaries for %s, which the index does not list", reference, strings.Join(others, ", "))
	}
}

// platformFile is how a binary is written that does not say what it runs on.
var platformFile = regexp.MustCompile(`^([a-z0-9]+/[a-z0-9]+)=(.+)$`)

// byPlatform returns the paths of binaries by platform.
func byPlatform(binaries []string) (map[string]string, error) {
	paths := make(map[string]string, len(binaries))
	for _, path := range binaries {
		var on string
		if m := platformFile.FindStringSubmatch(path); m != nil {
			on, path = m[1], m[2]
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, err
		case !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > maxPlugin:
			return nil, fmt.Errorf("%s is no file of 1 byte to 1 GiB, as a plugin's binary is", path)
		case on == "":
			if on, err = builtFor(path); err != nil {
				return nil, err
			}
		}
		if paths[on] != "" {
			return nil, fmt.Errorf("%s and %s are both for %s: name one", paths[on], path, on)
		}
		paths[on] = path
	}
	return paths, nil
}

// builtFor reads the platform of a Go program from its file.
func builtFor(path string) (string, error) {
	settings := make(map[string]string)
	if info, err := buildinfo.ReadFile(path); err == nil {
		for _, s := range info.Settings {
			settings[s.Key] = s.Value
		}
	}
	if settings["GOOS"] == "" || settings["GOARCH"] == "" {
		return "", fmt.Errorf("%s does not say what it runs on, as Go programs do: write OS/ARCH= before it, such as linux/arm64=%s", path, path)
	}
	return settings["GOOS"] + "/" + settings["GOARCH"], nil
}

// binaryLayer describes a binary file.
func binaryLayer(ctx context.Context, path string) (ocispec.Descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	defer f.Close() // only read
	info, err := f.Stat()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	d, err := digest.SHA256.FromReader(files.Reader(ctx, f))
	return ocispec.Descriptor{MediaType: MediaTypePluginBinary, Digest: d, Size: info.Size()}, err
}

// ingest takes a file into the store.
func (h *Hub) ingest(ctx context.Context, d ocispec.Descriptor, path string) error {
	if h.store.Has(d.Digest) {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() // only read
	if err := h.store.Ingest(d.Digest, d.Size, files.Reader(ctx, f)); errors.Is(err, store.ErrMismatch) {
		return fmt.Errorf("%s changed while it was read: %w: push again", path, err)
	} else if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// publishedPlugin returns what a target has of a version; an empty one if it has nothing.
func publishedPlugin(ctx context.Context, t target, name, version string) (*pluginVersion, error) {
	repo, err := repositoryAt(t, pluginRepositories+name)
	if err != nil {
		return nil, err
	}
	reference := t.reference(pluginRepositories+name, version)
	root, err := repo.Resolve(ctx, version)
	if errors.Is(err, source.ErrNotFound) {
		return &pluginVersion{}, nil
	}
	var v *pluginVersion
	if err == nil {
		v, err = readPlugin(ctx, repo, root, name, version)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", reference, err)
	}
	return v, nil
}

// staysSigned refuses to change a signed version without a key: whoever pinned one would find it unsigned.
func (h *Hub) staysSigned(ctx context.Context, t target, c PluginConfig, have *pluginVersion, key *minisign.PrivateKey) error {
	if have.root.Digest == "" || key != nil {
		return nil
	}
	repo, err := repositoryAt(t, pluginRepositories+c.Name)
	if err != nil {
		return err
	}
	list, err := h.readSignatures(ctx, repo, have.root)
	if err == nil && len(list) > 0 {
		err = errors.New("it is signed, and would not be with these binaries: sign it again, with --key")
	}
	return err
}

// putPluginManifest stores the manifest, with its config, of a binary for one platform.
func (h *Hub) putPluginManifest(c PluginConfig, on string, binary ocispec.Descriptor) (ocispec.Descriptor, error) {
	config, err := json.Marshal(c)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	raw, err := json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: ArtifactTypePlugin,
		Config: content.NewDescriptorFromBytes(MediaTypePluginConfig, config),
		Layers: []ocispec.Descriptor{binary},
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	goos, arch, _ := strings.Cut(on, "/")
	d := manifestDescriptor(ocispec.MediaTypeImageManifest, ArtifactTypePlugin, raw)
	d.Platform = &ocispec.Platform{OS: goos, Architecture: arch}
	return d, h.putAll(config, raw)
}

// putPluginIndex stores the index of a version over the manifests of its platforms.
func (h *Hub) putPluginIndex(manifests map[string]ocispec.Descriptor) (ocispec.Descriptor, error) {
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: ArtifactTypePlugin}
	for _, on := range sortedKeys(manifests) {
		x.Manifests = append(x.Manifests, manifests[on])
	}
	raw, err := json.Marshal(x)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return manifestDescriptor(ocispec.MediaTypeImageIndex, ArtifactTypePlugin, raw), h.putAll(raw)
}

// mirrorPlugins copies all published binaries of a family. What else a target has of these versions stays.
func (h *Hub) mirrorPlugins(ctx context.Context, f *registry.Family, t target, key *minisign.PrivateKey) ([]*Pushed, error) {
	var done []*Pushed
	for _, p := range f.Plugins {
		out, err := h.mirrorPlugin(ctx, f.Name, p, t, key)
		if err != nil {
			return done, err
		}
		done = append(done, out)
	}
	return done, nil
}

func (h *Hub) mirrorPlugin(ctx context.Context, name string, p registry.Plugin, t target, key *minisign.PrivateKey) (*Pushed, error) {
	free, err := h.store.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer free()
	layers := make(map[string]ocispec.Descriptor, len(p.Platforms))
	for on, b := range p.Platforms {
		layers[on] = ocispec.Descriptor{MediaType: MediaTypePluginBinary, Digest: b.Digest, Size: b.Size}
	}
	return h.publishPlugin(ctx, t, &pluginPush{
		config: PluginConfig{name, p.Version, p.Protocol}, layers: layers, key: key, mirrored: true,
		fetch: func(ctx context.Context, on string) error {
			_, err := h.fetchBinary(ctx, name, p.Version, p.Platforms[on])
			return err
		},
	})
}
