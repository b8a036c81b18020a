package plugins_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-modelzoo/zoo/hub/plugins"
)

// record is of a binary with the given bytes.
func record(name, version, binary string) plugins.Installed {
	sum := sha256.Sum256([]byte(binary))
	return plugins.Installed{Name: name, Version: version, SHA256: hex.EncodeToString(sum[:]), Source: "test"}
}

func install(t *testing.T, d plugins.Dir, name, version, binary string) plugins.Installed {
	t.Helper()
	rec, err := d.Install(t.Context(), record(name, version, binary), strings.NewReader(binary))
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// newDir is a directory that its owner can remove at the end.
func newDir(t *testing.T) plugins.Dir {
	dir := filepath.Join(t.TempDir(), "plugins")
	t.Cleanup(func() {
		err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				err = os.Chmod(path, 0o755)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	return plugins.Dir(dir)
}

// inside lists what lies in a plugin's directory.
func inside(t *testing.T, d plugins.Dir, name string) []string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(string(d), name))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

// TestBinaryThatIsNotItsDigestIsNotInstalled: nothing of it is left, neither where it could be found nor where it was written.
func TestBinaryThatIsNotItsDigestIsNotInstalled(t *testing.T) {
	broken := errors.New("the connection broke")
	for name, c := range map[string]struct {
		binary io.Reader
		want   error
	}{
		"other bytes":   {strings.NewReader("other"), plugins.ErrTampered},
		"no bytes":      {strings.NewReader(""), plugins.ErrTampered},
		"bytes and end": {io.MultiReader(strings.NewReader("binary"), iotest.ErrReader(broken)), broken},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDir(t)
			if _, err := d.Install(t.Context(), record("mine", "1.0.0", "binary"), c.binary); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if left := inside(t, d, "mine"); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if list, err := d.List(); err != nil || len(list) > 0 {
				t.Errorf("installed: %v, %v", list, err)
			}
			install(t, d, "mine", "1.0.0", "binary")
		})
	}
}

func TestInstalledVersionIsNotReplaced(t *testing.T) {
	d := newDir(t)
	rec := install(t, d, "mine", "1.0.0", "binary")
	again, err := d.Install(t.Context(), record("mine", "1.0.0", "binary"), iotest.ErrReader(errors.New("read")))
	if err != nil || again != rec {
		t.Errorf("the same again: %+v, %v", again, err)
	}
	if _, err := d.Install(t.Context(), record("mine", "1.0.0", "other"), strings.NewReader("other")); err == nil || !strings.Contains(err.Error(), "another digest") {
		t.Errorf("another: %v", err)
	}
	if data, err := os.ReadFile(rec.Path); err != nil || string(data) != "binary" {
		t.Errorf("installed is %q, %v", data, err)
	}
}

