package lock_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"github.com/go-modelzoo/zoo/hub/lock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var a, b = digest.FromString("a"), digest.FromString("b")

func pin(t *testing.T, path, ref string, m lock.Model) (added bool, err error) {
	t.Helper()
	err = lock.Update(t.Context(), path, func(f *lock.File) error {
		var err error
		added, err = f.PinModel(ref, m)
		return err
	})
	return added, err
}

func TestTrustOnFirstUseThenChangeRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "project", lock.Name)
	if added, err := pin(t, path, "resnet50:V2", lock.Model{Weights: a}); !added || err != nil {
		t.Fatal(added, err)
	}
	if added, err := pin(t, path, "resnet50:V2", lock.Model{Weights: a, Origin: b}); added || err != nil {
		t.Fatal(added, err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []lock.Model{{Weights: b, Origin: b}, {Weights: a, Origin: a}} {
		if _, err := pin(t, path, "resnet50:V2", m); !errors.Is(err, lock.ErrPinned) {
			t.Errorf("%v: %v", m, err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("a refused change altered the file: %v", err)
	}
}

// A colleague's process has made the guard, in a folder that both write to.
func TestGuardOfAnotherUserCanBeLocked(t *testing.T) {
	dir := t.TempDir()
	if _, err := pin(t, filepath.Join(dir, lock.Name), "resnet50:V2", lock.Model{Weights: a}); err != nil {
		t.Fatal(err)
	}
	usual := filepath.Join(dir, "usual")
	if err := os.WriteFile(usual, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	want, err := os.Stat(usual)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(filepath.Join(dir, "."+lock.Name+".guard")); err != nil || info.Mode() != want.Mode() {
		t.Errorf("the guard has mode %v, want %v: %v", info.Mode(), want.Mode(), err)
	}
}

func TestLockThatCannotBeWrittenIsNotAwaited(t *testing.T) {
	path := filepath.Join(t.TempDir(), lock.Name)
	if err := os.Mkdir(filepath.Join(filepath.Dir(path), "."+lock.Name+".guard"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := pin(t, path, "resnet50:V2", lock.Model{Weights: a}); err == nil || !strings.HasPrefix(err.Error(), path+" cannot be changed: ") {
		t.Error(err)
	}
}

// A process that is killed while it writes leaves its half, beside zoo.lock in a project's folder.
func TestLeftoverOfAKilledWriterGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), lock.Name)
	left := filepath.Join(filepath.Dir(path), "."+lock.Name+".1234567890")
	if err := os.WriteFile(left, []byte(`{"sch`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pin(t, path, "resnet50:V2", lock.Model{Weights: a}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestManyWritersLoseNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), lock.Name)
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			err := lock.Update(context.Background(), path, func(f *lock.File) error {
				_, err := f.PinModel(fmt.Sprintf("m%d:t", i), lock.Model{Weights: a})
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	f, err := lock.Load(path)
	if err != nil || len(f.Models) != 20 {
		t.Errorf("%d of 20 pins, %v", len(f.Models), err)
	}
}

func TestTamperedPluginBinaryRefused(t *testing.T) {
	f := &lock.File{}
	f.PinPlugin("resnet", lock.Plugin{Version: "1.2.0", Platforms: map[string]digest.Digest{"linux/amd64": a}})
	if err := f.CheckPlugin("resnet", "1.2.0", "linux/amd64", a); err != nil {
		t.Error(err)
	}
	if err := f.CheckPlugin("resnet", "1.2.0", "linux/amd64", b); !errors.Is(err, lock.ErrPinned) {
		t.Errorf("another binary: %v", err)
	}
	if err := f.CheckPlugin("resnet", "1.3.0", "linux/amd64", a); !errors.Is(err, lock.ErrPinned) || !strings.Contains(err.Error(), "zoo plugin install resnet@1.2.0") {
		t.Errorf("another version: %v", err)
	}
}

func TestInvalidLockRefused(t *testing.T) {
	for _, text := range []string{
		"", "{}", `{"schema":2}`, `{"schema":1}x`, `{"schema":1,"future":1}`,
		`{"schema":1,"models":{"../x:t":{"weights":"` + string(a) + `"}}}`,
		`{"schema":1,"models":{"m":{"weights":"` + string(a) + `"}}}`,
		`{"schema":1,"models":{"m:t":{"weights":"sha256:12"}}}`,
		`{"schema":1,"models":{"m:t":{"weights":"` + string(a) + `","origin":"md5:x"}}}`,
		`{"schema":1,"plugins":{"p":{"version":"one","platforms":{}}}}`,
		`{"schema":1,"plugins":{"../x":{"version":"1.0.0","platforms":{}}}}`,
		`{"schema":1,"plugins":{"p":{"version":"1.0.0","platforms":{"a/b":"md5:x"}}}}`,
	} {
		if _, err := lock.Parse([]byte(text)); !errors.Is(err, lock.ErrInvalid) {
			t.Errorf("%s: %v", text, err)
		}
		path := filepath.Join(t.TempDir(), lock.Name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := pin(t, path, "m:t", lock.Model{Weights: a}); text != "" && !errors.Is(err, lock.ErrInvalid) { // else its pins would be lost
			t.Errorf("%s was replaced: %v", text, err)
		}
	}
}

func TestNearestLockIsFound(t *testing.T) {
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b")
	if err := errors.Join(os.MkdirAll(deep, 0o755), os.WriteFile(filepath.Join(dir, lock.Name), []byte(`{"schema":1}`), 0o644)); err != nil {
		t.Fatal(err)
	}
	if path, ok := lock.Find(deep); !ok || path != filepath.Join(dir, lock.Name) {
		t.Error(path, ok)
	}
	empty := filepath.Join(dir, "empty.lock")
	if err := os.WriteFile(empty, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if f, err := lock.Load(empty); err != nil || len(f.Models) > 0 {
		t.Errorf("an empty file: %v", err)
	}
	t.Chdir(deep)
	if path, ok := lock.Find("."); !ok || filepath.Base(filepath.Dir(path)) != filepath.Base(dir) {
		t.Error(path, ok)
	}
}

func FuzzParse(f *testing.F) {
	seed, err := json.Marshal(lock.File{Schema: 1, Models: map[string]lock.Model{"m:t": {Weights: a, Origin: b}},
		Plugins: map[string]lock.Plugin{"p": {Version: "1.0.0", Constraint: "^1", Platforms: map[string]digest.Digest{"linux/amd64": a}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"schema":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := lock.Parse(data)
		if err != nil {
			if !errors.Is(err, lock.ErrInvalid) {
				t.Fatal(err)
			}
			return
		}
		again, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lock.Parse(again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

func TestRefusalNamesTheFileToChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), lock.Name)
	if _, err := pin(t, path, "resnet18:v1", lock.Model{Weights: a}); err != nil {
		t.Fatal(err)
	}
	if _, err := pin(t, path, "resnet18:v1", lock.Model{Weights: b}); !errors.Is(err, lock.ErrPinned) || !strings.Contains(err.Error(), "remove the entry from "+path) {
		t.Error(err)
	}
}
