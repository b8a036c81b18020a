package vision

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"os"

	"golang.org/x/image/bmp"
	"golang.org/x/image/tiff"

	"github.com/go-modelzoo/zoo/vision/internal/jpeg"
)

var (
	// ErrFormat is wrapped by the error for data of no known image format.
	ErrFormat = errors.New("not an image in a known format (JPEG, PNG, GIF, BMP, TIFF, WebP, PNM)")
	// ErrTooLarge is wrapped by the error for an image or a file above the Limits.
	ErrTooLarge = errors.New("too large")
	// ErrEmpty is returned for a file of no bytes.
	ErrEmpty = errors.New("file is empty")
)

// Limits bounds what a decoder may be made to allocate. A zero field means its default.
type Limits struct {
	MaxPixels int64 // width times height; default 178,956,970, at which PIL refuses too
	MaxBytes  int64 // of the encoded file; default 512 MiB
}

const (
	defaultMaxPixels = 178_956_970
	defaultMaxBytes  = 512 << 20
)

func (l Limits) maxBytes() int64 {
	if l.MaxBytes > 0 {
		return l.MaxBytes
	}
	return defaultMaxBytes
}

// checkSize refuses an empty size and one above the limit.
func (l Limits) checkSize(width, height int64) error {
	limit := l.MaxPixels
	if limit <= 0 {
		limit = defaultMaxPixels
	}
	if width <= 0 || height <= 0 {
		return fmt.Errorf("header says %dx%d pixels", width, height)
	}
	if width > limit || height > limit || width*height > limit {
		return fmt.Errorf("%dx%d pixels are above the limit of %d: %w", width, height, limit, ErrTooLarge)
	}
	return nil
}

// DecodeFile decodes the image in the named file. The error names the file.
func DecodeFile(path string, limits Limits) (*Image, error) {
	data, err := readFile(path, limits.maxBytes())
	if err != nil {
		return nil, err
	}
	img, err := DecodeBytes(data, limits)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", path, err)
	}
	return img, nil
}

func readFile(path string, limit int64) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // opened for reading: nothing is lost when closing fails
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("image %s: is a folder", path)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("image %s: file of %d bytes is above the limit of %d: %w", path, info.Size(), limit, ErrTooLarge)
	}
	if data, err = readAll(f, limit, int(info.Size())); err != nil {
		return nil, fmt.Errorf("image %s: %w", path, err)
	}
	return data, nil
}

func readAll(r io.Reader, limit int64, sizeHint int) ([]byte, error) {
	var buf bytes.Buffer
	buf.Grow(sizeHint + bytes.MinRead)
	n, err := buf.ReadFrom(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		return nil, fmt.Errorf("more than %d bytes: %w", limit, ErrTooLarge)
	}
	return buf.Bytes(), nil
}

// Decode decodes the image that r holds, reading r to its end.
func Decode(r io.Reader, limits Limits) (*Image, error) {
	data, err := readAll(r, limits.maxBytes(), 0)
	if err != nil {
		return nil, fmt.Errorf("read image: %w", err)
	}
	return DecodeBytes(data, limits)
}

// format is one kind of file: how it begins, and its decoder. The decoder checks the size in the header against the limits
// before it allocates pixels.
type format struct {
	name   string
	magics []string // '?' matches any byte
	decode func(data []byte, limits Limits) (*Image, error)
	exif   func(data []byte) []byte // the EXIF block (a TIFF header and what follows it), nil for none
}

var formats = []format{
	{"JPEG", []string{"\xff\xd8\xff"}, decodeJPEG, exifOfJPEG},
	{"PNG", []string{"\x89PNG\r\n\x1a\n"}, library(png.DecodeConfig, png.Decode, isGrayPNG16), exifOfPNG},
	{"GIF", []string{"GIF87a", "GIF89a"}, decodeGIF, nil},
	{"BMP", []string{"BM"}, library(bmp.DecodeConfig, bmp.Decode, isGray16), nil},
	{"TIFF", []string{"II*\x00", "MM\x00*"}, decodeTIFF, func(data []byte) []byte { return data }},
	{"WebP", []string{"RIFF????WEBP"}, decodeWebP, exifOfWebP},
	{"PNM", []string{"P1", "P2", "P3", "P4", "P5", "P6"}, decodePNM, nil},
}

func (f *format) matches(data []byte) bool {
next:
	for _, magic := range f.magics {
		if len(data) < len(magic) {
			continue
		}
		for i := range len(magic) {
			if magic[i] != '?' && magic[i] != data[i] {
				continue next
			}
		}
		return true
	}
	return false
}

