package weights

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"io"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fake describes a tensor for a hand-made pickle.
type fake struct {
	name, class, key string
	len, offset      int
	shape, strides   []int
}

// plain is a vector of n float32 that fills its storage. stateOf numbers the storages.
func plain(name string, n int) fake {
	return fake{name: name, class: "FloatStorage", len: n, shape: []int{n}, strides: []int{1}}
}

// putState writes a dict of tensors, without STOP. legacy adds the sixth field of the old persistent ids.
func (p *pickler) putState(legacy bool, tensors ...fake) {
	p.op('}', '(')
	for i, f := range tensors {
		if f.key == "" {
			f.key = strconv.Itoa(i)
		}
		p.text(f.name)
		p.putTensor(legacy, f)
	}
	p.op('u')
}

// putTensor writes a tensor without its name.
func (p *pickler) putTensor(legacy bool, f fake) {
	p.global("torch._utils", "_rebuild_tensor_v2")
	p.op('(', '(')
	p.text("storage")
	p.global("torch", f.class)
	p.text(f.key)
	p.text("cuda:0")
	p.integer(f.len)
	if legacy {
		p.op('N')
	}
	p.op('t', 'Q')
	p.signed(f.offset)
	for _, list := range [][]int{f.shape, f.strides} {
		p.op('(')
		for _, n := range list {
			p.signed(n)
		}
		p.op('t')
	}
	p.op(0x89)
	p.emptyOrderedDict()
	p.op('t', 'R')
}

func (p *pickler) signed(n int) {
	p.op(0x8a, 8)
	p.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
}

// pickled wraps what put writes in PROTO and STOP.
func pickled(put func(p *pickler)) []byte {
	var p pickler
	p.op(0x80, 2)
	put(&p)
	p.op('.')
	return p.Bytes()
}

// protocol4 is what Python would write for a pickle of protocol 2 in protocol 4: short texts, globals from the stack, all in
// a frame. It knows the opcodes that these tests write.
func protocol4(object []byte) []byte {
	var b bytes.Buffer
	text := func(s string) { b.WriteString("\x8c" + string([]byte{byte(len(s))}) + s + "\x94") }
	for rest := object[2:]; len(rest) > 0; {
		switch n := 1; rest[0] {
		case 'X':
			size := int(binary.LittleEndian.Uint32(rest[1:]))
			text(string(rest[5 : 5+size]))
			rest = rest[5+size:]
		case 'c':
			names := strings.SplitN(string(rest[1:]), "\n", 3)
			text(names[0])
			text(names[1])
			b.WriteString("\x93\x94")
			rest = []byte(names[2])
		default:
			switch rest[0] {
			case 'K', 'q', 'h':
				n = 2
			case 'J':
				n = 5
			case 0x8a, 'U':
				n = 2 + int(rest[1])
			}
			b.Write(rest[:n])
			rest = rest[n:]
		}
	}
	return slices.Concat([]byte("\x80\x04\x95"), binary.LittleEndian.AppendUint64(nil, uint64(b.Len())), b.Bytes())
}

func stateOf(tensors ...fake) []byte {
	return pickled(func(p *pickler) { p.putState(true, tensors...) })
}

// legacyOf makes a file of the old format around a pickle, with storages of float32 that count up from 0.
func legacyOf(object []byte, keys []string, lens []int) []byte {
	var b bytes.Buffer
	b.WriteString("\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
	b.Write(pickled(func(p *pickler) {
		p.op('}')
		p.text("little_endian")
		p.op(0x88, 's')
	}))
	b.Write(object)
	b.Write(pickled(func(p *pickler) {
		p.op(']', '(')
		for _, k := range keys {
			p.text(k)
		}
		p.op('e')
	}))
	for _, n := range lens {
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(n)))
		b.Write(countUp(n))
	}
	return b.Bytes()
}

func countUp(n int) []byte {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(i)
	}
	return bytesOf(v)
}

// zipOf makes an archive of stored entries, sorted by name.
func zipOf(t testing.TB, entries map[string][]byte) []byte {
	t.Helper()
	return zipWith(t, zip.Store, entries)
}

