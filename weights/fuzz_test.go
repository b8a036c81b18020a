package weights

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-modelzoo/zoo/weights/internal/tflite"
)

// The targets check more than that nothing panics: what is accepted must be readable to the last tensor and survive
// being written, and what is refused must be refused in one line.

// FuzzSafetensorsHeader takes a header and the data after it.
func FuzzSafetensorsHeader(f *testing.F) {
	file := safetensorsBytes(f, sample())
	split := bytes.LastIndexByte(file[:len(file)-1], '}') + 1
	f.Add(string(file[8:split]), file[split:])
	for _, header := range []string{
		"{}",
		`{"__metadata__":{"format":"pt"}}`,
		"{" + tensorJSON("a", "U8", "4", 0, 4) + "}",
		"{" + tensorJSON("a", "U8", "8", 0, 8) + "," + tensorJSON("b", "U8", "8", 4, 12) + "}",
		"{" + tensorJSON("a", "F32", "0,4611686018427387904,8", 0, 0) + "}",
		"{" + tensorJSON("a", "U8", "4", 0, 1<<63) + "}",
		`{"\u0061":{"dtype":"BF16","shape":[1,2],"data_offsets":[0,4]}}   `,
		`{"a":[[[[[[]]]]]]}`,
	} {
		f.Add(header, make([]byte, 4))
	}
	f.Fuzz(func(t *testing.T, header string, data []byte) {
		check(t, safetensorsOf(header, data))
	})
}

// FuzzPickle takes a pickle, and runs it as the object of both formats beside storages of 4, 12 and 2 float32.
func FuzzPickle(f *testing.F) {
	lens := []int{4, 12, 2}
	for _, object := range [][]byte{
		stateOf(plain("a", 4), plain("b", 12)),
		stateOf(fake{"t", "FloatStorage", "1", 12, 0, []int{3, 4}, []int{1, 3}}),
		stateOf(fake{"e", "HalfStorage", "0", 8, 1, []int{2, 0}, []int{1, 1}}),
		pickled(func(p *pickler) {
			p.op('}')
			p.text("model")
			p.putState(true, plain("module.a", 4))
			p.op('s')
		}),
		pickled(func(p *pickler) { p.global("posix", "system"); p.text("id"); p.op(0x85, 'R') }),
		pickled(func(p *pickler) { p.op('}', 'q', 0); p.text("model"); p.op('h', 0, 's') }),
		[]byte("\x80\x02ccollections\nOrderedDict\n]](U\x01aK\x01ea\x85R."),
		[]byte("\x80\x02cnumpy.core.multiarray\nscalar\n)R}b."),
		[]byte("\x80\x02cargparse\nNamespace\n)\x81}q\x00X\x01\x00\x00\x00ah\x00sb."),
		[]byte("\x80\x02X\xff\xff\xff\xff."),
		[]byte("\x80\x02(((((\x8a\x00tttt."),
		protocol4(stateOf(plain("a", 4), plain("b", 12))),
		protocol4(pickled(func(p *pickler) { p.global("posix", "system"); p.text("id"); p.op(0x85, 'R') })),
		[]byte("\x80\x05\x95\x1b\x00\x00\x00\x00\x00\x00\x00]\x94(C\x01a\x94\x8f\x94(K\x01\x90(h\x00\x91B\x01\x00\x00\x00ze."),
		[]byte("\x80\x05]\x8d\x01\x00\x00\x00\x00\x00\x00\x00aa\x8e\x01\x00\x00\x00\x00\x00\x00\x00aa\x96\x01\x00\x00\x00\x00\x00\x00\x00aa."),
	} {
		f.Add(object)
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		keys := []string{"0", "1", "2"}
		check(t, legacyOf(object, keys, lens))
		// The old format wants every storage to be named; one alone is named by most pickles that get anywhere.
		check(t, legacyOf(object, keys[:1], lens[:1]))
		check(t, zipOf(t, map[string][]byte{
			"m/data.pkl": object, "m/data/0": countUp(4), "m/data/1": countUp(12), "m/data/2": countUp(2),
		}))
	})
}

