package pages

import (
	"bytes"
	"os"
	"strconv"
	"testing"
)

func TestAdviceKeepsContents(t *testing.T) {
	for _, n := range []int{0, 1, 1 << 10, 1 << 20, 3<<20 + 5} {
		b := make([]uint16, n)
		for i := range b {
			b[i] = uint16(i * 31)
		}
		for i, v := range Huge(b) {
			if v != uint16(i*31) {
				t.Fatalf("value %d of %d changed", i, n)
			}
		}
		Release(b)
		for i, v := range b {
			if v != uint16(i*31) {
				t.Fatalf("value %d of %d changed when the advice was taken back", i, n)
			}
		}
	}
}

func TestAdviceIsTaken(t *testing.T) {
	mode, err := os.ReadFile("/sys/kernel/mm/transparent_hugepage/enabled")
	if err != nil || bytes.Contains(mode, []byte("[never]")) {
		t.Skip("the system has no large pages")
	}
	before := inLargePages(t)
	b := Huge(make([]byte, 64<<20))
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	if got := inLargePages(t) - before; got < 16<<10 {
		// Memory may be too fragmented for large pages: that is no fault of this package.
		t.Skipf("%d KiB of 64 MiB lie in large pages", got)
	}
	if b[4096] != 1 {
		t.Error("contents changed")
	}
}

// inLargePages returns how many KiB of this process lie in large pages.
func inLargePages(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Skip(err)
	}
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("AnonHugePages:")); ok {
			n, err := strconv.Atoi(string(bytes.Fields(rest)[0]))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Skip("the system does not count large pages")
	return 0
}
