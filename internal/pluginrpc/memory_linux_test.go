package pluginrpc

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTensorThatDoesNotFitSpoilsTheMemory has the system refuse to map a large segment: smaller ones must go on.
func TestTensorThatDoesNotFitSpoilsTheMemory(t *testing.T) {
	m := testMemory(t)
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var pages uint64
	if _, err := fmt.Sscan(string(statm), &pages); err != nil {
		t.Fatal(err)
	}
	var before unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_AS, &before); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_AS, &unix.Rlimit{Cur: pages*uint64(os.Getpagesize()) + 512<<20, Max: before.Max}); err != nil {
		t.Fatal(err)
	}
	large, err := m.Take(1 << 30)
	if restored := unix.Setrlimit(unix.RLIMIT_AS, &before); restored != nil {
		t.Fatal(restored)
	}
	if err == nil {
		t.Errorf("%d bytes were mapped above the limit", len(large.Data))
	}
	s, err := m.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Give(s); err != nil {
		t.Fatal(err)
	}
}
