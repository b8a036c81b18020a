package hub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/plugins"
	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/hub/source/sourcetest"
)

// script is the content of a plugin's binary.
func script(text string) []byte { return []byte("#!/bin/sh\necho " + text + "\n") }

// scripts writes a binary for each platform and returns them as PushPlugin takes them.
func scripts(t *testing.T, texts map[string]string) (args []string) {
	t.Helper()
	for on, text := range texts {
		path := filepath.Join(t.TempDir(), "zoo-mine")
		if err := os.WriteFile(path, script(text), 0o755); err != nil {
			t.Fatal(err)
		}
		args = append(args, on+"="+path)
	}
	return args
}

// describedAs is a plugin's answer.
func describedAs(name, version string) func(context.Context, string) (hub.PluginConfig, error) {
	return func(context.Context, string) (hub.PluginConfig, error) {
		return hub.PluginConfig{Name: name, Version: version, Protocol: 2}, nil
	}
}

// writable starts a registry in memory and returns the address of a path there.
func writable(t *testing.T, r *sourcetest.Writable) string {
	t.Helper()
	web := httptest.NewServer(r)
	t.Cleanup(web.Close)
	return "oci://" + strings.TrimPrefix(web.URL, "http://") + "/team"
}

// fromRegistry installs a reference in a new home and returns what the lock pins of it.
func (w *world) fromRegistry(t *testing.T, spec string) (plugins.Installed, lock.Plugin) {
	t.Helper()
	var lockFile string
	h := w.open(t, func(c *hub.Config) { c.Home = homeDir(t); lockFile = filepath.Join(c.Home, lock.Name) })
	p := install(t, h, spec)
	f, err := lock.Load(lockFile)
	if err != nil {
		t.Fatal(err)
	}
	return p, f.Plugins[p.Name]
}

func binaryIs(t *testing.T, p plugins.Installed, text string) {
	t.Helper()
	if data, err := os.ReadFile(p.Path); err != nil || !bytes.Equal(data, script(text)) {
		t.Errorf("installed is %q, %v", data, err)
	}
}

func TestPushedPluginInstalledAndExtended(t *testing.T) {
	w := newWorld(t, 100)
	h := w.open(t, nil)
	to := writable(t, &sourcetest.Writable{})
	spec := to + "/plugins/mine:0.1.0"
	push := func(o hub.PluginPushOptions, texts map[string]string) (*hub.Pushed, error) {
		return h.PushPlugin(t.Context(), scripts(t, texts), to, describedAs("mine", "0.1.0"), o)
	}
	first, err := push(hub.PluginPushOptions{}, map[string]string{here: "a", "plan9/mips": "b"})
	if err != nil || first.Skipped || first.Reference != spec || first.Bytes < int64(len(script("a"))+len(script("b"))) {
		t.Fatalf("%+v, %v", first, err)
	}
	p, pin := w.fromRegistry(t, spec)
	binaryIs(t, p, "a")
	if p.Protocol != 2 || len(pin.Platforms) != 2 || pin.Platforms["plan9/mips"] != digest.FromBytes(script("b")) {
		t.Errorf("%+v, %+v", p, pin)
	}
	again, err := push(hub.PluginPushOptions{}, map[string]string{here: "a"})
	if err != nil || !again.Skipped || again.Bytes != 0 || again.Manifest.Digest != first.Manifest.Digest {
		t.Errorf("the second push: %+v, %v", again, err)
	}
	// What the store lost is still at the registry.
	if _, err := h.Store().Sweep(t.Context(), time.Now().Add(time.Hour), false); err != nil {
		t.Fatal(err)
	}
	if _, err := push(hub.PluginPushOptions{}, map[string]string{here: "a", "js/wasm": "c"}); err != nil {
		t.Fatal(err)
	}
	if _, pin := w.fromRegistry(t, spec); len(pin.Platforms) != 3 {
		t.Errorf("with one platform more: %+v", pin)
	}
	_, err = push(hub.PluginPushOptions{}, map[string]string{here: "a", "plan9/mips": "other", "linux/s390x": "d"})
	if !errors.Is(err, hub.ErrPublished) || !strings.Contains(err.Error(), "plan9/mips") || !strings.Contains(err.Error(), "--overwrite") {
		t.Errorf("other bytes: %v", err)
	}
	if _, pin := w.fromRegistry(t, spec); len(pin.Platforms) != 3 || pin.Platforms["plan9/mips"] != digest.FromBytes(script("b")) {
		t.Errorf("after the refusal: %+v", pin)
	}
	if _, err := push(hub.PluginPushOptions{Overwrite: true}, map[string]string{here: "new"}); err != nil {
		t.Fatal(err)
	}
	p, pin = w.fromRegistry(t, spec)
	binaryIs(t, p, "new")
	if len(pin.Platforms) != 3 || pin.Platforms["plan9/mips"] != digest.FromBytes(script("b")) {
		t.Errorf("after one was replaced: %+v", pin)
	}
}

