package zoo_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-modelzoo/zoo"
	"github.com/go-modelzoo/zoo/hub"
)

func TestEmbeddedModelNeedsNoNetworkAndIsListed(t *testing.T) {
	home := t.TempDir()
	h, err := hub.Open(hub.Config{
		Home: home, Offline: true, Index: zoo.RegistryJSON(), Embedded: zoo.EmbeddedHub(), LockFile: filepath.Join(home, "zoo.lock"),
		Warn: func(text string) { t.Errorf("warned: %s", text) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	m, err := h.Pull(t.Context(), "resnet20")
	if err != nil {
		t.Fatal(err)
	}
	if m.Source != hub.SourceEmbedded || len(m.Card.Labels) != 10 || m.Card.Recipe == "" {
		t.Errorf("from %s, labels %v, recipe %q", m.Source, m.Card.Labels, m.Card.Recipe)
	}
	if acc := m.Card.Metrics["top1"]; acc < 80 {
		t.Errorf("the card promises %.2f %%", acc)
	}
	if _, err := os.Stat(m.Path); err != nil {
		t.Error(err)
	}
}
