package classifier

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/go-modelzoo/zoo/host"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/lock"
	"github.com/go-modelzoo/zoo/hub/registry"
	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	"github.com/go-modelzoo/zoo/vision/transforms"
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
	if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(`{"ca_file": "authorities.pem"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{"": "authorities.pem", "mine.pem": "mine.pem"} {
		c := hub.Config{CAFile: given}
		if err := asConfigured(&c); err != nil || c.CAFile != want {
			t.Errorf("authorities are %q, %v", c.CAFile, err)
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

func TestWhatAConfigSaysOfPluginsReachesTheHost(t *testing.T) {
	c := Config{StartTimeout: 1, CallTimeout: 2, IdleAfter: 3, PluginMemory: 4, Isolation: host.IsolateRequired, Logger: hclog.Default()}
	o := c.HostOptions()
	if o.StartTimeout != 1 || o.CallTimeout != 2 || o.IdleAfter != 3 || o.Memory != 4 || o.Isolation != host.IsolateRequired || o.Logger != c.Logger {
		t.Errorf("%+v", o)
	}
}

// Images that are prepared otherwise than the network was trained on are classified worse, and nothing says so.
func TestPreprocessingIsTheCards(t *testing.T) {
	plain := false
	p := transform(registry.Preprocess{Resize: 5, Crop: 4, Interpolation: "bicubic", Antialias: &plain, Mean: []float64{1, 2, 3}, Std: []float64{4, 5, 6}}, 3)
	want := transforms.Preprocess{Resize: 5, Crop: 4, Interpolation: transforms.Bicubic, Antialias: &plain, Channels: 3, Mean: [3]float32{1, 2, 3}, Std: [3]float32{4, 5, 6}}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("%+v", p)
	}
	if p := transform(registry.Preprocess{Mean: []float64{0.5}}, 1); p.Channels != 1 || p.Mean != [3]float32{0.5, 0.5, 0.5} || p.Std != [3]float32{1, 1, 1} {
		t.Errorf("grey: %+v", p)
	}
	for channels, mean := range map[int]float64{3: 0.485, 1: 0.449} {
		if p := imageNet([3]int{channels, 224, 224}); p.Resize != 256 || p.Crop != 224 || p.Interpolation != "bilinear" || len(p.Mean) != channels || p.Mean[0] != mean {
			t.Errorf("of an architecture: %+v", p)
		}
	}
}
