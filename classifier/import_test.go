package classifier_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-modelzoo/zoo/classifier"
	"github.com/go-modelzoo/zoo/finetune"
	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/hub/card"
)

// mine is the card of a model of the caller's own, with the embedded model's file.
func mine(t *testing.T, c *classifier.Client) (file string, k *card.Card) {
	t.Helper()
	ck, err := c.Find(t.Context(), classifier.EmbeddedModel)
	if err != nil {
		t.Fatal(err)
	}
	own := ck.Card
	own.Name, own.Tag, own.Params, own.MACs, own.Origin, own.Base = "mine", "", 0, 0, nil, nil
	return ck.Path, &own
}

// A service imports several files with one card: what the first import filled in was the second's, and a data race.
func TestImportLeavesTheCallersCard(t *testing.T) {
	c := open(t)
	file, k := mine(t, c)
	before := *k
	in, err := c.Import(t.Context(), file, k, classifier.ImportOptions{})
	if err != nil || in.Model.Card.Params == 0 {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(*k, before) {
		t.Errorf("the card became %+v", *k)
	}
}

// Weights of the user's own by the name of an architecture or beside published ones were listed without their size and licence.
func TestListOfOwnWeightsIsOfTheirCards(t *testing.T) {
	c := open(t)
	for _, name := range []string{"lenet5", "resnet20", "mine"} {
		file, k := mine(t, c)
		k.Name, k.License = name, "Zlib"
		if _, err := c.Import(t.Context(), file, k, classifier.ImportOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	list, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		switch e.Name {
		case "lenet5", "resnet20", "mine":
			if e.Family != "resnet" || e.Params != 269722 || e.MACs != 40551040 || e.Input != [3]int{3, 32, 32} || e.Classes != 10 || e.State != "local" ||
				!slices.Contains(e.Licenses, "Zlib") || !slices.Contains(e.Tags, "local") {
				t.Errorf("listed is %+v", e)
			}
		case "resnet18":
			if e.Params != 11689512 || e.MACs != 1814000000 || e.Top1 != 69.758 || e.State != "index" || !slices.Contains(e.Tags, "IMAGENET1K_V1") || e.Paper == "" {
				t.Errorf("listed is %+v", e)
			}
		case "resnet110":
			if e.State != "architecture" {
				t.Errorf("listed is %+v", e)
			}
		}
	}
	if !slices.IsSortedFunc(list, func(a, b classifier.Entry) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("the list is not sorted")
	}
}

// One damaged model, and no model could be listed, nor a mistyped name be told from a known one.
func TestDamagedModelHidesNoOther(t *testing.T) {
	c := open(t)
	file, k := mine(t, c)
	in, err := c.Import(t.Context(), file, k, classifier.ImportOptions{})
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := c.Hub.Store().Path(in.Model.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(manifest, 0o600), os.WriteFile(manifest, []byte("{}"), 0o600)); err != nil {
		t.Fatal(err)
	}
	names, err := c.Names(t.Context())
	if err != nil || !slices.Contains(names, classifier.EmbeddedModel) || slices.Contains(names, "mine") {
		t.Errorf("%d names, %v", len(names), err)
	}
	if _, err := c.Find(t.Context(), "resnet21"); !errors.Is(err, classifier.ErrUnknownModel) {
		t.Error(err)
	}
	if _, err := c.Find(t.Context(), "mine"); err == nil || !strings.Contains(err.Error(), "zoo verify") {
		t.Error(err)
	}
}

func TestWeightsThatNobodyPublishedAreNotFound(t *testing.T) {
	c := open(t)
	for _, ref := range []string{"resnet50:NO_SUCH_TAG", "lenet5"} {
		if _, err := c.Pull(t.Context(), ref); !errors.Is(err, hub.ErrNotFound) {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

func TestExportOfWhatCannotBeExported(t *testing.T) {
	c := open(t)
	file := filepath.Join(t.TempDir(), "file")
	ck, err := c.Find(t.Context(), classifier.EmbeddedModel)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Export(t.Context(), ck, "pickle", file); err == nil || !strings.Contains(err.Error(), `"pickle" is unknown`) {
		t.Error(err)
	}
	ck.Path = ""
	if _, err := c.Export(t.Context(), ck, classifier.ExportPTH, file); err == nil || !strings.Contains(err.Error(), "has no weights") {
		t.Error(err)
	}
}

// The plugin refuses such a folder, too, but in words alone.
func TestFolderWithARunIsRefusedByName(t *testing.T) {
	c := open(t)
	ck, err := c.Find(t.Context(), classifier.EmbeddedModel)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{finetune.FileLast, finetune.FileModel} {
		folder := t.TempDir()
		if err := os.WriteFile(filepath.Join(folder, name), []byte("weights"), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Finetune(t.Context(), ck, finetune.Defaults(), classifier.FinetuneOptions{Out: folder}); !errors.Is(err, finetune.ErrRunExists) {
			t.Errorf("%s: %v", name, err)
		}
		if data, err := os.ReadFile(filepath.Join(folder, name)); err != nil || string(data) != "weights" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
}

func TestNegativeAgePrunesNothing(t *testing.T) {
	c := open(t)
	if references, _, err := c.PruneFeatures(-time.Hour, true); err == nil {
		t.Error(references)
	}
}

func TestTrainingThatIsGivenUpAtOnceKeepsNothing(t *testing.T) {
	c, data, out := open(t), t.TempDir(), filepath.Join(t.TempDir(), "run")
	for _, class := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(data, class), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(data, class, "1.png"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	ck, err := c.Architecture(t.Context(), "resnet20")
	if err != nil {
		t.Fatal(err)
	}
	config := finetune.ScratchDefaults()
	config.Data = data
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r, err := c.Finetune(ctx, ck, config, classifier.FinetuneOptions{Out: out, Scratch: true})
	if r != nil || !errors.Is(err, classifier.ErrNothingKept) || !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", r, err)
	}
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its folder is there: %v", err)
	}
	if _, err := c.Finetune(t.Context(), ck, config, classifier.FinetuneOptions{Out: out}); err == nil || !strings.Contains(err.Error(), "zoo train") {
		t.Errorf("fine-tuning of random weights: %v", err)
	}
}
