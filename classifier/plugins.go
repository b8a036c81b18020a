package classifier

import (
	"context"
	"errors"

	"github.com/Masterminds/semver/v3"

	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/plugins"
)

// recordedDigests returns the digest that each installed binary had when it was installed, by path.
func recordedDigests(dir plugins.Dir) (func(host.Plugin) string, error) {
	list, err := dir.List()
	if err != nil {
		return nil, err
	}
	digests := map[string]string{}
	for _, p := range list {
		digests[p.Path] = p.SHA256
	}
	return func(p host.Plugin) string { return digests[p.Path] }, nil
}

// pinnedVersions returns the plugin versions that the project's lock chooses, none without a project (file is ""): the lock in the home remembers
// what was installed, and does not keep an older version in use.
func pinnedVersions(file string) (map[string]string, error) {
	if file == "" {
		return nil, nil
	}
	l, err := lock.Load(file)
	if err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for family, p := range l.Plugins {
		versions[family] = p.Version
	}
	return versions, nil
}

// InstallPlugin installs "NAME[@CONSTRAINT]", a binary file or an OCI reference. A file is started, confined, to learn its name and version.
func (c *Client) InstallPlugin(ctx context.Context, spec string) (p plugins.Installed, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return p, err
	}
	defer end(&err)
	return c.Hub.InstallPlugin(ctx, spec, c.describe)
}

// PushPlugin publishes the binaries of one version of a plugin, as hub.Hub's PushPlugin. The one for this platform is started, confined, to learn
// name and version.
func (c *Client) PushPlugin(ctx context.Context, binaries []string, to string, o hub.PluginPushOptions) (_ *hub.Pushed, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	return c.Hub.PushPlugin(ctx, binaries, to, c.describe, o)
}

func (c *Client) describe(ctx context.Context, path string) (_ hub.PluginConfig, err error) {
	h, err := host.New(c.config.HostOptions())
	if err != nil {
		return hub.PluginConfig{}, err
	}
	defer func() { err = errors.Join(err, h.Close()) }()
	p, err := h.Inspect(ctx, path)
	if err != nil {
		return hub.PluginConfig{}, err
	}
	return hub.PluginConfig{Name: p.Family, Version: p.Version, Protocol: p.Protocol}, nil
}

// NewestPlugins returns, for each family of the index with published plugins, the newest version.
func (c *Client) NewestPlugins(ctx context.Context) (_ map[string]string, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end(&err)
	index, err := c.Hub.Index(ctx)
	if err != nil {
		return nil, err
	}
	newest := map[string]string{}
	for _, f := range index.Families {
		var best *semver.Version
		for _, p := range f.Plugins {
			v, err := semver.StrictNewVersion(p.Version)
			if err == nil && (best == nil || v.GreaterThan(best)) {
				best = v
				newest[f.Name] = p.Version
			}
		}
	}
	return newest, nil
}