func TestPushedPluginHasTheFormOfMirrors(t *testing.T) {
	w := newWorld(t, 100)
	files := w.withPlugins(t, "1.0.0")
	h := w.open(t, nil)
	mirrored, err := h.Mirror(t.Context(), []string{ref}, t.TempDir(), hub.MirrorOptions{Plugins: true})
	if err != nil {
		t.Fatal(err)
	}
	var args []string
	for name, data := range files {
		path := filepath.Join(t.TempDir(), "zoo-mlp")
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
		on := here
		if strings.HasSuffix(name, "mips") {
			on = "plan9/mips"
		}
		args = append(args, on+"="+path)
	}
	describe := func(context.Context, string) (hub.PluginConfig, error) {
		return hub.PluginConfig{Name: "mlp", Version: "1.0.0", Protocol: 1}, nil
	}
	dir := t.TempDir()
	pushed, err := h.PushPlugin(t.Context(), args, dir, describe, hub.PluginPushOptions{})
	if err != nil || pushed.Manifest.Digest != mirrored[1].Manifest.Digest {
		t.Fatalf("pushed %+v, mirrored %+v, %v", pushed, mirrored[1], err)
	}
	// One platform more, in the folder.
	more, err := h.PushPlugin(t.Context(), append(scripts(t, map[string]string{"js/wasm": "c"}), args...), dir, describe, hub.PluginPushOptions{})
	if err != nil || more.Skipped || more.Manifest.Digest == pushed.Manifest.Digest {
		t.Errorf("%+v, %v", more, err)
	}
}