// DecodeBytes decodes the image that data holds. It keeps no reference to data.
func DecodeBytes(data []byte, limits Limits) (*Image, error) {
	if len(data) == 0 {
		return nil, ErrEmpty
	}
	if int64(len(data)) > limits.maxBytes() {
		return nil, fmt.Errorf("%d bytes are above the limit of %d: %w", len(data), limits.maxBytes(), ErrTooLarge)
	}
	for i := range formats {
		if f := &formats[i]; f.matches(data) {
			img, err := f.run(data, limits)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", f.name, err)
			}
			return img, nil
		}
	}
	return nil, ErrFormat
}

// run decodes and turns upright. A panic of a decoder, ours or a library's, is a malformed file like any other.
func (f *format) run(data []byte, limits Limits) (img *Image, err error) {
	defer func() {
		if p := recover(); p != nil {
			img, err = nil, fmt.Errorf("malformed data (%v)", p)
		}
	}()
	img, err = f.decode(data, limits)
	if err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			err = fmt.Errorf("file is truncated: %w", err)
		}
		if unsupported(err) {
			err = fmt.Errorf("%w: convert the file to 8-bit RGB", err)
		}
		return nil, err
	}
	if f.exif != nil {
		img = img.oriented(orientation(f.exif(data)))
	}
	return img, img.Check()
}

// unsupported says whether a library knows the format, but not this form of it.
func unsupported(err error) bool {
	var ofPNG png.UnsupportedError
	var ofTIFF tiff.UnsupportedError
	return errors.As(err, &ofPNG) || errors.As(err, &ofTIFF) || errors.Is(err, bmp.ErrUnsupported)
}

func decodeJPEG(data []byte, limits Limits) (*Image, error) {
	pix, width, height, err := jpeg.Decode(data, func(width, height int) error { return limits.checkSize(int64(width), int64(height)) })
	if err != nil {
		return nil, err
	}
	return &Image{Pix: pix, Width: width, Height: height}, nil
}

// library makes a decoder of two functions of a library in the manner of Go's image package. clip16 tells from the file and
// the result whether 16-bit gray is to be clipped (see fromGo).
func library(
	readConfig func(io.Reader) (image.Config, error), decode func(io.Reader) (image.Image, error), clip16 func(data []byte, src image.Image) bool,
) func([]byte, Limits) (*Image, error) {
	return func(data []byte, limits Limits) (*Image, error) {
		config, err := readConfig(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		if err := limits.checkSize(int64(config.Width), int64(config.Height)); err != nil {
			return nil, err
		}
		src, err := decode(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		return fromGo(src, clip16(data, src))
	}
}

// decodeTIFF decodes what the library does, as PIL with libtiff does. The library has fax coding white where libtiff has it zero,
// which is black in files that say so (PIL's own), and leaves bits in reversed order as they are except in fax coding. It inverts
// 16-bit gray whose zero is white, which PIL does not.
func decodeTIFF(data []byte, limits Limits) (*Image, error) {
	const (
		tagCompression, group3, group4           = 0x0103, 3, 4
		tagPhotometric, whiteIsZero, blackIsZero = 0x0106, 0, 1
		tagSamples                               = 0x0115
		tagPlanes, apart                         = 0x011c, 2
		tagFillOrder, reversed                   = 0x010a, 2
	)
	compression, photometric := tiffTag(data, tagCompression, 1), tiffTag(data, tagPhotometric, whiteIsZero)
	fax := compression == group3 || compression == group4
	if !fax && tiffTag(data, tagFillOrder, 1) == reversed {
		return nil, errors.New("bits in reversed order are not supported: convert the file")
	}
	if tiffTag(data, tagPlanes, 1) == apart && tiffTag(data, tagSamples, 1) > 1 { // to the library too little data
		return nil, errors.New("colours kept in planes of their own are not supported: convert the file")
	}
	decode := func(r io.Reader) (image.Image, error) {
		src, err := tiff.Decode(r)
		if gray, ok := src.(*image.Gray16); ok && photometric == whiteIsZero {
			for i, v := range gray.Pix {
				gray.Pix[i] = ^v
			}
		}
		return src, err
	}
	img, err := library(tiff.DecodeConfig, decode, isGray16)(data, limits)
	if err == nil && fax && photometric == blackIsZero {
		for i, v := range img.Pix {
			img.Pix[i] = 255 - v
		}
	}
	return img, err
}

// isGrayPNG16 reads the depth and the colour type in the header chunk, which comes first.
func isGrayPNG16(data []byte, _ image.Image) bool { return data[24] == 16 && data[25] == 0 }

func isGray16(_ []byte, src image.Image) bool {
	_, ok := src.(*image.Gray16)
	return ok
}
