package hub_test

import (
	"bytes"
	"errors"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/hub/source/sourcetest"
	"github.com/go-modelzoo/zoo/hub/store"
)

// antsFile writes a checkpoint with n float32, and returns it with a card for it.
func antsFile(t *testing.T, n int) (string, *card.Card) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ants.pth")
	if err := os.WriteFile(path, checkpoint(t, n, registry.FormatPTH), 0o644); err != nil {
		t.Fatal(err)
	}
	return path, &card.Card{
		Name: "ants", Family: "mlp", Model: model, Input: [3]int{1, 8, 8}, Classes: 2,
		Preprocess: registry.Preprocess{Mean: []float64{0}, Std: []float64{1}},
	}
}

// teams is a registry with a model ants:v1 of other weights below each path.
func teams(t *testing.T, w *world, paths ...string) (address string) {
	t.Helper()
	served := sourcetest.Registry{}
	for i, path := range paths {
		h := w.open(t, elsewhere(t))
		file, c := antsFile(t, 1000*(i+1))
		if _, err := h.Import(t.Context(), file, c, hub.ImportOptions{}); err != nil {
			t.Fatal(err)
		}
		served[path] = t.TempDir()
		if _, err := h.Push(t.Context(), "ants", served[path], hub.PushOptions{Tag: "v1"}); err != nil {
			t.Fatal(err)
		}
	}
	web := httptest.NewServer(served)
	t.Cleanup(web.Close)
	return "oci://" + strings.TrimPrefix(web.URL, "http://") + "/"
}

func TestNameAtAnotherRegistryIsAnotherModel(t *testing.T) {
	w := newWorld(t, 100)
	at := teams(t, w, "a/models", "b/models")
	h := w.open(t, nil)
	a, b := pull(t, h, at+"a/models/ants:v1"), pull(t, h, at+"b/models/ants:v1")
	sound(t, a)
	sound(t, b)
	if a.Digest == b.Digest {
		t.Error("what was asked of one registry came from another")
	}
	if _, err := h.Pull(t.Context(), at+"c/models/ants:v1"); !errors.Is(err, hub.ErrNotFound) {
		t.Errorf("a model of a registry that has none: %v", err)
	}
	for digest, want := range map[string]string{"": "name the tag", ":v1": "nothing there has that digest"} {
		_, err := h.Pull(t.Context(), at+"a/models/ants"+digest+"@sha256:"+strings.Repeat("0", 64))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a digest that is not there: %v", err)
		}
	}
	if got := pull(t, h, a.Reference()+"@"+a.Manifest.String()); got.Digest != a.Digest {
		t.Errorf("by digest: %+v", got)
	}
	if _, err := h.Local(t.Context(), "ants:v1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the name alone means a registry that was not named: %v", err)
	}
	if _, err := h.Verify(t.Context(), false, "ants:v1"); err == nil || !strings.Contains(err.Error(), a.Reference()) {
		t.Errorf("what there is of the name is not said: %v", err)
	}

	offline := w.open(t, func(c *hub.Config) { c.Offline = true })
	for _, m := range []*hub.Model{a, b} {
		if got := pull(t, offline, m.Reference()); got.Digest != m.Digest || got.Source != hub.SourceStore || got.Reference() != m.Reference() {
			t.Errorf("%s without network: %+v", m.Reference(), got)
		}
	}
	if findings, err := h.Verify(t.Context(), false); err != nil || len(findings) > 0 {
		t.Error(findings, err)
	}
	list, err := h.Cache()
	if err != nil || len(list) != 2 || list[0].Reference != a.Reference() || list[1].Reference != b.Reference() {
		t.Errorf("%+v, %v", list, err)
	}
	archive := exported(t, h, b.Reference())
	there := w.open(t, elsewhere(t))
	if refs, err := there.ImportArchive(t.Context(), archive); err != nil || len(refs) != 1 || refs[0] != "ants:v1" {
		t.Error(refs, err)
	}
	if _, err := h.Remove(t.Context(), a.Reference()); err != nil {
		t.Fatal(err)
	}
	sound(t, pull(t, offline, b.Reference()))
	if _, err := offline.Local(t.Context(), a.Reference()); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
}

