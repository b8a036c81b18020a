package plugins_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPluginThatRunsIsRemovedOnceItEnded: Windows renames no folder with a file that somebody has open, as the system has that of a running program.
func TestPluginThatRunsIsRemovedOnceItEnded(t *testing.T) {
	d := newDir(t)
	rec := install(t, d, "mine", "1.0.0", "binary")
	f, err := os.Open(rec.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // only read
	folder := filepath.Dir(rec.Path)
	if os.Rename(folder, folder+"-2") == nil {
		t.Skip("not so here, as under Wine")
	}
	if _, err := d.Remove(t.Context(), "mine", ""); err == nil || !strings.Contains(err.Error(), "if a program runs it, end that") {
		t.Error(err)
	}
	if _, err := d.Check("mine", "1.0.0"); err != nil {
		t.Errorf("after a removal that was refused: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if removed, err := d.Remove(t.Context(), "mine", ""); err != nil || len(removed) != 1 {
		t.Errorf("%q, %v", removed, err)
	}
}
