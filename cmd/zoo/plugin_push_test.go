package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/hub/source/sourcetest"
)

func TestPluginPushedInstalledAndRun(t *testing.T) {
	to := "oci://" + sourcetest.Docker(t, "", "") + "/team"
	twin := filepath.Join(twins(t), "1.0.0", twinFile)
	other := "plan9/mips=" + write(t, twinFile, []byte("for another machine"))
	author := t.TempDir()
	t.Setenv(zooDir, t.TempDir())
	refused(t, author, exitUsage, []string{"--to"}, "plugin", "push", twin)
	refused(t, author, exitFailure, []string{"no binary is for"}, "plugin", "push", other, "--to", to)
	var pushed []pushResult
	if err := json.Unmarshal([]byte(must(t, author, "plugin", "push", twin, other, "--to", to, "-o", "json")), &pushed); err != nil {
		t.Fatal(err)
	}
	reference := to + "/plugins/twin:1.0.0"
	if len(pushed) != 1 || pushed[0].Reference != reference || pushed[0].Skipped || pushed[0].Bytes == 0 {
		t.Fatalf("%+v", pushed)
	}
	if text := must(t, author, "plugin", "push", twin, "--to", to); text != reference+"@"+pushed[0].Digest+": already there\n" {
		t.Errorf("printed %q", text)
	}
	refused(t, author, exitFailure, []string{reference, "plan9/mips", "other bytes", "--overwrite"},
		"plugin", "push", twin, "plan9/mips="+write(t, twinFile, []byte("changed")), "--to", to)

	user := t.TempDir()
	if text := must(t, user, "plugin", "install", reference); !strings.HasPrefix(text, "twin 1.0.0 from "+reference) {
		t.Errorf("printed %q", text)
	}
	if text := must(t, user, "summary", "twin"); !strings.Contains(text, "conv") {
		t.Errorf("printed %q", text)
	}
	if pins, err := os.ReadFile(filepath.Join(user, "zoo.lock")); err != nil || !strings.Contains(string(pins), "plan9/mips") {
		t.Errorf("%s, %v", pins, err)
	}
}