func TestPluginSignedByItsAuthor(t *testing.T) {
	w := newWorld(t, 100)
	h := w.open(t, nil)
	to := writable(t, &sourcetest.Writable{})
	public, private := keyPair(t)
	other, _ := keyPair(t)
	push := func(o hub.PluginPushOptions, texts map[string]string) error {
		_, err := h.PushPlugin(t.Context(), scripts(t, texts), to, describedAs("mine", "0.1.0"), o)
		return err
	}
	installed := func(key string) error {
		change := elsewhere(t, hub.SourceUpstream)
		client := w.open(t, func(c *hub.Config) { change(c); c.Keys = []string{key} })
		_, err := client.InstallPlugin(t.Context(), to+"/plugins/mine:0.1.0", nil)
		return err
	}
	if err := push(hub.PluginPushOptions{}, map[string]string{here: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := installed(public.String()); !errors.Is(err, sign.ErrUntrusted) || !strings.Contains(err.Error(), "--key") {
		t.Errorf("unsigned: %v", err)
	}
	// Pushed again only to be signed.
	if err := push(hub.PluginPushOptions{Key: &private}, map[string]string{here: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := installed(public.String()); err != nil {
		t.Error(err)
	}
	if err := installed(other.String()); !errors.Is(err, sign.ErrUntrusted) {
		t.Errorf("signed by another key: %v", err)
	}
	if err := push(hub.PluginPushOptions{}, map[string]string{here: "a", "js/wasm": "c"}); err == nil || !strings.Contains(err.Error(), "--key") {
		t.Errorf("a signed version would be unsigned: %v", err)
	}
	if err := push(hub.PluginPushOptions{Key: &private}, map[string]string{here: "a", "js/wasm": "c"}); err != nil {
		t.Fatal(err)
	}
	if err := installed(public.String()); err != nil {
		t.Error(err)
	}
}

func TestMirroredPluginsAreSignedToo(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.0.0")
	to := writable(t, &sourcetest.Writable{})
	public, private := keyPair(t)
	h := w.open(t, nil)
	for _, key := range []hub.MirrorOptions{{Plugins: true}, {Plugins: true, Key: &private}} { // copied before there was a key
		if _, err := h.Mirror(t.Context(), []string{ref}, to, key); err != nil {
			t.Fatal(err)
		}
	}
	again, err := h.Mirror(t.Context(), []string{ref}, to, hub.MirrorOptions{Plugins: true, Key: &private})
	if err != nil || slices.ContainsFunc(again, func(p *hub.Pushed) bool { return !p.Skipped }) {
		t.Errorf("%+v, %v", again, err)
	}
	change := elsewhere(t, hub.SourceUpstream)
	client := w.open(t, trusting(public, change))
	install(t, client, to+"/plugins/mlp:1.0.0")
}

func TestPluginBinariesThatCannotBePushed(t *testing.T) {
	w := newWorld(t, 100)
	h := w.open(t, nil)
	good := scripts(t, map[string]string{here: "a"})[0]
	_, goodPath, _ := strings.Cut(good, "=")
	empty := filepath.Join(t.TempDir(), "zoo-empty")
	if err := os.WriteFile(empty, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	describe := describedAs("mine", "0.1.0")
	broken := func(context.Context, string) (hub.PluginConfig, error) {
		return hub.PluginConfig{}, errors.New("it crashed")
	}
	for _, c := range []struct {
		args     []string
		describe func(context.Context, string) (hub.PluginConfig, error)
		say      string
	}{
		{[]string{"plan9/mips=" + goodPath}, describe, "no binary is for " + here},
		{[]string{good, good}, describe, "both for " + here},
		{[]string{goodPath}, describe, "linux/arm64=" + goodPath},
		{[]string{goodPath + "-none"}, describe, goodPath + "-none:"},
		{[]string{t.TempDir()}, describe, "is no file of 1 byte"},
		{[]string{good, "plan9/mips=" + empty}, describe, "is no file of 1 byte"},
		{[]string{good, "plan9/mips=" + t.TempDir()}, describe, "is no file of 1 byte"},
		{[]string{good}, broken, "it crashed"},
		{[]string{good}, describedAs("mine", "1.0.0+build"), "not a plugin version"},
		{[]string{good}, describedAs("../mine", "1.0.0"), "not a plugin name"},
	} {
		dir := filepath.Join(t.TempDir(), "to")
		_, err := h.PushPlugin(t.Context(), c.args, dir, c.describe, hub.PluginPushOptions{})
		if err == nil || !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: %v, not %q", c.args, err, c.say)
		}
		if _, err := os.Stat(dir); err == nil {
			t.Errorf("%v: the folder was made", c.args)
		}
	}
}

func TestSomethingElseUnderAPluginsTagIsNotReplaced(t *testing.T) {
	w := newWorld(t, 100)
	h := w.open(t, nil)
	to := writable(t, &sourcetest.Writable{})
	if _, err := h.Pull(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Push(t.Context(), ref, to+"/plugins", hub.PushOptions{Tag: "0.1.0"}); err != nil {
		t.Fatal(err)
	}
	_, err := h.PushPlugin(t.Context(), scripts(t, map[string]string{here: "a"}), to, describedAs(model, "0.1.0"), hub.PluginPushOptions{Overwrite: true})
	if !errors.Is(err, hub.ErrTampered) {
		t.Error(err)
	}
}

// goProgram builds the smallest program for another platform than this one.
func goProgram(t *testing.T, goos, arch string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte("package main\n\nfunc main() {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "zoo-mine")
	cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", out, "main.go")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS="+goos, "GOARCH="+arch, "CGO_ENABLED=0", "GOFLAGS=", "GO111MODULE=off")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return out
}

func TestGoProgramsSayWhatTheyRunOn(t *testing.T) {
	if testing.Short() {
		t.Skip("builds programs for other systems")
	}
	w := newWorld(t, 100)
	to := writable(t, &sourcetest.Writable{})
	binaries := []string{os.Args[0]} // this program
	want := []string{here}
	for _, on := range []string{"darwin/arm64", "windows/amd64"} {
		if on != here {
			goos, arch, _ := strings.Cut(on, "/")
			want, binaries = append(want, on), append(binaries, goProgram(t, goos, arch))
		}
	}
	if _, err := w.open(t, nil).PushPlugin(t.Context(), binaries, to, describedAs("mine", "0.1.0"), hub.PluginPushOptions{}); err != nil {
		t.Fatal(err)
	}
	_, pin := w.fromRegistry(t, to+"/plugins/mine:0.1.0")
	slices.Sort(want)
	if got := slices.Sorted(maps.Keys(pin.Platforms)); !slices.Equal(got, want) {
		t.Errorf("%v instead of %v", got, want)
	}
}

// TestTagIsSetWhenTheSignatureIsThere watches what is written: whoever asks for a tag at any moment must find it signed.
func TestTagIsSetWhenTheSignatureIsThere(t *testing.T) {
	w := newWorld(t, 100)
	var mu sync.Mutex
	var written []string
	r := &sourcetest.Writable{Before: func(req *http.Request) {
		if _, name, ok := strings.Cut(req.URL.Path, "/manifests/"); ok && req.Method == http.MethodPut {
			mu.Lock()
			defer mu.Unlock()
			written = append(written, name)
		}
	}}
	to := writable(t, r)
	_, private := keyPair(t)
	h := w.open(t, nil)
	pull(t, h, ref)
	for what, push := range map[string]func() error{
		tag: func() error {
			_, err := h.Push(t.Context(), ref, to, hub.PushOptions{Key: &private})
			return err
		},
		"0.1.0": func() error {
			_, err := h.PushPlugin(t.Context(), scripts(t, map[string]string{here: "a"}), to, describedAs("mine", "0.1.0"), hub.PluginPushOptions{Key: &private})
			return err
		},
	} {
		written = nil
		if err := push(); err != nil {
			t.Fatal(err)
		}
		// The list of signatures of a registry without the API for them is called sha256-DIGEST.
		listed := slices.IndexFunc(written, func(name string) bool { return strings.HasPrefix(name, "sha256-") })
		if tagged := slices.Index(written, what); listed < 0 || tagged < listed || tagged != len(written)-1 {
			t.Errorf("%s was written in the order %v", what, written)
		}
	}
}

// A push may be cut off between a signature and the list of signatures, which clients write where the registry has no API for it. The next attempt
// found the signature there, left the list as it was and set the tag: nobody could ever verify it.
func TestSignatureThatIsNotListedYetIsListed(t *testing.T) {
	w := newWorld(t, 100)
	cut := false
	to := writable(t, &sourcetest.Writable{Before: func(req *http.Request) {
		if !cut && req.Method == http.MethodPut && strings.Contains(req.URL.Path, "/manifests/sha256-") {
			cut = true
			panic(http.ErrAbortHandler)
		}
	}})
	public, private := keyPair(t)
	h := w.open(t, nil)
	pull(t, h, ref)
	if _, err := h.Push(t.Context(), ref, to, hub.PushOptions{Key: &private}); err != nil || !cut {
		t.Fatal(cut, err)
	}
	sound(t, pull(t, w.open(t, trusting(public, elsewhere(t, to))), ref))
}

// TestSignatureByAnotherKeyIsNotOnesOwn: a company signs again what its publisher signed, and clients of either key find theirs.
func TestSignatureByAnotherKeyIsNotOnesOwn(t *testing.T) {
	w := newWorld(t, 100)
	h := w.open(t, nil)
	pull(t, h, ref)
	publisher, first := keyPair(t)
	company, second := keyPair(t)
	to, mirror := t.TempDir(), t.TempDir()
	for _, p := range []struct {
		to  string
		key minisign.PrivateKey
	}{{to, first}, {to, second}, {mirror, first}} {
		if _, err := h.Push(t.Context(), ref, p.to, hub.PushOptions{Key: &p.key}); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []minisign.PublicKey{publisher, company} {
		client := w.open(t, trusting(key, elsewhere(t, to)))
		sound(t, pull(t, client, ref))
		if entries, err := client.Store().Entries(); err != nil || len(entries) != 2 {
			t.Errorf("besides the model and the signature that was verified: %+v, %v", entries, err)
		}
	}
	if done, err := h.Mirror(t.Context(), []string{ref}, mirror, hub.MirrorOptions{Key: &second}); err != nil || done[0].Skipped {
		t.Errorf("not signed by the company: %+v, %v", done, err)
	}
}

// TestPruneWaitsForWhatIsPublished: what a mirror of plugins or an index has stored has no name, so only the hold keeps it.
func TestPruneWaitsForWhatIsPublished(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.0.0")
	h := w.open(t, nil)
	var mu sync.Mutex
	asked := make(map[string]bool)
	to := writable(t, &sourcetest.Writable{Before: func(req *http.Request) {
		if req.Method != http.MethodPost {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		repository, _, _ := strings.Cut(req.URL.Path, "/blobs/")
		asked[repository] = true
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer cancel()
		if _, err := h.Store().Sweep(ctx, time.Now().Add(time.Hour), true); err == nil {
			t.Errorf("pruned while %s is written", repository)
		}
	}})
	_, private := keyPair(t)
	if _, err := h.Mirror(t.Context(), []string{ref}, to, hub.MirrorOptions{Plugins: true, Key: &private}); err != nil {
		t.Fatal(err)
	}
	if len(asked) != 3 {
		t.Errorf("only %v were written", asked)
	}
}

func TestPluginWithoutABinaryForThisPlatformIsNotSaidToBePinned(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.0.0")
	delete(w.index.Families[0].Plugins[0].Platforms, here)
	w.config.Index = encodeIndex(t, w.index)
	h := w.open(t, nil)
	to := writable(t, &sourcetest.Writable{})
	if _, err := h.Mirror(t.Context(), []string{ref}, to, hub.MirrorOptions{Plugins: true}); err != nil {
		t.Fatal(err)
	}
	_, err := h.InstallPlugin(t.Context(), to+"/plugins/mlp:1.0.0", nil)
	if !errors.Is(err, hub.ErrNotFound) || !strings.Contains(err.Error(), "plan9/mips") {
		t.Error(err)
	}
	if w.warned("pinned") {
		t.Errorf("%q", w.warnings)
	}
}

func TestPluginPushedToRegistry(t *testing.T) {
	host, ca := dockerRegistry(t)
	login(t, host, registryPassword)
	w := newWorld(t, 100)
	w.config.CAFile = ca
	public, private := keyPair(t)
	h := w.open(t, nil)
	to := "oci://" + host + "/ml"
	spec := to + "/plugins/mine:0.1.0"
	for _, texts := range []map[string]string{{here: "hello", "plan9/mips": "b"}, {here: "hello", "js/wasm": "c"}} {
		p, err := h.PushPlugin(t.Context(), scripts(t, texts), to, describedAs("mine", "0.1.0"), hub.PluginPushOptions{Key: &private})
		if err != nil || p.Reference != spec {
			t.Fatal(p, err)
		}
	}
	if _, err := h.PushPlugin(t.Context(), scripts(t, map[string]string{here: "other"}), to, describedAs("mine", "0.1.0"), hub.PluginPushOptions{Key: &private}); !errors.Is(err, hub.ErrPublished) {
		t.Error(err)
	}
	change := elsewhere(t, hub.SourceUpstream)
	client := w.open(t, trusting(public, change))
	p := install(t, client, spec)
	binaryIs(t, p, "hello")
	if runtime.GOOS != "windows" {
		if out, err := exec.Command(p.Path).CombinedOutput(); err != nil || string(out) != "hello\n" {
			t.Errorf("%s, %v", out, err)
		}
	}
	if _, pin := w.fromRegistry(t, spec); len(pin.Platforms) != 3 {
		t.Errorf("%+v", pin)
	}
	login(t, host, "wrong")
	_, err := w.open(t, elsewhere(t, to)).PushPlugin(t.Context(), scripts(t, map[string]string{here: "a"}), to, describedAs("mine", "0.2.0"), hub.PluginPushOptions{})
	if err == nil || !strings.Contains(err.Error(), "docker login "+host) || strings.Contains(err.Error(), "\n") {
		t.Error(err)
	}
}

func TestAdviceForADamagedPluginIsGivenOnce(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.2.0")
	h := w.open(t, nil)
	for name, damage := range map[string]func(p plugins.Installed) error{
		"binary":    func(p plugins.Installed) error { return os.WriteFile(p.Path, []byte("x"), 0o755) },
		"no binary": func(p plugins.Installed) error { return os.Remove(p.Path) },
		"record": func(p plugins.Installed) error {
			return os.WriteFile(filepath.Join(filepath.Dir(p.Path), "installed.json"), []byte("{"), 0o644)
		},
	} {
		p := install(t, h, "mlp")
		record := filepath.Join(filepath.Dir(p.Path), "installed.json")
		if err := errors.Join(os.Chmod(filepath.Dir(p.Path), 0o755), os.Chmod(p.Path, 0o755), os.Chmod(record, 0o644), damage(p)); err != nil {
			t.Fatal(err)
		}
		_, err := h.InstallPlugin(t.Context(), "mlp", nil)
		if err == nil || strings.Count(err.Error(), "remove") != 1 || !strings.Contains(err.Error(), "zoo plugin remove mlp@1.2.0 and install it again") {
			t.Errorf("%s: %v", name, err)
		}
		if removed, err := h.Plugins().Remove(t.Context(), "mlp", "1.2.0"); err != nil || len(removed) != 1 {
			t.Fatalf("%s: %v, %v", name, removed, err)
		}
	}
}

func TestLeftoversOfKilledInstallationsGo(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.2.0")
	h := w.open(t, nil)
	for _, left := range []string{".installing-1", ".removing-1.0.0"} {
		dir := filepath.Join(string(h.Plugins()), "mlp", left)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "zoo-mlp"), script("old"), 0o555), os.Chmod(dir, 0o555)); err != nil {
			t.Fatal(err)
		}
	}
	p := install(t, h, "mlp")
	if entries, err := os.ReadDir(filepath.Dir(filepath.Dir(p.Path))); err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
}

// forgedPlugin puts a version of plugin mine, 0.1.0 for this platform, into a registry, with each part changed before the next names it.
func forgedPlugin(t *testing.T, to string, config func(*hub.PluginConfig), manifest func(*ocispec.Manifest), index func(*ocispec.Index)) {
	t.Helper()
	base := "http://" + strings.Replace(strings.TrimPrefix(to, "oci://"), "/", "/v2/", 1) + "/plugins/mine/"
	put := func(path, mediaType string, data []byte) ocispec.Descriptor {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, base+path, bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", mediaType)
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close() // it says nothing
		return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	}
	encode := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	c := hub.PluginConfig{Name: "mine", Version: "0.1.0", Protocol: 2}
	config(&c)
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: hub.ArtifactTypePlugin,
		Config: put("blobs/uploads/1", hub.MediaTypePluginConfig, encode(c)),
		Layers: []ocispec.Descriptor{put("blobs/uploads/1", hub.MediaTypePluginBinary, script("forged"))},
	}
	manifest(&m)
	raw := encode(m)
	d := put("manifests/"+digest.FromBytes(raw).String(), ocispec.MediaTypeImageManifest, raw)
	goos, arch, _ := strings.Cut(here, "/")
	d.Platform = &ocispec.Platform{OS: goos, Architecture: arch}
	x := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: hub.ArtifactTypePlugin, Manifests: []ocispec.Descriptor{d},
	}
	index(&x)
	put("manifests/0.1.0", ocispec.MediaTypeImageIndex, encode(x))
}

// TestHostilePluginOfARegistryRefused: what a reference leads to must be that plugin in that version, whoever keeps the registry.
func TestHostilePluginOfARegistryRefused(t *testing.T) {
	w := newWorld(t, 100)
	for name, c := range map[string]struct {
		config   func(*hub.PluginConfig)
		manifest func(*ocispec.Manifest)
		index    func(*ocispec.Index)
		good     bool
	}{
		"good":              {good: true},
		"another plugin":    {config: func(c *hub.PluginConfig) { c.Name = "resnet" }},
		"an older version":  {config: func(c *hub.PluginConfig) { c.Version = "0.0.9" }},
		"path as version":   {config: func(c *hub.PluginConfig) { c.Version = "../../../bin" }},
		"not a plugin":      {manifest: func(m *ocispec.Manifest) { m.ArtifactType = "application/x" }},
		"no binary":         {manifest: func(m *ocispec.Manifest) { m.Layers = []ocispec.Descriptor{} }},
		"two binaries":      {manifest: func(m *ocispec.Manifest) { m.Layers = append(m.Layers, m.Layers[0]) }},
		"binary of 1 TiB":   {manifest: func(m *ocispec.Manifest) { m.Layers[0].Size = 1 << 40 }},
		"other binary":      {manifest: func(m *ocispec.Manifest) { m.Layers[0].Digest = m.Config.Digest }},
		"no platform":       {index: func(x *ocispec.Index) { x.Manifests[0].Platform = nil }},
		"no manifest":       {index: func(x *ocispec.Index) { x.Manifests = nil }},
		"manifest of a lie": {index: func(x *ocispec.Index) { x.Manifests[0].Size++ }},
	} {
		t.Run(name, func(t *testing.T) {
			if c.config == nil {
				c.config = func(*hub.PluginConfig) {}
			}
			if c.manifest == nil {
				c.manifest = func(*ocispec.Manifest) {}
			}
			if c.index == nil {
				c.index = func(*ocispec.Index) {}
			}
			to := writable(t, &sourcetest.Writable{})
			forgedPlugin(t, to, c.config, c.manifest, c.index)
			h := w.open(t, elsewhere(t))
			p, err := h.InstallPlugin(t.Context(), to+"/plugins/mine:0.1.0", nil)
			if c.good != (err == nil) {
				t.Errorf("%+v, %v", p, err)
			}
			if c.good && !w.warned("trusted on first use") {
				t.Error("nobody is told that the plugin is trusted")
			}
			if list, err := h.Plugins().List(); err != nil || c.good != (len(list) == 1) {
				t.Errorf("installed are %v, %v", list, err)
			}
		})
	}
}
