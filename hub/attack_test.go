package hub_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"aead.dev/minisign"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/sign"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
)

func keyPair(t *testing.T) (minisign.PublicKey, minisign.PrivateKey) {
	t.Helper()
	public, private, err := minisign.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public, private
}

// trusting is a change of the configuration, with a key pinned besides.
func trusting(key minisign.PublicKey, change func(*hub.Config)) func(*hub.Config) {
	return func(c *hub.Config) { change(c); c.Keys = []string{key.String()} }
}

// mirrorOf mirrors the world's model to a directory, with an index if a key is given.
func (w *world) mirrorOf(t *testing.T, key *minisign.PrivateKey) string {
	t.Helper()
	dir := t.TempDir()
	change := elsewhere(t, hub.SourceUpstream)
	if _, err := w.open(t, change).Mirror(t.Context(), []string{ref}, dir, hub.MirrorOptions{Key: key}); err != nil {
		t.Fatal(err)
	}
	return dir
}

// clientOf opens a client of a mirror with pinned keys, in a clean home.
func (w *world) clientOf(t *testing.T, dir string, keys ...minisign.PublicKey) *hub.Hub {
	t.Helper()
	change := elsewhere(t, dir)
	return w.open(t, func(c *hub.Config) {
		change(c)
		for _, k := range keys {
			c.Keys = append(c.Keys, k.String())
		}
	})
}

// refused requires an error of the kind and that the model has no name in the client's store.
func refused(t *testing.T, h *hub.Hub, kind error) {
	t.Helper()
	_, err := h.Pull(t.Context(), ref)
	if !errors.Is(err, kind) {
		t.Errorf("error %v, want one that is %q", err, kind)
	}
	if _, err := h.Store().Resolve(source.RefName(model, tag)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the refused model has a name: %v", err)
	}
}

// layoutIndex reads a mirror's index.json.
func layoutIndex(t *testing.T, dir string) *ocispec.Index {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	x := new(ocispec.Index)
	if err := json.Unmarshal(data, x); err != nil {
		t.Fatal(err)
	}
	return x
}

func writeLayoutIndex(t *testing.T, dir string, x *ocispec.Index) {
	t.Helper()
	data, err := json.Marshal(x)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "index.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// forge adds a blob to a mirror, as somebody who controls it can.
func forge(t *testing.T, dir string, data []byte) digest.Digest {
	t.Helper()
	d := digest.FromBytes(data)
	path := filepath.Join(dir, filepath.FromSlash(source.BlobPath(d)))
	if _, err := os.Stat(path); err == nil {
		return d // it was not changed
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return d
}

// forgeManifest changes the manifest and card of the mirrored model and moves its name to the result.
func forgeManifest(t *testing.T, dir string, change func(*ocispec.Manifest, *card.Card)) {
	t.Helper()
	x := layoutIndex(t, dir)
	for i, d := range x.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] != source.RefName(model, tag) {
			continue
		}
		var m ocispec.Manifest
		c := new(card.Card)
		read := func(d digest.Digest, v any) {
			data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(source.BlobPath(d))))
			if err == nil {
				err = json.Unmarshal(data, v)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		read(d.Digest, &m)
		read(m.Config.Digest, c)
		change(&m, c)
		text, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		m.Config.Digest, m.Config.Size = forge(t, dir, text), int64(len(text))
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		x.Manifests[i].Digest, x.Manifests[i].Size = forge(t, dir, raw), int64(len(raw))
	}
	writeLayoutIndex(t, dir, x)
}

func TestSignedMirrorAccepted(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	h := w.clientOf(t, w.mirrorOf(t, &private), public)
	sound(t, pull(t, h, ref))
	x, err := h.Index(t.Context())
	if err != nil || x.ByName(model).ByTag(tag).Artifact == nil {
		t.Errorf("the mirror's index does not list the artifact: %v", err)
	}
	if w.warned("first use") {
		t.Error("a signed artifact is called trusted on first use")
	}
}

func TestWrongKeyRefused(t *testing.T) {
	w := newWorld(t, 5000)
	_, private := keyPair(t)
	other, _ := keyPair(t)
	refused(t, w.clientOf(t, w.mirrorOf(t, &private), other), sign.ErrUntrusted)
}

