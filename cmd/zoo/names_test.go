package main

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/hub/source/sourcetest"
)

func TestLabelsOfAWindowsEditorHaveTheirNames(t *testing.T) {
	labels, err := readLabels(write(t, "labels.txt", []byte("\ufeff0\tant\r\n1\tbee\r\n")))
	if err != nil || !slices.Equal(labels, []string{"ant", "bee"}) {
		t.Errorf("%q, %v", labels, err)
	}
	labels, err = readLabels(write(t, "labels.txt", []byte("\ufeffant\r\nbee\r\n")))
	if err != nil || !slices.Equal(labels, []string{"ant", "bee"}) {
		t.Errorf("%q, %v", labels, err)
	}
}

func TestModelOfARegistryIsCalledByItsAddress(t *testing.T) {
	layout := t.TempDir()
	must(t, imported(t), "push", "mine", "--to", layout, "--tag", "v1")
	web := httptest.NewServer(sourcetest.Registry{"team": layout})
	defer web.Close()
	address := "oci://" + strings.TrimPrefix(web.URL, "http://") + "/team/mine:v1"

	home := t.TempDir()
	picture := write(t, "a.png", picture(t, 32, 32))
	if out := must(t, home, "pull", address); !strings.HasPrefix(out, address+" from ") {
		t.Errorf("pull says %q", out)
	}
	must(t, home, "predict", address, picture, "--offline")
	refused(t, home, exitFailure, []string{"unknown model", "did you mean " + address}, "predict", "mine", picture)
	refused(t, home, exitFailure, []string{"offline", "the store has " + address}, "predict", strings.Replace(address, "/team/", "/others/", 1), picture, "--offline")
	for _, args := range [][]string{{"list", "mine*"}, {"list", "oci*"}, {"list", address}, {"search", "mine:v1"}} {
		var list []classifier.Entry
		if err := json.Unmarshal([]byte(must(t, home, append(args, "-o", "json")...)), &list); err != nil || len(list) != 1 || list[0].Name != address {
			t.Errorf("zoo %v: %+v, %v", args, list, err)
		}
	}
}

func TestImportTakesNoOtherModelsName(t *testing.T) {
	home := imported(t)
	other := checkpoint(t, func(_ string, values []float32) { values[0]++ })
	refused(t, home, exitFailure, []string{"mine:local", "resnet20", "--overwrite"}, "import", other, "--as", "mine", "--model", "resnet20")
	must(t, home, "import", checkpoint(t, nil), "--as", "mine", "--model", "resnet20") // the same again
	before := must(t, home, "info", "mine")
	must(t, home, "import", other, "--as", "mine", "--model", "resnet20", "--overwrite")
	if must(t, home, "info", "mine") == before {
		t.Error("--overwrite replaced nothing")
	}
}
