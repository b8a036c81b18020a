package hub_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/plugins"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/store"
)

var here = runtime.GOOS + "/" + runtime.GOARCH

// withPlugins lists binaries of the world's family in its index, served upstream by a server that it returns.
func (w *world) withPlugins(t *testing.T, versions ...string) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if data, ok := files[strings.TrimPrefix(r.URL.Path, "/")]; ok {
			rw.Write(data) // the client may be gone
			return
		}
		http.NotFound(rw, r)
	}))
	t.Cleanup(web.Close)
	f := &w.index.Families[0]
	for _, v := range versions {
		p := registry.Plugin{Version: v, Protocol: 1, Platforms: make(map[string]registry.Binary)}
		for _, on := range []string{here, "plan9/mips"} {
			name := v + "-" + strings.ReplaceAll(on, "/", "-")
			files[name] = []byte("#!/bin/sh\necho " + name + "\n")
			p.Platforms[on] = registry.Binary{Digest: digest.FromBytes(files[name]), Size: int64(len(files[name])), URL: web.URL + "/" + name}
		}
		f.Plugins = append(f.Plugins, p)
	}
	w.config.Index = encodeIndex(t, w.index)
	return files
}

func install(t *testing.T, h *hub.Hub, spec string) plugins.Installed {
	t.Helper()
	p, err := h.InstallPlugin(t.Context(), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestPluginConstraintsFromIndexAndLock(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "2.1.0", "1.0.0", "1.10.1", "1.2.0", "2.0.0-rc.1", "9.0.0")
	delete(w.index.Families[0].Plugins[5].Platforms, here) // 9.0.0 is for other systems
	w.config.Index = encodeIndex(t, w.index)
	for spec, want := range map[string]string{"mlp": "2.1.0", "mlp@^1": "1.10.1", "mlp@~1.2": "1.2.0", "mlp@1.0.0": "1.0.0", "mlp@>=1.0, <1.5": "1.2.0"} {
		h := w.open(t, elsewhere(t, hub.SourceUpstream))
		if p := install(t, h, spec); p.Version != want || p.Protocol != 1 {
			t.Errorf("%s: %+v", spec, p)
		}
	}
	h := w.open(t, elsewhere(t, hub.SourceUpstream))
	install(t, h, "mlp@1.2.0")
	if p := install(t, h, "mlp"); p.Version != "1.2.0" {
		t.Errorf("the lock pins 1.2.0 and %s is installed", p.Version)
	}
	for _, spec := range []string{"mlp@^3", "nothing", "mlp@what", "../mlp@1.0.0"} {
		if _, err := h.InstallPlugin(t.Context(), spec, nil); err == nil {
			t.Errorf("%q is installed", spec)
		}
	}
}

func TestPluginPinnedForAllPlatforms(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.2.0")
	h := w.open(t, nil)
	p := install(t, h, "mlp@^1")
	f, err := lock.Load(filepath.Join(w.config.Home, lock.Name))
	if err != nil {
		t.Fatal(err)
	}
	pin := f.Plugins["mlp"]
	if pin.Version != "1.2.0" || pin.Constraint != "^1" || len(pin.Platforms) != 2 || pin.Platforms[here].Encoded() != p.SHA256 {
		t.Errorf("%+v", pin)
	}
	if runtime.GOOS != "windows" {
		for path, want := range map[string]os.FileMode{p.Path: 0o555, filepath.Dir(p.Path): 0o555} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
				t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
			}
		}
	}
}

func TestTamperedPluginBinaryRefused(t *testing.T) {
	w := newWorld(t, 100)
	files := w.withPlugins(t, "1.2.0", "1.3.0")
	h := w.open(t, nil)
	p := install(t, h, "mlp@1.2.0")
	if findings, err := h.VerifyPlugins(); err != nil || len(findings) > 0 {
		t.Fatal(findings, err)
	}
	evil := []byte("#!/bin/sh\nrm -rf /\n")
	if err := errors.Join(os.Chmod(p.Path, 0o755), os.WriteFile(p.Path, evil, 0o755), os.Chmod(p.Path, 0o555)); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Plugins().Find("mlp", ""); !errors.Is(err, plugins.ErrTampered) {
		t.Error(err)
	}
	if findings, err := h.VerifyPlugins(); err != nil || len(findings) != 1 || !errors.Is(findings[0].Err, plugins.ErrTampered) {
		t.Error(findings, err)
	}
	// A server with other bytes than the index lists.
	for name := range files {
		files[name] = evil
	}
	other := w.open(t, elsewhere(t, hub.SourceUpstream))
	if _, err := other.InstallPlugin(t.Context(), "mlp@1.3.0", nil); err == nil {
		t.Error("other bytes are installed")
	}
	if _, err := other.Plugins().Find("mlp", ""); !errors.Is(err, plugins.ErrNotInstalled) {
		t.Error(err)
	}
}

