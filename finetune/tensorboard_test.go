package finetune

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// records splits an event file and checks every checksum.
func records(t *testing.T, data []byte) [][]byte {
	t.Helper()
	var list [][]byte
	for len(data) > 0 {
		if len(data) < 16 {
			t.Fatalf("%d bytes left", len(data))
		}
		n := binary.LittleEndian.Uint64(data)
		if binary.LittleEndian.Uint32(data[8:]) != maskedCRC(data[:8]) || binary.LittleEndian.Uint32(data[12+n:]) != maskedCRC(data[12:12+n]) {
			t.Fatal("a checksum is wrong")
		}
		list = append(list, data[12:12+n])
		data = data[16+n:]
	}
	return list
}

func TestMaskedChecksumOfTheSpecification(t *testing.T) {
	// RFC 3720, B.4: CRC32C of 32 zero bytes is 8a9136aa; TFRecord rotates it right by 15 and adds a282ead8.
	c := uint32(0x8a9136aa)
	if got, want := maskedCRC(make([]byte, 32)), (c>>15|c<<17)+0xa282ead8; got != want {
		t.Errorf("%08x, want %08x", got, want)
	}
}

func TestEventFileContinuesAfterACheckpoint(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	b, err := openTensorboard(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.write(time.Unix(1, 5e8), 1, []scalar{{"loss", 0.25}}); err != nil {
		t.Fatal(err)
	}
	saved := b.size
	if err := b.write(time.Unix(2, 0), 2, []scalar{{"loss", 7}}); err != nil { // after the checkpoint, lost in a crash
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if b, err = openTensorboard(path, saved); err != nil {
		t.Fatal(err)
	}
	if err := b.write(time.Unix(3, 0), 2, []scalar{{"loss", 0.5}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	list := records(t, data)
	if len(list) != 3 {
		t.Fatalf("%d records, want the version and two steps", len(list))
	}
	want := protowire.AppendTag(nil, 1, protowire.Fixed64Type)
	want = protowire.AppendFixed64(want, math.Float64bits(1.5))
	want = append(want, 0x10, 1)                     // step: 1
	want = append(want, 0x2a, 13, 0x0a, 11)          // summary { value {
	want = append(want, 0x0a, 4, 'l', 'o', 's', 's') // tag: "loss"
	want = append(want, 0x15, 0, 0, 0x80, 0x3e)      // simple_value: 0.25
	if string(list[1]) != string(want) {
		t.Errorf("record % x, want % x", list[1], want)
	}
}

func TestShrunkLogIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("abc"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openAppend(path, 10); err == nil {
		t.Error("a log that is shorter than the checkpoint says was accepted")
	}
}