func TestUnsignedRefusedWhereKeysArePinned(t *testing.T) {
	w := newWorld(t, 5000)
	public, _ := keyPair(t)
	refused(t, w.clientOf(t, w.mirrorOf(t, nil), public), sign.ErrUntrusted)
}

// serveIndex puts a signed index into a mirror.
func (w *world) serveIndex(t *testing.T, dir string, x *registry.Index, key minisign.PrivateKey) {
	t.Helper()
	change := elsewhere(t, hub.SourceUpstream)
	h := w.open(t, func(c *hub.Config) { change(c); c.Index = encodeIndex(t, x) })
	list := layoutIndex(t, dir)
	for i := range list.Manifests { // as if the mirror had none, so that its version is not raised
		if list.Manifests[i].Annotations[ocispec.AnnotationRefName] == source.RefName("registry", "latest") {
			list.Manifests = append(list.Manifests[:i], list.Manifests[i+1:]...)
			break
		}
	}
	writeLayoutIndex(t, dir, list)
	if _, err := h.Mirror(t.Context(), []string{ref}, dir, hub.MirrorOptions{Key: &key}); err != nil {
		t.Fatal(err)
	}
}

func TestRollbackRefused(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	dir := w.mirrorOf(t, &private)
	change := trusting(public, elsewhere(t, dir))
	client := func() *hub.Hub { return w.open(t, change) }
	newer := *w.index
	newer.Version = 9
	w.serveIndex(t, dir, &newer, private)
	if x, err := client().Index(t.Context()); err != nil || x.Version != 9 {
		t.Fatal(x, err)
	}
	w.serveIndex(t, dir, w.index, private) // version 5, well signed
	refused(t, client(), registry.ErrRollback)
}

// Two processes ask for the index at once, and one of them got an older one: it was kept over the newer, below the floor that this had raised,
// and every command after that was refused.
func TestOlderIndexIsNotKeptOverANewerOne(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	older, newer := w.mirrorOf(t, &private), w.mirrorOf(t, &private)
	x := *w.index
	x.Version, x.Expires = 9, w.index.Expires.Add(24*time.Hour)
	w.serveIndex(t, newer, &x, private)
	home := homeDir(t)
	client := func(dir string, warn func(string)) *hub.Hub {
		return w.open(t, func(c *hub.Config) {
			c.Home, c.Sources, c.Keys, c.Warn = home, []string{dir}, []string{public.String()}, warn
			c.Now = func() time.Time { return w.index.Expires.Add(time.Hour) } // the older one is good for some days
		})
	}
	overtaken := false
	h := client(older, func(string) { // it has checked its index
		if overtaken {
			return
		}
		overtaken = true
		if got, err := client(newer, nil).Index(t.Context()); err != nil || got.Version != 9 {
			t.Error(got, err)
		}
	})
	if got, err := h.Index(t.Context()); err != nil || got.Version != 9 || !overtaken {
		t.Error(got, err)
	}
	offline := w.open(t, func(c *hub.Config) {
		c.Home, c.Sources, c.Keys, c.Offline = home, []string{"https://mirror.invalid"}, []string{public.String()}, true
	})
	if got, err := offline.Index(t.Context()); err != nil || got.Version != 9 {
		t.Error(got, err)
	}
}

func TestFreezeRefused(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	dir := w.mirrorOf(t, &private)
	at := func(age time.Duration) *hub.Hub {
		change := elsewhere(t, dir)
		return w.open(t, func(c *hub.Config) {
			change(c)
			c.Keys = []string{public.String()}
			c.Now = func() time.Time { return w.index.Expires.Add(age) }
		})
	}
	pull(t, at(time.Hour), ref)
	if !w.warned("expired on") {
		t.Errorf("no warning: %q", w.warnings)
	}
	refused(t, at(registry.DefaultGrace+time.Hour), registry.ErrExpired)
}