func zipWith(t testing.TB, method uint16, entries map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Write(entries[name]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// openBoth opens the object in the zip format and in the old one, there also in protocol 4, and calls check for each. Storages
// are float32.
func openBoth(t *testing.T, object []byte, lens []int, check func(t *testing.T, f *File, err error)) {
	t.Helper()
	var keys []string
	entries := map[string][]byte{"m/data.pkl": object, "m/version": []byte("3\n")}
	for i, n := range lens {
		key := strconv.Itoa(i)
		keys = append(keys, key)
		entries["m/data/"+key] = countUp(n)
	}
	t.Run("zip", func(t *testing.T) {
		f, err := parse("m.pth", zipOf(t, entries))
		check(t, f, err)
	})
	t.Run("legacy", func(t *testing.T) {
		f, err := parse("m.pth", legacyOf(object, keys, lens))
		check(t, f, err)
	})
	t.Run("legacy of protocol 4", func(t *testing.T) {
		f, err := parse("m.pth", legacyOf(protocol4(object), keys, lens))
		check(t, f, err)
	})
}

func TestPTHSurvivesARoundTrip(t *testing.T) {
	data := pthBytes(t, sample())
	f := mustOpen(t, write(t, "x", data))
	if f.Format() != PTH {
		t.Errorf("format %q", f.Format())
	}
	sameTensors(t, f, sample())
	if len(f.Notes()) != 0 {
		t.Errorf("notes %q", f.Notes())
	}
	if !bytes.Equal(data, pthBytes(t, sample())) {
		t.Error("writing twice gives other bytes")
	}
	if found, err := Verify(t.Context(), f); err != nil || len(found) != 0 {
		t.Errorf("verify: %v, %v", found, err)
	}
}

func TestPTHEntriesAreAlignedAndReadable(t *testing.T) {
	data := pthBytes(t, sample())
	archive, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range archive.File {
		at, err := e.DataOffset()
		if err != nil {
			t.Fatal(err)
		}
		if at%storageAlignment != 0 {
			t.Errorf("%s is at %d", e.Name, at)
		}
		r, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, r); err != nil {
			t.Errorf("%s: %v", e.Name, err)
		}
	}
}

func TestTypesPyTorchLacksAreNotWritten(t *testing.T) {
	err := WritePTH(io.Discard, []Tensor{{Name: "a", DType: U32, Shape: []int{1}, data: make([]byte, 4)}})
	oneLine(t, err, nil, `"a"`, "U32")
}

func TestStridedAndSharedTensors(t *testing.T) {
	object := stateOf(
		fake{"transposed", "FloatStorage", "0", 12, 0, []int{3, 4}, []int{1, 3}},
		fake{"row", "FloatStorage", "0", 12, 4, []int{4}, []int{1}},
		fake{"column", "FloatStorage", "0", 12, 1, []int{3, 1}, []int{4, 77}},
		fake{"scalar", "FloatStorage", "0", 12, 11, nil, nil},
		fake{"none", "FloatStorage", "0", 12, 99, []int{2, 0}, []int{1, 1}},
	)
	want := map[string][]float32{
		"transposed": {0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11},
		"row":        {4, 5, 6, 7},
		"column":     {1, 5, 9},
		"scalar":     {11},
		"none":       {},
	}
	openBoth(t, object, []int{12}, func(t *testing.T, f *File, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for name, values := range want {
			if got := floats(t, f, name); !slices.Equal(got, values) {
				t.Errorf("%s is %v, want %v", name, got, values)
			}
		}
		// What was strided is written row-major.
		sameTensors(t, mustOpen(t, write(t, "x", pthBytes(t, slices.Collect(f.All())))), slices.Collect(f.All()))
	})
}

func TestViewsOutsideTheirStorageRefused(t *testing.T) {
	const huge = int(^uint(0) >> 1)
	for name, c := range map[string]struct {
		fake
		says string
	}{
		"too long":               {fake{len: 4, shape: []int{5}, strides: []int{1}}, "outside"},
		"offset at the end":      {fake{len: 4, offset: 4, shape: []int{1}, strides: []int{1}}, "outside"},
		"offset past the end":    {fake{len: 4, offset: huge, shape: []int{2}, strides: []int{1}}, "outside"},
		"negative offset":        {fake{len: 4, offset: -1, shape: []int{2}, strides: []int{1}}, "outside"},
		"negative stride":        {fake{len: 4, offset: 3, shape: []int{2}, strides: []int{-1}}, "outside"},
		"stride past the end":    {fake{len: 4, shape: []int{2}, strides: []int{4}}, "outside"},
		"stride that overflows":  {fake{len: 4, shape: []int{3}, strides: []int{huge}}, "outside"},
		"sum that overflows":     {fake{len: 4, offset: 3, shape: []int{2, 2}, strides: []int{3, huge}}, "outside"},
		"negative size":          {fake{len: 4, shape: []int{-4}, strides: []int{1}}, "impossible shape"},
		"size that overflows":    {fake{len: 4, shape: []int{huge, huge}, strides: []int{0, 0}}, "impossible shape"},
		"strides for other axes": {fake{len: 4, shape: []int{2, 2}, strides: []int{1}}, "impossible shape"},
		"expanded to a bomb":     {fake{len: 4, shape: []int{1 << 30}, strides: []int{0}}, "expanded"},
		"offset in no storage":   {fake{len: 0, shape: []int{1}, strides: []int{1}}, "outside"},
	} {
		t.Run(name, func(t *testing.T) {
			c.fake.name, c.class = "w", "FloatStorage"
			openBoth(t, stateOf(c.fake), []int{c.fake.len}, func(t *testing.T, _ *File, err error) {
				oneLine(t, err, ErrFormat, `"w"`, c.says)
			})
		})
	}
}

func TestSharedStorageBombRefused(t *testing.T) {
	var tensors []fake
	for i := range 2000 {
		f := plain("w"+strconv.Itoa(i), 1<<16)
		f.key = "0"
		tensors = append(tensors, f)
	}
	openBoth(t, stateOf(tensors...), []int{1 << 16}, func(t *testing.T, _ *File, err error) {
		oneLine(t, err, ErrFormat, "same few bytes")
	})
}

func TestStorageDescribedInTwoWaysRefused(t *testing.T) {
	a, b := plain("a", 4), plain("b", 4)
	a.key, b.key = "0", "0"
	b.class = "IntStorage"
	openBoth(t, stateOf(a, b), []int{4}, func(t *testing.T, _ *File, err error) {
		oneLine(t, err, ErrFormat, "two ways")
	})
}

func TestStorageOfAnotherLengthRefused(t *testing.T) {
	openBoth(t, stateOf(plain("a", 4)), []int{5}, func(t *testing.T, _ *File, err error) {
		oneLine(t, err, ErrFormat, "pickle says")
	})
}

// TestStorageOfAPartOfAnElementMore is that of torch.arange(10, dtype=torch.uint8)[:8].view(torch.float32).
func TestStorageOfAPartOfAnElementMore(t *testing.T) {
	f, err := parse("m.pth", zipOf(t, map[string][]byte{"m/data.pkl": stateOf(plain("a", 2)), "m/data/0": append(countUp(2), 8, 9)}))
	if err != nil {
		t.Fatal(err)
	}
	if got := floats(t, f, "a"); !slices.Equal(got, []float32{0, 1}) {
		t.Errorf("values %v", got)
	}
	if _, err := Verify(t.Context(), f); err != nil {
		t.Error(err)
	}
}

// TestTensorWithTheNegBitIsNotReadWithTheOtherSign has what PyTorch 2 writes for c.conj().imag of complex numbers.
func TestTensorWithTheNegBitIsNotReadWithTheOtherSign(t *testing.T) {
	for name, bits := range map[string]func(p *pickler){
		"neg":     func(p *pickler) { p.op('}'); p.text("neg"); p.op(0x88, 's') },
		"nothing": func(p *pickler) { p.op('}') },
	} {
		object := pickled(func(p *pickler) {
			p.op('}')
			p.text("w")
			p.putTensor(true, fake{class: "FloatStorage", key: "0", len: 4, shape: []int{4}, strides: []int{1}})
			p.Truncate(p.Len() - len("tR"))
			bits(p)
			p.op('t', 'R', 's')
		})
		openBoth(t, object, []int{4}, func(t *testing.T, _ *File, err error) {
			if name == "nothing" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			oneLine(t, err, ErrFormat, `"w"`, "resolve_neg")
		})
	}
}

// TestDictsOfOneListOrOneStateAreNotCopies has pickles of 26 kB that make a thousand OrderedDicts of the same 2000 pairs, and
// give a thousand the same 2000 attributes: copied, these were 300 MB and more.
func TestDictsOfOneListOrOneStateAreNotCopies(t *testing.T) {
	const n, dicts = 2000, 1000
	for name, put := range map[string]func(p *pickler){
		"pairs": func(p *pickler) {
			p.op(']', '(')
			for i := range n {
				p.text(strconv.Itoa(i))
				p.op('N', 0x86)
			}
			p.op('e', 0x85, 'q', 1, ']', '(')
			for range dicts {
				p.op('h', 0, 'h', 1, 'R')
			}
		},
		"attributes": func(p *pickler) {
			p.op('}', 'q', 1, '(')
			for i := range n {
				p.text(strconv.Itoa(i))
				p.op('N')
			}
			p.op('u', ']', '(')
			for range dicts {
				p.op('h', 0, ')', 'R', 'h', 1, 'b')
			}
		},
	} {
		code := pickled(func(p *pickler) {
			p.global("collections", "OrderedDict")
			p.op('q', 0)
			put(p)
			p.op('e', 0x87)
		})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		c, err := runCheckpoint(code)
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(c)
		if got := (after.TotalAlloc - before.TotalAlloc) >> 20; got > 8 {
			t.Errorf("%s: %d MiB for a pickle of %d bytes", name, got, len(code))
		}
	}
}

func TestMissingStorageRefused(t *testing.T) {
	openBoth(t, stateOf(plain("a", 4), plain("b", 4)), []int{4}, func(t *testing.T, _ *File, err error) {
		oneLine(t, err, ErrFormat, `lacks storage "1"`)
	})
}

func TestWrappersAndPrefixesComeOff(t *testing.T) {
	for name, c := range map[string]struct {
		put   func(p *pickler)
		want  []string
		notes []string
	}{
		"state_dict beside other things": {
			func(p *pickler) {
				p.op('}', '(')
				p.text("epoch")
				p.integer(3)
				p.text("best_acc1")
				p.global("numpy.core.multiarray", "scalar")
				p.op(')', 'R')
				p.text("state_dict")
				p.putState(true, plain("module.fc.weight", 4))
				p.op('u')
			},
			[]string{"fc.weight"},
			[]string{`took the state dict from "state_dict", left out "epoch", "best_acc1"`, `took "module." off all names`},
		},
		"model in net": {
			func(p *pickler) {
				p.op('}')
				p.text("net")
				p.op('}')
				p.text("model")
				p.putState(true, plain("fc.weight", 4))
				p.op('s', 's')
			},
			[]string{"fc.weight"},
			[]string{`took the state dict from "net"`, `took the state dict from "model"`},
		},
		"averaged model": {
			func(p *pickler) { p.putState(true, plain("n_averaged", 1), plain("module.fc.weight", 4)) },
			[]string{"fc.weight"},
			[]string{`took "module." off all names, left out "n_averaged"`},
		},
		"prefix of some names only": {
			func(p *pickler) { p.putState(true, plain("module.a", 1), plain("b", 4)) },
			[]string{"module.a", "b"},
			nil,
		},
		"options under model": {
			func(p *pickler) {
				p.putState(true, plain("a", 1))
				p.text("model")
				p.op('}')
				p.text("depth")
				p.integer(50)
				p.op('s', 's')
			},
			[]string{"a"},
			[]string{`left out what is not a tensor: "model"`},
		},
		"things under keys that are no text": {
			func(p *pickler) {
				p.putState(true, plain("a", 4))
				p.integer(7)
				p.integer(1)
				p.op('s')
			},
			[]string{"a"},
			[]string{`left out what is not a tensor: "7"`},
		},
		"key given twice": {
			func(p *pickler) { p.putState(true, plain("a", 1), plain("a", 4)) },
			[]string{"a"},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			lens := []int{4}
			if name := c.want; len(name) > 1 || strings.Contains(t.Name(), "averaged") || strings.Contains(t.Name(), "twice") {
				lens = []int{1, 4}
			} else if strings.Contains(t.Name(), "options") {
				lens = []int{1}
			}
			openBoth(t, pickled(c.put), lens, func(t *testing.T, f *File, err error) {
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(f.Names(), c.want) {
					t.Errorf("names %q", f.Names())
				}
				if !slices.Equal(f.Notes(), c.notes) {
					t.Errorf("notes %q", f.Notes())
				}
			})
		})
	}
}

