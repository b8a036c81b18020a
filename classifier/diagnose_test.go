package classifier_test

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/hub"
)

// Whoever asked for such a model got another family's, and was never told.
func TestModelsByTheNamesOfOthersAreTold(t *testing.T) {
	c, err := classifier.Open(classifier.Config{Hub: hub.Config{Home: t.TempDir(), Offline: true}, PluginDirs: []string{withSquatter(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	var got []string
	for _, k := range c.Diagnose(t.Context()) {
		if k.Name == "plugin squatter" && k.Status == classifier.Warn {
			got = append(got, k.Detail)
		}
	}
	if want := []string{
		"squatter 1.0.0 has a model resnet50, but the name means family resnet's: rename one of the two",
		"squatter 1.0.0 has a model lenet5, but the name means family lenet's: rename one of the two",
	}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

// A home's own path was configured, where its store lies in a folder below, and every model was downloaded again.
func TestSharedStoreThatIsNotThereIsTold(t *testing.T) {
	shared, home := t.TempDir(), t.TempDir()
	first, err := classifier.Open(classifier.Config{Hub: hub.Config{Home: shared, Offline: true}})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(shared, "store")
	c, err := classifier.Open(classifier.Config{Hub: hub.Config{Home: home, Offline: true, SharedStores: []string{shared, store}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	got := map[string]classifier.Status{}
	for _, k := range c.Diagnose(t.Context()) {
		got[k.Name] = k.Status
	}
	if got["shared store "+shared] != classifier.Warn || got["shared store "+store] != classifier.Good {
		t.Errorf("%v", got)
	}
}
