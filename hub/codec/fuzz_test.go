package codec

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzParseTable reads hostile tables and checks that what passes is consistent.
func FuzzParseTable(f *testing.F) {
	blocks, unpacked, err := cut([]Span{{100, 1}, {MaxBlock + 400, 4}, {64, 8}, {64, 2}})
	if err != nil {
		f.Fatal(err)
	}
	for i := range blocks {
		for k := range blocks[i].width {
			blocks[i].packed[k] = blocks[i].size / blocks[i].width
		}
	}
	f.Add(encodeTable(blocks, unpacked))
	f.Add(encodeTable(nil, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := parseTable(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		var size int64
		offset := int64(len(magic))
		for i := range table.blocks {
			b := &table.blocks[i]
			if b.start != size || b.offset != offset || b.size > MaxBlock || b.packedSize() > b.size {
				t.Fatalf("block %d: %+v", i, b)
			}
			size += int64(b.size)
			offset += int64(b.packedSize())
		}
		if size != table.unpacked || offset != table.packed+int64(len(magic)) {
			t.Fatalf("%d bytes in %d", table.unpacked, table.packed)
		}
	})
}

// FuzzFrame decodes hostile frames into planes of hostile sizes, with one decoder as in real use.
func FuzzFrame(f *testing.F) {
	var l literals
	plane := bytes.Repeat([]byte("aaaaabbc"), 100)
	frame, _, err := l.encode(nil, plane)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(frame, uint16(len(plane)))
	f.Add(frame, uint16(1))
	p, err := newPacker(1 << 16)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p.zstd.EncodeAll(plane, nil), uint16(len(plane)))
	p.close()
	u := newUnpacker(1 << 16)
	f.Cleanup(u.close)
	f.Fuzz(func(t *testing.T, frame []byte, size uint16) {
		canary := []byte("canary..")
		buf := append(make([]byte, size), canary...)
		err := u.decode(buf[:size:size], frame)
		if !bytes.Equal(buf[size:], canary) {
			t.Fatal("bytes behind the plane were written")
		}
		first := bytes.Clone(buf)
		if err == nil && (u.decode(buf[:size:size], frame) != nil || !bytes.Equal(buf, first)) {
			t.Fatal("the second time gives something else")
		}
	})
}
