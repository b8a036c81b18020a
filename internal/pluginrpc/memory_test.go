package pluginrpc

import (
	"errors"
	"math"
	"runtime"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
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
	for _, r := range [][2]int64{{0, 0}, {0, -1}, {-PageAlign, PageAlign}, {0, PageAlign + 1}, {PageAlign, 1}, {2 * PageAlign, 1}, {1, 5}, {4096, 5}, {1 << 62, 1 << 62}, {0, math.MaxInt64}, {math.MinInt64, math.MaxInt64}} {
		if _, err := plugin.At(r[0], r[1]); err == nil {
			t.Errorf("range %d+%d was mapped", r[0], r[1])
		}
	}
}

// TestSameRangeIsMappedOnce: a session of a million calls must not take a million mappings.
func TestSameRangeIsMappedOnce(t *testing.T) {
	host := testMemory(t)
	s, err := host.Take(2 * PageAlign)
	if err != nil {
		t.Fatal(err)
	}
	defer host.Give(s)
	plugin := newMemory(host.File())
	var first []byte
	for i, length := range []int64{PageAlign, PageAlign, 5} {
		data, err := plugin.At(s.Offset, length)
		if err != nil || int64(len(data)) != length {
			t.Fatal(len(data), err)
		}
		if i == 0 {
			first = data
		} else if &data[0] != &first[0] {
			t.Errorf("%d bytes of the same range are mapped again", length)
		}
	}
	longer, err := plugin.At(s.Offset, 2*PageAlign)
	if err != nil || len(longer) != 2*PageAlign {
		t.Fatal(len(longer), err)
	}
	longer[7] = 42
	if first[7] != 42 { // may be in use by a call
		t.Error("the shorter mapping is gone")
	}
}

func TestSizesOutOfRangeRefused(t *testing.T) {
	m := testMemory(t)
	for _, n := range []int64{math.MinInt64, -1, 0, 2*MaxTensor + 1, 1<<62 + 1, math.MaxInt64} {
		if s, err := m.Take(n); err == nil {
			t.Errorf("%d bytes were asked for and %d given", n, len(s.Data))
		}
	}
}

func TestHostileShapesHaveNoSize(t *testing.T) {
	const big = math.MaxInt32
	for _, c := range []struct {
		n int
		s graph.Shape
	}{
		{0, graph.Shape{C: 1, H: 1, W: 1}}, {1, graph.Shape{}}, {-1, graph.Shape{C: -1, H: 1, W: 1}}, {1, graph.Shape{C: 3, H: -224, W: -224}},
		{1, graph.Shape{C: 1 << 30, H: 1, W: 2}}, {big, graph.Shape{C: big, H: big, W: big}}, {1 << 16, graph.Shape{C: 1 << 16, H: 1 << 16, W: 1 << 16}},
		{1 << 30, graph.Shape{C: 1 << 30, H: 1 << 4, W: 1}}, {257, graph.Shape{C: 4, H: 1024, W: 1024}},
	} {
		if n, err := TensorBytes(c.n, c.s); err == nil {
			t.Errorf("%d maps of %v are said to have %d bytes", c.n, c.s, n)
		}
	}
	if n, err := TensorBytes(256, graph.Shape{C: 4, H: 1024, W: 1024}); err != nil || n != MaxTensor {
		t.Errorf("the largest: %d bytes, %v", n, err)
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
