package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-modelzoo/zoo/hub"
	"github.com/go-modelzoo/zoo/internal/ui"
)

// terminal opens one. What is written to it is returned by the function, which closes it.
func terminal(t *testing.T) (*os.File, func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	var n int
	if err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err == nil {
		n, err = unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 120}) // no bar fits on one without columns
	}
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	read := make(chan string)
	go func() {
		var b bytes.Buffer
		_, _ = io.Copy(&b, master) // ends with an error, as terminals do
		read <- b.String()
	}()
	return f, func() string {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		text := <-read
		if err := master.Close(); err != nil {
			t.Error(err)
		}
		return text
	}
}

// redrawn is how a bar that is drawn again begins: the line above is erased.
const redrawn = "\x1b[1A"

func TestBarsDoNotEraseWhatIsSaid(t *testing.T) {
	home, dir := imported(t), t.TempDir()
	for i := range 9 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.png", i)), picture(t, 32, 32), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	on := func(args ...string) string {
		tty, text := terminal(t)
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(self, args...)
		cmd.Env = append(os.Environ(), asZoo+"=1", "ZOO_HOME="+home, "ZOO_REGISTRY=")
		var stdout bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, tty
		err = cmd.Run()
		said := text()
		if err != nil || stdout.Len() > 0 && strings.Contains(stdout.String(), "\x1b") {
			t.Errorf("zoo %v: %v, %q, %q", args, err, stdout.String(), said)
		}
		return said
	}
	embed := []string{"embed", "mine", dir, "--out", filepath.Join(t.TempDir(), "e.npy")}
	said := on(embed...)
	if before, after, ok := strings.Cut(said, "wrote "); !ok || !strings.Contains(before, "embedding 9 / 9") || strings.Contains(after, "\x1b") {
		t.Errorf("%q", said)
	}
	if said := on(append(embed, "--quiet")...); !strings.HasPrefix(said, "wrote ") {
		t.Errorf("--quiet: %q", said)
	}
	for _, args := range [][]string{{"predict", "mine", dir}, {"pull", "resnet20"}, {"verify"}} {
		if said := on(append(args, "-q")...); said != "" {
			t.Errorf("zoo %v -q: %q", args, said)
		}
		if said := on(args...); args[0] != "pull" && !strings.Contains(said, "[===") { // there is nothing to pull twice
			t.Errorf("zoo %v: %q", args, said)
		}
	}
}

// A download that fails leaves its bar behind; that the next source's file is taken on trust was said below it, and erased.
func TestWarningsOfTheHubStay(t *testing.T) {
	tty, text := terminal(t)
	v := &hubView{app: &app{Console: ui.Console{Out: io.Discard, Err: tty}}}
	v.progress(hub.Progress{Name: "mine:v1", Stage: hub.StageDownload, Done: 1, Total: 2})
	time.Sleep(300 * time.Millisecond) // until it is drawn
	v.warn("it is taken on trust")
	time.Sleep(300 * time.Millisecond)
	v.rest()
	said := text()
	if before, after, ok := strings.Cut(said, "it is taken on trust"); !ok || !strings.Contains(before, "download mine:v1") || strings.Contains(after, redrawn) {
		t.Errorf("%q", said)
	}
}
