package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

// asZoo makes the test binary behave as the program.
const asZoo = "ZOO_TEST_AS_ZOO"

// zooDir and ZOO_TEST_REGISTRY are where runs of the program work, a folder of their own each if it is not set, and what they pull from.
const zooDir = "ZOO_TEST_DIR"

func TestMain(m *testing.M) {
	sdk.ServeEmbedded(plugins.All)
	if os.Getenv(pluginrpc.Handshake.MagicCookieKey) == pluginrpc.Handshake.MagicCookieValue {
		sdk.Serve(twin(filepath.Base(filepath.Dir(os.Args[0]))))
	}
	if os.Getenv(asZoo) != "" {
		os.Exit(run(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// output is what a run of the program left.
type output struct {
	stdout, stderr string
	code           int
}

// zoo runs the program with a home folder.
func zoo(t *testing.T, home string, stdin []byte, args ...string) output {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asZoo+"=1", "ZOO_HOME="+home, "ZOO_REGISTRY="+os.Getenv("ZOO_TEST_REGISTRY"), "NO_COLOR=1")
	if cmd.Dir = os.Getenv(zooDir); cmd.Dir == "" {
		cmd.Dir = t.TempDir()
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return output{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must runs the program and fails the test unless it succeeds.
func must(t *testing.T, home string, args ...string) string {
	t.Helper()
	o := zoo(t, home, nil, args...)
	if o.code != 0 {
		t.Fatalf("zoo %s: exit %d\n%s", strings.Join(args, " "), o.code, o.stderr)
	}
	return o.stdout
}

// refused checks that a run ended with the given code and one line on standard error that has all the words, and left nothing in the store.
func refused(t *testing.T, home string, code int, words []string, args ...string) {
	t.Helper()
	before := tree(t, home)
	o := zoo(t, home, nil, args...)
	if o.code != code {
		t.Errorf("zoo %s: exit %d, want %d; stderr: %s", strings.Join(args, " "), o.code, code, o.stderr)
	}
	lines := strings.Split(strings.TrimSpace(o.stderr), "\n")
	last := lines[len(lines)-1]
	if !strings.HasPrefix(last, "zoo: ") || len(lines) > 1 {
		t.Errorf("zoo %s: standard error is not one line of zoo's:\n%s", strings.Join(args, " "), o.stderr)
	}
	for _, w := range words {
		if !strings.Contains(last, w) {
			t.Errorf("zoo %s: %q does not say %q", strings.Join(args, " "), last, w)
		}
	}
	if strings.Contains(o.stderr, "goroutine ") || o.stdout != "" {
		t.Errorf("zoo %s: panicked or printed:\n%s%s", strings.Join(args, " "), o.stdout, o.stderr)
	}
	if after := tree(t, home); after != before {
		t.Errorf("zoo %s changed the home folder:\n%s\nbefore:\n%s", strings.Join(args, " "), after, before)
	}
}

// tree lists the models and blobs of a home folder; locks and caches may come and go.
func tree(t *testing.T, home string) string {
	t.Helper()
	var b strings.Builder
	for _, pattern := range []string{"store/blobs/sha256/*", "store/index.json", "plugins/*/*"} {
		list, err := filepath.Glob(filepath.Join(home, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range list {
			if strings.HasSuffix(p, "index.json") {
				data, err := os.ReadFile(p)
				if err != nil {
					t.Fatal(err)
				}
				b.Write(data)
			}
			b.WriteString(p + "\n")
		}
	}
	return b.String()
}