func TestPython2PicklesOpen(t *testing.T) {
	// OrderedDict([['a', tensor]]) with byte strings, and a long of no bytes for the offset.
	object := pickled(func(p *pickler) {
		p.global("collections", "OrderedDict")
		p.op(']', ']', '(', 'U', 1, 'a')
		p.global("torch._utils", "_rebuild_tensor")
		p.op('(', '(', 'U', 7)
		p.WriteString("storage")
		p.global("torch.cuda", "FloatStorage")
		p.op('U', 1, '0', 'U', 3)
		p.WriteString("cpu")
		p.integer(4)
		p.op('t', 'Q', 0x8a, 0, 'K', 4, 0x85, 'K', 1, 0x85, 't', 'R')
		p.op('e', 'a', 0x85, 'R')
	})
	openBoth(t, object, []int{4}, func(t *testing.T, f *File, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if got := floats(t, f, "a"); !slices.Equal(got, []float32{0, 1, 2, 3}) {
			t.Errorf("a is %v", got)
		}
	})
}

// TestPickleCallingOsSystemRefused has the attack in every place where a checkpoint could hide it.
func TestPickleCallingOsSystemRefused(t *testing.T) {
	system := func(p *pickler) {
		p.global("posix", "system")
		p.text("echo owned")
		p.op(0x85, 'R')
	}
	for name, put := range map[string]func(p *pickler){
		"alone": system,
		"as a value": func(p *pickler) {
			p.putState(true, plain("a", 4))
			p.text("b")
			system(p)
			p.op('s')
		},
		"named, not called": func(p *pickler) {
			p.putState(true, plain("a", 4))
			p.text("b")
			p.global("posix", "system")
			p.op('s')
		},
		"as a function argument": func(p *pickler) {
			p.global("torch._utils", "_rebuild_parameter")
			p.global("posix", "system")
			p.op(0x85, 'R')
		},
		"in a state": func(p *pickler) {
			p.emptyOrderedDict()
			p.op('}')
			p.text("x")
			system(p)
			p.op('s', 'b')
		},
	} {
		t.Run(name, func(t *testing.T) {
			openBoth(t, pickled(put), []int{4}, func(t *testing.T, _ *File, err error) {
				oneLine(t, err, ErrRefused, "m.pth", `"posix.system"`)
			})
		})
	}
}