func TestModelOfARegistryTakesNoNameOfTheIndex(t *testing.T) {
	evil := newWorld(t, 6000)
	there := evil.open(t, nil)
	pull(t, there, ref)
	dir := t.TempDir()
	if _, err := there.Push(t.Context(), ref, dir, hub.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(sourcetest.Registry{"evil": dir})
	t.Cleanup(web.Close)

	w := newWorld(t, 5000)
	o := w.index.Models[0].Weights[0].Origin
	o.SHA256, o.SHA256Prefix = "", o.SHA256[:8] // as for most public weights: the card's origin can be compared with nothing
	w.config.Index = encodeIndex(t, w.index)
	h := w.open(t, nil)
	other := pull(t, h, "oci://"+strings.TrimPrefix(web.URL, "http://")+"/evil/"+ref)
	got := pull(t, h, ref)
	sound(t, got)
	if got.Digest == other.Digest {
		t.Error("the index's name gives what a registry called so")
	}
}

func TestImportTakesNoOtherModelsName(t *testing.T) {
	w := newWorld(t, 100)
	h := w.open(t, nil)
	file, c := antsFile(t, 1000)
	m, err := h.Import(t.Context(), file, c, hub.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := h.Import(t.Context(), file, c, hub.ImportOptions{}); err != nil || again.Manifest != m.Manifest {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	if _, err := h.Push(t.Context(), "ants", t.TempDir(), hub.PushOptions{}); err != nil { // packs it
		t.Fatal(err)
	}
	if _, err := h.Import(t.Context(), file, c, hub.ImportOptions{}); err != nil {
		t.Errorf("the same again, packed meanwhile: %v", err)
	}
	other, _ := antsFile(t, 2000)
	relabelled := *c
	relabelled.Labels = []string{"bee", "ant"}
	for what, try := range map[string]struct {
		file string
		card *card.Card
	}{"other weights": {other, c}, "other labels": {file, &relabelled}} {
		_, err := h.Import(t.Context(), try.file, try.card, hub.ImportOptions{})
		if !errors.Is(err, hub.ErrNameTaken) || !strings.Contains(err.Error(), m.Digest.String()) || !strings.Contains(err.Error(), "--overwrite") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if got := pull(t, h, "ants"); got.Digest != m.Digest || got.Card.Labels != nil {
		t.Errorf("a refused import changed the model: %+v", got)
	}
	replaced, err := h.Import(t.Context(), other, c, hub.ImportOptions{Overwrite: true})
	if err != nil || replaced.Digest == m.Digest {
		t.Fatal(err)
	}
	if got := pull(t, h, "ants"); got.Digest != replaced.Digest {
		t.Errorf("%+v", got)
	}
}

func TestArchiveTakesNoOtherModelsName(t *testing.T) {
	w := newWorld(t, 100)
	h, there := w.open(t, nil), w.open(t, elsewhere(t))
	mine, c := antsFile(t, 1000)
	m, err := h.Import(t.Context(), mine, c, hub.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	other, c := antsFile(t, 2000)
	if _, err := there.Import(t.Context(), other, c, hub.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	archive := exported(t, there, "ants")
	if _, err := h.ImportArchive(t.Context(), bytes.NewReader(archive.Bytes())); !errors.Is(err, hub.ErrNameTaken) {
		t.Error(err)
	}
	if got := pull(t, h, "ants"); got.Digest != m.Digest {
		t.Error("an archive replaced a model that was imported here")
	}
	if _, err := h.Remove(t.Context(), "ants"); err != nil {
		t.Fatal(err)
	}
	if refs, err := h.ImportArchive(t.Context(), archive); err != nil || len(refs) != 1 {
		t.Error(refs, err)
	}
}

func TestPushUnderAnotherTagTakesNoNameHere(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.open(t, nil)
	want := pull(t, h, ref)
	file, c := antsFile(t, 1000)
	c.Name = model
	if _, err := h.Import(t.Context(), file, c, hub.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Push(t.Context(), model+":"+hub.TagLocal, t.TempDir(), hub.PushOptions{Tag: tag}); err != nil {
		t.Fatal(err)
	}
	if got := pull(t, h, ref); got.Digest != want.Digest {
		t.Error("a push replaced a model of the store")
	}
}

func TestModelWithoutTheUsualTagIsAskedForByTag(t *testing.T) {
	w := newWorld(t, 100)
	publisher := w.open(t, nil)
	file, c := antsFile(t, 1000)
	if _, err := publisher.Import(t.Context(), file, c, hub.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := publisher.Push(t.Context(), "ants", dir, hub.PushOptions{Tag: "v3"}); err != nil {
		t.Fatal(err)
	}
	h := w.open(t, elsewhere(t, dir))
	if _, err := h.Pull(t.Context(), "ants"); !errors.Is(err, hub.ErrNotFound) || !strings.Contains(err.Error(), "name it, as in ants:") {
		t.Error(err)
	}
	sound(t, pull(t, h, "ants:v3"))
}