func TestPathTraversalInNamesRefused(t *testing.T) {
	d := newDir(t)
	install(t, d, "mine", "1.0.0", "binary")
	before := inside(t, d, ".")
	for _, c := range [][2]string{{"..", "1.0.0"}, {"../mine", "1.0.0"}, {"a/b", "1.0.0"}, {"", "1.0.0"}, {"mine", ".."}, {"mine", "../other"}, {"mine", ""}, {"mine", "v1.0.0"}, {"mine", "1.0"}, {"mine", "1.0.0+x"}} {
		if _, err := d.Install(t.Context(), record(c[0], c[1], "binary"), strings.NewReader("binary")); err == nil {
			t.Errorf("installed %q", c)
		}
		if _, err := d.Check(c[0], c[1]); err == nil || errors.Is(err, plugins.ErrNotInstalled) {
			t.Errorf("checked %q: %v", c, err)
		}
	}
	if err := os.MkdirAll(filepath.Join(string(d), "..", "backup", "1.0.0"), 0o755); err != nil {
		t.Fatal(err)
	}
	if removed, err := d.Remove(t.Context(), "../backup", ""); !errors.Is(err, plugins.ErrNotInstalled) {
		t.Errorf("removed %v from elsewhere: %v", removed, err)
	}
	if after := inside(t, d, "."); !slices.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// TestRecordOfAnotherPluginOrVersionRefused: a copied folder would pass one plugin, or an older version with a known fault, off as another.
func TestRecordOfAnotherPluginOrVersionRefused(t *testing.T) {
	d := newDir(t)
	own := install(t, d, "mine", "1.0.0", "binary")
	for _, c := range [][2]string{{"mine", "2.0.0"}, {"yours", "1.0.0"}} {
		to := filepath.Join(string(d), c[0], c[1])
		if err := os.CopyFS(to, os.DirFS(filepath.Join(string(d), "mine", "1.0.0"))); err != nil {
			t.Fatal(err)
		}
		if c[0] != "mine" {
			if err := os.Rename(filepath.Join(to, plugins.BinaryName("mine")), filepath.Join(to, plugins.BinaryName(c[0]))); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := d.Check(c[0], c[1]); !errors.Is(err, plugins.ErrTampered) {
			t.Errorf("%v: %v", c, err)
		}
		if _, err := d.Find(c[0], ""); !errors.Is(err, plugins.ErrTampered) {
			t.Errorf("%v found: %v", c, err)
		}
	}
	list, err := d.List()
	if err != nil || len(list) != 3 {
		t.Fatal(list, err)
	}
	for _, rec := range list {
		if good := rec.Path == own.Path; good != (rec.SHA256 == own.SHA256) {
			t.Errorf("listed with a digest that starts: %+v", rec)
		}
	}
}

// TestLeftoversOfTheKilledGo with the next installation: nothing in them is ever found.
func TestLeftoversOfTheKilledGo(t *testing.T) {
	d := newDir(t)
	install(t, d, "mine", "1.0.0", "binary")
	installed := filepath.Join(string(d), "mine", "1.0.0")
	for _, left := range []string{".installing-1", ".removing-0.9.0"} {
		if err := os.CopyFS(filepath.Join(string(d), "mine", left), os.DirFS(installed)); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(string(d), "mine", left), 0o555); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := d.List(); err != nil || len(list) != 1 {
		t.Errorf("listed: %v, %v", list, err)
	}
	install(t, d, "mine", "1.1.0", "newer")
	if left := inside(t, d, "mine"); !slices.Equal(left, []string{"1.0.0", "1.1.0"}) {
		t.Errorf("left: %v", left)
	}
	if removed, err := d.Remove(t.Context(), "mine", "<1.1"); err != nil || !slices.Equal(removed, []string{"1.0.0"}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	if left := inside(t, d, "mine"); !slices.Equal(left, []string{"1.1.0"}) {
		t.Errorf("left: %v", left)
	}
}

// TestPreReleaseIsTakenAndRemovedByName: no constraint finds one unasked, as "any version" to run, but all versions are all.
func TestPreReleaseIsTakenAndRemovedByName(t *testing.T) {
	d := newDir(t)
	install(t, d, "mine", "1.0.0", "binary")
	install(t, d, "mine", "1.1.0-rc.1", "newer")
	if rec, err := d.Find("mine", ""); err != nil || rec.Version != "1.0.0" {
		t.Errorf("found %+v, %v", rec, err)
	}
	if all, err := d.Versions("mine", ""); err != nil || !slices.Equal(all, []string{"1.1.0-rc.1", "1.0.0"}) {
		t.Errorf("versions %v, %v", all, err)
	}
	if removed, err := d.Remove(t.Context(), "mine", "1.1.0-rc.1"); err != nil || !slices.Equal(removed, []string{"1.1.0-rc.1"}) {
		t.Errorf("removed %v, %v", removed, err)
	}
	install(t, d, "mine", "1.1.0-rc.1", "newer")
	if removed, err := d.Remove(t.Context(), "mine", ""); err != nil || len(removed) != 2 {
		t.Errorf("removed %v, %v", removed, err)
	}
	if _, err := d.Find("mine", ""); !errors.Is(err, plugins.ErrNotInstalled) {
		t.Error(err)
	}
}

// TestFilesOfTheUsersOwnEndNoList: binaries are also found in plugins where they were put by hand.
func TestFilesOfTheUsersOwnEndNoList(t *testing.T) {
	d := newDir(t)
	if list, err := d.List(); err != nil || len(list) > 0 {
		t.Errorf("before there is a directory: %v, %v", list, err)
	}
	install(t, d, "mine", "1.0.0", "binary")
	for _, own := range []string{"mine/2.0.0", "mine/notes", "Not A Name/1.0.0"} {
		if err := os.MkdirAll(filepath.Join(string(d), filepath.FromSlash(own)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"readme", plugins.BinaryName("loose")} {
		if err := os.WriteFile(filepath.Join(string(d), file), []byte("x"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	list, err := d.List()
	if err != nil || len(list) != 1 || list[0].Version != "1.0.0" {
		t.Errorf("%v, %v", list, err)
	}
}
