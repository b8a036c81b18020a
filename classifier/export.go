package classifier

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-modelzoo/zoo/graph/onnx"
	"github.com/go-modelzoo/zoo/internal/files"
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
	if err := f.check(); err != nil {
		return "", err
	}
	return f, nil
}

func (f ExportFormat) check() error {
	if !slices.Contains([]ExportFormat{ExportSafetensors, ExportPTH, ExportONNX}, f) {
		return fmt.Errorf("format %q is unknown: use safetensors, pth or onnx", string(f))
	}
	return nil
}

// Export writes a checkpoint to a file and returns the number of tensors. The file appears only when it is complete. An architecture without
// weights is refused, and so are weights that do not have the checkpoint's digest.
func (c *Client) Export(ctx context.Context, ck *Checkpoint, format ExportFormat, file string) (_ int, err error) {
	ctx, end, err := c.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end(&err)
	if err := format.check(); err != nil {
		return 0, err
	}
	if ck.Path == "" {
		return 0, fmt.Errorf("%s has no weights to export", ck.Name)
	}
	if err := ck.whole(ctx); err != nil {
		return 0, err
	}
	f, err := weights.Open(ck.Path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	tensors := slices.Collect(f.All())
	write := func(w io.Writer) error {
		w = files.Writer(ctx, w)
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

// WriteFile writes a file that the user named, through a temporary one in the same folder, which takes the name when it is complete and on
// disk. A symbolic link keeps pointing where it does; what is neither a file nor a folder, such as /dev/null or a pipe, is written to as it is.
func WriteFile(name string, write func(io.Writer) error) error {
	path, err := filepath.EvalSymlinks(name)
	if errors.Is(err, fs.ErrNotExist) {
		path = name
		_, err = os.Stat(filepath.Dir(name))
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", name, err)
	}
	switch info, err := os.Stat(name); {
	case err == nil && info.IsDir():
		return fmt.Errorf("%s is a folder: name a file in it", name)
	case err == nil && !info.Mode().IsRegular():
		return writeThrough(name, write)
	}
	return files.Write(path, 0o644, write)
}

// writeThrough writes to something that must not be replaced.
func writeThrough(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