// FuzzOpen takes a whole file, so that the containers around header and pickle are searched too.
func FuzzOpen(f *testing.F) {
	f.Add(safetensorsBytes(f, sample()))
	f.Add(pthBytes(f, sample()))
	f.Add(legacyOf(stateOf(plain("a", 4), plain("b", 2)), []string{"0", "1"}, []int{4, 2}))
	for _, k := range kinds {
		f.Add(append(make([]byte, k.at), k.magic...))
	}
	f.Fuzz(func(t *testing.T, data []byte) { check(t, data) })
}

// FuzzTFLite takes a TensorFlow Lite model after the identifier at its start.
func FuzzTFLite(f *testing.F) {
	for _, n := range liteNetworks() {
		for _, style := range liteStyles {
			m, _ := liteModel(f, n, 32, smallState(n, 2), style)
			data := m.encode()
			f.Add(data[:4], data[8:])
		}
	}
	f.Fuzz(func(t *testing.T, root, rest []byte) {
		if len(root) != 4 {
			return
		}
		check(t, slices.Concat(root, []byte(tflite.Identifier), rest))
	})
}

// check opens a file and, if that works, reads all of it and writes it again.
func check(t *testing.T, data []byte) {
	t.Helper()
	file, err := parse("x", data)
	if err != nil {
		if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrRefused) {
			t.Fatalf("error of no kind: %v", err)
		}
		if msg := err.Error(); strings.Contains(msg, "\n") || len(msg) > 2000 {
			t.Fatalf("error of %d characters: %q", len(msg), msg)
		}
		return
	}
	total := 0
	for w := range file.All() {
		raw, err := w.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		values, err := w.Float32()
		if err != nil {
			t.Fatal(err)
		}
		if len(values) != w.Len() || len(raw) != w.Len()*w.DType.Size() {
			t.Fatalf("tensor %q of shape %v has %d values and %d bytes", w.Name, w.Shape, len(values), len(raw))
		}
		total += len(raw)
	}
	if total > sharing*len(data) {
		t.Fatalf("%d bytes of tensors in a file of %d", total, len(data))
	}
	if _, err := Verify(t.Context(), file); err != nil && !errors.Is(err, ErrFormat) {
		t.Fatal(err)
	}
	var b bytes.Buffer
	tensors := slices.Collect(file.All())
	if err := WriteSafetensors(&b, tensors, file.Metadata()); err != nil {
		if _, reserved := file.Tensor(metadataKey); reserved {
			return // a name that only safetensors cannot hold
		}
		t.Fatal(err)
	}
	again, err := parse("again", b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	sameTensors(t, again, tensors)
}

// FuzzNPY takes a whole file.
func FuzzNPY(f *testing.F) {
	for _, header := range []string{
		npyHeaderOf("<f4", "False", "(2,)"), npyHeaderOf("<f2", "True", "(2, 2)"), npyHeaderOf("<i8", "False", "()"),
		npyHeaderOf("<f4", "False", "(1099511627776,)"), `{"shape":(2L,1L),"fortran_order":False,"descr":"|u1"}`,
	} {
		for version := byte(1); version <= 3; version++ {
			f.Add(npyOf(version, header, countUp(2)))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		shape, values, err := ReadNPY(bytes.NewReader(data))
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("error of several lines: %q", err)
			}
			return
		}
		var b bytes.Buffer
		if err := WriteNPY(&b, shape, values); err != nil {
			t.Fatal(err)
		}
		shapeAgain, again, err := ReadNPY(&b)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(shape, shapeAgain) || !bytes.Equal(bytesOf(values), bytesOf(again)) {
			t.Fatalf("%v %v came back as %v %v", shape, values, shapeAgain, again)
		}
	})
}
