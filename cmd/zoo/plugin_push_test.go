package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// dockerRegistry starts the real thing, without TLS, and returns its address.
func dockerRegistry(t *testing.T) string {
	t.Helper()
	binary, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed (Debian package docker-registry)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close() // the registry takes the port
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", t.TempDir(), host)
	c := exec.Command(binary, "serve", write(t, "config.yml", []byte(config)))
	c.Stdout, c.Stderr = io.Discard, io.Discard
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Process.Kill() // it has nothing to save
		c.Wait()
	})
	for range 200 {
		if conn, err := net.Dial("tcp", host); err == nil {
			conn.Close()
			return host
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatal("docker-registry does not answer")
	return ""
}

func TestPluginPushedInstalledAndRun(t *testing.T) {
	to := "oci://" + dockerRegistry(t) + "/team"
	twin := filepath.Join(twins(t), "1.0.0", "zoo-twin")
	other := "plan9/mips=" + write(t, "zoo-twin", []byte("for another machine"))
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
		"plugin", "push", twin, "plan9/mips="+write(t, "zoo-twin", []byte("changed")), "--to", to)

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

// TestDamagedRecordConcernsItsPluginAlone: a power cut or a careless hand may leave a record that cannot be read.
func TestDamagedRecordConcernsItsPluginAlone(t *testing.T) {
	home := t.TempDir()
	t.Setenv(zooDir, t.TempDir())
	must(t, home, "plugin", "install", filepath.Join(twins(t), "1.0.0", "zoo-twin"))
	record := filepath.Join(home, "plugins", "twin", "1.0.0", "installed.json")
	for _, damage := range []string{"", "{}", `{"name":"twin","version":"2.0.0"}`} {
		if err := errors.Join(os.Chmod(record, 0o644), os.WriteFile(record, []byte(damage), 0o644)); err != nil {
			t.Fatal(err)
		}
		must(t, home, "summary", "resnet20")
		refused(t, home, exitFailure, []string{"twin", "zoo plugin remove twin"}, "summary", "twin")
		refused(t, home, exitFailure, []string{"twin", "zoo plugin remove twin@1.0.0 and install it again"}, "plugin", "verify")
	}
	must(t, home, "plugin", "remove", "twin")
}
