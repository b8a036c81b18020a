package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/hub/plugins"
	"github.com/go-modelzoo/zoo/sdk"
)

// fickle is the version of twin that never builds the same network twice.
const fickle = "0.0.9"

// twin is a family of which there are several versions; the binary's folder says which.
func twin(version string) sdk.Family {
	channels := 4
	return sdk.MustFamily(fmt.Appendf(nil, `{"name":"twin","version":%q,"description":"for tests","license":"Apache-2.0"}`, version), sdk.Model{
		Name: "twin", Paper: "none", Input: graph.Shape{C: 3, H: 8, W: 8}, MinSize: 4,
		Build: func(b *graph.Builder, x *graph.Node, _ sdk.Options) *graph.Node {
			if version == fickle {
				channels++
			}
			x = b.Features(b.Tap("stage1", b.ReLU(b.Conv2d("conv", x, graph.Conv{Out: channels, Kernel: graph.Square(3), Bias: true}))))
			x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), graph.Fc{Out: b.Classes()})
			b.Group("trunk", "conv")
			b.Group("head", "fc")
			b.Classifier("fc")
			return x
		},
	})
}

// twinFile is the name of its binary.
var twinFile = plugins.BinaryName("twin")

// twins is a folder with this program as twinFile, in a folder for each of two versions.
func twins(t *testing.T) string {
	t.Helper()
	self, err := os.Open(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	defer self.Close()
	dir := t.TempDir()
	for _, version := range []string{"1.0.0", "1.10.0"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o755); err != nil {
			t.Fatal(err)
		}
		if _, err := self.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(dir, version, twinFile), os.O_CREATE|os.O_WRONLY, 0o755)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(f, self); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestTwoVersionsOfAFamilySideBySideAreChosenByTheLock(t *testing.T) {
	home, binaries := t.TempDir(), twins(t)
	for _, version := range []string{"1.0.0", "1.10.0"} {
		must(t, home, "plugin", "install", filepath.Join(binaries, version, twinFile))
	}
	for want, lock := range map[string]string{"1.10.0": "", "1.0.0": `{"schema":1,"plugins":{"twin":{"version":"1.0.0","platforms":{}}}}`} {
		project := t.TempDir()
		if lock != "" {
			if err := os.WriteFile(filepath.Join(project, "zoo.lock"), []byte(lock), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		t.Setenv(zooDir, project)
		var list []pluginResult
		if err := json.Unmarshal([]byte(must(t, home, "plugin", "list", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		var versions, used []string
		for _, p := range list {
			if p.Family == "twin" {
				versions = append(versions, p.Version)
				if p.Used {
					used = append(used, p.Version)
				}
			}
		}
		slices.Sort(versions)
		if !slices.Equal(versions, []string{"1.0.0", "1.10.0"}) || !slices.Equal(used, []string{want}) {
			t.Errorf("installed %v, used %v, want %s", versions, used, want)
		}
		text := strings.Join(strings.Fields(must(t, home, "plugin", "list")), " ")
		for _, version := range versions {
			state := map[bool]string{true: "used", false: "-"}[version == want]
			path := filepath.Join(home, "plugins", "twin", version, twinFile)
			if !strings.Contains(text, "twin "+version+" 1 - "+state+" "+path) || !strings.Contains(text, " used in zoo itself") {
				t.Errorf("%s", text)
			}
		}
		must(t, home, "summary", "twin")
	}
	text := must(t, home, "plugin", "list")
	header, _, _ := strings.Cut(text, "\n")
	for _, column := range []string{"family", "version", "newest", "state", "from"} {
		if !strings.Contains(strings.ToLower(header), column) {
			t.Errorf("the table's header is %q, without %q", header, column)
		}
	}
	project := t.TempDir()
	lock := `{"schema":1,"plugins":{"resnet":{"version":"7.0.0","platforms":{}}}}`
	if err := os.WriteFile(filepath.Join(project, "zoo.lock"), []byte(lock), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(zooDir, project)
	refused(t, home, exitFailure, []string{"resnet 7.0.0", "lock", "zoo plugin install resnet@7.0.0"}, "summary", "resnet20")
}

func TestOlderVersionThatDoesNotServeIsSaidSo(t *testing.T) {
	home, binaries := t.TempDir(), twins(t)
	t.Setenv(zooDir, t.TempDir())
	newer, older := filepath.Join(binaries, "1.10.0", twinFile), filepath.Join(binaries, "1.0.0", twinFile)
	for _, c := range []struct {
		binary string
		said   bool
	}{{newer, false}, {older, true}, {newer, false}} {
		out := zoo(t, home, nil, "plugin", "install", c.binary)
		if said := strings.Contains(out.stderr, "twin 1.10.0 goes on serving"); out.code != 0 || said != c.said {
			t.Errorf("%s: exit %d, %s", c.binary, out.code, out.stderr)
		}
	}
	project := t.TempDir()
	if err := os.WriteFile(filepath.Join(project, "zoo.lock"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv(zooDir, project)
	if out := zoo(t, home, nil, "plugin", "install", older); out.code != 0 || out.stderr != "" {
		t.Errorf("with a lock: exit %d, %s", out.code, out.stderr)
	}
}

func TestModuleOfAFamilyThatGoCannotFetchIsSaidSo(t *testing.T) {
	t.Setenv(zooDir, t.TempDir())
	home := t.TempDir()
	for args, said := range map[string]bool{"plugin new one": true, "plugin new two --replace .": false} {
		out := zoo(t, home, nil, strings.Fields(args)...)
		if out.code != 0 || strings.Contains(out.stderr, "--replace FOLDER") != said {
			t.Errorf("%s: exit %d, %s", args, out.code, out.stderr)
		}
	}
}

func TestPluginFileIsInstalledByARelativePath(t *testing.T) {
	binaries := twins(t)
	t.Setenv(zooDir, filepath.Join(binaries, "1.0.0"))
	home := t.TempDir()
	if out := must(t, home, "plugin", "install", "./"+twinFile); !strings.HasPrefix(out, "twin 1.0.0 ") {
		t.Errorf("printed %q", out)
	}
	if err := os.WriteFile(filepath.Join(binaries, "1.0.0", "notes.txt"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, home, exitFailure, []string{"./notes.txt", "zoo-FAMILY"}, "plugin", "install", "./notes.txt")
	refused(t, home, exitFailure, []string{"within 1ms"}, "plugin", "install", "./"+twinFile, "--plugin-timeout", "1ms") // who needs more can say so
	lockFile := filepath.Join(home, "zoo.lock")
	if before, err := os.ReadFile(lockFile); err != nil || !strings.Contains(string(before), "twin") {
		t.Fatalf("%s, %v", before, err)
	}
	must(t, home, "plugin", "remove", "twin")
	if after, err := os.ReadFile(lockFile); err != nil || strings.Contains(string(after), "twin") {
		t.Errorf("the lock after the removal: %s, %v", after, err)
	}
	refused(t, home, exitFailure, []string{"plugin twin: not installed"}, "plugin", "remove", "twin")
}

func TestModelOfAChangedPluginSaysWhy(t *testing.T) {
	home, binaries := t.TempDir(), twins(t)
	must(t, home, "plugin", "install", filepath.Join(binaries, "1.0.0", twinFile))
	path := filepath.Join(home, "plugins", "twin", "1.0.0", twinFile)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" { // which has no such bit
		refused(t, home, exitFailure, []string{`unknown model "twin"`, "twin 1.0.0", "may not be executed"}, "summary", "twin")
	}
	if err := os.Chmod(path, 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("more"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	image := write(t, "a.png", picture(t, 8, 8))
	if text := must(t, home, "plugin", "list"); !strings.Contains(text, "broken: ") {
		t.Errorf("%s", text)
	}
	for _, args := range [][]string{{"summary", "twin"}, {"predict", "twin", image}} {
		refused(t, home, exitFailure, []string{`unknown model "twin"`, "twin 1.0.0", "SHA-256 is on record", "zoo plugin remove"}, args...)
	}
}

// TestDamagedRecordConcernsItsPluginAlone: a power cut or a careless hand may leave a record that cannot be read.
func TestDamagedRecordConcernsItsPluginAlone(t *testing.T) {
	home := t.TempDir()
	t.Setenv(zooDir, t.TempDir())
	must(t, home, "plugin", "install", filepath.Join(twins(t), "1.0.0", twinFile))
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

func TestPluginThatFailsTheKitIsToldWhere(t *testing.T) {
	home, binaries := t.TempDir(), twins(t)
	good := filepath.Join(binaries, "1.0.0", twinFile)
	if text := must(t, home, "plugin", "test", good); !strings.HasPrefix(text, "ok   twin 1.0.0 answers") || strings.Contains(text, "FAIL") {
		t.Errorf("%s", text)
	}
	if err := os.Rename(filepath.Dir(good), filepath.Join(binaries, fickle)); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(binaries, fickle, twinFile)
	o := zoo(t, home, nil, "plugin", "test", bad)
	if o.code != exitFailure || !strings.Contains(o.stdout, "FAIL twin builds the same network again\n     ") || !strings.Contains(o.stderr, bad+" fails ") {
		t.Errorf("%+v", o)
	}
	var checks []struct{ Model, Check, Error string }
	if o := zoo(t, home, nil, "plugin", "test", bad, "-o", "json"); o.code != exitFailure || json.Unmarshal([]byte(o.stdout), &checks) != nil || checks[0].Error != "" || checks[2].Error == "" {
		t.Errorf("%+v", o)
	}
}