func TestMixAndMatchRefused(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	other := newWorld(t, 6000) // the same name, other weights
	other.index.Models[0].Weights[0].Tag = "V0"
	other.config.Index = encodeIndex(t, other.index)
	dir := w.mirrorOf(t, &private)
	change := elsewhere(t, hub.SourceUpstream)
	if _, err := other.open(t, change).Mirror(t.Context(), []string{model + ":V0"}, dir, hub.MirrorOptions{Key: &private}); err != nil {
		t.Fatal(err)
	}
	// The mirror serves its well-signed V0 under the name V1.
	x := layoutIndex(t, dir)
	var old ocispec.Descriptor
	for _, d := range x.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == source.RefName(model, "V0") {
			old = d
		}
	}
	for i, d := range x.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] == source.RefName(model, tag) {
			x.Manifests[i].Digest, x.Manifests[i].Size = old.Digest, old.Size
		}
	}
	writeLayoutIndex(t, dir, x)
	refused(t, w.clientOf(t, dir, public), hub.ErrTampered)
	refused(t, w.clientOf(t, dir), hub.ErrTampered)
}

func TestIndexOfOneVersionWithSignatureOfAnotherRefused(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	dir := w.mirrorOf(t, &private)
	x := layoutIndex(t, dir)
	for i, d := range x.Manifests {
		if d.Annotations[ocispec.AnnotationRefName] != source.RefName("registry", "latest") {
			continue
		}
		var m ocispec.Manifest
		data, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(source.BlobPath(d.Digest))))
		if err == nil {
			err = json.Unmarshal(data, &m)
		}
		if err != nil {
			t.Fatal(err)
		}
		forged := *w.index
		forged.Version = 100
		text := encodeIndex(t, &forged)
		m.Layers[0].Digest, m.Layers[0].Size = forge(t, dir, text), int64(len(text))
		raw, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		x.Manifests[i].Digest, x.Manifests[i].Size = forge(t, dir, raw), int64(len(raw))
	}
	writeLayoutIndex(t, dir, x)
	refused(t, w.clientOf(t, dir, public), sign.ErrUntrusted)
}

func TestTamperedCardRefused(t *testing.T) {
	cases := map[string]struct {
		change func(*ocispec.Manifest, *card.Card)
		signed error // with a pinned key
		plain  error // without: nil where only a key can tell
	}{
		"other preprocessing": {func(_ *ocispec.Manifest, c *card.Card) { c.Preprocess.Mean[0] = 0.9 }, hub.ErrTampered, nil},
		"other name":          {func(_ *ocispec.Manifest, c *card.Card) { c.Name = "huge" }, hub.ErrTampered, hub.ErrTampered},
		"other network":       {func(_ *ocispec.Manifest, c *card.Card) { c.Model = "huge" }, hub.ErrTampered, hub.ErrTampered},
		"other origin":        {func(_ *ocispec.Manifest, c *card.Card) { c.Origin.Digest = digest.FromString("x") }, hub.ErrTampered, hub.ErrTampered},
		"other weights":       {func(_ *ocispec.Manifest, c *card.Card) { c.Weights.Digest = digest.FromString("x") }, hub.ErrTampered, hub.ErrTampered},
		"other weights, in the manifest too": {func(m *ocispec.Manifest, c *card.Card) {
			c.Weights.Digest = digest.FromString("x")
			m.Layers[0].Annotations[store.AnnotationUnpacked] = c.Weights.Digest.String()
		}, hub.ErrTampered, hub.ErrTampered},
		"smaller size": {func(_ *ocispec.Manifest, c *card.Card) { c.Weights.Size = 10 }, hub.ErrTampered, nil},
		"not a model":  {func(m *ocispec.Manifest, _ *card.Card) { m.ArtifactType = "application/x" }, hub.ErrTampered, hub.ErrTampered},
		"two weights":  {func(m *ocispec.Manifest, _ *card.Card) { m.Layers = append(m.Layers, m.Layers[0]) }, hub.ErrTampered, hub.ErrTampered},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 5000)
			public, private := keyPair(t)
			dir := w.mirrorOf(t, &private)
			forgeManifest(t, dir, c.change)
			refused(t, w.clientOf(t, dir, public), c.signed)
			if c.plain != nil {
				refused(t, w.clientOf(t, dir), c.plain)
			}
		})
	}
}

func TestTamperedCardRefusedBySignatureAlone(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	dir := w.mirrorOf(t, &private)
	forgeManifest(t, dir, func(_ *ocispec.Manifest, c *card.Card) { c.Preprocess.Mean[0] = 0.9 })
	x := layoutIndex(t, dir)
	for i, d := range x.Manifests { // the mirror's owner drops the index, which would tell too
		if d.Annotations[ocispec.AnnotationRefName] == source.RefName("registry", "latest") {
			x.Manifests = append(x.Manifests[:i], x.Manifests[i+1:]...)
			break
		}
	}
	writeLayoutIndex(t, dir, x)
	refused(t, w.clientOf(t, dir, public), sign.ErrUntrusted)
}

