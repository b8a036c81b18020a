package classifier

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func writeText(w io.Writer) error { _, err := io.WriteString(w, "text"); return err }

// With the rights for it, a rename would put a file in the place of /dev/null.
func TestWritingToWhatIsNoFileDoesNotReplaceIt(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Skip(err)
	}
	pipe, err := os.OpenFile(name, os.O_RDWR, 0) // lets the writer open it
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()
	if err := WriteFile(name, writeText); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(name); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Fatalf("the pipe became %v (%v)", info.Mode(), err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(pipe, got); err != nil || string(got) != "text" {
		t.Errorf("the reader got %q, %v", got, err)
	}
}

func TestWritingToALinkKeepsIt(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	if err := WriteFile(link, writeText); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(file); err != nil || string(data) != "text" {
		t.Errorf("the file holds %q, %v", data, err)
	}
}

func TestWritingToAFolderOrNowhereIsExplained(t *testing.T) {
	dir := t.TempDir()
	for name, word := range map[string]string{dir: "is a folder", filepath.Join(dir, "no", "file"): "no such file"} {
		if err := WriteFile(name, writeText); err == nil || !strings.Contains(err.Error(), word) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
