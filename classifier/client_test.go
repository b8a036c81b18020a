package classifier

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
)

// Keys and licences that an administrator set must hold for programs, too.
func TestZeroConfigIsTheCommandLines(t *testing.T) {
	home, project := t.TempDir(), t.TempDir()
	t.Setenv("ZOO_HOME", home)
	t.Setenv("ZOO_REGISTRY", "")
	t.Chdir(project)
	for path, text := range map[string]string{
		filepath.Join(home, "config.json"): `{"sources": ["oci://registry.example.org/models"], "require_licenses": ["MIT"]}`,
		filepath.Join(project, lock.Name):  "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		config  hub.Config
		sources string
	}{
		{hub.Config{}, "oci://registry.example.org/models"},
		{hub.Config{Sources: []string{hub.SourceEmbedded}}, hub.SourceEmbedded},
	} {
		client, err := Open(Config{Hub: c.config})
		if err != nil {
			t.Fatal(err)
		}
		h := client.config.Hub
		if h.Home != home || !slices.Equal(h.Sources, []string{c.sources}) || !slices.Equal(h.RequireLicenses, []string{"MIT"}) || filepath.Base(h.LockFile) != lock.Name {
			t.Errorf("%+v", h)
		}
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	}
	elsewhere, err := Open(Config{Hub: hub.Config{Home: t.TempDir()}})
	if err != nil {
		t.Fatal(err)
	}
	if h := elsewhere.config.Hub; len(h.RequireLicenses)+len(h.Sources) > 0 {
		t.Errorf("a home of its own got %+v", h)
	}
	if err := elsewhere.Close(); err != nil {
		t.Error(err)
	}
}

// Without ServeEmbedded a plugin process runs the program's main, which would start plugins in turn.
func TestProgramThatDoesNotServeItsFamiliesIsTold(t *testing.T) {
	t.Setenv(pluginrpc.Handshake.MagicCookieKey, pluginrpc.Handshake.MagicCookieValue)
	t.Setenv(pluginrpc.EnvFamily, "resnet")
	t.Setenv("ZOO_HOME", "") // a plugin process has none
	t.Setenv("HOME", "")
	t.Setenv("XDG_DATA_HOME", "")
	if _, err := Open(Config{}); err == nil || !strings.Contains(err.Error(), "sdk.ServeEmbedded") {
		t.Error(err)
	}
}
