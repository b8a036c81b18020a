package pluginrpc

import (
	"errors"
	"runtime"
	"testing"
)

func testMemory(t *testing.T) *Memory {
	t.Helper()
	m, err := NewMemory()
	if errors.Is(err, ErrNoSharedMemory) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestSegmentsDoNotOverlapAndAreReused(t *testing.T) {
	m := testMemory(t)
	a, err := m.Take(100)
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.Take(PageAlign + 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Data) != PageAlign || len(b.Data) != 2*PageAlign || b.Offset < a.Offset+PageAlign {
		t.Errorf("segments %d+%d and %d+%d", a.Offset, len(a.Data), b.Offset, len(b.Data))
	}
	if err := m.Give(a); err != nil {
		t.Fatal(err)
	}
	c, err := m.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	if c.Offset != a.Offset {
		t.Errorf("the freed segment at %d was not used again but one at %d", a.Offset, c.Offset)
	}
	if err := errors.Join(m.Give(b), m.Give(c)); err != nil {
		t.Fatal(err)
	}
}

func TestBothSidesSeeTheSameBytes(t *testing.T) {
	host := testMemory(t)
	s, err := host.Take(10)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Give(s)
	plugin := newMemory(host.File())
	data, err := plugin.At(s.Offset, int64(len(s.Data)))
	if err != nil {
		t.Fatal(err)
	}
	s.Data[5] = 42
	if data[5] != 42 {
		t.Error("what the host wrote did not arrive")
	}
}

func TestRangesOutsideTheFileRefused(t *testing.T) {
	host := testMemory(t)
	s, err := host.Take(PageAlign)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Give(s)
	plugin := newMemory(host.File())
	for _, r := range [][2]int64{{0, 0}, {0, -1}, {-PageAlign, PageAlign}, {0, PageAlign + 1}, {PageAlign, 1}, {1, 5}, {1 << 62, 1 << 62}} {
		if _, err := plugin.At(r[0], r[1]); err == nil {
			t.Errorf("range %d+%d was mapped", r[0], r[1])
		}
	}
}

func TestPluginCannotShrinkTheFileUnderTheHost(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux seals files")
	}
	m := testMemory(t)
	s, err := m.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Give(s)
	if err := m.File().Truncate(0); err == nil {
		t.Fatal("the file was truncated")
	}
	s.Data[0]++ // would be SIGBUS
}

func TestSegmentOutlivesClose(t *testing.T) {
	m := testMemory(t)
	s, err := m.Take(1)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	s.Data[0]++
	if err := m.Give(s); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Take(1); err == nil {
		t.Error("a closed memory gave a segment")
	}
}
