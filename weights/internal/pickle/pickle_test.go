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

var (
	errAsked  = errors.New("asked for a global")
	errStored = errors.New("asked for a persistent id")
)

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
		"short bytes":   {"C\x01\xe4.", "\xe4"},
		"bytes":         {"B\x01\x00\x00\x00\xe4.", "\xe4"},
		"long bytes":    {"\x8e\x01\x00\x00\x00\x00\x00\x00\x00\xe4.", "\xe4"},
		"byte array":    {"\x96\x01\x00\x00\x00\x00\x00\x00\x00\xe4.", "\xe4"},
		"short text":    {"\x8c\x02\xc3\xa4.", "ä"},
		"long text":     {"\x8d\x02\x00\x00\x00\x00\x00\x00\x00\xc3\xa4.", "ä"},
		"memoized":      {"]K\x07\x94aK\x08\x94h\x00.", 7},
		"two frames":    {"\x95\x01\x00\x00\x00\x00\x00\x00\x00]X\x01\x00\x00\x00a\x95\x03\x00\x00\x00\x00\x00\x00\x00K\x05.", 5},
		"empty frame":   {"\x95\x00\x00\x00\x00\x00\x00\x00\x00K\x05.", 5},
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
	short := func(s string) string { return "\x8c" + string([]byte{byte(len(s))}) + s }
	long := func(s string) string { return "\x8d" + string([]byte{byte(len(s)), 0, 0, 0, 0, 0, 0, 0}) + s }
	// The first three are those that gopickle resolves without asking.
	for _, g := range [][2]string{{"collections", "OrderedDict"}, {"copy_reg", "_reconstructor"}, {"__builtin__", "object"}, {"posix", "system"}} {
		for way, code := range map[string]string{
			"GLOBAL":                   "c" + g[0] + "\n" + g[1] + "\n.",
			"STACK_GLOBAL":             short(g[0]) + short(g[1]) + "\x93.",
			"of long texts":            long(g[0]) + long(g[1]) + "\x93.",
			"of memoized texts":        short(g[1]) + "\x94" + short(g[0]) + "\x94h\x01h\x00\x93.",
			"of texts under an object": "N" + short(g[0]) + "q\x05" + short(g[1]) + "q\x06\x93.",
			"as a persistent id":       short(g[0]) + short(g[1]) + "\x86Q.",
		} {
			var asked [2]string
			env := Env{
				Global: func(module, name string) (any, error) {
					asked = [2]string{module, name}
					return nil, errAsked
				},
				Persistent: func(any) (any, error) { return nil, errStored },
			}
			_, _, err := Load([]byte(code), env)
			if way == "as a persistent id" {
				if !errors.Is(err, errStored) {
					t.Errorf("%s %q: %v", way, g, err)
				}
				continue
			}
			if !errors.Is(err, errAsked) {
				t.Errorf("%s %q: %v", way, g, err)
			}
			if asked != g {
				t.Errorf("%s asked for %q, not %q", way, asked, g)
			}
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
		"frame of 2^63 bytes":          {"\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", "truncated"},
		"frame of -1 bytes":            {"\x95\xff\xff\xff\xff\xff\xff\xff\xff.", "truncated"},
		"frame past the end":           {"\x95\x03\x00\x00\x00\x00\x00\x00\x00N.", "truncated"},
		"frame without a length":       {"\x95\x00\x00", "truncated"},
		"text cut in its length":       {"X\x01\x00", "truncated"},
		"short text without a length":  {"\x8c", "truncated"},
		"bytes cut in their length":    {"\x8e\x01\x00\x00\x00", "truncated"},
		"frame in a frame":             {"\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x95\x02\x00\x00\x00\x00\x00\x00\x00N.", "frame"},
		"frame that cuts an argument":  {"\x95\x02\x00\x00\x00\x00\x00\x00\x00M\x01\x00.", "frame"},
		"frame that outlives its end":  {"\x95\x03\x00\x00\x00\x00\x00\x00\x00N.N", "frame"},
		"bytes of 2^63 bytes":          {"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.", "truncated"},
		"bytes of 4 GiB":               {"B\xff\xff\xff\xff.", "truncated"},
		"long text of -1 bytes":        {"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "truncated"},
		"byte array of 2^32 bytes":     {"\x96\x00\x00\x00\x00\x01\x00\x00\x00.", "truncated"},
		"short text past the end":      {"\x8c\x03a.", "truncated"},
		"short text that is not UTF-8": {"\x8c\x01\xff.", "UTF-8"},
		"buffer out of band":           {"\x97.", "opcode 0x97"},
		"buffer made read-only":        {"N\x98.", "opcode 0x98"},
		"new object with keywords":     {"cposix\nsystem\n)}\x92.", "opcode 0x92"},
		"set under a mark":             {"\x8f(((\x90.", "not there"},
		"items for a number":           {"K\x01(N\x90.", "APPEND"},
		"frozen set without a mark":    {"N\x91.", "not there"},
		"nothing to memoize":           {"\x94.", "not there"},
		"long of 2 GiB":                {"\x8b\xff\xff\xff\x7f.", "opcode 0x8b"},
		"opcode past the table":        {"\xff.", "opcode 0xff"},
		"extension":                    {"\x82\x01.", "opcode 0x82"},
		"instance":                     {"(iposix\nsystem\n.", "opcode 0x69"},
		"object":                       {"(cposix\nsystem\no.", "opcode 0x6f"},
		"global of one text":           {"\x8c\x06system\x93.", "not there"},
		"global of a number":           {"K\x01\x8c\x06system\x93.", "without a module"},
		"global of a list":             {"\x8c\x05posix]\x93.", "without a module"},
		"global of an unknown memo":    {"h\x07h\x07\x93.", "without a module"},
		"global of an empty module":    {"\x8c\x00\x8c\x06system\x93.", "without a module"},
		"persistent id as a line":      {"P0\n.", "opcode 0x50"},
		"number as a line":             {"I" + strings.Repeat("9", 1000) + "\n.", "opcode 0x49"},
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
		"protocol 6":                   {"\x80\x06N.", "protocol 6"},
		"protocol 0":                   {"\x80\x00N.", "protocol 0"},
		"global without a module":      {"c\nsystem\n.", "without a module"},
		"global above ASCII":           {"c\xf0posix\nsystem\n.", errAsked.Error()},
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

// TestBytesAndSetsAsKeysAreNoPanic has what Go's maps cannot hold as a key in an OrderedDict.
func TestBytesAndSetsAsKeysAreNoPanic(t *testing.T) {
	env := Env{Global: func(string, string) (any, error) { return &types.OrderedDictClass{}, nil }}
	for name, key := range map[string]string{
		"bytes": "C\x01a", "byte array": "\x96\x01\x00\x00\x00\x00\x00\x00\x00a", "set": "\x8f(K\x01\x90", "frozen set": "(K\x01\x91",
		"set in a set": "\x8f(\x8f\x90",
	} {
		v, _, err := Load([]byte("\x80\x05ca\nb\n)R"+key+"K\x07s."), env)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if d, ok := v.(*types.OrderedDict); !ok || d.Len() != 1 {
			t.Errorf("%s: value %#v", name, v)
		}
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
		"memo":   "(" + strings.Repeat("N\x94", (maxOpcodes-3)/2) + "t.",
		"sets":   "(" + strings.Repeat("\x8f", maxOpcodes-3) + "t.",
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
