package vision

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/image/tiff"

	"github.com/go-modelzoo/zoo/vision/internal/pil"
)

// sample is a file made by PIL and its pixels as PIL opens it.
type sample struct {
	name string
	file []byte
	want *Image
}

// samples runs a Python script that calls put(name, file bytes) for each sample.
func samples(tb testing.TB, script string) []sample {
	tb.Helper()
	const prelude = `
import sys, struct, io, random
from PIL import Image, ImageOps
def picture(mode, w, h, seed=0):
    rng = random.Random(seed)
    n = {'RGB': 3, 'RGBA': 4, 'L': 1, 'LA': 2, 'CMYK': 4}[mode]
    b = bytearray()
    for y in range(h):
        for x in range(w):
            p = [x * 255 // w, (x // 7 + y // 5) % 2 * 200 + rng.randrange(40), (x * y // 9) % 256, (x + y) * 255 // (w + h)]
            b += bytes(p[4 - n:] if n < 3 else p[:n])
    return Image.frombytes(mode, (w, h), bytes(b))
def put(name, data):
    im = Image.open(io.BytesIO(data))
    if im.format != 'TIFF': # PIL has turned it itself
        im = ImageOps.exif_transpose(im)
    im = im.convert('RGB')
    n = name.encode()
    sys.stdout.buffer.write(struct.pack('<IIII', len(n), len(data), *im.size) + n + data + im.tobytes())
def save(im, format, **kw):
    f = io.BytesIO(); im.save(f, format, **kw); return f.getvalue()
`
	out := pil.Run(tb, "", prelude+script, nil)
	var all []sample
	for len(out) > 0 {
		var n [4]int
		for i := range n {
			n[i] = int(binary.LittleEndian.Uint32(out[4*i:]))
		}
		out = out[16:]
		size := 3 * n[2] * n[3]
		s := sample{name: string(out[:n[0]]), file: out[n[0] : n[0]+n[1]]}
		out = out[n[0]+n[1]:]
		s.want = &Image{Pix: out[:size], Width: n[2], Height: n[3]}
		out = out[size:]
		all = append(all, s)
	}
	return all
}

// difference returns the number of samples that differ and the largest difference, -1 for images of different size.
func difference(got, want *Image) (count, largest int) {
	if got.Width != want.Width || got.Height != want.Height {
		return -1, -1
	}
	for i, v := range got.Pix {
		if d := int(v) - int(want.Pix[i]); d != 0 {
			count++
			largest = max(largest, d, -d)
		}
	}
	return count, largest
}

