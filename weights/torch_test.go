package weights

import (
	"encoding/json"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// python runs testdata/torch_files.py with a Python that has PyTorch: $ZOO_PYTHON, else Debian's.
func python(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), interpreter(), append([]string{"testdata/torch_files.py"}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

func interpreter() string {
	if p := os.Getenv("ZOO_PYTHON"); p != "" {
		return p
	}
	return "/usr/bin/python3"
}

// TestPyTorchAgrees reads what torch.save writes, in both formats, and has PyTorch load what WritePTH makes of it.
func TestPyTorchAgrees(t *testing.T) {
	if testing.Short() {
		t.Skip("starts PyTorch twice")
	}
	if out, err := exec.Command(interpreter(), "-c", "import torch").CombinedOutput(); err != nil {
		t.Skipf("needs a Python with PyTorch (Debian: python3-torch python3-torchvision; or set ZOO_PYTHON): %v %s", err, out)
	}
	dir := t.TempDir()
	python(t, "write", dir)

	raw, err := os.ReadFile(filepath.Join(dir, "expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	var expected map[string]map[string][2]json.RawMessage // of a shape and a CRC-32
	if err := json.Unmarshal(raw, &expected); err != nil {
		t.Fatal(err)
	}
	for file, tensors := range expected {
		f := mustOpen(t, filepath.Join(dir, file))
		if want := map[bool]Format{true: PTH, false: LegacyPTH}[strings.Contains(file, ".zip.")]; f.Format() != want {
			t.Errorf("%s: format %q", file, f.Format())
		}
		if f.Len() != len(tensors) {
			t.Errorf("%s: tensors %q, want %d", file, f.Names(), len(tensors))
		}
		for name, want := range tensors {
			var shape []int
			var crc uint32
			if err := json.Unmarshal(want[0], &shape); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(want[1], &crc); err != nil {
				t.Fatal(err)
			}
			got, ok := f.Tensor(name)
			if !ok {
				t.Errorf("%s: no tensor %q", file, name)
				continue
			}
			if !slices.Equal(got.Shape, shape) || crc32.ChecksumIEEE(bytesOf(floats(t, f, name))) != crc {
				t.Errorf("%s: %q of shape %v has other values than PyTorch's %v", file, name, got.Shape, shape)
			}
		}
		if _, err := Verify(t.Context(), f); err != nil {
			t.Error(err)
		}
		out := pthBytes(t, slices.Collect(f.All()))
		if err := os.WriteFile(filepath.Join(dir, file+".out"), out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roundTripNPY(t, dir)
	python(t, "check", dir)
}

// roundTripNPY reads numpy.save's files of both orders, and writes out.npy from them.
func roundTripNPY(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"C.npy", "F.npy"} {
		in, err := os.Open(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer in.Close()
		shape, values, err := ReadNPY(in)
		if err != nil {
			t.Fatal(err)
		}
		out, err := os.Create(filepath.Join(dir, "out.npy"))
		if err != nil {
			t.Fatal(err)
		}
		if err := WriteNPY(out, shape, values); err != nil {
			t.Error(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if v != float32(i) {
				t.Fatalf("%s: value %d is %v", name, i, v)
			}
		}
	}
}
