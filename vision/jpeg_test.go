package vision

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func readTestdata(tb testing.TB, name string) []byte {
	tb.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", filepath.FromSlash(name)))
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

// TestRareJPEGs compares with pixels on record, so that it needs no Python.
func TestRareJPEGs(t *testing.T) {
	lines := bufio.NewScanner(bytes.NewReader(readTestdata(t, "jpeg/pixels.txt")))
	files := 0
	for ; lines.Scan(); files++ {
		var name, sum string
		var width, height int
		if _, err := fmt.Sscan(lines.Text(), &name, &width, &height, &sum); err != nil {
			t.Fatal(err)
		}
		img, err := DecodeBytes(readTestdata(t, "jpeg/"+name+".jpg"), Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(img.Pix)); img.Width != width || img.Height != height || got != sum {
			t.Errorf("%s: %dx%d pixels %.8s, want %dx%d pixels %.8s", name, img.Width, img.Height, got, width, height, sum)
		}
	}
	if files < 20 {
		t.Errorf("only %d files on record", files)
	}
}

func TestUnsupportedJPEGsRefusedClearly(t *testing.T) {
	whole := readTestdata(t, "chroma_420.jpg")
	frame := bytes.Index(whole, []byte("\xff\xc0")) // then length, precision, height, width, components
	patched := func(at int, v ...byte) []byte {
		data := bytes.Clone(whole)
		copy(data[at:], v)
		return data
	}
	for want, data := range map[string][]byte{
		"lossless, hierarchical or arithmetic": readTestdata(t, "jpeg/arithmetic.jpg"),
		"12 bits":                              patched(frame+4, 12),
		"0x0 pixels":                           patched(frame+5, 0, 0, 0, 0),
		"2 colour components":                  patched(frame+9, 2),
		"subsampling":                          patched(frame+11, 0x31, 0, 2, 0x21),
		"malformed":                            patched(frame+11, 0x05),
		"more than one frame header":           append(bytes.Clone(whole[:frame+19]), whole[frame:]...),
		"no image":                             []byte("\xff\xd8\xff\xd9"),
	} {
		_, err := DecodeBytes(data, Limits{})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func TestTruncatedAnywhereIsAnError(t *testing.T) {
	for _, name := range []string{"chroma_420.jpg", "progressive.jpg", "cmyk.jpg", "gray.jpg", "jpeg/restart_every_mcu.jpg", "jpeg/not_interleaved_restart.jpg", "lossy.webp", "lossless.webp", "transparent.gif"} {
		whole := readTestdata(t, name)
		if _, err := DecodeBytes(whole, Limits{}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		const trailer = 4 // an end marker and padding may be missing
		for n := range len(whole) - trailer {
			if _, err := DecodeBytes(whole[:n], Limits{}); err == nil {
				t.Errorf("%s: %d of %d bytes are read without an error", name, n, len(whole))
				break
			}
		}
		_, err := DecodeBytes(whole[:len(whole)/2], Limits{})
		if strings.HasSuffix(name, ".jpg") && (!errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "truncated")) {
			t.Errorf("%s, first half: %v", name, err)
		}
	}
}

func TestDamagedScanReadAsFarAsItGoes(t *testing.T) {
	whole := readTestdata(t, "jpeg/restart_every_2.jpg")
	want, err := DecodeBytes(whole, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	// A segment between two restart markers loses its data: what follows is unharmed.
	third := bytes.Index(whole, []byte("\xff\xd2"))
	fourth := bytes.Index(whole, []byte("\xff\xd3"))
	got, err := DecodeBytes(append(bytes.Clone(whole[:third+2]), whole[fourth:]...), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	n, _ := difference(got, want)
	if n == 0 || n > 3*2*64 {
		t.Errorf("%d bytes differ, want some of two blocks", n)
	}
}

func TestDamagedJPEGPixelsEqualLibjpeg(t *testing.T) {
	t.Setenv("JSIMD_FORCENONE", "1") // its C code: the vector code clips sums that wrap around
	all := samples(t, `
rng = random.Random(1)
for name in 'chroma_420', 'progressive', 'jpeg/restart_every_2', 'jpeg/restart_every_mcu', 'jpeg/not_interleaved_restart', 'jpeg/sampling_2x2_progressive_restart':
    whole = open('testdata/%s.jpg' % name, 'rb').read()
    start = whole.rindex(b'\xff\xda') + 14 # the last scan: libjpeg smooths where one is lost
    restarts = [i for i in range(start, len(whole) - 1) if whole[i] == 255 and 0xd0 <= whole[i + 1] <= 0xd7]
    for i in range(150):
        data = bytearray(whole)
        at = rng.choice(restarts) if restarts and i % 2 else rng.randrange(start, len(whole) - 2)
        if i % 4 == 0: data[at] ^= 1 << rng.randrange(8)
        elif i % 4 == 1: del data[at:at + 2]
        elif i % 4 == 2: data[at:at] = bytes(rng.randrange(255) for _ in range(9))
        else: data[at + 1] = data[at + 1] + rng.choice([-2, 1, 2, 3]) & 255
        try: put('%s %d at %d' % (name, i, at), bytes(data))
        except OSError: pass
`)
	for _, s := range all {
		got, err := DecodeBytes(s.file, Limits{})
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		} else if n, d := difference(got, s.want); n != 0 {
			t.Errorf("%s: %d of %d bytes differ, by up to %d", s.name, n, len(got.Pix), d)
		}
	}
	t.Logf("%d files compared", len(all))
}

func TestHalfGrayJPEGNotTakenForWhole(t *testing.T) {
	whole := readTestdata(t, "chroma_420.jpg")
	half := whole[:len(whole)-60]
	for name, rest := range map[string]string{
		"marker of no meaning":     "\xff\x02" + string(whole[len(half):]),
		"another file behind it":   string(whole),
		"its own scan header":      string(whole[bytes.Index(whole, []byte("\xff\xda")):]),
		"segment beyond the end":   "\xff\xfe\xff\xff\xff\xd9",
		"marker that is to be EOI": "\xff\xe0",
	} {
		if _, err := DecodeBytes(append(bytes.Clone(half), rest...), Limits{}); err == nil {
			t.Errorf("half of an image and %s are read without an error", name)
		}
	}
}

func TestOddJPEGsReadAsWhole(t *testing.T) {
	whole := readTestdata(t, "chroma_422_orientation_6.jpg")
	want, err := DecodeBytes(whole, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	motion := bytes.Clone(whole) // a frame of Motion JPEG: it has no Huffman tables
	for at := bytes.Index(motion, []byte("\xff\xc4")); at >= 0; at = bytes.Index(motion, []byte("\xff\xc4")) {
		motion = append(motion[:at], motion[at+2+int(motion[at+2])<<8+int(motion[at+3]):]...)
	}
	for name, data := range map[string][]byte{
		"without Huffman tables":            motion,
		"segments of length 0":              append([]byte("\xff\xd8\xff\xef\x00\x00\xff\xfe\x00\x00"), whole[2:]...),
		"junk before the EXIF block":        append([]byte("\xff\xd8\xff\xfe\x00\x03abc\xff\x00"), whole[2:]...),
		"junk behind the end":               append(bytes.Clone(whole), "\xff\xd8\xff junk"...),
		"without an end marker":             whole[:len(whole)-2],
		"a second image behind it, as MPOs": append(bytes.Clone(whole), readTestdata(t, "gray.jpg")...),
	} {
		got, err := DecodeBytes(data, Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if n, _ := difference(got, want); n != 0 {
			t.Errorf("%s: %d of %d bytes differ", name, n, len(want.Pix))
		}
	}
}

func BenchmarkDecodeSmallJPEG(b *testing.B) {
	data := readTestdata(b, "chroma_420.jpg")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeBytes(data, Limits{}); err != nil {
			b.Fatal(err)
		}
	}
}
