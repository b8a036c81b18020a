package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"
)

func TestSafetensorsSurvivesARoundTrip(t *testing.T) {
	data := safetensorsBytes(t, sample())
	f := mustOpen(t, write(t, "misnamed.bin", data))
	if f.Format() != Safetensors {
		t.Errorf("format %q", f.Format())
	}
	sameTensors(t, f, sample())
	if got := f.Metadata()["format"]; got != "pt" {
		t.Errorf("metadata has format %q", got)
	}
	if again := safetensorsBytes(t, sample()); !bytes.Equal(data, again) {
		t.Error("writing twice gives other bytes")
	}
	if n := binary.LittleEndian.Uint64(data); n%8 != 0 {
		t.Errorf("header of %d bytes is not padded to 8", n)
	}
	if _, ok := headerOf(t, data)[metadataKey]; !ok {
		t.Error("no metadata in the header")
	}
	if got := floats(t, f, "half"); got[0] != 1 || got[1] != -2 || got[2] != 0x1p-24 {
		t.Errorf("half is %v", got)
	}
	if got := floats(t, f, "flag"); got[0] != 1 {
		t.Errorf("flag is %v", got)
	}
}

func TestAlignedFloat32IsNotCopied(t *testing.T) {
	// The int64 and the odd bool come first here; the writer must still leave the float32 aligned.
	f := mustOpen(t, write(t, "x", safetensorsBytes(t, []Tensor{
		{Name: "flag", DType: Bool, Shape: []int{1}, data: []byte{1}},
		FromInt64("n", nil, []int64{1}),
		FromFloat32("w", []int{4}, []float32{1, 2, 3, 4}),
	})))
	w, _ := f.Tensor("w")
	raw, err := w.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	if got := floats(t, f, "w"); unsafe.Pointer(&got[0]) != unsafe.Pointer(&raw[0]) {
		t.Error("values were copied")
	}
}

func TestUnalignedFloat32IsCopied(t *testing.T) {
	header := `{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"w":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}`
	data := append([]byte{9}, bytesOf([]float32{1.5})...)
	f := mustOpen(t, write(t, "x", safetensorsOf(header, data)))
	if got := floats(t, f, "w"); got[0] != 1.5 {
		t.Errorf("read %v", got)
	}
}

func TestTensorOfAClosedFileRefused(t *testing.T) {
	f, err := Open(write(t, "x", safetensorsBytes(t, sample())))
	if err != nil {
		t.Fatal(err)
	}
	w, _ := f.Tensor("conv.weight")
	if err := errors.Join(f.Close(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Float32(); !errors.Is(err, ErrClosed) {
		t.Errorf("values of a closed file: %v", err)
	}
	if _, err := Verify(t.Context(), f); !errors.Is(err, ErrClosed) {
		t.Errorf("verified a closed file: %v", err)
	}
}

// TestHeaderOf1GBRefused makes sure that the size is refused before memory for it is taken.
func TestHeaderOf1GBRefused(t *testing.T) {
	for name, data := range map[string][]byte{
		"with JSON":    append(binary.LittleEndian.AppendUint64(nil, 1<<30), `{"a":`...),
		"without JSON": binary.LittleEndian.AppendUint64(nil, 1<<30),
		"zeros":        append(binary.LittleEndian.AppendUint64(nil, 1<<30), make([]byte, 100)...),
		"sparse":       nil,
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, "x.safetensors", data)
			if name == "sparse" { // the file really is that long, and costs nothing
				if err := os.WriteFile(path, append(binary.LittleEndian.AppendUint64(nil, 1<<30), '{'), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Truncate(path, 1<<30+8); err != nil {
					t.Skipf("no sparse files here: %v", err)
				}
			}
			var opened error
			allocated := testing.AllocsPerRun(1, func() { _, opened = Open(path) })
			oneLine(t, opened, ErrFormat, path)
			if allocated > 100 {
				t.Errorf("%v allocations to refuse it", allocated)
			}
		})
	}
}

