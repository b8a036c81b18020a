package classifier

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-modelzoo/zoo/graph/onnx"
	"github.com/go-modelzoo/zoo/weights"
)

// ExportFormat is what Export writes.
type ExportFormat string

// Formats of Export.
const (
	ExportSafetensors ExportFormat = "safetensors"
	ExportPTH         ExportFormat = "pth" // torch.load and load_state_dict read it
	ExportONNX        ExportFormat = "onnx"
)

// ParseExportFormat reads a format's name, or takes it from the file's extension when the name is empty.
func ParseExportFormat(name, file string) (ExportFormat, error) {
	if name == "" {
		name = strings.TrimPrefix(filepath.Ext(file), ".")
		if name == "pt" {
			name = "pth"
		}
	}
	f := ExportFormat(name)
	if !slices.Contains([]ExportFormat{ExportSafetensors, ExportPTH, ExportONNX}, f) {
		return "", fmt.Errorf("format %q is unknown: use safetensors, pth or onnx", name)
	}
	return f, nil
}

// Export writes a checkpoint to a file and returns the number of tensors. The file appears only when it is complete.
func (c *Client) Export(ctx context.Context, ck *Checkpoint, format ExportFormat, file string) (int, error) {
	f, err := weights.Open(ck.Path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	tensors := slices.Collect(f.All())
	write := func(w io.Writer) error {
		switch format {
		case ExportSafetensors:
			return weights.WriteSafetensors(w, tensors, f.Metadata())
		case ExportPTH:
			return weights.WritePTH(w, tensors)
		default:
			g, err := c.Host.Build(ctx, ck.Network())
			if err != nil {
				return err
			}
			return onnx.Write(w, g, f)
		}
	}
	return len(tensors), WriteFile(file, write)
}

// WriteFile writes through a temporary file in the same folder, which takes the name when it is complete and on disk.
func WriteFile(name string, write func(io.Writer) error) (err error) {
	t, err := os.CreateTemp(filepath.Dir(name), ".zoo-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			t.Close()
			os.Remove(t.Name())
		}
	}()
	if err := write(t); err != nil {
		return err
	}
	if err := t.Chmod(0o644); err != nil {
		return err
	}
	if err := t.Sync(); err != nil {
		return err
	}
	if err := t.Close(); err != nil {
		return err
	}
	return os.Rename(t.Name(), name)
}
