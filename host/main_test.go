package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.uber.org/goleak"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/plugins/mobilenet"
	"github.com/go-modelzoo/zoo/sdk"
)

// The test binary is also every plugin of the tests: started as zoo-<family> it is that one, see plugins_test.go.
func TestMain(m *testing.M) {
	if os.Getenv(pluginrpc.Handshake.MagicCookieKey) == pluginrpc.Handshake.MagicCookieValue {
		sdk.ServeEmbedded(families)
		servePlugin(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(os.Args[0]), "zoo-"), ".exe"))
		return
	}
	if err := os.Setenv("GORACE", "atexit_sleep_ms=0"); err != nil { // plugins under the race detector end without delay
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// families are all that this binary has linked in; testFamilies those that tests use unless they say otherwise.
func families() []sdk.Family { return append(testFamilies(), mobilenet.Family()) }

func testFamilies() []sdk.Family { return []sdk.Family{tinyFamily("1.0.0")} }

// newHost returns a host with the embedded test family, closed at the end of the test.
func newHost(t testing.TB, change func(*Options)) *Host {
	t.Helper()
	opt := Options{Embedded: testFamilies(), StartTimeout: 20 * time.Second, CallTimeout: 20 * time.Second}
	if os.Getenv("ZOO_LOG") != "" {
		opt.Logger = hclog.New(&hclog.LoggerOptions{Name: "host", Level: hclog.LevelFromString(os.Getenv("ZOO_LOG"))})
	}
	if change != nil {
		change(&opt)
	}
	h, err := New(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// withPlugins puts this test binary into a folder under the names of the given families, each with or without a folder for a version.
func withPlugins(t testing.TB, families ...string) func(*Options) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	put := os.Symlink
	if runtime.GOOS == "windows" { // where links take a right that few have, and none to a running program can be removed
		put = func(exe, path string) error {
			data, err := os.ReadFile(exe)
			if err != nil {
				return err
			}
			return os.WriteFile(path, data, 0o755)
		}
	}
	for _, f := range families { // tiny, or tiny/1.5.0
		family, _, _ := strings.Cut(f, "/")
		path := filepath.Join(dir, binaryName(family))
		if f != family {
			path = filepath.Join(dir, filepath.FromSlash(f), binaryName(family))
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := put(exe, path); err != nil {
			t.Skipf("no symbolic links here: %v", err)
		}
	}
	return func(o *Options) { o.Dirs = append(o.Dirs, dir) }
}

func open(t testing.TB, h *Host, options map[string]string) *Session {
	t.Helper()
	s, err := h.Open(t.Context(), tinySpec(options))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func tinySpec(options map[string]string) Spec {
	return Spec{Network: Network{Family: "tiny", Model: "tiny", Options: options, Classes: 4}, Seed: 1}
}

// images returns a batch whose values depend on seed.
func images(n int, seed float32) *Tensor {
	t := &Tensor{N: n, Shape: graph.Shape{C: 3, H: 8, W: 8}, Data: make([]float32, n*3*8*8)}
	for i := range t.Data {
		t.Data[i] = float32((i*7)%11)/11 + seed
	}
	return t
}

func within5s(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, fmt.Errorf("the test's patience ended"))
	t.Cleanup(cancel)
	return ctx
}

// oneLine checks what the user reads.
func oneLine(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	text := err.Error()
	if strings.Contains(text, "\n") || len(text) > 1200 {
		t.Errorf("the error is not one line of readable length (%d bytes): %.1500s", len(text), text)
	}
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("the error %q does not say %q", text, p)
		}
	}
}