func tensorJSON(name, dtype, shape string, begin, end uint64) string {
	return fmt.Sprintf(`%q:{"dtype":%q,"shape":[%s],"data_offsets":[%d,%d]}`, name, dtype, shape, begin, end)
}

func TestOverlappingOffsetsRefused(t *testing.T) {
	header := "{" + tensorJSON("a", "U8", "8", 0, 8) + "," + tensorJSON("b", "U8", "8", 4, 12) + "}"
	_, err := Open(write(t, "x", safetensorsOf(header, make([]byte, 12))))
	oneLine(t, err, ErrFormat, `"b"`, "overlaps")
}

func TestHoleBetweenTensorsRefused(t *testing.T) {
	header := "{" + tensorJSON("a", "U8", "4", 0, 4) + "," + tensorJSON("b", "U8", "4", 8, 12) + "}"
	_, err := Open(write(t, "x", safetensorsOf(header, make([]byte, 12))))
	oneLine(t, err, ErrFormat, `"b"`, "hole of 4 bytes")
}

func TestBytesAfterTheLastTensorRefused(t *testing.T) {
	_, err := Open(write(t, "x", safetensorsOf("{"+tensorJSON("a", "U8", "4", 0, 4)+"}", make([]byte, 5))))
	oneLine(t, err, ErrFormat, "1 bytes after")
}

func TestHostileSafetensorsHeaders(t *testing.T) {
	const max = math.MaxUint64
	for name, c := range map[string]struct{ header, says string }{
		"dtype times shape is not the length": {"{" + tensorJSON("a", "F32", "2", 0, 4) + "}", "8 bytes, in 4 bytes"},
		"offset past 2^63":                    {"{" + tensorJSON("a", "U8", "4", 0, max) + "}", "not a size"},
		"end past the file":                   {"{" + tensorJSON("a", "U8", "400", 0, 400) + "}", "truncated"},
		"end before begin":                    {"{" + tensorJSON("a", "U8", "4", 4, 0) + "}", "before it begins"},
		"shape that overflows":                {"{" + tensorJSON("a", "U8", "4294967296,4294967296,4294967296", 0, 4) + "}", "impossible shape"},
		"shape that overflows to fit":         {"{" + tensorJSON("a", "F32", "4611686018427387905", 0, 4) + "}", "impossible shape"},
		"shape that overflows beside a zero":  {"{" + tensorJSON("a", "F32", "0,4611686018427387904,8", 0, 0) + "}", "impossible shape"},
		"shape of a thousand axes":            {"{" + tensorJSON("a", "U8", strings.Repeat("1,", 999)+"4", 0, 4) + "}", "more than 64"},
		"negative shape":                      {"{" + tensorJSON("a", "U8", "-4", 0, 4) + "}", "not a size"},
		"negative zero":                       {"{" + tensorJSON("a", "U8", "4", 0, 4)[:len(tensorJSON("a", "U8", "4", 0, 4))-5] + "-0,4]}}", "not a size"},
		"fraction":                            {"{" + tensorJSON("a", "U8", "4.0", 0, 4) + "}", "not a size"},
		"exponent":                            {"{" + tensorJSON("a", "U8", "4e0", 0, 4) + "}", "not a size"},
		"name twice":                          {"{" + tensorJSON("a", "U8", "2", 0, 2) + "," + tensorJSON("a", "U8", "2", 2, 4) + "}", "twice"},
		"name twice, once escaped":            {"{" + tensorJSON("a", "U8", "2", 0, 2) + `,"\u0061":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}`, "twice"},
		"key twice":                           {`{"a":{"dtype":"U8","dtype":"U8","shape":[4],"data_offsets":[0,4]}}`, "twice"},
		"key in another case":                 {`{"a":{"DTYPE":"U8","shape":[4],"data_offsets":[0,4]}}`, "unknown key"},
		"unknown key":                         {`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4],"x":1}}`, "unknown key"},
		"unknown type":                        {"{" + tensorJSON("a", "F8_E4M3", "4", 0, 4) + "}", "F8_E4M3"},
		"no type":                             {`{"a":{"shape":[4],"data_offsets":[0,4]}}`, "no dtype"},
		"no shape":                            {`{"a":{"dtype":"U8","data_offsets":[0,4]}}`, "no shape"},
		"no offsets":                          {`{"a":{"dtype":"U8","shape":[4]}}`, "data_offsets"},
		"three offsets":                       {`{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,2,4]}}`, "data_offsets"},
		"number for a tensor":                 {`{"a":4}`, "stands where"},
		"list for a tensor":                   {`{"a":[[[[]]]]}`, "stands where"},
		"text for a shape":                    {`{"a":{"dtype":"U8","shape":"4","data_offsets":[0,4]}}`, "stands where"},
		"number in metadata":                  {`{"__metadata__":{"a":1}}`, "not a text"},
		"nested metadata":                     {`{"__metadata__":{"a":{}}}`, "not a text"},
		"metadata twice":                      {`{"__metadata__":{},"__metadata__":{}}`, "twice"},
		"text after the object":               {`{} {}`, "follow"},
		"not JSON":                            {`{"a"`, "damaged"},
		"missing comma":                       {`{"__metadata__":{"a":"b" "c":"d"}}`, "damaged"},
		"not UTF-8":                           {"{\"\xff\":{}}", "UTF-8"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(write(t, "x", safetensorsOf(c.header, make([]byte, 4))))
			oneLine(t, err, ErrFormat, c.says)
		})
	}
}

