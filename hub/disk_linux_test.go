package hub_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/download"
	"github.com/go-modelzoo/zoo/hub/store"
)

// TestDiskFull pulls to a file system that is too small, and again after it grew.
func TestDiskFull(t *testing.T) {
	home := t.TempDir()
	if err := syscall.Mount("zoo-test", home, "tmpfs", 0, "size=8m"); err != nil {
		t.Skip("a small file system cannot be mounted here (needs root):", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(home, 0); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, 4<<20)
	c := w.config
	c.Home = home
	h, err := hub.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.Pull(t.Context(), ref)
	if !errors.Is(err, store.ErrDiskFull) || !strings.Contains(err.Error(), "make room") || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v", err)
	}
	namedIsVerified(t, home)
	if list, err := h.Cache(); err != nil || len(list) == 0 || !list[0].Partial {
		t.Errorf("the download is not visible: %+v, %v", list, err)
	}
	have := partialBytes(t, h.Store())
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("zoo-test", home, "tmpfs", syscall.MS_REMOUNT, "size=200m"); err != nil {
		t.Fatal(err)
	}
	w.origin.Reset()
	h = w.open(t, func(c *hub.Config) { c.Home = home })
	sound(t, pull(t, h, ref))
	var asked int64
	for _, q := range w.origin.Requests() {
		asked += q.End - q.Start
	}
	// A request that the full disk cut off may be counted late, as if it were the second pull's.
	if missing := int64(len(w.file)) - have; asked < missing || asked > missing+download.DefaultChunkSize {
		t.Errorf("asked for %d bytes with %d of %d on disk", asked, have, len(w.file))
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(home, "store", "tmp")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestFullFolderToPublishInIsNotZoosHome pushes to a folder whose disk is too small, and to one that cannot be written.
func TestFullFolderToPublishInIsNotZoosHome(t *testing.T) {
	to := t.TempDir()
	if err := syscall.Mount("zoo-test", to, "tmpfs", 0, "size=256k"); err != nil {
		t.Skip("a small file system cannot be mounted here (needs root):", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(to, 0); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, 1<<20)
	h := w.open(t, nil)
	pull(t, h, ref)
	push := func() error {
		_, err := h.Push(t.Context(), ref, to, hub.PushOptions{})
		if err == nil || strings.Contains(err.Error(), "ZOO_HOME") || strings.Contains(err.Error(), "zoo cache") || !strings.Contains(err.Error(), to) {
			t.Error(err)
		}
		return err
	}
	if err := push(); !errors.Is(err, store.ErrDiskFull) {
		t.Error(err)
	}
	if err := syscall.Mount("zoo-test", to, "tmpfs", syscall.MS_REMOUNT|syscall.MS_RDONLY, "size=256k"); err != nil {
		t.Fatal(err)
	}
	if err := push(); !errors.Is(err, syscall.EROFS) {
		t.Error(err)
	}
}

// TestFullDiskIsFreedByRemoving: the error of a full disk advises to remove models, and nothing may be written for that first.
func TestFullDiskIsFreedByRemoving(t *testing.T) {
	home := t.TempDir()
	if err := syscall.Mount("zoo-test", home, "tmpfs", 0, "size=40m"); err != nil {
		t.Skip("a small file system cannot be mounted here (needs root):", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(home, 0); err != nil {
			t.Error(err)
		}
	})
	w := newWorld(t, 1<<20)
	w.withPlugins(t, "1.2.0")
	h := w.open(t, func(c *hub.Config) { c.Home = home })
	for name, free := range map[string]func() (int64, error){
		"cache rm": func() (int64, error) { return h.Remove(t.Context(), ref) },
		"cache prune": func() (n int64, err error) {
			_, n, err = h.Prune(t.Context(), hub.PruneOptions{OlderThan: 1})
			return n, err
		},
	} {
		pull(t, h, ref)
		install(t, h, "mlp")
		ballast, err := os.Create(filepath.Join(home, "ballast"))
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = ballast.Write(make([]byte, 4096))
		}
		ballast.Close() // as much of it as there is room for
		if _, _, err := h.RemovePlugin(t.Context(), "mlp", ""); !errors.Is(err, store.ErrDiskFull) {
			t.Errorf("%s: removing a pinned plugin: %v", name, err)
		}
		if n, err := free(); err != nil || n < 4<<20 {
			t.Errorf("%s: %d bytes freed, %v", name, n, err)
		}
		if list, err := h.Cache(); err != nil || len(list) > 0 {
			t.Errorf("%s: there are %+v, %v", name, list, err)
		}
		if _, _, err := h.RemovePlugin(t.Context(), "mlp", ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := os.Remove(ballast.Name()); err != nil {
			t.Fatal(err)
		}
	}
}
