package store_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub/store"
)

// later is when whatever a test has written is old enough to be swept.
func later() time.Time { return time.Now().Add(time.Hour) }

// putJSON stores what marshals to a manifest or an index and lists it under a name, or none.
func putJSON(t *testing.T, s *store.Store, name, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Put(raw)
	if err != nil {
		t.Fatal(err)
	}
	root := ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(raw))}
	if err := s.Tag(t.Context(), name, root); err != nil {
		t.Fatal(err)
	}
	return root
}

// manifestOf has one layer with the given bytes, and a subject unless that is nil.
func manifestOf(t *testing.T, s *store.Store, layer string, subject *ocispec.Descriptor, annotations map[string]string) ocispec.Manifest {
	t.Helper()
	config, err := s.Put([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Put([]byte(layer))
	if err != nil {
		t.Fatal(err)
	}
	return ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Subject: subject,
		Config: ocispec.Descriptor{MediaType: "x/y", Digest: config, Size: 2},
		Layers: []ocispec.Descriptor{{MediaType: "x/y", Digest: d, Size: int64(len(layer)), Annotations: annotations}},
	}
}

func listed(t *testing.T, s *store.Store) []digest.Digest {
	t.Helper()
	entries, err := s.Entries()
	if err != nil {
		t.Fatal(err)
	}
	var list []digest.Digest
	for _, e := range entries {
		list = append(list, e.Descriptor.Digest)
	}
	return list
}

// damage changes bytes of a stored blob.
func damage(t *testing.T, s *store.Store, d digest.Digest) {
	t.Helper()
	p, err := s.Path(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(p, 0o644), os.WriteFile(p, []byte("{}"), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func lose(t *testing.T, s *store.Store, d digest.Digest) {
	t.Helper()
	if err := s.Quarantine(d); err != nil {
		t.Fatal(err)
	}
}

// TestSignaturesGoWithWhatTheySign, whether a model is removed or, its name taken by another, swept; all others stay.
func TestSignaturesGoWithWhatTheySign(t *testing.T) {
	for name, forget := range map[string]func(*store.Store) error{
		"removed": func(s *store.Store) error {
			_, err := s.Remove(t.Context(), "a/1")
			return err
		},
		"swept": func(s *store.Store) error {
			put(t, s, "a/1", "another model a")
			before := listed(t, s)
			if _, err := s.Sweep(t.Context(), later(), true); err != nil || !slices.Equal(listed(t, s), before) {
				t.Errorf("a dry run changed the index: %v", err)
			}
			_, err := s.Sweep(t.Context(), later(), false)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			a, _ := put(t, s, "a/1", "model a")
			b, _ := put(t, s, "b/1", "model b")
			ofA := putJSON(t, s, "", ocispec.MediaTypeImageManifest, manifestOf(t, s, "signature of a", &a, nil))
			ofB := putJSON(t, s, "", ocispec.MediaTypeImageManifest, manifestOf(t, s, "signature of b", &b, nil))
			ofNone := putJSON(t, s, "", ocispec.MediaTypeImageManifest, manifestOf(t, s, "of none", nil, nil))
			lost := putJSON(t, s, "", ocispec.MediaTypeImageManifest, manifestOf(t, s, "lost", &b, nil))
			if err := s.Tag(t.Context(), "", ofB); err != nil { // listed again it is still one
				t.Fatal(err)
			}
			if n := len(listed(t, s)); n != 6 {
				t.Fatalf("%d of 6 manifests are listed", n)
			}
			lose(t, s, lost.Digest)
			if err := forget(s); err != nil {
				t.Fatal(err)
			}
			have := listed(t, s)
			for _, d := range []digest.Digest{ofA.Digest, digest.FromString("signature of a"), a.Digest, digest.FromString("model a"), lost.Digest} {
				if s.Has(d) || slices.Contains(have, d) {
					t.Errorf("%s is still there", d)
				}
			}
			for _, d := range []digest.Digest{b.Digest, ofB.Digest, ofNone.Digest} {
				if !s.Has(d) || !slices.Contains(have, d) {
					t.Errorf("%s is gone", d)
				}
			}
			if !s.Has(digest.FromString("model b")) || !s.Has(digest.FromString("signature of b")) || !s.Has(digest.FromString("of none")) {
				t.Error("a layer of what stays is gone")
			}
		})
	}
}

// TestNothingIsRemovedWhileAManifestIsUnreadable: nobody knows which blobs a model or signature needs whose manifest is damaged, or gone. The
// damaged model itself can go, and a signature that is gone needs nothing.
func TestNothingIsRemovedWhileAManifestIsUnreadable(t *testing.T) {
	for _, c := range []struct {
		name    string
		destroy func(*testing.T, *store.Store, digest.Digest)
	}{{"a/1", damage}, {"a/1", lose}, {"", damage}} {
		s := open(t, t.TempDir())
		b, _ := put(t, s, "b/1", "both")
		d := putJSON(t, s, c.name, ocispec.MediaTypeImageManifest, manifestOf(t, s, "both", &b, nil))
		c.destroy(t, s, d.Digest)
		for verb, remove := range map[string]func() (int64, error){
			"Remove": func() (int64, error) { return s.Remove(t.Context(), "b/1") },
			"Sweep":  func() (int64, error) { return s.Sweep(t.Context(), later(), false) },
		} {
			if n, err := remove(); err == nil || n != 0 || !s.Has(b.Digest) || !s.Has(digest.FromString("both")) || len(listed(t, s)) != 2 {
				t.Errorf("%s beside a broken %q: %d bytes, %v", verb, c.name, n, err)
			}
		}
		if c.name == "" {
			continue
		}
		if _, err := s.Remove(t.Context(), c.name); err != nil || s.Has(d.Digest) || !s.Has(digest.FromString("both")) {
			t.Errorf("the broken model itself: %v", err)
		}
	}
}

// TestPlatformsThatWereNotFetchedAreNoDamage: of a plugin's index a store may have one platform, which it keeps and removes.
func TestPlatformsThatWereNotFetchedAreNoDamage(t *testing.T) {
	s := open(t, t.TempDir())
	here := putJSON(t, s, "", ocispec.MediaTypeImageManifest, manifestOf(t, s, "binary", nil, nil))
	x := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{
		here, {MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("elsewhere"), Size: 9},
	}}
	index := putJSON(t, s, "plugin/1.0.0", ocispec.MediaTypeImageIndex, x)
	unlist(t, s, here.Digest)
	blobs, err := s.Blobs(index)
	if err != nil || len(blobs) != 4 {
		t.Fatalf("%d of 4 blobs, %v", len(blobs), err)
	}
	if _, err := s.Sweep(t.Context(), later(), false); err != nil || !s.Has(here.Digest) || !s.Has(digest.FromString("binary")) {
		t.Fatal("a platform is gone:", err)
	}
	if _, err := s.Remove(t.Context(), "plugin/1.0.0"); err != nil || s.Has(here.Digest) || s.Has(digest.FromString("binary")) {
		t.Fatal("a platform is still there:", err)
	}
}

// unlist takes a manifest out of the store's index.
func unlist(t *testing.T, s *store.Store, d digest.Digest) {
	t.Helper()
	file := filepath.Join(s.Dir(), ocispec.ImageIndexFile)
	var x ocispec.Index
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &x)
	}
	x.Manifests = slices.DeleteFunc(x.Manifests, func(m ocispec.Descriptor) bool { return m.Digest == d })
	if err == nil {
		text, err = json.Marshal(x)
	}
	if err = errors.Join(err, os.WriteFile(file, text, 0o644)); err != nil {
		t.Fatal(err)
	}
}