func TestPixelsEqualPIL(t *testing.T) {
	all := samples(t, `
for w, h in [(37, 29), (8, 8), (1, 1), (64, 3), (2, 5)]:
    s = '%dx%d' % (w, h)
    rgb, l = picture('RGB', w, h), picture('L', w, h)
    rgba = picture('RGBA', w, h)
    transparent = rgba.copy(); transparent.putpixel((0, 0), (9, 8, 7, 0))
    put('png rgb ' + s, save(rgb, 'PNG'))
    put('png rgba ' + s, save(rgba, 'PNG'))
    put('png rgb one transparent colour ' + s, save(rgb, 'PNG', transparency=rgb.getpixel((0, 0))))
    put('png gray ' + s, save(l, 'PNG'))
    put('png gray alpha ' + s, save(picture('LA', w, h), 'PNG'))
    put('png 1 bit ' + s, save(l.convert('1'), 'PNG'))
    for n in 2, 4, 13, 200:
        put('png palette %d ' % n + s, save(rgb.quantize(n), 'PNG'))
        put('png palette transparent %d ' % n + s, save(rgb.quantize(n), 'PNG', transparency=1))
        put('gif %d ' % n + s, save(rgb.quantize(n), 'GIF'))
        put('gif transparent %d ' % n + s, save(rgb.quantize(n), 'GIF', transparency=1))
    gray16 = Image.frombytes('I;16', (w, h), b''.join(struct.pack('<H', (x * 37 + y * 11) % 700) for y in range(h) for x in range(w)))
    put('png 16 bit ' + s, save(gray16, 'PNG'))
    put('tiff 16 bit ' + s, save(gray16, 'TIFF'))
    put('bmp rgb ' + s, save(rgb, 'BMP'))
    put('bmp rgba ' + s, save(rgba, 'BMP'))
    put('bmp gray ' + s, save(l, 'BMP'))
    put('bmp palette ' + s, save(rgb.quantize(16), 'BMP'))
    for c in None, 'tiff_lzw', 'packbits', 'tiff_deflate':
        put('tiff rgb %s ' % c + s, save(rgb, 'TIFF', compression=c))
    for c in 'group3', 'group4':
        put('tiff 1 bit, zero is black, %s ' % c + s, save(l.convert('1'), 'TIFF', compression=c))
        put('tiff 1 bit, zero is white, %s ' % c + s, save(l.convert('1'), 'TIFF', compression=c, tiffinfo={262: 0}))
    put('tiff rgba ' + s, save(rgba, 'TIFF'))
    alpha = lambda kind: struct.pack('<HHIH', 338, 3, 1, kind)
    put('tiff multiplied by alpha ' + s, save(transparent, 'TIFF').replace(alpha(2), alpha(1)))
    put('tiff 16 bit, zero is white ' + s, save(gray16, 'TIFF', tiffinfo={262: 0}))
    put('tiff gray ' + s, save(l, 'TIFF'))
    put('tiff palette ' + s, save(rgb.quantize(16), 'TIFF'))
    put('ppm ' + s, save(rgb, 'PPM'))
    put('pgm ' + s, save(l, 'PPM'))
    put('pbm ' + s, save(l.convert('1'), 'PPM'))
    put('webp lossless ' + s, save(rgb, 'WEBP', lossless=True))
    put('webp lossless alpha ' + s, save(rgba, 'WEBP', lossless=True, exact=True))
    for q in 20, 80:
        put('webp q%d ' % q + s, save(rgb, 'WEBP', quality=q))
    put('webp animated ' + s, save(rgb, 'WEBP', save_all=True, append_images=[rgb.rotate(180)], lossless=True))
    put('webp animated alpha ' + s, save(rgba, 'WEBP', save_all=True, append_images=[rgba.rotate(180)], quality=70))
    put('webp alpha ' + s, save(rgba, 'WEBP', quality=80, exact=True))
# A frame that covers a part of the screen: the rest has the transparent index, which lies behind the frame's own table.
screen = b'GIF89a' + struct.pack('<HHBBB', 9, 7, 0xf7, 0, 0) + bytes(range(256)) * 3
control = b'\x21\xf9\x04\x01\0\0\x64\0'
frame = save(picture('RGB', 4, 3).quantize(16), 'GIF')
frame = frame[13 + 3 * (2 << (frame[10] & 7)):]
frame = frame[frame.index(b'\x2c') + 10:]
put('gif transparent index behind the local table', screen + control + b'\x2c' + struct.pack('<HHHHB', 2, 1, 4, 3, 0x83) + bytes(range(48)) + frame)
put('ppm text', b'P3 # made by hand\n2 2 15  0 1 2 3 4 5\n6 7 8 15 14 13')
put('pgm text', b'P2\n3 1\n99\n0 50 99')
put('pbm text', b'P1\n5 2\n10101\n0 1 0 1 0')
put('pgm 16 bit', b'P5 4 1 1000\n' + struct.pack('>4H', 0, 1, 3, 1000))
put('ppm maximum 100', b'P6 2 1 100\n' + bytes([0, 1, 50, 99, 100, 33]))
for o in range(0, 10):
    for w, h in (7, 5), (16, 24):
        im = picture('RGB', w, h)
        e = im.getexif(); e[0x112] = o
        for f in 'PNG', 'WEBP':
            put('%s orientation %d' % (f, o), save(im, f, exif=e, **({'lossless': True} if f == 'WEBP' else {})))
    if 1 <= o <= 8:
        put('TIFF orientation %d' % o, save(picture('RGB', 9, 6), 'TIFF', tiffinfo={274: o}))
`)
	for _, s := range all {
		got, err := DecodeBytes(s.file, Limits{})
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if n, d := difference(got, s.want); n != 0 {
			t.Errorf("%s: %d of %d bytes differ, by up to %d", s.name, n, len(got.Pix), d)
		}
	}
	t.Logf("%d files compared", len(all))
}

