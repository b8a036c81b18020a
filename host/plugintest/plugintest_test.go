package plugintest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/host/plugintest"
)

// TestBinariesOfFamiliesConform builds two plugins and runs the kit against them.
func TestBinariesOfFamiliesConform(t *testing.T) {
	if testing.Short() {
		t.Skip("builds plugins: not with -short")
	}
	for _, family := range []string{"lenet", "squeezenet"} {
		binary := filepath.Join(t.TempDir(), "zoo-"+family)
		cmd := exec.Command("go", "build", "-o", binary, "../../plugins/"+family+"/cmd/zoo-"+family)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		// A version that the folder prefers is not what was named.
		if err := os.MkdirAll(filepath.Join(filepath.Dir(binary), family, "99.0.0"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(binary), family, "99.0.0", "zoo-"+family), []byte("no program"), 0o755); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		checks := 0
		err := plugintest.Run(ctx, binary, host.Options{}, func(c plugintest.Check) {
			checks++
			if c.Err != nil {
				t.Errorf("%s: %s: %v", c.Model, c.Name, c.Err)
			}
		})
		if err != nil || checks < 10 {
			t.Errorf("%s: %d checks, %v", family, checks, err)
		}
	}
}

func TestFileThatIsNoPluginIsNamed(t *testing.T) {
	if err := plugintest.Run(context.Background(), "plugintest.go", host.Options{}, func(plugintest.Check) {}); err == nil {
		t.Error("a source file passed for a plugin")
	}
}
