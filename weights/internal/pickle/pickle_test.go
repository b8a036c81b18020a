package pickle

import (
	"bytes"
	"errors"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"github.com/nlpodyssey/gopickle/types"
)

var errAsked = errors.New("asked for a global")

// nothing is an Env that gives nothing.
var nothing = Env{Global: func(string, string) (any, error) { return nil, errAsked }}

func TestValues(t *testing.T) {
	huge, _ := new(big.Int).SetString("1950a86a20f9469cfc6c", 16)
	for name, c := range map[string]struct {
		code string
		want any
	}{
		"none":          {"N.", nil},
		"true":          {"\x88.", true},
		"byte":          {"K\xff.", 255},
		"short":         {"M\xe9\x03.", 1001},
		"int":           {"J\xff\xff\xff\xff.", -1},
		"long":          {"\x8a\x01\xff.", -1},
		"long 0":        {"\x8a\x00.", 0},
		"huge":          {"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", huge},
		"float":         {"G\x3f\xf0\x00\x00\x00\x00\x00\x00.", 1.0},
		"text":          {"X\x02\x00\x00\x00\xc3\xa4.", "ä"},
		"Python 2 text": {"U\x01\xe4.", "\xe4"},
	} {
		t.Run(name, func(t *testing.T) {
			got, n, err := Load([]byte("\x80\x02"+c.code+"rest"), nothing)
			if err != nil {
				t.Fatal(err)
			}
			if n != len(c.code)+2 {
				t.Errorf("length %d", n)
			}
			if b, ok := c.want.(*big.Int); ok {
				if g, ok := got.(*big.Int); !ok || g.Cmp(b) != 0 {
					t.Errorf("value %v", got)
				}
			} else if got != c.want {
				t.Errorf("value %#v", got)
			}
		})
	}
}

func TestEveryGlobalIsAskedFor(t *testing.T) {
	for _, g := range []string{"collections\nOrderedDict", "copy_reg\n_reconstructor", "__builtin__\nobject", "posix\nsystem"} {
		var asked string
		env := Env{Global: func(module, name string) (any, error) {
			asked = module + "\n" + name
			return nil, errAsked
		}}
		if _, _, err := Load([]byte("c"+g+"\n."), env); !errors.Is(err, errAsked) {
			t.Errorf("%q: %v", g, err)
		}
		if asked != g {
			t.Errorf("asked for %q, not %q", asked, g)
		}
	}
}

func TestInputIsNotChanged(t *testing.T) {
	data := []byte("\x80\x02cposix\nsystem\n\x8a\x00\x86.")
	before := bytes.Clone(data)
	Load(data, nothing)
	if !bytes.Equal(data, before) {
		t.Errorf("changed to %q", data)
	}
}

// TestHostilePickles are pickles that would make the machine panic, allocate without end, or do more than was bargained
// for.
func TestHostilePickles(t *testing.T) {
	for name, c := range map[string]struct{ code, says string }{
		"text of 4 GiB":                {"X\xff\xff\xff\xff.", "truncated"},
		"Python 2 text of -1 bytes":    {"T\xff\xff\xff\xff.", "truncated"},
		"frame of 2^63 bytes":          {"\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "opcode 0x95"},
		"bytes of 2^63 bytes":          {"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "opcode 0x8e"},
		"long of 2 GiB":                {"\x8b\xff\xff\xff\x7f.", "opcode 0x8b"},
		"opcode past the table":        {"\xff.", "opcode 0xff"},
		"extension":                    {"\x82\x01.", "opcode 0x82"},
		"instance":                     {"(iposix\nsystem\n.", "opcode 0x69"},
		"object":                       {"(cposix\nsystem\no.", "opcode 0x6f"},
		"global from the stack":        {"X\x05\x00\x00\x00posixX\x06\x00\x00\x00system\x93.", "opcode 0x93"},
		"persistent id as a line":      {"P0\n.", "opcode 0x50"},
		"number as a line":             {"I" + strings.Repeat("9", 1000) + "\n.", "opcode 0x49"},
		"key that cannot be hashed":    {"}B\x00\x00\x00\x00Ns.", "opcode 0x42"},
		"dict with a key and no value": {"}(Nu.", "without a value"},
		"nothing to stop with":         {".", "not there"},
		"mark to stop with":            {"N(.", "not there"},
		"no mark":                      {"t.", "not there"},
		"list under a mark":            {"]((e.", "not there"},
		"reduce of one":                {"NR.", "not there"},
		"nothing to put":               {"q\x00.", "not there"},
		"nothing to build":             {"Nb.", "not there"},
		"unknown memo":                 {"h\x07)R.", "REDUCE"},
		"call of a number":             {"K\x01)R.", "REDUCE"},
		"new object of a number":       {"K\x01)\x81.", "NEWOBJ"},
		"new object without a tuple":   {"K\x01K\x01\x81.", "NEWOBJ"},
		"new object of a loop":         {"}q\x00K\x01h\x00s)\x81.", "NEWOBJ"},
		"new object of one":            {"N\x81.", "not there"},
		"append to a number":           {"K\x01Na.", "APPEND"},
		"build of a number":            {"K\x01}N\x88sb.", "BUILD"},
		"persistent id":                {"NQ.", "persistent ID"},
		"protocol 5":                   {"\x80\x05N.", "protocol 5"},
		"protocol 0":                   {"\x80\x00N.", "protocol 0"},
		"global without a module":      {"c\nsystem\n.", "without a module"},
		"global above ASCII":           {"c\xf0posix\nsystem\n.", "without a module"},
		"global that does not end":     {"cposix\nsystem", "truncated"},
		"text that is not UTF-8":       {"X\x01\x00\x00\x00\xff.", "UTF-8"},
		"no end":                       {"N", "truncated"},
		"nothing":                      {"", "truncated"},
		"marks without end":            {strings.Repeat("(", 1<<20), "deep"},
		"opcodes without end":          {strings.Repeat("]", maxOpcodes+1) + ".", "opcodes"},
		"more than the limit of bytes": {strings.Repeat("U\xff"+strings.Repeat("x", 255), maxBytes/257+1) + ".", "MiB"},
	} {
		t.Run(name, func(t *testing.T) {
			env := nothing
			_, _, err := Load([]byte(c.code), env)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 200 {
				t.Errorf("error %q, want it to say %q", err, c.says)
			}
		})
	}
}

// TestMemoBombStaysSmall doubles a tuple a thousand times: as a tree it would have 2^1000 leaves.
func TestMemoBombStaysSmall(t *testing.T) {
	code := "Nq\x00" + strings.Repeat("h\x00h\x00\x86q\x00", 1000) + "."
	v, _, err := Load([]byte(code), nothing)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := v.(*types.Tuple); !ok {
		t.Errorf("value of type %T", v)
	}
}

// TestWorstPickleWithinMemory runs the opcodes that allocate most up to the limit.
func TestWorstPickleWithinMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("allocates some 200 MB")
	}
	for name, code := range map[string]string{
		"dicts":  "(" + strings.Repeat("}", maxOpcodes-3) + "t.",
		"tuples": "(" + strings.Repeat("(t", (maxOpcodes-3)/2) + "t.",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		v, _, err := Load([]byte(code), nothing)
		if err != nil {
			t.Fatal(err)
		}
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(v)
		if got := (after.TotalAlloc - before.TotalAlloc) >> 20; got > 400 {
			t.Errorf("%s: %d MiB allocated", name, got)
		}
	}
}