func TestUnsupportedFormOfAFormatSaysWhatToDo(t *testing.T) {
	file := append([]byte("BM\x4e\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\x02\x00\x00\x00\x02\x00\x00\x00\x01\x00\x10\x00"), make([]byte, 48)...) // 16 bits a pixel
	if _, err := DecodeBytes(file, Limits{}); err == nil || !strings.Contains(err.Error(), "convert the file") {
		t.Errorf("error %v does not say to convert the file", err)
	}
	var w bytes.Buffer
	if err := tiff.Encode(&w, image.NewGray(image.Rect(0, 0, 8, 8)), nil); err != nil {
		t.Fatal(err)
	}
	ofTIFF := w.Bytes()
	ofTIFF[bytes.Index(ofTIFF, []byte{0x03, 0x01, 3, 0, 1, 0, 0, 0})+8] = 6 // the old form of JPEG in TIFF
	ofPNG := pngHeader(2, 2)
	ofPNG[25] = 5 // no type of colour
	copy(ofPNG[29:], binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(ofPNG[12:29])))
	for name, file := range map[string][]byte{"TIFF": ofTIFF, "PNG": ofPNG} {
		if _, err := DecodeBytes(file, Limits{}); err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "convert the file") {
			t.Errorf("%s: error %v does not say to convert the file", name, err)
		}
	}
}

// TestDamagedExifHidesTheImage has a photograph whose EXIF block says nothing that can be used: it is shown as it is.
func TestDamagedExifHidesTheImage(t *testing.T) {
	src := image.NewGray(image.Rect(0, 0, 16, 8))
	for i := range src.Pix {
		src.Pix[i] = uint8(i%16*10 + i/16)
	}
	var w bytes.Buffer
	if err := jpeg.Encode(&w, src, nil); err != nil {
		t.Fatal(err)
	}
	upright, err := DecodeBytes(w.Bytes(), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	const header = "II*\x00\x08\x00\x00\x00" // the directory follows
	entry := func(orientation string) string { return "\x12\x01\x03\x00\x01\x00\x00\x00" + orientation }
	for name, c := range map[string]struct {
		exif   string
		turned bool
	}{
		"turned":                      {header + "\x01\x00" + entry("\x06\x00\x00\x00"), true},
		"turned, of a long integer":   {header + "\x01\x00\x12\x01\x04\x00\x01\x00\x00\x00\x06\x00\x00\x00", true},
		"turned, big-endian":          {"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00", true},
		"turned, behind another tag":  {header + "\x02\x00\x0f\x01\x03\x00\x01\x00\x00\x00\x01\x00\x00\x00" + entry("\x06\x00\x00\x00"), true},
		"no header":                   {"II*", false},
		"empty":                       {"", false},
		"directory beyond the end":    {"II*\x00\xff\xff\xff\xff", false},
		"directory at the end":        {header, false},
		"directory cut off":           {header + "\x01", false},
		"more entries than there are": {header + "\xff\xff\x0f\x01\x03\x00\x01\x00\x00\x00\x01\x00\x00\x00", false},
		"entry cut off":               {header + "\x01\x00\x12\x01\x03\x00\x01\x00\x00\x00", false},
		"entry behind the last":       {header + "\x00\x00" + entry("\x06\x00\x00\x00"), false},
		"orientation 0":               {header + "\x01\x00" + entry("\x00\x00\x00\x00"), false},
		"orientation 9":               {header + "\x01\x00" + entry("\x09\x00\x00\x00"), false},
		"orientation 2³²-1":           {header + "\x01\x00\x12\x01\x04\x00\x01\x00\x00\x00\xff\xff\xff\xff", false},
		"orientation of letters":      {header + "\x01\x00\x12\x01\x02\x00\x01\x00\x00\x00\x06\x00\x00\x00", false},
	} {
		block := "Exif\x00\x00" + c.exif
		file := append([]byte("\xff\xd8\xff\xe1"), byte((len(block)+2)>>8), byte(len(block)+2))
		file = append(append(file, block...), w.Bytes()[2:]...)
		got, err := DecodeBytes(file, Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := upright
		if c.turned {
			want = upright.oriented(6)
		}
		if got.Width != want.Width || !bytes.Equal(got.Pix, want.Pix) {
			t.Errorf("%s: the image is not as it should be, %dx%d pixels", name, got.Width, got.Height)
		}
	}
}

// TestTransparentGrayOf16Bits has values as PIL clips them, which opens such files as 32-bit integers.
func TestTransparentGrayOf16Bits(t *testing.T) {
	src := image.NewGray16(image.Rect(0, 0, 3, 1))
	for x, v := range []uint16{0x30, 0xff, 0x1234} {
		src.SetGray16(x, 0, color.Gray16{Y: v})
	}
	var w bytes.Buffer
	if err := png.Encode(&w, src); err != nil {
		t.Fatal(err)
	}
	chunk := []byte("tRNS\x00\xff") // the value that is transparent
	file := append(append([]byte{}, w.Bytes()[:33]...), 0, 0, 0, 2)
	file = binary.BigEndian.AppendUint32(append(file, chunk...), crc32.ChecksumIEEE(chunk))
	file = append(file, w.Bytes()[33:]...)
	for name, file := range map[string][]byte{"opaque": w.Bytes(), "with a transparent value": file} {
		got, err := DecodeBytes(file, Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := []uint8{0x30, 0x30, 0x30, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}; !bytes.Equal(got.Pix, want) {
			t.Errorf("%s: %v, want %v", name, got.Pix, want)
		}
	}
}

func TestTIFFWithReversedBitsOrPlanesRefused(t *testing.T) {
	for what, tag := range map[string]byte{"reversed": 0x0a, "planes": 0x1c} {
		var w bytes.Buffer
		if err := tiff.Encode(&w, image.NewNRGBA(image.Rect(0, 0, 8, 8)), nil); err != nil {
			t.Fatal(err)
		}
		file := w.Bytes()
		// The tag of the horizontal resolution, which nothing reads, becomes another, of value 2.
		at := bytes.Index(file, []byte{0x1a, 0x01, 5, 0, 1, 0, 0, 0})
		copy(file[at:], []byte{tag, 0x01, 3, 0, 1, 0, 0, 0, 2, 0, 0, 0})
		if _, err := DecodeBytes(file, Limits{}); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("error %v, want one about %s", err, what)
		}
	}
}

func pngHeader(width, height uint32) []byte {
	chunk := []byte("IHDR")
	chunk = binary.BigEndian.AppendUint32(chunk, width)
	chunk = binary.BigEndian.AppendUint32(chunk, height)
	chunk = append(chunk, 8, 2, 0, 0, 0)
	file := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), chunk...)
	return binary.BigEndian.AppendUint32(file, crc32.ChecksumIEEE(chunk))
}