// TestUnpackedWeightsStayAndGoWithTheirLayer, which says what it unpacks to in an annotation that anyone may have written.
func TestUnpackedWeightsStayAndGoWithTheirLayer(t *testing.T) {
	s := open(t, t.TempDir())
	unpacked, err := s.Put([]byte("unpacked"))
	if err != nil {
		t.Fatal(err)
	}
	putJSON(t, s, "a/1", ocispec.MediaTypeImageManifest, manifestOf(t, s, "packed", nil, map[string]string{store.AnnotationUnpacked: unpacked.String()}))
	for i, bad := range []string{"", "x", "sha256:..", "sha256:../../../index.json"} {
		putJSON(t, s, "bad/"+string(rune('a'+i)), ocispec.MediaTypeImageManifest, manifestOf(t, s, "bad", nil, map[string]string{store.AnnotationUnpacked: bad}))
	}
	if _, err := s.Sweep(t.Context(), later(), false); err != nil || !s.Has(unpacked) {
		t.Fatal("unpacked weights are gone:", err)
	}
	if _, err := s.Remove(t.Context(), "a/1", "bad/a", "bad/b", "bad/c", "bad/d"); err != nil || s.Has(unpacked) {
		t.Error("unpacked weights are still there:", err)
	}
	if left := listed(t, s); len(left) != 0 {
		t.Errorf("left in the index: %v", left)
	}
}

