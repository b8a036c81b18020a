package weights

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// oneLine fails the test unless err is an error of one line that wraps target and contains every part.
func oneLine(t *testing.T, err, target error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("accepted")
	}
	if target != nil && !errors.Is(err, target) {
		t.Errorf("error %v does not wrap %v", err, target)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("error has several lines: %v", err)
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not mention %q", err, p)
		}
	}
}

// write puts content in a new file of that name and returns the path.
func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustOpen opens a checkpoint for the length of the test.
func mustOpen(t *testing.T, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

// floats returns the named tensor's values.
func floats(t *testing.T, f *File, name string) []float32 {
	t.Helper()
	v, err := f.Param(name)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sample is a small state dict of several types and shapes.
func sample() []Tensor {
	return []Tensor{
		FromFloat32("conv.weight", []int{2, 1, 3}, []float32{1, 2, 3, 4, 5, 6}),
		FromFloat32("conv.bias", []int{2}, []float32{-1, 0.5}),
		FromInt64("bn.num_batches_tracked", nil, []int64{7}),
		FromFloat32("empty", []int{0, 4}, nil),
		{Name: "half", DType: F16, Shape: []int{3}, data: []byte{0x00, 0x3c, 0x00, 0xc0, 0x01, 0x00}},
		{Name: "flag", DType: Bool, Shape: []int{1}, data: []byte{1}},
	}
}

// safetensorsOf joins a header, without padding, and data.
func safetensorsOf(header string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func safetensorsBytes(t testing.TB, tensors []Tensor) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WriteSafetensors(&b, tensors, map[string]string{"format": "pt"}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func pthBytes(t testing.TB, tensors []Tensor) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := WritePTH(&b, tensors); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// sameTensors fails the test unless f holds exactly tensors, in any order.
func sameTensors(t *testing.T, f *File, want []Tensor) {
	t.Helper()
	if f.Len() != len(want) {
		t.Errorf("%d tensors, want %d: %v", f.Len(), len(want), f.Names())
	}
	for _, w := range want {
		got, ok := f.Tensor(w.Name)
		if !ok {
			t.Errorf("tensor %q is lost", w.Name)
			continue
		}
		if got.DType != w.DType || !slices.Equal(got.Shape, w.Shape) {
			t.Errorf("%q is %v %v, want %v %v", w.Name, got.DType, got.Shape, w.DType, w.Shape)
		}
		a, err := got.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		b, err := w.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a, b) {
			t.Errorf("%q has other bytes", w.Name)
		}
	}
}

// headerOf returns the JSON object at the start of a safetensors file.
func headerOf(t *testing.T, file []byte) map[string]json.RawMessage {
	t.Helper()
	n := binary.LittleEndian.Uint64(file)
	var h map[string]json.RawMessage
	if err := json.Unmarshal(file[8:8+n], &h); err != nil {
		t.Fatal(err)
	}
	return h
}
