package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"

	"github.com/go-modelzoo/zoo/hub/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, dir string, shared ...string) *store.Store {
	t.Helper()
	s, err := store.Open(dir, shared...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// put stores a manifest with the layers under a name, and returns it and the layers.
func put(t *testing.T, s *store.Store, name string, layers ...string) (ocispec.Descriptor, []digest.Digest) {
	t.Helper()
	config, err := s.Put([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: ocispec.Descriptor{MediaType: "x/y", Digest: config, Size: 2}}
	var blobs []digest.Digest
	for _, l := range layers {
		d, err := s.Put([]byte(l))
		if err != nil {
			t.Fatal(err)
		}
		blobs = append(blobs, d)
		m.Layers = append(m.Layers, ocispec.Descriptor{MediaType: "x/y", Digest: d, Size: int64(len(l))})
	}
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	d, err := s.Put(raw)
	if err != nil {
		t.Fatal(err)
	}
	root := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: int64(len(raw))}
	if err := s.Tag(t.Context(), name, root); err != nil {
		t.Fatal(err)
	}
	return root, blobs
}

func TestWrongBytesGetNoName(t *testing.T) {
	s := open(t, t.TempDir())
	d := digest.FromString("right")
	for _, content := range []string{"wrong", "righ", "right and more"} {
		if err := s.Ingest(d, 5, strings.NewReader(content)); !errors.Is(err, store.ErrMismatch) {
			t.Errorf("%q: %v", content, err)
		}
		if s.Has(d) || s.Has(digest.FromString(content)) {
			t.Errorf("%q has a name", content)
		}
	}
	if err := s.Ingest(d, 5, strings.NewReader("right")); err != nil || !s.Has(d) {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(s.Dir(), "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	p, err := s.Path(d)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(p); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o444 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestDamagedBlobIsNotRead(t *testing.T) {
	s := open(t, t.TempDir())
	d, err := s.Put([]byte("content"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := s.Path(d)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(p, 0o644), os.WriteFile(p, []byte("c0ntent"), 0o644)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(d, 100); !errors.Is(err, store.ErrMismatch) {
		t.Error(err)
	}
	if _, err := s.Read(d, 3); !errors.Is(err, store.ErrMismatch) {
		t.Errorf("over the limit: %v", err)
	}
}

func TestSymlinkInStoreRefused(t *testing.T) {
	s := open(t, t.TempDir())
	victim := filepath.Join(t.TempDir(), "victim")
	if err := os.WriteFile(victim, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	d := digest.FromString("right")
	if err := os.Symlink(victim, filepath.Join(s.Dir(), "blobs", "sha256", d.Encoded())); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	if _, err := s.Open(d); !errors.Is(err, store.ErrSymlink) {
		t.Errorf("reading: %v", err)
	}
	if err := s.Ingest(d, 5, strings.NewReader("right")); !errors.Is(err, store.ErrSymlink) {
		t.Errorf("writing: %v", err)
	}
	if data, err := os.ReadFile(victim); err != nil || string(data) != "precious" {
		t.Errorf("the link's target is now %q, %v", data, err)
	}
}

func TestStoreDirectoryReplacedBySymlinkRefused(t *testing.T) {
	dir := t.TempDir()
	open(t, dir)
	outside := t.TempDir()
	partial := filepath.Join(dir, "partial")
	if err := os.Remove(partial); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, partial); err != nil {
		t.Skip("no symbolic links here:", err)
	}
	s, err := store.Open(dir)
	if err == nil {
		defer s.Close()
		_, err = s.Partial("key")
	}
	if err == nil {
		t.Error("a link out of the store is followed")
	}
	if left, err := os.ReadDir(outside); err != nil || len(left) > 0 {
		t.Errorf("written outside: %v, %v", left, err)
	}
}

func TestPathTraversalInKeysRefused(t *testing.T) {
	s := open(t, t.TempDir())
	for _, key := range []string{"", "..", "../x", "a/b", `a\b`, ".hidden", "C:x", strings.Repeat("a", 300)} {
		if _, err := s.Partial(key); err == nil {
			t.Errorf("%q names a download", key)
		}
	}
	for _, d := range []digest.Digest{"sha256:../../x", "", "x", "md5:00"} {
		if _, err := s.Path(d); err == nil {
			t.Errorf("%q names a blob", d)
		}
	}
}

func TestRemoveKeepsWhatOthersNeed(t *testing.T) {
	s := open(t, t.TempDir())
	_, a := put(t, s, "a/1", "shared", "only a")
	_, b := put(t, s, "b/1", "shared", "only b")
	freed, err := s.Remove(t.Context(), "a/1")
	if err != nil || freed == 0 {
		t.Fatal(freed, err)
	}
	if !s.Has(a[0]) || s.Has(a[1]) || !s.Has(b[1]) {
		t.Error("the wrong blobs are gone")
	}
	if _, err := s.Resolve("a/1"); !errors.Is(err, store.ErrNotFound) {
		t.Error(err)
	}
	if _, err := s.Resolve("b/1"); err != nil {
		t.Error(err)
	}
}

func TestSweepLeavesTheYoungAndTheNeeded(t *testing.T) {
	s := open(t, t.TempDir())
	_, needed := put(t, s, "a/1", "needed")
	loose, err := s.Put([]byte("loose"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := s.Sweep(t.Context(), time.Now().Add(-time.Hour), false); err != nil || n != 0 || !s.Has(loose) {
		t.Fatal(n, err)
	}
	if n, err := s.Sweep(t.Context(), time.Now().Add(time.Hour), true); err != nil || n != 5 || !s.Has(loose) {
		t.Fatal(n, err)
	}
	if n, err := s.Sweep(t.Context(), time.Now().Add(time.Hour), false); err != nil || n != 5 || s.Has(loose) || !s.Has(needed[0]) {
		t.Fatal(n, err)
	}
}

func TestRemoveWaitsForHolders(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, "a/1", "x")
	release, err := s.Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Remove(ctx, "a/1"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("removed under a holder: %v", err)
	}
	release()
	if _, err := s.Remove(t.Context(), "a/1"); err != nil {
		t.Error(err)
	}
}

func TestManyWritersOfOneIndex(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	for i := range 16 {
		s := open(t, dir) // each as a process of its own
		group.Go(func() {
			d, err := s.Put([]byte{byte(i)})
			if err == nil {
				err = s.Tag(context.Background(), "m/"+string(rune('a'+i)), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 1})
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if list, err := open(t, dir).Entries(); err != nil || len(list) != 16 {
		t.Errorf("%d of 16 names, %v", len(list), err)
	}
}

func TestSharedStoreIsReadAndNotWritten(t *testing.T) {
	below := open(t, t.TempDir())
	_, blobs := put(t, below, "a/1", "x")
	s := open(t, t.TempDir(), below.Dir())
	if !s.Has(blobs[0]) {
		t.Error("the shared blob is not found")
	}
	if _, err := s.Resolve("a/1"); err != nil {
		t.Error(err)
	}
	if _, err := s.Remove(t.Context(), "a/1"); err != nil {
		t.Error(err)
	}
	if !below.Has(blobs[0]) {
		t.Error("a blob of the shared store is gone")
	}
	data, err := s.Read(blobs[0], 10)
	if err != nil || !bytes.Equal(data, []byte("x")) {
		t.Error(err)
	}
}

func TestDamagedIndexSaysWhatToDo(t *testing.T) {
	s := open(t, t.TempDir())
	put(t, s, "a/1", "x")
	if err := os.WriteFile(filepath.Join(s.Dir(), "index.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Entries(); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Error(err)
	}
	if err := s.Tag(t.Context(), "b/1", ocispec.Descriptor{Digest: digest.FromString("x"), Size: 1}); err == nil {
		t.Error("a damaged index is overwritten")
	}
}

// TestBlobThatSeveralPublishAtOnce has all of them find no such blob before any of them names it.
func TestBlobThatSeveralPublishAtOnce(t *testing.T) {
	dir := t.TempDir()
	var writers []*store.Writer
	for range 8 {
		w, err := open(t, dir).Create(5)
		if err == nil {
			_, err = w.Write([]byte("bytes"))
		}
		if err != nil {
			t.Fatal(err)
		}
		writers = append(writers, w)
	}
	var group sync.WaitGroup
	for _, w := range writers {
		group.Go(func() {
			if _, _, err := w.Publish(""); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	left, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if data, readErr := open(t, dir).Read(digest.FromString("bytes"), 5); readErr != nil || err != nil || string(data) != "bytes" || len(left) > 0 {
		t.Errorf("%q, %v; left %v, %v", data, readErr, left, err)
	}
}

func TestModelInUseIsRemoved(t *testing.T) {
	s := open(t, t.TempDir())
	_, blobs := put(t, s, "a/1", "one", "two", "three")
	f, err := s.Open(blobs[0])
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := s.Remove(t.Context(), "a/1"); err != nil {
		t.Error(err)
	}
	if data, err := io.ReadAll(f); err != nil || string(data) != "one" {
		t.Errorf("the open file reads %q, %v", data, err)
	}
	for _, d := range blobs[1:] {
		if s.Has(d) {
			t.Errorf("%s is still there", d)
		}
	}
}
