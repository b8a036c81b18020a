package weights

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
)

// npyOf makes a file of that version around a header and data.
func npyOf(version byte, header string, data []byte) []byte {
	b := append([]byte(npyMagic), version, 0)
	if version == 1 {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(header)))
	} else {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(header)))
	}
	return append(append(b, header...), data...)
}

func npyHeaderOf(descr, order, shape string) string {
	return fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }   \n", descr, order, shape)
}

func TestNPYSurvivesARoundTrip(t *testing.T) {
	for _, shape := range [][]int{nil, {0}, {3}, {2, 3}, {1, 3, 2, 2}, {0, 7}} {
		n, _ := elements(shape)
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(i) - 1.5
		}
		var b bytes.Buffer
		if err := WriteNPY(&b, shape, values); err != nil {
			t.Fatal(err)
		}
		if at := b.Len() - 4*n; at%64 != 0 {
			t.Errorf("%v: data at %d", shape, at)
		}
		gotShape, got, err := ReadNPY(&b)
		if err != nil || !slices.Equal(gotShape, shape) || !slices.Equal(got, values) {
			t.Errorf("%v came back as %v %v, %v", shape, gotShape, got, err)
		}
	}
}

func TestNPYVersionsOrdersAndTypes(t *testing.T) {
	for name, c := range map[string]struct {
		file []byte
		want []float32
	}{
		"version 1":     {npyOf(1, npyHeaderOf("<f4", "False", "(2,)"), countUp(2)), []float32{0, 1}},
		"version 2":     {npyOf(2, npyHeaderOf("<f4", "False", "(2,)"), countUp(2)), []float32{0, 1}},
		"version 3":     {npyOf(3, npyHeaderOf("<f4", "False", "(2,)"), countUp(2)), []float32{0, 1}},
		"Fortran order": {npyOf(1, npyHeaderOf("<f4", "True", "(2, 3)"), countUp(6)), []float32{0, 2, 4, 1, 3, 5}},
		"Fortran 3-D":   {npyOf(1, npyHeaderOf("<f4", "True", "(2, 1, 2)"), countUp(4)), []float32{0, 2, 1, 3}},
		"float16":       {npyOf(1, npyHeaderOf("<f2", "False", "()"), []byte{0, 0x3c}), []float32{1}},
		"float64":       {npyOf(1, npyHeaderOf("<f8", "False", "()"), binary.LittleEndian.AppendUint64(nil, math.Float64bits(0.5))), []float32{0.5}},
		"uint8":         {npyOf(1, npyHeaderOf("|u1", "False", "(2,)"), []byte{0, 255}), []float32{0, 255}},
		"int16":         {npyOf(1, npyHeaderOf("<i2", "False", "(1,)"), []byte{0xff, 0xff}), []float32{-1}},
		"bool":          {npyOf(1, npyHeaderOf("|b1", "False", "(1,)"), []byte{1}), []float32{1}},
		"Python 2":      {npyOf(1, `{"shape":(2L,1L),"fortran_order":False,"descr":"<f4"}`, countUp(2)), []float32{0, 1}},
	} {
		_, got, err := ReadNPY(bytes.NewReader(c.file))
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func TestHostileNPY(t *testing.T) {
	good := npyHeaderOf("<f4", "False", "(2,)")
	for name, c := range map[string]struct {
		file []byte
		says string
	}{
		"empty":                    {nil, "truncated"},
		"another file":             {[]byte("PK\x03\x04 and more"), "not a file of numpy.save"},
		"version 9":                {npyOf(9, good, countUp(2)), "version 9.0"},
		"header of 4 GiB":          {append([]byte(npyMagic), 2, 0, 0xff, 0xff, 0xff, 0xff), "4294967295 bytes"},
		"header cut":               {npyOf(1, good, nil)[:30], "truncated"},
		"data cut":                 {npyOf(1, good, countUp(1)), "4 of 8 bytes"},
		"data of 4 TiB":            {npyOf(1, npyHeaderOf("<f4", "False", "(1099511627776,)"), countUp(2)), "8 of 4398046511104 bytes"},
		"shape that overflows":     {npyOf(1, npyHeaderOf("<f4", "False", "(4294967296, 4294967296, 3)"), nil), "impossible shape"},
		"size that overflows":      {npyOf(1, npyHeaderOf("<f4", "False", "(99999999999999999999,)"), nil), "unexpected"},
		"negative size":            {npyOf(1, npyHeaderOf("<f4", "False", "(-2,)"), nil), "unexpected"},
		"too many dimensions":      {npyOf(1, npyHeaderOf("<f4", "False", "("+strings.Repeat("1,", 65)+")"), nil), "dimensions"},
		"objects":                  {npyOf(1, npyHeaderOf("|O", "False", "(2,)"), nil), `"|O" is not supported`},
		"big-endian":               {npyOf(1, npyHeaderOf(">f4", "False", "(2,)"), nil), `">f4" is not supported`},
		"structured":               {npyOf(1, "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,)}", nil), "unexpected"},
		"code for a value":         {npyOf(1, "{'descr': '<f4', 'fortran_order': __import__('os'), 'shape': (2,)}", nil), "unexpected"},
		"key twice":                {npyOf(1, "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", nil), "twice"},
		"key missing":              {npyOf(1, "{'descr': '<f4', 'shape': (2,)}", nil), "needs"},
		"unknown key":              {npyOf(1, "{'descr': '<f4', 'x': (2,)}", nil), "unknown key"},
		"text after it":            {npyOf(1, strings.TrimSpace(good)+"x", nil), "unexpected"},
		"string that does not end": {npyOf(1, "{'descr", nil), "unexpected"},
		"nothing":                  {npyOf(1, "", nil), "too early"},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := ReadNPY(bytes.NewReader(c.file))
			oneLine(t, err, nil, "read npy", c.says)
		})
	}
}

func TestNPYReadsNoFurtherThanItsArray(t *testing.T) {
	r := bytes.NewReader(append(npyOf(1, npyHeaderOf("<f4", "False", "(2,)"), countUp(2)), "next"...))
	if _, _, err := ReadNPY(r); err != nil {
		t.Fatal(err)
	}
	if rest, _ := io.ReadAll(r); string(rest) != "next" {
		t.Errorf("left %q", rest)
	}
}

func TestNPYOfAnotherShapeIsNotWritten(t *testing.T) {
	oneLine(t, WriteNPY(io.Discard, []int{3}, make([]float32, 2)), nil, "not of shape [3]")
}
