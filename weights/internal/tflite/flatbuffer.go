package tflite

import (
	"encoding/binary"
	"fmt"
	"math"
)

// buffer is a FlatBuffer (https://flatbuffers.dev/internals/) that nobody has verified. Every position is checked before it is read. The
// first fault is kept in err; after it every read gives zero, so that the code that walks the schema has no error to
// handle at each step.
type buffer struct {
	data []byte
	err  error
}

func (b *buffer) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

// bytes returns n bytes at a position, or nil after a fault.
func (b *buffer) bytes(at, n int) []byte {
	if b.err != nil {
		return nil
	}
	if at < 0 || n < 0 || at > len(b.data) || n > len(b.data)-at {
		b.fail("is damaged or truncated: it refers to %d bytes at %d of %d: download it again", n, at, len(b.data))
		return nil
	}
	return b.data[at : at+n : at+n]
}

func (b *buffer) uint16(at int) int {
	if v := b.bytes(at, 2); v != nil {
		return int(binary.LittleEndian.Uint16(v))
	}
	return 0
}

func (b *buffer) uint32(at int) uint32 {
	if v := b.bytes(at, 4); v != nil {
		return binary.LittleEndian.Uint32(v)
	}
	return 0
}

// follow returns the position that the offset at a position leads to. Offsets lead forwards, so no chain of them is endless.
func (b *buffer) follow(at int) int {
	offset := b.uint32(at)
	if b.err == nil && (offset == 0 || uint64(offset) >= uint64(len(b.data)-at)) {
		b.fail("is damaged or truncated: the offset at %d leads outside its %d bytes: download it again", at, len(b.data))
		return 0
	}
	return at + int(offset)
}

// table is an object whose fields are found through a vtable. The zero table has no fields.
type table struct {
	b            *buffer
	at, size     int
	vtable, slot int // position of the vtable, and how many fields it lists
}

func (b *buffer) table(at int) table {
	// The vtable may lie on either side of the table.
	vtable := int64(at) - int64(int32(b.uint32(at)))
	if b.err != nil {
		return table{}
	}
	if vtable < 0 || vtable > int64(len(b.data)) {
		b.fail("is damaged: the table at %d has its layout outside the file: download it again", at)
		return table{}
	}
	t := table{b: b, at: at, vtable: int(vtable)}
	length := b.uint16(t.vtable)
	t.size = b.uint16(t.vtable + 2)
	t.slot = length/2 - 2
	b.bytes(t.vtable, length)
	b.bytes(at, t.size)
	if b.err == nil && (length < 4 || length%2 != 0 || t.size < 4) {
		b.fail("is damaged: the table at %d has an impossible layout: download it again", at)
	}
	if b.err != nil {
		return table{}
	}
	return t
}

// field returns the position of a field of that many bytes, or 0 if the table does not have it.
func (t table) field(i, bytes int) int {
	if t.b == nil || t.b.err != nil || i >= t.slot {
		return 0
	}
	offset := t.b.uint16(t.vtable + 4 + 2*i)
	if offset == 0 {
		return 0
	}
	if offset < 4 || offset+bytes > t.size {
		t.b.fail("is damaged: field %d of the table at %d lies outside of it: download it again", i, t.at)
		return 0
	}
	return t.at + offset
}

func (t table) has(i int) bool { return t.field(i, 1) != 0 }

func (t table) uint8(i int) uint8 {
	if at := t.field(i, 1); at != 0 {
		if v := t.b.bytes(at, 1); v != nil {
			return v[0]
		}
	}
	return 0
}

func (t table) uint32(i int) uint32 {
	if at := t.field(i, 4); at != 0 {
		return t.b.uint32(at)
	}
	return 0
}

func (t table) int32(i int, absent int32) int32 {
	if at := t.field(i, 4); at != 0 {
		return int32(t.b.uint32(at))
	}
	return absent
}

func (t table) table(i int) table {
	if at := t.field(i, 4); at != 0 {
		return t.b.table(t.b.follow(at))
	}
	return table{}
}

// vector is an array of numbers or of offsets to tables. The zero vector is empty.
type vector struct {
	b     *buffer
	at, n int
}

// vector returns the array in a field, whose elements have that many bytes. All of it lies inside the file.
func (t table) vector(i, size int) vector {
	field := t.field(i, 4)
	if field == 0 {
		return vector{}
	}
	at := t.b.follow(field)
	n := t.b.uint32(at)
	if t.b.err != nil {
		return vector{}
	}
	if rest := len(t.b.data) - at - 4; uint64(n)*uint64(size) > uint64(rest) {
		t.b.fail("is damaged or truncated: it has an array of %d × %d bytes where %d are left: download it again", n, size, rest)
		return vector{}
	}
	return vector{t.b, at + 4, int(n)}
}

func (v vector) table(i int) table { return v.b.table(v.b.follow(v.at + 4*i)) }

func (v vector) int32(i int) int32 { return int32(v.b.uint32(v.at + 4*i)) }

func (v vector) float32(i int) float32 { return math.Float32frombits(v.b.uint32(v.at + 4*i)) }

func (v vector) int64(i int) int64 {
	if x := v.b.bytes(v.at+8*i, 8); x != nil {
		return int64(binary.LittleEndian.Uint64(x))
	}
	return 0
}

// raw returns the bytes of an array of bytes: the file's memory.
func (v vector) raw() []byte {
	if v.b == nil {
		return nil
	}
	return v.b.bytes(v.at, v.n)
}