func TestBombInArtifactRefused(t *testing.T) {
	w := newWorld(t, 2_000_000)
	dir := w.mirrorOf(t, nil)
	forgeManifest(t, dir, func(_ *ocispec.Manifest, c *card.Card) { c.Weights.Size = 1000 })
	h := w.clientOf(t, dir)
	if _, err := h.Pull(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "1000 were declared") {
		t.Error(err)
	}
}

func TestSymlinkInStoreRefused(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	m := pull(t, h, ref)
	evil := filepath.Join(t.TempDir(), "evil")
	if err := errors.Join(os.WriteFile(evil, []byte("other weights"), 0o644), os.Remove(m.Path)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(evil, m.Path); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if _, err := h.Local(t.Context(), ref); !errors.Is(err, store.ErrSymlink) {
		t.Error(err)
	}
	if _, err := h.Pull(t.Context(), ref); !errors.Is(err, store.ErrSymlink) {
		t.Error(err)
	}
	if data, err := os.ReadFile(evil); err != nil || string(data) != "other weights" {
		t.Errorf("the link's target was written: %q, %v", data, err)
	}
}

func TestPathTraversalInReferencesRefused(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	for _, name := range []string{"../tiny", "tiny:../V1", "/etc/passwd", "tiny/../tiny", "..", "", "tiny:a/b", "oci://h", "oci://h/../x:y"} {
		if _, err := h.Pull(t.Context(), name); err == nil {
			t.Errorf("%q is pulled", name)
		}
		if _, err := h.Import(t.Context(), os.Args[0], &card.Card{Name: name}, hub.ImportOptions{}); err == nil {
			t.Errorf("%q is imported", name)
		}
	}
}

// archiveWith is an archive that holds one more entry.
func archiveWith(t *testing.T, good []byte, extra *tar.Header, content string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	extra.Size = int64(len(content))
	if err := w.WriteHeader(extra); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return append(out.Bytes(), good...)
}

func TestPathTraversalInArchiveRefused(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	pull(t, h, ref)
	good := exported(t, h, ref)
	blob := "blobs/sha256/" + digest.FromString("x").Encoded()
	cases := map[string]struct {
		header  tar.Header
		content string
	}{
		"parent":         {tar.Header{Typeflag: tar.TypeReg, Name: "../evil"}, "x"},
		"absolute":       {tar.Header{Typeflag: tar.TypeReg, Name: "/tmp/evil"}, "x"},
		"below blobs":    {tar.Header{Typeflag: tar.TypeReg, Name: "blobs/sha256/../../evil"}, "x"},
		"backslashes":    {tar.Header{Typeflag: tar.TypeReg, Name: `..\evil`}, "x"},
		"symbolic link":  {tar.Header{Typeflag: tar.TypeSymlink, Name: blob, Linkname: "/etc/passwd"}, ""},
		"hard link":      {tar.Header{Typeflag: tar.TypeLink, Name: blob, Linkname: "/etc/passwd"}, ""},
		"device":         {tar.Header{Typeflag: tar.TypeChar, Name: blob}, ""},
		"directory":      {tar.Header{Typeflag: tar.TypeDir, Name: "evil/"}, ""},
		"other bytes":    {tar.Header{Typeflag: tar.TypeReg, Name: blob}, "y"},
		"lock of others": {tar.Header{Typeflag: tar.TypeReg, Name: "locks/gc.lock"}, "y"},
	}
	for name, c := range cases {
		client := w.open(t, elsewhere(t))
		refs, err := client.ImportArchive(t.Context(), bytes.NewReader(archiveWith(t, good.Bytes(), &c.header, c.content)))
		if len(refs) > 0 || !errors.Is(err, hub.ErrTampered) && !errors.Is(err, store.ErrMismatch) {
			t.Errorf("%s: %v, %v", name, refs, err)
		}
	}
	client := w.open(t, elsewhere(t))
	if _, err := client.ImportArchive(t.Context(), bytes.NewReader(good.Bytes()[:good.Len()/2])); err == nil {
		t.Error("half an archive is imported")
	}
	if _, err := client.ImportArchive(t.Context(), strings.NewReader("not a tar archive")); err == nil {
		t.Error("something else is imported")
	}
}

// TestTamperedSourceIsNotPassedOver: that a source after it is sound does not make what it serves a thing to be silent about.
func TestTamperedSourceIsNotPassedOver(t *testing.T) {
	public, _ := keyPair(t)
	for name, c := range map[string]struct {
		spoil func(*testing.T, string)
		keys  []string
		want  error
	}{
		"other card": {func(t *testing.T, dir string) {
			forgeManifest(t, dir, func(_ *ocispec.Manifest, c *card.Card) { c.Name = "huge" })
		}, nil, hub.ErrTampered},
		"other weights": {func(t *testing.T, dir string) {
			overwrite(t, dir, weightsOf(t, dir))
		}, nil, download.ErrCorrupt},
		"unsigned": {func(*testing.T, string) {}, []string{public.String()}, sign.ErrUntrusted},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 5000)
			bad := w.mirrorOf(t, nil)
			c.spoil(t, bad)
			change := elsewhere(t, bad, w.mirrorOf(t, nil), hub.SourceUpstream)
			w.origin.Reset()
			refused(t, w.open(t, func(config *hub.Config) { change(config); config.Keys = c.keys }), c.want)
			if n := len(w.origin.Requests()); n > 0 {
				t.Errorf("%d requests to the source behind it", n)
			}
		})
	}
}