// TestHostileArgumentsOfFunctionsRefused calls the functions that a checkpoint may call with what they are not made for.
func TestHostileArgumentsOfFunctionsRefused(t *testing.T) {
	storage := func(p *pickler) {
		p.op('(')
		p.text("storage")
		p.global("torch", "FloatStorage")
		p.text("0")
		p.text("cpu")
		p.integer(4)
		p.op('N', 't', 'Q')
	}
	number := func(p *pickler) { p.integer(1) }
	list := func(values ...func(*pickler)) func(*pickler) {
		return func(p *pickler) {
			p.op('(')
			for _, v := range values {
				v(p)
			}
			p.op('t')
		}
	}
	text := func(p *pickler) { p.text("4") }
	axes := func(p *pickler) { list(slices.Repeat([]func(*pickler){number}, maxRank+1)...)(p) }
	const rebuild = "_rebuild_tensor_v2"
	for name, c := range map[string]struct {
		module, function string
		arguments        []func(*pickler)
		says             string
	}{
		"tensor of nothing":        {"torch._utils", rebuild, nil, "too little"},
		"tensor of three":          {"torch._utils", rebuild, []func(*pickler){storage, number, list(number)}, "too little"},
		"tensor without a storage": {"torch._utils", rebuild, []func(*pickler){number, number, list(number), list(number)}, "without its storage"},
		"tensor without an offset": {"torch._utils", rebuild, []func(*pickler){storage, text, list(number), list(number)}, "without its offset"},
		"tensor without a size":    {"torch._utils", rebuild, []func(*pickler){storage, number, number, list(number)}, "without its size"},
		"size of a text":           {"torch._utils", rebuild, []func(*pickler){storage, number, list(text), list(number)}, "without its size"},
		"size of 65 axes":          {"torch._utils", rebuild, []func(*pickler){storage, number, axes, axes}, "without its size"},
		"tensor without strides":   {"torch._utils", rebuild, []func(*pickler){storage, number, list(number), text}, "without its strides"},
		"parameter of nothing":     {"torch._utils", "_rebuild_parameter", nil, "without its tensor"},
		"parameter of a number":    {"torch._utils", "_rebuild_parameter", []func(*pickler){number}, "without its tensor"},
		"size of nothing":          {"torch", "Size", nil, "torch.Size"},
		"size of two":              {"torch", "Size", []func(*pickler){list(number), list(number)}, "torch.Size"},
		"dictionary of a number":   {"collections", "OrderedDict", []func(*pickler){number}, "not pairs"},
		"dictionary of two lists":  {"collections", "OrderedDict", []func(*pickler){list(), list()}, "not pairs"},
	} {
		t.Run(name, func(t *testing.T) {
			object := pickled(func(p *pickler) {
				p.putState(true, plain("a", 4))
				p.text("b")
				p.global(c.module, c.function)
				list(c.arguments...)(p)
				p.op('R', 's')
			})
			openBoth(t, object, []int{4}, func(t *testing.T, _ *File, err error) {
				oneLine(t, err, ErrFormat, "m.pth", c.says)
				if strings.Contains(err.Error(), "runtime error") {
					t.Error("the machine had to catch a panic:", err)
				}
			})
		})
	}
}

