package weights

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"strconv"
)

// WritePTH writes tensors as a state dict that torch.load reads (PyTorch 1.6 and later, with weights_only too): an
// OrderedDict in the order given, in the zip format. The same tensors give the same bytes.
func WritePTH(w io.Writer, tensors []Tensor) error {
	if err := writePTH(w, tensors); err != nil {
		return fmt.Errorf("write pth: %w", err)
	}
	return nil
}

func writePTH(w io.Writer, tensors []Tensor) error {
	if err := checkWritable(tensors); err != nil {
		return err
	}
	code, err := statePickle(tensors)
	if err != nil {
		return err
	}
	a := newArchive(w)
	if err := a.add("data.pkl", code); err != nil {
		return err
	}
	if err := a.add("byteorder", []byte("little")); err != nil {
		return err
	}
	for i, t := range tensors {
		data, err := t.Bytes()
		if err == nil {
			err = a.add("data/"+strconv.Itoa(i), data)
		}
		if err != nil {
			return fmt.Errorf("tensor %q: %w", t.Name, err)
		}
	}
	if err := a.add("version", []byte("3\n")); err != nil {
		return err
	}
	return a.zip.Close()
}

// archive writes a zip archive as torch does: entries stored, their bytes at multiples of 64.
type archive struct {
	zip     *zip.Writer
	written counter
}

func newArchive(w io.Writer) *archive {
	a := &archive{written: counter{w: w}}
	a.zip = zip.NewWriter(&a.written)
	return a
}

// storageAlignment is what PyTorch aligns storages to.
const storageAlignment = 64

func (a *archive) add(name string, data []byte) error {
	if uint64(len(data)) >= math.MaxUint32 {
		return fmt.Errorf("%d bytes are more than an entry of the archive holds", len(data))
	}
	if err := a.zip.Flush(); err != nil {
		return err
	}
	h := &zip.FileHeader{
		Name:               "archive/" + name,
		Method:             zip.Store,
		CRC32:              crc32.ChecksumIEEE(data),
		CompressedSize64:   uint64(len(data)),
		UncompressedSize64: uint64(len(data)),
	}
	// The extra field "FB", of a 4-byte head and padding, ends where the data is to begin.
	const localHeader, fieldHead = 30, 4
	at := a.written.n + int64(localHeader+len(h.Name)+fieldHead)
	padding := int((storageAlignment - at%storageAlignment) % storageAlignment)
	h.Extra = binary.LittleEndian.AppendUint16([]byte("FB"), uint16(padding))
	h.Extra = append(h.Extra, bytes.Repeat([]byte{'Z'}, padding)...)

	e, err := a.zip.CreateRaw(h)
	if err != nil {
		return err
	}
	_, err = e.Write(data)
	return err
}

// counter counts what is written through it.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// statePickle is the pickle of the OrderedDict. The one thing in it that is not a tensor is _metadata, the version of
// each module: MNASNet refuses to load without its own, 2, which stands for the root; nothing else asks.
func statePickle(tensors []Tensor) ([]byte, error) {
	var p pickler
	p.op(0x80, 2) // PROTO 2
	p.emptyOrderedDict()
	p.op('(')
	for i, t := range tensors {
		class := dtypes[t.DType].storage
		if class == "" {
			return nil, fmt.Errorf("tensor %q: PyTorch has no type %v", t.Name, t.DType)
		}
		p.text(t.Name)
		p.global("torch._utils", "_rebuild_tensor_v2")
		p.op('(')
		{
			p.op('(')
			p.text("storage")
			p.global("torch", class)
			p.text(strconv.Itoa(i))
			p.text("cpu")
			p.integer(t.Len())
			p.op('t', 'Q') // TUPLE, BINPERSID
			p.integer(0)   // offset
			p.op('(')
			for _, d := range t.Shape {
				p.integer(d)
			}
			p.op('t', '(')
			for axis := range t.Shape {
				step, _ := elements(t.Shape[axis+1:])
				p.integer(step)
			}
			p.op('t', 0x89)      // TUPLE, NEWFALSE: requires_grad
			p.emptyOrderedDict() // hooks
		}
		p.op('t', 'R') // TUPLE, REDUCE
	}
	p.op('u') // SETITEMS

	p.op('}') // the attributes of the OrderedDict
	p.text("_metadata")
	p.emptyOrderedDict()
	p.text("")
	p.op('}')
	p.text("version")
	p.integer(2)
	p.op('s', 's', 's', 'b', '.') // three SETITEM from the inside out, BUILD, STOP
	return p.Bytes(), nil
}

// pickler writes opcodes of pickle protocol 2.
type pickler struct{ bytes.Buffer }

func (p *pickler) op(codes ...byte) { p.Write(codes) }

func (p *pickler) global(module, name string) { p.WriteString("c" + module + "\n" + name + "\n") }

func (p *pickler) emptyOrderedDict() {
	p.global("collections", "OrderedDict")
	p.op(')', 'R')
}

func (p *pickler) text(s string) {
	p.op('X')
	p.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(s))))
	p.WriteString(s)
}

// integer writes a number that is not negative.
func (p *pickler) integer(n int) {
	switch {
	case n < 1<<8:
		p.op('K', byte(n))
	case n <= math.MaxInt32:
		p.op('J')
		p.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	default:
		p.op(0x8a, 8)
		p.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	}
}