// weightsOf is the mirrored model's layer of weights.
func weightsOf(t *testing.T, dir string) (d ocispec.Descriptor) {
	t.Helper()
	forgeManifest(t, dir, func(m *ocispec.Manifest, _ *card.Card) { d = m.Layers[0] })
	return d
}

// overwrite changes the last byte of a blob of a mirror.
func overwrite(t *testing.T, dir string, d ocispec.Descriptor) {
	t.Helper()
	path := filepath.Join(dir, filepath.FromSlash(source.BlobPath(d.Digest)))
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// rewritten is an archive with another index, and a blob more if there is one.
func rewritten(t *testing.T, archive []byte, blob []byte, change func(*ocispec.Index)) []byte {
	t.Helper()
	var rest bytes.Buffer
	out := tar.NewWriter(&rest)
	write := func(header *tar.Header, data []byte) {
		header.Size = int64(len(data))
		if err := out.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	in := tar.NewReader(bytes.NewReader(archive))
	for {
		header, err := in.Next()
		if err == io.EOF {
			break
		}
		var data []byte
		if err == nil {
			data, err = io.ReadAll(in)
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.Name == ocispec.ImageIndexFile {
			x := new(ocispec.Index)
			if err := json.Unmarshal(data, x); err != nil {
				t.Fatal(err)
			}
			change(x)
			if data, err = json.Marshal(x); err != nil {
				t.Fatal(err)
			}
		}
		write(header, data)
	}
	if blob != nil {
		write(&tar.Header{Typeflag: tar.TypeReg, Name: source.BlobPath(digest.FromBytes(blob))}, blob)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	return rest.Bytes()
}

func TestHostileIndexOfArchiveRefused(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	pull(t, h, ref)
	good := exported(t, h, ref)
	named := func(name string) func(*ocispec.Index) {
		return func(x *ocispec.Index) { x.Manifests[0].Annotations[ocispec.AnnotationRefName] = name }
	}
	for name, change := range map[string]func(*ocispec.Index){
		"neither named nor a signature": func(x *ocispec.Index) { x.Manifests[0].Annotations = nil },
		"no tag":                        named(model),
		"empty tag":                     named(model + "/"),
		"parent":                        named("../" + tag),
		"parent as tag":                 named(model + "/.."),
		"tag and digest":                named(model + "/" + tag + "@" + digest.FromString("x").String()),
		"of a registry":                 named("oci://example.com/" + model + ":" + tag),
		"other model":                   named("other/" + tag),
		"digest is no digest":           func(x *ocispec.Index) { x.Manifests[0].Digest = "sha256:../../evil" },
		"manifest is a card":            func(x *ocispec.Index) { x.Manifests[0].Digest = digest.FromString("{}") },
	} {
		t.Run(name, func(t *testing.T) {
			client := w.open(t, elsewhere(t))
			refs, err := client.ImportArchive(t.Context(), bytes.NewReader(rewritten(t, good.Bytes(), []byte("{}"), change)))
			if err == nil || len(refs) > 0 {
				t.Errorf("%v, %v", refs, err)
			}
			if entries, err := client.Store().Entries(); err != nil || len(entries) > 0 {
				t.Errorf("the store lists %v, %v", entries, err)
			}
		})
	}
}

// TestArchiveOfAnotherProgramImported: tar packs the folders too. What is there already may come again.
func TestArchiveOfAnotherProgramImported(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	pull(t, h, ref)
	archive := exported(t, h, ref)
	data := archive.Bytes()
	for _, dir := range []string{"blobs/sha256/", "blobs/", "./"} {
		data = archiveWith(t, data, &tar.Header{Typeflag: tar.TypeDir, Name: dir}, "")
	}
	client := w.open(t, elsewhere(t))
	for range 2 {
		if refs, err := client.ImportArchive(t.Context(), bytes.NewReader(data)); err != nil || len(refs) != 1 || refs[0] != ref {
			t.Fatal(refs, err)
		}
	}
	m, err := client.Local(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	sound(t, m)
}

// TestArchiveMustBeSignedWhereKeysArePinned, by a pinned key.
func TestArchiveMustBeSignedWhereKeysArePinned(t *testing.T) {
	public, private := keyPair(t)
	stranger, _ := keyPair(t)
	w := newWorld(t, 5000)
	archive := func(key *minisign.PrivateKey) []byte {
		h := w.open(t, elsewhere(t, hub.SourceUpstream))
		pull(t, h, ref)
		if _, err := h.Push(t.Context(), ref, t.TempDir(), hub.PushOptions{Key: key}); err != nil { // signs it here too
			t.Fatal(err)
		}
		return exported(t, h, ref).Bytes()
	}
	signed := archive(&private)
	for name, c := range map[string]struct {
		data []byte
		key  minisign.PublicKey
		good bool
	}{
		"signed":               {signed, public, true},
		"signed by a stranger": {signed, stranger, false},
		"unsigned":             {archive(nil), public, false},
		"signature left out": {rewritten(t, signed, nil, func(x *ocispec.Index) {
			x.Manifests = slices.DeleteFunc(x.Manifests, func(d ocispec.Descriptor) bool { return d.Annotations[ocispec.AnnotationRefName] == "" })
		}), public, false},
	} {
		client := w.open(t, trusting(c.key, elsewhere(t)))
		refs, err := client.ImportArchive(t.Context(), bytes.NewReader(c.data))
		if c.good != (err == nil && len(refs) == 1) {
			t.Errorf("%s: %v, %v", name, refs, err)
		}
		if _, err := client.Store().Resolve(source.RefName(model, tag)); c.good != (err == nil) {
			t.Errorf("%s: in the store: %v", name, err)
		}
	}
}

func TestArchiveThatLacksAFileRefused(t *testing.T) {
	_, private := keyPair(t)
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	pull(t, h, ref)
	if _, err := h.Push(t.Context(), ref, t.TempDir(), hub.PushOptions{Key: &private}); err != nil { // signs it here too
		t.Fatal(err)
	}
	archive := exported(t, h, ref)
	// An archive that was cut between two files reads as a whole one.
	for left := 0; ; left++ {
		var rest bytes.Buffer
		out := tar.NewWriter(&rest)
		missing := ""
		in := tar.NewReader(bytes.NewReader(archive.Bytes()))
		for n := 0; ; n++ {
			header, err := in.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if n == left {
				missing = header.Name
				continue
			}
			if err := out.WriteHeader(header); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(out, in); err != nil {
				t.Fatal(err)
			}
		}
		if missing == "" {
			break
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		refs, err := w.open(t, elsewhere(t)).ImportArchive(t.Context(), &rest)
		if missing != "oci-layout" && (err == nil || len(refs) > 0) {
			t.Errorf("without %s it gives %v, %v", missing, refs, err)
		}
	}
}

func TestTamperedArchiveRefusedByLock(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	pull(t, h, ref)
	other := newWorld(t, 6000)
	there := other.open(t, nil)
	pull(t, there, ref)
	archive := exported(t, there, ref)
	if _, err := h.ImportArchive(t.Context(), archive); err == nil {
		t.Error("other weights are imported under a pinned name")
	}
	sound(t, pull(t, h, ref))
}