func TestGlobalsOutsideTheListRefused(t *testing.T) {
	for _, g := range [][2]string{
		{"os", "system"}, {"builtins", "eval"}, {"__builtin__", "getattr"}, {"subprocess", "Popen"},
		{"torch.storage", "_load_from_bytes"}, {"torch", "load"}, {"torch.hub", "load"}, {"torch.jit", "load"},
		{"torch", "FloatStorage.from_file"}, {"torch", ""}, {"torch.nn.modules.conv", "Conv2d"}, {"argparse", "ArgumentParser"},
		// The three that gopickle resolves without asking.
		{"copy_reg", "_reconstructor"}, {"__builtin__", "object"}, {"collections", "OrderedDict.__init__"},
	} {
		t.Run(g[0]+"."+g[1], func(t *testing.T) {
			object := pickled(func(p *pickler) {
				p.putState(true, plain("a", 4))
				p.text("b")
				p.global(g[0], g[1])
				p.op('s')
			})
			openBoth(t, object, []int{4}, func(t *testing.T, _ *File, err error) {
				oneLine(t, err, ErrRefused, strconv.Quote(g[0]+"."+g[1]))
			})
		})
	}
}

func TestWholeModuleRefused(t *testing.T) {
	object := pickled(func(p *pickler) {
		p.op('(')
		for _, s := range []string{"module", "net.Net", "net.py", "class Net: ..."} {
			p.text(s)
		}
		p.op('t', 'Q')
	})
	openBoth(t, object, nil, func(t *testing.T, _ *File, err error) {
		oneLine(t, err, ErrRefused, "state_dict")
	})

	// As torch 0.4 and later write it: an object of the class, which was called damaged.
	object = pickled(func(p *pickler) {
		p.global("__main__", "Net")
		p.op(')', 0x81, '}', 'b')
	})
	openBoth(t, object, nil, func(t *testing.T, _ *File, err error) {
		oneLine(t, err, ErrRefused, "__main__.Net", "state dict alone")
	})
}

