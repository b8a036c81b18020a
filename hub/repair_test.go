package hub_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/source"
	"github.com/go-modelzoo/zoo/hub/store"
)

// blobFile is the path of a blob below a home.
func blobFile(h *hub.Hub, d digest.Digest) string {
	return filepath.Join(h.Store().Dir(), filepath.FromSlash(source.BlobPath(d)))
}

// damages are what may happen to a blob's file.
var damages = map[string]func(path string) error{
	"flipped": func(path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		return errors.Join(os.Chmod(path, 0o644), os.WriteFile(path, data, 0o444))
	},
	"cut":     func(path string) error { return errors.Join(os.Chmod(path, 0o644), os.Truncate(path, 40)) },
	"missing": os.Remove,
}

// entries are the lines of a store's index, the named ones first.
func entries(t *testing.T, h *hub.Hub) (named, signatures []ocispec.Descriptor) {
	t.Helper()
	list, err := h.Store().Entries()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if e.Name != "" {
			named = append(named, e.Descriptor)
		} else {
			signatures = append(signatures, e.Descriptor)
		}
	}
	return named, signatures
}

// TestDamageToAnyBlobRepaired does what zoo verify says: verify --repair, then pull.
func TestDamageToAnyBlobRepaired(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	mirror := w.mirrorOf(t, &private)
	h := w.clientOf(t, mirror, public)
	pull(t, h, ref)
	named, signatures := entries(t, h)
	blobs, err := h.Store().Blobs(named[0])
	if err != nil || len(signatures) != 1 {
		t.Fatal(signatures, err)
	}
	signed, err := h.Store().Manifest(signatures[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range append(blobs, signed.Layers...) {
		for kind, damage := range damages {
			unpacked := b.MediaType == "" && kind == "missing" // it is made again when needed
			name := fmt.Sprintf("%s %q %s", kind, b.MediaType, b.Digest)
			h := w.clientOf(t, mirror, public)
			pull(t, h, ref)
			if err := damage(blobFile(h, b.Digest)); err != nil {
				t.Fatal(err)
			}
			if list, err := h.Cache(); err != nil || len(list) != 1 || list[0].Reference != ref || list[0].Damaged != (b.Digest == named[0].Digest) {
				t.Errorf("%s: the store is listed as %+v, %v", name, list, err)
			}
			if findings, err := h.Verify(t.Context(), true); err != nil || (len(findings) == 0) != unpacked {
				t.Errorf("%s: %v, %v", name, findings, err)
			}
			sound(t, pull(t, h, ref))
			if findings, err := h.Verify(t.Context(), false); err != nil || len(findings) > 0 {
				t.Errorf("%s: after verify --repair and pull: %v, %v", name, findings, err)
			}
		}
	}
}

// TestDamagedSignatureFoundAndForgotten damages the manifest that says whose signature it is.
func TestDamagedSignatureFoundAndForgotten(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	mirror := w.mirrorOf(t, &private)
	for kind, damage := range damages {
		h := w.clientOf(t, mirror, public)
		pull(t, h, ref)
		_, signatures := entries(t, h)
		if err := damage(blobFile(h, signatures[0].Digest)); err != nil {
			t.Fatal(err)
		}
		if findings, err := h.Verify(t.Context(), true); err != nil || len(findings) != 1 {
			t.Errorf("%s: %v, %v", kind, findings, err)
		}
		if _, _, err := h.Prune(t.Context(), hub.PruneOptions{}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if findings, err := h.Verify(t.Context(), false); err != nil || len(findings) > 0 {
			t.Errorf("%s: after repair and prune: %v, %v", kind, findings, err)
		}
		if err := h.Export(t.Context(), new(bytes.Buffer), ref); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		if _, err := h.Remove(t.Context(), ref); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
		sound(t, pull(t, h, ref))
		if _, signatures = entries(t, h); len(signatures) != 1 {
			t.Errorf("%s: pulled with %d signatures", kind, len(signatures))
		}
	}
}

// TestRepairTakesNoOtherModelOfTheName has a model here that lacks a file, and another one of the same name at the source.
func TestRepairTakesNoOtherModelOfTheName(t *testing.T) {
	w := newWorld(t, 5000)
	mirror := t.TempDir()
	importInto := func(h *hub.Hub, n int) *hub.Model {
		m := pull(t, h, ref)
		c := *m.Card
		c.Name, c.Tag, c.Origin = "ants", "v1", nil
		path := filepath.Join(t.TempDir(), "x.pth")
		if err := os.WriteFile(path, checkpoint(t, n, "pth"), 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := h.Import(t.Context(), path, &c, hub.ImportOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	other := w.open(t, elsewhere(t, hub.SourceUpstream))
	importInto(other, 300)
	if _, err := other.Push(t.Context(), "ants:v1", mirror, hub.PushOptions{}); err != nil {
		t.Fatal(err)
	}
	h := w.open(t, elsewhere(t, mirror, hub.SourceUpstream))
	mine := importInto(h, 400)
	manifest, err := h.Store().Manifest(mine.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(blobFile(h, manifest.Layers[1].Digest)); err != nil { // its provenance
		t.Fatal(err)
	}
	if m, err := h.Pull(t.Context(), "ants:v1"); err != nil || m.Digest != mine.Digest || !w.warned("missing or damaged") {
		t.Error(m, err, w.warnings)
	}
}

func TestModelTakesNotTheIndexsPlaceInAMirror(t *testing.T) {
	w := newWorld(t, 5000)
	public, private := keyPair(t)
	mirror := w.mirrorOf(t, &private)
	h := w.open(t, elsewhere(t, hub.SourceUpstream))
	c := *pull(t, h, ref).Card
	c.Name, c.Tag, c.Origin = "registry", "", nil
	path := filepath.Join(t.TempDir(), "x.pth")
	if err := os.WriteFile(path, w.file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Import(t.Context(), path, &c, hub.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Push(t.Context(), "registry", mirror, hub.PushOptions{Tag: "latest"}); err == nil {
		t.Error("it is pushed")
	}
	sound(t, pull(t, w.clientOf(t, mirror, public), ref))
}

func TestModelRemovedWhileItIsVerifiedIsNoDamage(t *testing.T) {
	w := newWorld(t, 5000)
	pull(t, w.open(t, nil), ref)
	other := w.open(t, nil)
	removed := false
	h := w.open(t, func(c *hub.Config) {
		c.Progress = func(p hub.Progress) {
			if p.Stage == hub.StageVerify && !removed {
				removed = true
				if _, err := other.Remove(t.Context(), ref); err != nil {
					t.Error(err)
				}
			}
		}
	})
	if findings, err := h.Verify(t.Context(), true); err != nil || len(findings) > 0 || !removed {
		t.Error(findings, err, removed)
	}
}

func TestCutWeightsNotHandedOut(t *testing.T) {
	w := newWorld(t, 5000)
	h := w.clientOf(t, w.mirrorOf(t, nil))
	m := pull(t, h, ref)
	if err := damages["cut"](m.Path); err != nil {
		t.Fatal(err)
	}
	if m, err := h.Local(t.Context(), ref); !errors.Is(err, store.ErrMismatch) || !strings.Contains(err.Error(), "zoo verify --repair") {
		t.Error(m, err)
	}
}

func TestProgressOfPushAndOfWaitingReachesTheEnd(t *testing.T) {
	w := newWorld(t, 400_000)
	h := w.open(t, nil)
	pull(t, h, ref)
	dir := t.TempDir()
	for range 2 { // the second time all is there
		w.progress = nil
		if _, err := h.Push(t.Context(), ref, dir, hub.PushOptions{}); err != nil {
			t.Fatal(err)
		}
		var last hub.Progress
		if n := len(w.progress); n > 0 {
			last = w.progress[n-1]
		}
		if last.Stage != hub.StagePush || last.Done != last.Total || last.Total <= 0 {
			t.Errorf("the last is %+v", last)
		}
	}
	release, err := h.Store().Lock(t.Context(), "pull-"+model+"-"+tag, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Remove(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(300*time.Millisecond, release)
	w.progress = nil
	pull(t, w.open(t, nil), ref)
	waits := slices.DeleteFunc(w.progress, func(p hub.Progress) bool { return p.Stage != hub.StageWait })
	if len(waits) < 2 || waits[0].Total != -1 || waits[len(waits)-1].Done != waits[len(waits)-1].Total {
		t.Errorf("%+v", waits)
	}
}

// TestSparseFileInArchiveRefused hands over a few bytes that unpack to a terabyte.
func TestSparseFileInArchiveRefused(t *testing.T) {
	header := func(name string, kind byte, size int) []byte {
		b := make([]byte, 512)
		copy(b, name)
		copy(b[100:], "0000644\x000000000\x000000000\x00")
		copy(b[124:], fmt.Sprintf("%011o\x00%011o\x00        %c", size, 0, kind))
		copy(b[257:], "ustar\x0000")
		sum := 0
		for _, c := range b {
			sum += int(c)
		}
		copy(b[148:], fmt.Sprintf("%06o\x00 ", sum))
		return b
	}
	var records string
	for _, r := range [][2]string{
		{"GNU.sparse.major", "0"}, {"GNU.sparse.minor", "1"}, {"GNU.sparse.name", "blobs/sha256/" + digest.FromString("x").Encoded()},
		{"GNU.sparse.size", "1099511627776"}, {"GNU.sparse.numblocks", "1"}, {"GNU.sparse.map", "1099511627776,0"},
	} {
		text := fmt.Sprintf(" %s=%s\n", r[0], r[1])
		n := len(text) + 2
		if n > 99 {
			n++
		}
		records += fmt.Sprint(n) + text
	}
	var bomb bytes.Buffer
	bomb.Write(header("x", 'x', len(records)))
	bomb.WriteString(records + strings.Repeat("\x00", 512-len(records)%512))
	bomb.Write(header("x", '0', 0))
	bomb.Write(make([]byte, 1024))
	w := newWorld(t, 100)
	done := make(chan error, 1)
	h := w.open(t, nil)
	go func() {
		_, err := h.ImportArchive(t.Context(), &bomb)
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, hub.ErrTampered) {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it is being unpacked")
	}
}

func TestLockOfAnotherUserSaysWhatToDo(t *testing.T) {
	if os.Getuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("root may open every file, and on Windows permission bits keep nobody out")
	}
	h := newWorld(t, 100).open(t, nil)
	release, err := h.Store().Hold(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release()
	if err := os.Chmod(filepath.Join(h.Store().Dir(), "locks", "gc.lock"), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Store().Hold(t.Context()); err == nil || !strings.Contains(err.Error(), "ZOO_HOME") {
		t.Error(err)
	}
}
