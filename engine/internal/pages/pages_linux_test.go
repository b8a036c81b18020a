package pages

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"unsafe"
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

// What shares a large page with a buffer may be memory that Go has given back. The system filled it up, and Go did not give it back again: processes
// whose networks came and went grew.
func TestNothingBesideABufferIsAdvisedAbout(t *testing.T) {
	b := make([]byte, 16<<20)
	Release(b) // which may lie where a buffer of another test did
	at := uintptr(unsafe.Pointer(&b[0]))
	inner := b[size/2+int(-at&(size-1)):][:9<<20+4096] // begins and ends within a large page
	from := uintptr(unsafe.Pointer(&inner[0]))
	to := from + uintptr(len(inner))
	for _, c := range []struct {
		advise func([]byte)
		want   uintptr // bytes advised about
	}{{func(b []byte) { Huge(b) }, 8 << 20}, {Release[byte], 0}} {
		c.advise(inner)
		var got uintptr
		for _, r := range advisedRanges(t) {
			if r[0] < to && r[1] > from {
				if r[0] < from || r[1] > to {
					t.Errorf("advice for %x to %x, the buffer is %x to %x", r[0], r[1], from, to)
				}
				got += r[1] - r[0]
			}
		}
		if got != c.want {
			t.Errorf("advice for %d bytes, not %d", got, c.want)
		}
	}
	runtime.KeepAlive(b)
}

// advisedRanges returns the addresses for which large pages are asked.
func advisedRanges(t *testing.T) (ranges [][2]uintptr) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Skip(err)
	}
	var r [2]uintptr
	flags := false
	for line := range bytes.Lines(text) {
		var from, to uintptr
		if n, _ := fmt.Sscanf(string(line), "%x-%x ", &from, &to); n == 2 { // no error: other lines are not of that form
			r = [2]uintptr{from, to}
		}
		if rest, ok := bytes.CutPrefix(line, []byte("VmFlags:")); ok {
			if flags = true; bytes.Contains(rest, []byte(" hg")) {
				ranges = append(ranges, r)
			}
		}
	}
	if !flags {
		t.Skip("the system does not show advice")
	}
	return ranges
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