func TestWholeModelIsCalledOne(t *testing.T) {
	object := pickled(func(p *pickler) {
		p.global("torchvision.models.resnet", "ResNet")
		p.op(')', 0x81, '}')
		p.text("conv1")
		p.global("torch.nn.modules.conv", "Conv2d")
		p.op(')', 0x81, 's', 'b')
	})
	openBoth(t, object, nil, func(t *testing.T, _ *File, err error) {
		oneLine(t, err, ErrRefused, "torchvision.models.resnet.ResNet", "whole model", "model.state_dict()")
	})
}

func TestTensorWithoutANameThatIsTextRefused(t *testing.T) {
	for name, c := range map[string]struct {
		key  []byte // opcodes
		says string
	}{
		"not UTF-8": {[]byte{'U', 1, 0xe4}, `"\xe4" is not UTF-8`},
		"a number":  {[]byte{'K', 7}, "no text (7)"},
		"nothing":   {[]byte{'N'}, "no text (neither text nor integer)"},
	} {
		t.Run(name, func(t *testing.T) {
			object := pickled(func(p *pickler) {
				p.putState(true, plain("a", 4))
				p.op(c.key...)
				f := plain("", 4)
				f.key = "0"
				p.putTensor(true, f)
				p.op('s')
			})
			openBoth(t, object, []int{4}, func(t *testing.T, _ *File, err error) {
				oneLine(t, err, ErrFormat, c.says)
			})
		})
	}
}

