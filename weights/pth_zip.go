package weights

import (
	"archive/zip"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
)

// checksum is a part of the file and the CRC-32 that it should have.
type checksum struct {
	entry string
	data  []byte
	crc   uint32
}

func (c checksum) ok() bool { return crc32.ChecksumIEEE(c.data) == c.crc }

// readPTH reads the zip archive of torch.save: one folder with data.pkl, a file data/KEY for each storage, and the
// byte order where torch is new enough to say. torch.save stores its entries uncompressed, so that they can be mapped;
// compressed ones are refused, and with them archives that grow when unpacked.
func readPTH(f *File, data []byte) error {
	f.format = PTH
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return fmt.Errorf("is a zip archive that is truncated or damaged (%w): download it again", err)
	}
	entries := make(map[string]*zip.File, len(archive.File))
	folder := ""
	for _, e := range archive.File {
		if entries[e.Name] != nil {
			return fmt.Errorf("is a zip archive with two entries %.80q", e.Name)
		}
		entries[e.Name] = e
		if dir, ok := strings.CutSuffix(e.Name, "/data.pkl"); ok && !strings.Contains(dir, "/") {
			if folder != "" {
				return errors.New("is a zip archive of two checkpoints")
			}
			folder = dir + "/"
		}
	}
	switch {
	case folder == "":
		return otherArchive(archive)
	case entries[folder+"constants.pkl"] != nil:
		return errors.New("is a TorchScript program, not a state dict: load it with torch.jit.load and save its state_dict()")
	}
	if e := entries[folder+"byteorder"]; e != nil {
		order, err := stored(data, e)
		if err != nil {
			return err
		}
		if string(order) != "little" {
			return fmt.Errorf("has byte order %.20q: save it again on a little-endian machine", order)
		}
	}
	code, err := stored(data, entries[folder+"data.pkl"])
	if err != nil {
		return err
	}
	c, err := runCheckpoint(code)
	if err != nil {
		return err
	}
	f.sums = append(f.sums, checksum{"data.pkl", code, entries[folder+"data.pkl"].CRC32})
	for _, s := range c.storages {
		e := entries[folder+"data/"+s.key]
		if e == nil {
			return fmt.Errorf("lacks storage %.80q, which its pickle refers to", s.key)
		}
		if s.data, err = stored(data, e); err != nil {
			return err
		}
		f.sums = append(f.sums, checksum{e.Name, s.data, e.CRC32})
		// The pickle counts whole elements: a float32 view of ten bytes is of a storage of two, and all ten are written.
		want := s.len * s.dtype.Size()
		if rest := len(s.data) - want; rest < 0 || rest >= s.dtype.Size() {
			return fmt.Errorf("has storage %.80q of %d bytes where its pickle says %d", s.key, len(s.data), want)
		}
		s.data = s.data[:want:want]
	}
	return c.stateDict(f, len(data))
}

// archives tell by the end of an entry's name what people take for a checkpoint.
var archives = []struct{ suffix, isA string }{
	{"model.weights.h5", "a Keras model (.keras), with its weights in HDF5" + fromTensorFlow},
	{"MAR-INF/MANIFEST.json", "a model archive of TorchServe (.mar): unzip it and give the .pth file inside"},
	{"/.data/extern_modules", "an archive of torch.package: load it with torch.package.PackageImporter and save the model's state_dict()"},
	{".npy", "an archive of NumPy arrays (.npz): save them with safetensors.numpy.save_file"},
}

// otherArchive says what an archive without a data.pkl is.
func otherArchive(archive *zip.Reader) error {
	for _, a := range archives {
		for _, e := range archive.File {
			if strings.HasSuffix(e.Name, a.suffix) {
				return errors.New("is " + a.isA)
			}
		}
	}
	return errors.New("is a zip archive, but not one of torch.save (no data.pkl in it): give a .safetensors, .pth or .tflite file")
}

// stored returns the bytes of an entry where they lie in the archive.
func stored(archive []byte, e *zip.File) ([]byte, error) {
	const encrypted = 1
	switch {
	case e.Flags&encrypted != 0:
		return nil, fmt.Errorf("has the encrypted entry %.80q", e.Name)
	case e.Method != zip.Store || e.CompressedSize64 != e.UncompressedSize64:
		return nil, fmt.Errorf("has the compressed entry %.80q, where torch.save compresses nothing: load it in PyTorch and save it again", e.Name)
	}
	at, err := e.DataOffset()
	size := uint64(len(archive))
	if err != nil || at < 0 || uint64(at) > size || e.UncompressedSize64 > size-uint64(at) {
		return nil, fmt.Errorf("has the entry %.80q outside the file", e.Name)
	}
	end := uint64(at) + e.UncompressedSize64
	return archive[at:end:end], nil
}