func TestHugeHeaderRefusedBeforeAllocation(t *testing.T) {
	huge := map[string][]byte{
		"PNG":            pngHeader(100_000, 100_000),
		"JPEG":           []byte("\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01"),
		"GIF":            []byte("GIF89a\xff\xff\xff\xff\x00\x00\x00"),
		"BMP":            append([]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\xa0\x86\x01\x00\xa0\x86\x01\x00\x01\x00\x18\x00"), make([]byte, 24)...),
		"PNM":            []byte("P6 100000 100000 255\n"),
		"WebP lossy":     []byte("RIFF\x20\x00\x00\x00WEBPVP8 \x0a\x00\x00\x00\x00\x00\x00\x9d\x01\x2a\xff\x3f\xff\x3f"),
		"WebP lossless":  []byte("RIFF\x20\x00\x00\x00WEBPVP8L\x05\x00\x00\x00\x2f\xff\xff\xff\x0f\x00"),
		"WebP extended":  []byte("RIFF\x20\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00\xff\xff\xff\xff\xff\xff"),
		"TIFF":           []byte("II*\x00\x08\x00\x00\x00\x05\x00\x00\x01\x04\x00\x01\x00\x00\x00\xa0\x86\x01\x00\x01\x01\x04\x00\x01\x00\x00\x00\xa0\x86\x01\x00\x02\x01\x03\x00\x01\x00\x00\x00\x08\x00\x00\x00\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00\x00\x00\x15\x01\x03\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00"),
		"PNG (overflow)": pngHeader(1<<31-1, 1<<31-1),
	}
	for name, data := range huge {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := DecodeBytes(data, Limits{})
		runtime.ReadMemStats(&after)
		allocated := after.TotalAlloc - before.TotalAlloc
		if err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line", name, err)
		}
		if !errors.Is(err, ErrTooLarge) && name != "PNG (overflow)" {
			t.Errorf("%s: %v does not wrap ErrTooLarge", name, err)
		}
		if allocated > 1<<20 {
			t.Errorf("%s: %d bytes allocated for a refused header", name, allocated)
		}
	}
}