func TestPluginThatAnIndexRepublishedRefusedByLock(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.2.0")
	install(t, w.open(t, nil), "mlp@1.2.0")
	again := newWorld(t, 101)
	again.withPlugins(t, "1.2.0")
	b := again.index.Families[0].Plugins[0].Platforms[here]
	evil := []byte("#!/bin/sh\necho evil\n")
	web := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { rw.Write(evil) }))
	defer web.Close()
	b.Digest, b.Size, b.URL = digest.FromBytes(evil), int64(len(evil)), web.URL+"/x"
	again.index.Families[0].Plugins[0].Platforms[here] = b
	change := elsewhere(t, hub.SourceUpstream)
	h := again.open(t, func(c *hub.Config) {
		change(c)
		c.Index, c.LockFile = encodeIndex(t, again.index), filepath.Join(w.config.Home, lock.Name)
	})
	if _, err := h.InstallPlugin(t.Context(), "mlp@1.2.0", nil); !errors.Is(err, lock.ErrPinned) {
		t.Error(err)
	}
}

func TestWritablePluginRefused(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no such permissions here")
	}
	w := newWorld(t, 100)
	w.withPlugins(t, "1.2.0")
	h := w.open(t, nil)
	p := install(t, h, "mlp")
	for _, path := range []string{p.Path, filepath.Dir(p.Path), filepath.Dir(filepath.Dir(p.Path)), string(h.Plugins())} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, info.Mode().Perm()|0o022); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Plugins().Find("mlp", ""); !errors.Is(err, plugins.ErrWritable) {
			t.Errorf("%s: %v", path, err)
		}
		if err := os.Chmod(path, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSymlinkedPluginRefused(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.2.0")
	h := w.open(t, nil)
	p := install(t, h, "mlp")
	data, err := os.ReadFile(p.Path)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := filepath.Join(t.TempDir(), "binary")
	if err := errors.Join(os.WriteFile(elsewhere, data, 0o755), os.Chmod(filepath.Dir(p.Path), 0o755), os.Remove(p.Path)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(elsewhere, p.Path); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if _, err := h.Plugins().Find("mlp", ""); !errors.Is(err, plugins.ErrTampered) {
		t.Error(err)
	}
}

func TestPluginFileInstallListRemove(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.2.0")
	h := w.open(t, nil)
	install(t, h, "mlp")
	path := filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	describe := func(_ context.Context, p string) (hub.PluginConfig, error) {
		if p != path {
			t.Errorf("asked about %s", p)
		}
		return hub.PluginConfig{Name: "mine", Version: "0.1.0", Protocol: 1}, nil
	}
	for range 2 { // the second time is no change
		if p, err := h.InstallPlugin(t.Context(), path, describe); err != nil || p.Source != path {
			t.Fatal(p, err)
		}
	}
	list, err := h.Plugins().List()
	if err != nil || len(list) != 2 || list[0].Name != "mine" || list[1].Name != "mlp" {
		t.Fatal(list, err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho other\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := h.InstallPlugin(t.Context(), path, describe); err == nil {
		t.Error("the same version with other bytes is installed")
	}
	if removed, err := h.Plugins().Remove(t.Context(), "mine", ""); err != nil || len(removed) != 1 {
		t.Fatal(removed, err)
	}
	if _, err := h.Plugins().Remove(t.Context(), "mine", ""); !errors.Is(err, plugins.ErrNotInstalled) {
		t.Error(err)
	}
	if list, err := h.Plugins().List(); err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
}

func TestPinOfARemovedPluginGoesWithIt(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.0.0", "1.2.0")
	h := w.open(t, nil)
	install(t, h, "mlp@1.0.0")
	install(t, h, "mlp@1.2.0")
	pinned := func() string {
		f, err := lock.Load(filepath.Join(w.config.Home, lock.Name))
		if err != nil {
			t.Fatal(err)
		}
		return f.Plugins["mlp"].Version
	}
	if removed, unpinned, err := h.RemovePlugin(t.Context(), "mlp", "1.0.0"); err != nil || len(removed) != 1 || unpinned != "" || pinned() != "1.2.0" {
		t.Error(removed, unpinned, pinned(), err)
	}
	if removed, unpinned, err := h.RemovePlugin(t.Context(), "mlp", ""); err != nil || len(removed) != 1 || unpinned != "1.2.0" || pinned() != "" {
		t.Error(removed, unpinned, pinned(), err)
	}
	if _, _, err := h.RemovePlugin(t.Context(), "mlp", ""); !errors.Is(err, plugins.ErrNotInstalled) {
		t.Error(err)
	}
}

func TestPluginsMirroredAndInstalledFromThere(t *testing.T) {
	w := newWorld(t, 5000)
	w.withPlugins(t, "1.0.0", "1.2.0")
	h := w.open(t, nil)
	dir := t.TempDir()
	first, err := h.Mirror(t.Context(), []string{ref}, dir, hub.MirrorOptions{Plugins: true})
	if err != nil || len(first) != 3 {
		t.Fatal(first, err)
	}
	second, err := h.Mirror(t.Context(), []string{ref}, dir, hub.MirrorOptions{Plugins: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range second {
		if !p.Skipped || p.Bytes > 0 {
			t.Errorf("%+v", p)
		}
	}
	client := w.open(t, elsewhere(t, dir))
	p := install(t, client, "mlp@^1")
	if p.Version != "1.2.0" || p.Source != dir {
		t.Errorf("%+v", p)
	}
	if data, err := os.ReadFile(p.Path); err != nil || !bytes.Contains(data, []byte("1.2.0-"+runtime.GOOS)) {
		t.Errorf("%q, %v", data, err)
	}
	if findings, err := client.Verify(t.Context(), false); err != nil || len(findings) > 0 {
		t.Error(findings, err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p.Path); err != nil {
		t.Error(err)
	}
}

// TestPluginOfATamperedSourceIsNotHadFromTheNext: the user is to hear of it.
func TestPluginOfATamperedSourceIsNotHadFromTheNext(t *testing.T) {
	w := newWorld(t, 5000)
	w.withPlugins(t, "1.2.0")
	h := w.open(t, nil)
	mirror := func() string {
		dir := t.TempDir()
		if _, err := h.Mirror(t.Context(), []string{ref}, dir, hub.MirrorOptions{Plugins: true}); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	bad, good := mirror(), mirror()
	b := w.index.Families[0].Plugins[0].Platforms[here]
	overwrite(t, bad, ocispec.Descriptor{Digest: b.Digest})
	client := w.open(t, elsewhere(t, bad, good, hub.SourceUpstream))
	if p, err := client.InstallPlugin(t.Context(), "mlp", nil); !errors.Is(err, store.ErrMismatch) {
		t.Errorf("%+v, %v", p, err)
	}
	if list, err := client.Plugins().List(); err != nil || len(list) > 0 {
		t.Errorf("installed are %v, %v", list, err)
	}
}

func TestPluginFromRegistry(t *testing.T) {
	host, ca := dockerRegistry(t)
	login(t, host, registryPassword)
	w := newWorld(t, 5000)
	w.config.CAFile = ca
	w.withPlugins(t, "1.2.0")
	to := "oci://" + host + "/ml"
	if _, err := w.open(t, nil).Mirror(t.Context(), []string{ref}, to, hub.MirrorOptions{Plugins: true}); err != nil {
		t.Fatal(err)
	}
	byName := install(t, w.open(t, elsewhere(t, to)), "mlp")
	client := w.open(t, elsewhere(t, hub.SourceUpstream))
	byReference := install(t, client, to+"/plugins/mlp:1.2.0")
	if byName.SHA256 != byReference.SHA256 || byReference.Source != to+"/plugins/mlp:1.2.0" {
		t.Errorf("%+v, %+v", byName, byReference)
	}
	if _, err := client.InstallPlugin(t.Context(), to+"/plugins/mlp:9.9.9", nil); err == nil {
		t.Error("a version that is not there is installed")
	}
}
