package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/classifier"
)

// examined returns what `zoo doctor` finds, by name, and its exit code. The last source asked is the given one.
func examined(t *testing.T, home, source string, args ...string) (map[string]classifier.Check, int) {
	t.Helper()
	t.Setenv("ZOO_TEST_REGISTRY", source)
	o := zoo(t, home, nil, append([]string{"doctor", "-o", "json"}, args...)...)
	var list []classifier.Check
	if err := json.Unmarshal([]byte(o.stdout), &list); err != nil {
		t.Fatalf("%v: %s%s", err, o.stdout, o.stderr)
	}
	checks := map[string]classifier.Check{}
	for _, k := range list {
		checks[k.Name] = k
	}
	return checks, o.code
}

func TestDoctorFindsWhatIsWrongAndSaysWhatToDo(t *testing.T) {
	home := imported(t)
	answers := httptest.NewServer(http.NotFoundHandler())
	defer answers.Close()
	checks, code := examined(t, home, answers.URL)
	for _, name := range []string{"processor", "GPU", "home", "store", "installed plugins", "plugins", "index", "source " + answers.URL} {
		k, ok := checks[name]
		if !ok || k.Status == classifier.Bad || k.Detail == "" {
			t.Errorf("%s: %+v", name, k)
		}
	}
	if code != 0 {
		t.Errorf("exit %d where all is well: %+v", code, checks)
	}
	if detail := checks["index"].Detail; !strings.Contains(detail, "clock") {
		t.Errorf("the index says %q", detail)
	}
	if checks, _ := examined(t, home, "", "--offline"); checks["sources"].Status != classifier.Good {
		t.Errorf("offline: %+v", checks)
	}
	answers.Close()
	must(t, home, "plugin", "install", filepath.Join(twins(t), "1.0.0", twinFile))
	damage(t, filepath.Join(home, "plugins", "twin", "1.0.0", twinFile))
	blobs, err := filepath.Glob(filepath.Join(home, "store", "blobs", "sha256", "*"))
	if err != nil || len(blobs) == 0 {
		t.Fatal(blobs, err)
	}
	for _, b := range blobs {
		damage(t, b)
	}
	checks, code = examined(t, home, answers.URL)
	for name, advice := range map[string]string{
		"store": "zoo verify --repair", "installed plugins": "zoo plugin remove twin@1.0.0", "source " + answers.URL: "ZOO_REGISTRY",
	} {
		if k := checks[name]; k.Status != classifier.Bad || !strings.Contains(k.Detail, advice) {
			t.Errorf("%s: %+v, which does not advise %q", name, k, advice)
		}
	}
	if code != exitFailure {
		t.Errorf("exit %d", code)
	}
}

// damage changes a byte of a file.
func damage(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)/2] ^= 1
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o755); err != nil {
		t.Fatal(err)
	}
}