func TestBadFilesNamedInOneLine(t *testing.T) {
	dir := t.TempDir()
	whole := append(pngHeader(4, 4), "\x00\x00\x00\x05IDAT"...)
	for name, data := range map[string]string{
		"empty.png":     "",
		"truncated.png": string(whole),
		"text.jpg":      "this is no image\n",
		"short.jpg":     "\xff\xd8\xff",
		"short.gif":     "GIF89a\x01",
		"short.bmp":     "BM",
		"short.tif":     "II*\x00\xff\xff\xff\xff",
		"short.webp":    "RIFF\x00\x00\x00\x00WEBP",
		"short.ppm":     "P6 4 4 255\n1234",
		"zero.ppm":      "P6 0 4 255\n",
		"huge.png":      string(pngHeader(100_000, 100_000)),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := DecodeFile(path, Limits{})
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %q, want one line with the name", name, err)
		}
		if cut := strings.HasPrefix(name, "truncated"); cut && !strings.Contains(err.Error(), "truncated") || name == "zero.ppm" && (strings.Contains(err.Error(), "truncated") || strings.Contains(err.Error(), "convert")) {
			t.Errorf("%s: error %q gives another reason", name, err)
		}
	}
	for _, path := range []string{dir, filepath.Join(dir, "absent.png")} {
		if _, err := DecodeFile(path, Limits{}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error %q does not name %s", err, path)
		}
	}
	if _, err := DecodeBytes([]byte("no image"), Limits{}); !errors.Is(err, ErrFormat) {
		t.Errorf("error %v is not ErrFormat", err)
	}
}

func TestFileAboveByteLimitRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "big.png")
	if err := os.WriteFile(path, make([]byte, 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeFile(path, Limits{MaxBytes: 999}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("file: %v", err)
	}
	if _, err := Decode(strings.NewReader(strings.Repeat("x", 1000)), Limits{MaxBytes: 999}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("reader: %v", err)
	}
	if _, err := DecodeBytes(make([]byte, 1000), Limits{MaxBytes: 999}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("bytes: %v", err)
	}
	const file = "P6 1 1 255\n\x01\x02\x03" // as large as it may be
	if img, err := Decode(strings.NewReader(file), Limits{MaxBytes: int64(len(file)), MaxPixels: 1}); err != nil || string(img.Pix) != "\x01\x02\x03" {
		t.Errorf("at the limit: %v", err)
	}
}

func TestJPEGPixelsEqualLibjpeg(t *testing.T) {
	all := samples(t, `
for w, h in [(1, 1), (2, 2), (3, 5), (5, 3), (8, 8), (16, 16), (17, 33), (33, 17), (64, 48), (131, 97)]:
    for sub in 0, 1, 2:
        for progressive in False, True:
            for q in 5, 60, 92, 100:
                put('%dx%d subsampling %d progressive %s quality %d' % (w, h, sub, progressive, q),
                    save(picture('RGB', w, h), 'JPEG', quality=q, subsampling=sub, progressive=progressive, optimize=q == 60))
    for progressive in False, True:
        put('%dx%d gray %s' % (w, h, progressive), save(picture('L', w, h), 'JPEG', quality=80, progressive=progressive))
        put('%dx%d CMYK %s' % (w, h, progressive), save(picture('CMYK', w, h), 'JPEG', quality=80, progressive=progressive))
def noise(w, h, seed):
    rng = random.Random(seed)
    return Image.frombytes('RGB', (w, h), bytes(rng.randrange(256) for _ in range(3 * w * h)))
for q in 1, 30, 75, 95, 100:
    for sub in 0, 1, 2:
        for progressive in False, True:
            put('noise quality %d subsampling %d progressive %s' % (q, sub, progressive), save(noise(83, 59, q), 'JPEG', quality=q, subsampling=sub, progressive=progressive))
for o in range(0, 10):
    im = picture('RGB', 31, 23)
    e = im.getexif(); e[0x112] = o
    put('orientation %d' % o, save(im, 'JPEG', exif=e))
`)
	for _, s := range all {
		got, err := DecodeBytes(s.file, Limits{})
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if n, d := difference(got, s.want); n != 0 {
			t.Errorf("%s: %d of %d bytes differ, by up to %d", s.name, n, len(got.Pix), d)
		}
	}
	t.Logf("%d files compared", len(all))
}