// TestOptionsOfATrainingProgramAreLeftOut has what torchvision's and timm's programs save: their arguments, a Namespace,
// beside the weights.
func TestOptionsOfATrainingProgramAreLeftOut(t *testing.T) {
	object := pickled(func(p *pickler) {
		p.op('}')
		p.text("model")
		p.putState(false, plain("a", 4))
		p.op('s')
		p.text("args")
		p.global("argparse", "Namespace")
		p.op(')', 0x81, '}')
		p.text("lr")
		p.integer(1)
		p.op('s', 'b', 's')
	})
	openBoth(t, object, []int{4}, func(t *testing.T, f *File, err error) {
		if err != nil {
			t.Fatal(err)
		}
		if names := f.Names(); !slices.Equal(names, []string{"a"}) {
			t.Errorf("tensors %q", names)
		}
	})
}

func TestZipBombRefused(t *testing.T) {
	bomb := make([]byte, 10<<20)
	_, err := parse("m.pth", zipWith(t, zip.Deflate, map[string][]byte{"m/data.pkl": bomb}))
	oneLine(t, err, ErrFormat, `compressed entry "m/data.pkl"`)

	// Sizes that contradict each other, as overlapping or quoted bombs have them.
	data := pthBytes(t, sample())
	central := bytes.Index(data, []byte("PK\x01\x02"))
	binary.LittleEndian.PutUint32(data[central+24:], 1<<31)
	_, err = parse("m.pth", data)
	oneLine(t, err, ErrFormat, "compressed entry")
	binary.LittleEndian.PutUint32(data[central+20:], 1<<31)
	_, err = parse("m.pth", data)
	oneLine(t, err, ErrFormat)
}

func TestHostileArchives(t *testing.T) {
	object := stateOf(plain("a", 1))
	storage := countUp(1)
	for name, c := range map[string]struct {
		entries map[string][]byte
		says    string
	}{
		"two checkpoints": {map[string][]byte{"a/data.pkl": object, "b/data.pkl": object}, "two checkpoints"},
		"no checkpoint":   {map[string][]byte{"readme.txt": nil}, "no data.pkl"},
		"Keras":           {map[string][]byte{"metadata.json": nil, "config.json": nil, "model.weights.h5": nil}, "Keras model (.keras), with its weights in HDF5"},
		"TorchServe":      {map[string][]byte{"resnet18.pth": nil, "MAR-INF/MANIFEST.json": nil}, "TorchServe (.mar): unzip it"},
		"torch.package":   {map[string][]byte{"m/.data/extern_modules": nil, "m/model/model.pkl": nil}, "torch.package.PackageImporter"},
		"NumPy":           {map[string][]byte{"a.npy": nil, "b.npy": nil}, "NumPy arrays (.npz)"},
		"big-endian":      {map[string][]byte{"m/data.pkl": object, "m/data/0": storage, "m/byteorder": []byte("big")}, "byte order"},
		"TorchScript":     {map[string][]byte{"m/data.pkl": object, "m/constants.pkl": nil}, "TorchScript"},
		"storage outside": {map[string][]byte{"m/data.pkl": stateOf(fake{"a", "FloatStorage", "../../etc/passwd", 1, 0, []int{1}, []int{1}})}, "lacks storage"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse("m.pth", zipOf(t, c.entries))
			oneLine(t, err, ErrFormat, c.says)
		})
	}
}

