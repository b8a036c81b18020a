package store

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

func TestFullAndProtectedDisksSayWhatToDo(t *testing.T) {
	for _, errno := range fullErrors {
		if err := DiskFull(&os.PathError{Op: "write", Path: "x", Err: errno}); !errors.Is(err, ErrDiskFull) {
			t.Errorf("%v is not taken for a full disk", err)
		}
	}
	if err := (&Store{dir: "x"}).unwritable(windows.ERROR_WRITE_PROTECT); !strings.Contains(err.Error(), "ZOO_HOME") {
		t.Error(err)
	}
}

// TestBlobThatIsMappedKeepsNoOther removes two blobs, one of which Windows refuses to remove.
func TestBlobThatIsMappedKeepsNoOther(t *testing.T) {
	s, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	used, err := s.Put([]byte("used"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(s.dir + "/" + blobPath(used)) // nobody may remove it meanwhile, as if it were mapped
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, text := range []string{"a", "b", "c"} {
		if _, err := s.Put([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	freed, err := s.Sweep(t.Context(), time.Now().Add(time.Hour), false)
	if err == nil || !strings.Contains(err.Error(), "cache prune") || freed != 3 || !s.Has(used) {
		t.Errorf("%d bytes freed of 3, %v", freed, err)
	}
}
