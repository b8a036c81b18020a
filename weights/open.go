package weights

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/go-modelzoo/zoo/weights/internal/mmap"
	"github.com/go-modelzoo/zoo/weights/internal/tflite"
)

// ErrFormat is wrapped by every error about a file's content but those that wrap ErrRefused: it is none of the formats, or is
// damaged or truncated, or breaks a rule of its format. Download or convert the file again.
var ErrFormat = errors.New("not a sound weights file")

// ErrRefused is wrapped when a pickle asks for something that is not needed to hold tensors: it may be an attack, or a
// checkpoint that holds more than weights. Only whoever trusts the file should open it in Python and save its
// state dict alone.
var ErrRefused = errors.New("refused")

// Open maps the checkpoint at path and checks its structure (see the package comment).
func Open(path string) (*File, error) {
	m, err := mmap.Open(path)
	if errors.Is(err, mmap.ErrNotRegular) {
		return nil, fmt.Errorf("%s is not a file: give the path of a .safetensors or .pth file", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open weights: %w", err)
	}
	f, err := parse(path, m.Bytes())
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	f.mapping = m
	return f, nil
}

// kinds tell the content of a file by its first bytes. Those without a reader are what people take for a checkpoint.
var kinds = []struct {
	at    int
	magic string
	read  func(f *File, data []byte) error
	isA   string
}{
	{0, "PK\x03\x04", readPTH, ""},
	{0, "\x80", readLegacyPTH, ""},
	{0, "PK\x05\x06", nil, "an empty zip archive"},
	{257, "ustar", nil, "a tar archive (torch.save of 2016, or a model archive): unpack it, or load it in PyTorch and save it again"},
	{0, "\x89HDF\r\n\x1a\n", nil, "an HDF5 file, as Keras's .h5 are" + fromTensorFlow},
	{0, "\x93NUMPY", nil, "a NumPy array: checkpoints are .safetensors or .pth"},
	{4, tflite.Identifier, readTFLite, ""},
	{0, "\x1f\x8b", nil, "compressed with gzip: unpack it first"},
	{0, "\x28\xb5\x2f\xfd", nil, "compressed with zstd: unpack it first"},
	{0, "version https://git-lfs", nil, "a Git LFS pointer, not the file itself: run git lfs pull"},
	{0, "<", nil, "a web page, not the file itself: download it again"},
	{0, "{", nil, "a JSON text, not the weights themselves: give the .safetensors or .pth file that it belongs to"},
	{0, "GGUF", nil, "a GGUF file (llama.cpp), a format for language models: give the safetensors or .pth file that it was made from"},
	{0, "model_checkpoint_path:", nil, "TensorFlow's list of checkpoints" + fromTensorFlow},
	{0, "\x08\x01\x12", nil, "a SavedModel of TensorFlow" + fromTensorFlow},
}

// fromTensorFlow is what to do with its files and Keras's.
const fromTensorFlow = ", which is not read: export a MobileNet as TensorFlow Lite, convert other weights to safetensors (docs/import.md, Keras)"

// tableMagic ends the tables of LevelDB: TensorFlow's .ckpt of version 1, and the .index of version 2.
const tableMagic = "\x57\xfb\x80\x8b\x24\x75\x47\xdb"

// looksLikeONNX says whether data begins as an ONNX model does: a version of the format, then who wrote it or the graph.
func looksLikeONNX(data []byte) bool {
	return data[0] == 0x08 && data[1] > 1 && data[1] < 0x20 && (data[2] == 0x12 || data[2] == 0x3a)
}

// parse reads a checkpoint in memory. Every error wraps ErrFormat or ErrRefused and names path.
func parse(path string, data []byte) (*File, error) {
	f := &File{path: path}
	if len(data) == 0 {
		return nil, fmt.Errorf("%s is empty: download it again (%w)", path, ErrFormat)
	}
	read, isA := sniff(data)
	if read == nil {
		return nil, fmt.Errorf("%s is %s (%w)", path, isA, ErrFormat)
	}
	err := read(f, data)
	switch {
	case errors.Is(err, ErrRefused):
		return nil, fmt.Errorf("%s %w", path, err)
	case err != nil:
		return nil, fmt.Errorf("%s %w (%w)", path, err, ErrFormat)
	}
	return f, nil
}

// sniff returns the reader for data, or what data is if there is none.
func sniff(data []byte) (read func(*File, []byte) error, isA string) {
	// safetensors has no magic number: 8 bytes of header length, then the JSON object. It comes first, because the
	// length may look like another format's magic; its high bytes, zero, look like none. A length beyond the limit
	// is the reader's to refuse.
	const plausible = 1 << 40
	if len(data) <= 8 {
		return nil, fmt.Sprintf("no weights file: it has only %d bytes; download it again", len(data))
	}
	length := binary.LittleEndian.Uint64(data)
	if length < plausible && data[8] == '{' {
		return readSafetensors, ""
	}
	for _, k := range kinds {
		if len(data) > k.at && bytes.HasPrefix(data[k.at:], []byte(k.magic)) {
			return k.read, k.isA
		}
	}
	switch {
	case looksLikeONNX(data):
		return nil, "an ONNX model, which is written (zoo export) and not read: give the safetensors or .pth file that it was made from"
	case bytes.HasSuffix(data, []byte(tableMagic)):
		return nil, "a TensorFlow checkpoint" + fromTensorFlow
	}
	if length > maxHeader && length < plausible {
		return nil, fmt.Sprintf("no weights file that can be read: as safetensors it would have a header of %d bytes, of at most %d", length, maxHeader)
	}
	return nil, "neither safetensors nor a file of torch.save nor TensorFlow Lite: give a .safetensors, .pth or .tflite file"
}
