package classifier_test

import (
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