func TestModelOfWhichABlobIsGoneIsRemoved(t *testing.T) {
	s := open(t, t.TempDir())
	_, blobs := put(t, s, "a/1", "one", "two")
	lose(t, s, blobs[0])
	if _, err := s.Remove(t.Context(), "a/1"); err != nil || s.Has(blobs[1]) {
		t.Error(err)
	}
}

// TestDryRunLeavesADownloadThatIsAboutToBegin: its directory is still empty.
func TestDryRunLeavesADownloadThatIsAboutToBegin(t *testing.T) {
	s := open(t, t.TempDir())
	if _, err := s.Partial("key"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.Dir(), "partial", "stray"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, dryRun := range []bool{true, false} {
		if list, err := s.Downloads(); err != nil || len(list) != 1 || list[0].Key != "key" {
			t.Errorf("downloads: %v, %v", list, err)
		}
		if _, err := s.Sweep(t.Context(), later(), dryRun); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := s.Downloads(); err != nil || len(list) != 0 {
		t.Errorf("downloads: %v, %v", list, err)
	}
}

func TestUseIsRecordedAndFollowsNoLink(t *testing.T) {
	s := open(t, t.TempDir())
	d, err := s.Put([]byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Path(d)
	if err != nil {
		t.Fatal(err)
	}
	old := time.Now().Add(-48 * time.Hour)
	if err := os.Chtimes(p, old, old); err != nil {
		t.Fatal(err)
	}
	if s.Touch(d); time.Since(s.Used(d)) > time.Hour {
		t.Errorf("used %v", s.Used(d))
	}
	victim := filepath.Join(t.TempDir(), "victim")
	if err := errors.Join(os.WriteFile(victim, nil, 0o644), os.Chtimes(victim, old, old)); err != nil {
		t.Fatal(err)
	}
	linked := digest.FromString("linked")
	if err := os.Symlink(victim, filepath.Join(filepath.Dir(p), linked.Encoded())); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	s.Touch(linked)
	if info, err := os.Stat(victim); err != nil || time.Since(info.ModTime()) < time.Hour {
		t.Error("the link's target was touched:", err)
	}
}

// TestOwnNameHidesASharedOne, and signatures, which have none, hide nothing.
func TestOwnNameHidesASharedOne(t *testing.T) {
	below := open(t, t.TempDir())
	put(t, below, "a/1", "theirs")
	theirs := putJSON(t, below, "", ocispec.MediaTypeImageManifest, manifestOf(t, below, "theirs", nil, nil))
	s := open(t, t.TempDir(), below.Dir())
	mine, _ := put(t, s, "a/1", "mine")
	own := putJSON(t, s, "", ocispec.MediaTypeImageManifest, manifestOf(t, s, "own", nil, nil))
	if d, err := s.Resolve("a/1"); err != nil || d.Digest != mine.Digest {
		t.Error(d.Digest, err)
	}
	if have := listed(t, s); !slices.Equal(have, []digest.Digest{mine.Digest, own.Digest, theirs.Digest}) {
		t.Errorf("listed are %v", have)
	}
}