func TestErrorsStayShort(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for _, header := range []string{"{" + tensorJSON(long, "U8", "8", 0, 4) + "}", `{"a":"` + long + `"}`, `{"` + long + `":1}`} {
		if _, err := parse("x", safetensorsOf(header, make([]byte, 4))); err == nil || len(err.Error()) > 500 {
			t.Errorf("error of %d characters", len(fmt.Sprint(err)))
		}
	}
}

func TestSafetensorsWithoutTensorsOpens(t *testing.T) {
	var b bytes.Buffer
	if err := WriteSafetensors(&b, nil, nil); err != nil {
		t.Fatal(err)
	}
	if f := mustOpen(t, write(t, "x", b.Bytes())); f.Len() != 0 {
		t.Errorf("tensors %v", f.Names())
	}
}

func TestWritersRefuseWhatNoFileCanHold(t *testing.T) {
	one := FromFloat32("a", []int{1}, []float32{1})
	reshaped := one
	reshaped.Shape = []int{2}
	for name, tensors := range map[string][]Tensor{
		"name twice":    {one, one},
		"reserved name": {FromFloat32(metadataKey, []int{1}, []float32{1})},
		"no values":     {{Name: "a"}},
		"not UTF-8":     {FromFloat32("\xff", []int{1}, []float32{1})},
		"wrong shape":   {reshaped},
	} {
		t.Run(name, func(t *testing.T) {
			oneLine(t, WriteSafetensors(&bytes.Buffer{}, tensors, nil), nil, "write safetensors")
			oneLine(t, WritePTH(&bytes.Buffer{}, tensors), nil, "write pth")
		})
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestFullDiskIsAnError(t *testing.T) {
	oneLine(t, WriteSafetensors(full{}, sample(), nil), nil, "no space left")
	oneLine(t, WritePTH(full{}, sample()), nil, "no space left")
	oneLine(t, WriteNPY(full{}, []int{1}, []float32{1}), nil, "no space left")
}

func TestFilesThatAreNoCheckpoints(t *testing.T) {
	for name, c := range map[string]struct{ content, says string }{
		"empty":      {"", "is empty"},
		"one byte":   {"x", "only 1 bytes"},
		"noise":      {strings.Repeat("noise ", 10), "neither safetensors nor"},
		"HTML":       {"<!DOCTYPE html><title>404", "web page"},
		"LFS":        {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
		"gzip":       {"\x1f\x8b\x08 and more", "gzip"},
		"empty zip":  {"PK\x05\x06" + strings.Repeat("\x00", 18), "empty zip"},
		"short zip":  {"PK\x03\x04 and more", "truncated or damaged"},
		"tar":        {strings.Repeat("\x00", 257) + "ustar\x00", "tar"},
		"a pickle":   {"\x80\x02K\x01.and more", "not one of torch.save"},
		"NumPy":      {"\x93NUMPY\x01\x00v\x00", "NumPy array"},
		"one legacy": {"\x80", "only 1 bytes"},
		"HDF5":       {"\x89HDF\r\n\x1a\n\x00", "HDF5 file, as Keras's .h5 are, which is not read: export"},
		"JSON":       {`{"metadata":{"total_size":1},"weight_map":{}}`, "JSON text"},
		// As gguf 0.19 begins; its length as that of a safetensors header was what the message spoke of.
		"GGUF":            {"GGUF\x03\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00", "GGUF file (llama.cpp)"},
		"ONNX of PyTorch": {"\x08\x07\x12\x07pytorch\x1a\x061.13.0:\xe0\x01\n", "ONNX model"},
		"ONNX of no one":  {"\x08\x0a:\xe0\x01\nb\n\x0connx", "ONNX model"},
		"SavedModel":      {"\x08\x01\x12\xe0\x01\nb\n\x0c", "SavedModel of TensorFlow"},
		"TF's list":       {"model_checkpoint_path: \"model.ckpt-1\"\n", "TensorFlow's list of checkpoints"},
		"TF's checkpoint": {"\x00\x00\x06\x08\x01\x1a\x02\x08\x01" + strings.Repeat("\x00", 40) + "W\xfb\x80\x8b$uG\xdb", "a TensorFlow checkpoint, which is not read"},
	} {
		t.Run(name, func(t *testing.T) {
			path := write(t, "x.safetensors", []byte(c.content))
			_, err := Open(path)
			oneLine(t, err, ErrFormat, path, c.says)
		})
	}
}

func TestMissingFileAndFolder(t *testing.T) {
	_, err := Open(filepath.Join(t.TempDir(), "none.pth"))
	oneLine(t, err, os.ErrNotExist, "none.pth")
	_, err = Open(t.TempDir())
	oneLine(t, err, nil, "not a file")
}

// TestEveryTruncationRefused cuts each kind of file at every length.
func TestEveryTruncationRefused(t *testing.T) {
	for name, data := range map[string][]byte{
		"safetensors": safetensorsBytes(t, sample()),
		"pth":         pthBytes(t, sample()),
		"legacy":      legacyOf(stateOf(plain("a", 4), plain("b", 2)), []string{"0", "1"}, []int{4, 2}),
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse("x", data); err != nil {
				t.Fatalf("the whole file: %v", err)
			}
			for n := range data {
				if _, err := parse("x", data[:n]); err == nil {
					t.Fatalf("accepted %d of %d bytes", n, len(data))
				} else if !errors.Is(err, ErrFormat) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("%d of %d bytes: %v", n, len(data), err)
				}
			}
		})
	}
}

// TestHeaderLengthThatLooksLikeAnotherFormat pads the header so that its length begins with other formats' magic
// numbers.
func TestHeaderLengthThatLooksLikeAnotherFormat(t *testing.T) {
	header := "{" + tensorJSON("a", "U8", "4", 0, 4) + "}"
	for _, magic := range []string{"\x80", "<", "\x1f\x8b", "PK"} {
		n := int(binary.LittleEndian.Uint16([]byte(magic + "\x00")))
		if n < 0x100 {
			n += 0x100
		}
		data := safetensorsOf(header+strings.Repeat(" ", n-len(header)), make([]byte, 4))
		if !bytes.HasPrefix(data, []byte(magic)) {
			t.Fatalf("the file begins with %q", data[:2])
		}
		if _, err := parse("x", data); err != nil {
			t.Error(err)
		}
	}
}
