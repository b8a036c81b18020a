package sourcetest

import (
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

// Docker starts Docker's registry, the real thing, for the length of a test, and returns its address, HOST:PORT. tls and auth are these parts
// of its configuration, in YAML's flow style; empty means without. The test is skipped where docker-registry is not installed.
func Docker(t testing.TB, tls, auth string) string {
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
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\n", filepath.Join(dir, "data"))
	if tls == "" {
		config += fmt.Sprintf("http: {addr: %q}\n", host)
	} else {
		config += fmt.Sprintf("http: {addr: %q, tls: %s}\n", host, tls)
	}
	if auth != "" {
		config += "auth: " + auth + "\n"
	}
	configFile := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(configFile, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	c := exec.Command(binary, "serve", configFile)
	var log strings.Builder
	c.Stdout, c.Stderr = io.Discard, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	stop := func() {
		c.Process.Kill() // it has nothing to save
		c.Wait()
	}
	for range 200 {
		if conn, err := net.Dial("tcp", host); err == nil {
			conn.Close()
			t.Cleanup(stop)
			return host
		}
		time.Sleep(25 * time.Millisecond)
	}
	stop()
	t.Fatalf("docker-registry does not answer: %s", log.String())
	return ""
}
