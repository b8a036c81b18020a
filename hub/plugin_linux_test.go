package hub_test

import (
	"encoding/binary"
	"path/filepath"
	"syscall"
	"testing"
)

// TestKilledRemovalLeavesNoBinaryWithoutItsRecord watches a version's directory: it must have gone as a whole before anything in it does, since
// nobody verifies a binary without a record.
func TestKilledRemovalLeavesNoBinaryWithoutItsRecord(t *testing.T) {
	w := newWorld(t, 100)
	w.withPlugins(t, "1.2.0")
	h := w.open(t, nil)
	p := install(t, h, "mlp")
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK | syscall.IN_CLOEXEC)
	if err != nil {
		t.Skip("nothing can be watched here:", err)
	}
	defer syscall.Close(fd) // only read
	if _, err := syscall.InotifyAddWatch(fd, filepath.Dir(p.Path), syscall.IN_DELETE|syscall.IN_MOVE_SELF); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.RemovePlugin(t.Context(), "mlp", ""); err != nil {
		t.Fatal(err)
	}
	events := make([]byte, 4096)
	n, err := syscall.Read(fd, events)
	if err != nil || n < syscall.SizeofInotifyEvent {
		t.Fatal(n, err)
	}
	if mask := binary.NativeEndian.Uint32(events[4:]); mask&syscall.IN_MOVE_SELF == 0 { // behind the watch's number
		t.Errorf("the first event is %#x: files were deleted in place", mask)
	}
}
