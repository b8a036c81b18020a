package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/weights"
)

// weightsFile writes weights for tiny with the given number of classes and returns the path.
func weightsFile(t *testing.T, classes int) string {
	t.Helper()
	g, err := testFamilies()[0].Models[0].Graph(graph.Shape{}, classes, nil)
	if err != nil {
		t.Fatal(err)
	}
	var tensors []weights.Tensor
	for _, p := range g.Params {
		tensors = append(tensors, weights.FromFloat32(p.Name, p.Shape, p.Initialise(7)))
	}
	path := filepath.Join(t.TempDir(), "tiny.safetensors")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(weights.WriteSafetensors(f, tensors, nil), f.Close()); err != nil {
		t.Fatal(err)
	}
	return path
}

func textFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// What a plugin says in words alone, a caller can only show.
func TestErrorsOfThePluginAreToldApart(t *testing.T) {
	h := newHost(t, nil)
	absent := filepath.Join(t.TempDir(), "none.safetensors")
	secret := weightsFile(t, 4)
	if err := os.Chmod(secret, 0); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, path string
		want       error
	}{
		{"other classes", weightsFile(t, 5), weights.ErrMismatch},
		{"no weights", textFile(t, "page.safetensors", "<html>not what you asked for</html>"), weights.ErrFormat},
		{"pickle that runs code", textFile(t, "evil.pth", "\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R."), weights.ErrRefused},
		{"no such file", absent, fs.ErrNotExist},
		{"unreadable file", secret, fs.ErrPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			here := func() error { // what this process makes of the file
				f, err := weights.Open(c.path)
				if err != nil {
					return err
				}
				g, err := h.Build(t.Context(), tinySpec(nil).Network)
				if err != nil {
					t.Fatal(err)
				}
				return errors.Join(weights.Match(weights.Wants(g), f).Err(), f.Close())
			}()
			if here == nil && c.want == fs.ErrPermission {
				t.Skip("this user may read everything")
			}
			spec := tinySpec(nil)
			spec.Weights.Path = c.path
			_, err := h.Open(t.Context(), spec)
			if err == nil || err.Error() != here.Error() {
				t.Errorf("the plugin says %v, this process %v", err, here)
			}
			for _, sentinel := range []error{weights.ErrMismatch, weights.ErrFormat, weights.ErrRefused, fs.ErrNotExist, fs.ErrPermission} {
				if got := errors.Is(err, sentinel); got != errors.Is(here, sentinel) || got != (sentinel == c.want) {
					t.Errorf("%v is %v: %v", err, sentinel, got)
				}
			}
		})
	}
}

func TestAdviceForAPluginWithoutMemoryCanBeFollowed(t *testing.T) {
	for batch, want := range map[int]string{
		0: "tiny needed more than 4 GB while loading: raise --plugin-memory", 1: "tiny needed more than 4 GB while loading: raise --plugin-memory",
		2: "tiny needed more than 4 GB for batch 2; try --batch 1", 64: "tiny needed more than 4 GB for batch 64; try --batch 16",
	} {
		p := &process{host: &Host{opt: Options{Memory: 4e9}}, plugin: Plugin{Family: "tiny"}}
		if err := p.outOfMemory(task{doing: "loading", batch: batch}, nil); err.Error() != want || !errors.Is(err, ErrMemory) {
			t.Errorf("batch %d: %v", batch, err)
		}
	}
	p := &process{host: &Host{}, plugin: Plugin{Family: "tiny"}} // without a ceiling that could be raised
	if err := p.outOfMemory(task{doing: "loading"}, nil); err.Error() != "tiny needed more memory than there is while loading" {
		t.Error(err)
	}
}