func TestDuplicateZipEntryRefused(t *testing.T) {
	data := zipOf(t, map[string][]byte{"m/data.pkl": stateOf(plain("a", 1)), "m/data/0": countUp(1), "m/data/1": countUp(1)})
	data = bytes.ReplaceAll(data, []byte("m/data/1"), []byte("m/data/0"))
	_, err := parse("m.pth", data)
	oneLine(t, err, ErrFormat, "two entries")
}

func TestFlippedBitFoundByVerify(t *testing.T) {
	data := pthBytes(t, []Tensor{FromFloat32("a", []int{2}, []float32{1, 2})})
	at := bytes.Index(data, bytesOf([]float32{1, 2}))
	data[at] ^= 1
	f := mustOpen(t, write(t, "x", data))
	_, err := Verify(t.Context(), f)
	oneLine(t, err, ErrFormat, "archive/data/0", "damaged")
}

func TestHostileLegacyFiles(t *testing.T) {
	good := legacyOf(stateOf(plain("a", 2)), []string{"0"}, []int{2})
	for name, c := range map[string]struct {
		data []byte
		says string
	}{
		"another protocol": {bytes.Replace(good, []byte("M\xe9\x03"), []byte("M\xea\x03"), 1), "protocol 1002"},
		"big-endian":       {bytes.Replace(good, []byte("\x88s"), []byte("\x89s"), 1), "big-endian"},
		"key twice":        {legacyOf(stateOf(plain("a", 2)), []string{"0", "0"}, []int{2, 2}), "twice"},
		"unknown key":      {legacyOf(stateOf(plain("a", 2)), []string{"1"}, []int{2}), "does not refer"},
		"keys of a tuple":  {legacyOf(pickled(func(p *pickler) { p.op(')') }), nil, nil), "no state dict"},
		"length past 2^63": {bytes.Replace(good, append([]byte("e."), 2, 0, 0, 0, 0, 0, 0, 0), append([]byte("e."), 2, 0, 0, 0, 0, 0, 0, 0x80), 1), "pickle says 2"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse("m.pth", c.data)
			oneLine(t, err, ErrFormat, c.says)
		})
	}
}

func TestFunctionAsAKeyIsNoPanic(t *testing.T) {
	object := pickled(func(p *pickler) {
		p.putState(true, plain("a", 4))
		p.global("collections", "OrderedDict")
		p.integer(1)
		p.op('s')
	})
	openBoth(t, object, []int{4}, func(t *testing.T, f *File, err error) {
		if err != nil || !slices.Equal(f.Names(), []string{"a"}) {
			t.Errorf("error %v", err)
		}
	})
}

func TestValuesThatAreNoStateDict(t *testing.T) {
	for name, c := range map[string]struct {
		put  func(p *pickler)
		says string
	}{
		"a number":        {func(p *pickler) { p.integer(1) }, "no state dict"},
		"nothing":         {func(p *pickler) { p.op('N') }, "no state dict"},
		"an empty dict":   {func(p *pickler) { p.op('}') }, "empty dictionary"},
		"a dict of texts": {func(p *pickler) { p.op('}'); p.text("a"); p.text("b"); p.op('s') }, `only "a"`},
		"pairs of one": {func(p *pickler) {
			p.global("collections", "OrderedDict")
			p.op(']', ']', 'N', 'a', 'a', 0x85, 'R')
		}, "no state dict"},
		"itself": {func(p *pickler) { p.op('}', 'q', 0); p.text("model"); p.op('h', 0, 's') }, `only "model"`},
	} {
		t.Run(name, func(t *testing.T) {
			openBoth(t, pickled(c.put), nil, func(t *testing.T, _ *File, err error) {
				oneLine(t, err, ErrFormat, c.says)
			})
		})
	}
}
