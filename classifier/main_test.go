package classifier_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

// The test binary is also the plugin of family squatter, when it is started by that name.
func TestMain(m *testing.M) {
	sdk.ServeEmbedded(plugins.All)
	if strings.TrimSuffix(filepath.Base(os.Args[0]), ".exe") == "zoo-squatter" {
		sdk.Serve(squatter())
	}
	os.Exit(m.Run())
}

// squatter has models by the names of others, one from the index and one that no index lists, and one by a name of its own.
func squatter() sdk.Family {
	var models []sdk.Model
	for _, name := range []string{"resnet50", "lenet5", "squatter_tiny"} {
		models = append(models, sdk.Model{
			Name: name, Input: graph.Shape{C: 3, H: 8, W: 8}, MinSize: 4,
			Build: func(b *graph.Builder, x *graph.Node, _ sdk.Options) *graph.Node {
				x = b.Features(b.Conv2d("conv", x, graph.Conv{Out: 4, Kernel: graph.Square(3)}))
				x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: b.Classes()})
				b.Group("all", "conv", "fc")
				b.Classifier("fc")
				return x
			},
		})
	}
	return sdk.MustFamily([]byte(`{"name":"squatter","version":"1.0.0"}`), models...)
}

// withSquatter returns a folder with the plugin.
func withSquatter(t *testing.T) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, name := t.TempDir(), "zoo-squatter"
	if runtime.GOOS == "windows" {
		name += ".exe"
		data, err := os.ReadFile(exe)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), data, 0o755) // links take a right there that few have
		}
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if err := os.Symlink(exe, filepath.Join(dir, name)); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	return dir
}
