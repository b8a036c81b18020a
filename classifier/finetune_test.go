package classifier

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/finetune"
)

func TestResultOutsideTheRunFolderRefused(t *testing.T) {
	folder, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	secret := filepath.Join(t.TempDir(), finetune.FileModel)
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(folder, finetune.FileModel)
	for _, path := range []string{secret, filepath.Join(folder, "..", filepath.Base(filepath.Dir(secret)), finetune.FileModel), "", folder + "/../" + finetune.FileModel} {
		if err := ownResult(folder, &finetune.Result{Path: path}); err == nil || !strings.Contains(err.Error(), "not read") {
			t.Errorf("%q: error %v", path, err)
		}
	}
	if err := ownResult(folder, &finetune.Result{Path: model}); err == nil {
		t.Error("a result that is not there passes")
	}
	if err := os.Symlink(secret, model); err != nil {
		t.Skip(err)
	}
	if err := ownResult(folder, &finetune.Result{Path: model}); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("a link out of the folder: error %v", err)
	}
	if err := os.Remove(model); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(model, []byte("weights"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := ownResult(folder, &finetune.Result{Path: model}); err != nil {
		t.Error(err)
	}
}
