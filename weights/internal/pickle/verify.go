package pickle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of one pickle. A checkpoint spends some 40 opcodes and 120 bytes on a tensor, 10 and 25 more on a parameter, so these
// leave room for more than twenty thousand, and hold what the machine may allocate (at most some 200 bytes for an opcode) to
// about 200 MB.
const (
	maxBytes   = 32 << 20
	maxOpcodes = 1 << 20
	maxMarks   = 100 // nesting of MARK: a checkpoint nests its containers about ten deep
)

// argument says what follows an opcode in the stream.
type argument uint8

const (
	none   argument = iota
	byte1           // 1 byte
	byte2           // 2 bytes
	byte4           // 4 bytes
	byte8           // 8 bytes
	count1          // 1 byte of length, then so many bytes
	count4          // 4 bytes of length, little-endian, then so many bytes
	count8          // 8 bytes of length, little-endian, then so many bytes
	lines2          // two lines: the module and the name of a global
)

// lengthBytes is how many bytes the length of an argument has.
var lengthBytes = [...]int{count1: 1, count4: 4, count8: 8}

// pops counts what an opcode takes off the stack. toMark is everything above the topmost MARK, and the MARK.
const toMark = -1

type opcode struct {
	name  string
	arg   argument
	pops  int // toMark, or how many values it takes
	needs int // values that must then still lie below, which the opcode changes in place
	push  int
	as    byte // the opcode that the machine is given instead, with 4 bytes of length where there is one; 0 for itself
}

// opcodes are the ones that this package admits: those of protocol 2 that torch.save writes and that PyTorch's own
// restricted reader (torch.load with weights_only) knows, and those with which protocols 3 to 5 write the same values.
// No opcode of them constructs an object but by REDUCE and NEWOBJ of a global that was asked for, or reaches outside the
// stream. To the machine bytes are Python 2's texts and sets are lists: a checkpoint may hold both, its tensors need
// neither, and the machine's own could be no keys of its maps.
var opcodes = [256]opcode{
	'(':    {name: "MARK"},
	'.':    {name: "STOP", pops: 1},
	'}':    {name: "EMPTY_DICT", push: 1},
	']':    {name: "EMPTY_LIST", push: 1},
	')':    {name: "EMPTY_TUPLE", push: 1},
	't':    {name: "TUPLE", pops: toMark, push: 1},
	0x85:   {name: "TUPLE1", pops: 1, push: 1},
	0x86:   {name: "TUPLE2", pops: 2, push: 1},
	0x87:   {name: "TUPLE3", pops: 3, push: 1},
	'N':    {name: "NONE", push: 1},
	0x88:   {name: "NEWTRUE", push: 1},
	0x89:   {name: "NEWFALSE", push: 1},
	'K':    {name: "BININT1", arg: byte1, push: 1},
	'M':    {name: "BININT2", arg: byte2, push: 1},
	'J':    {name: "BININT", arg: byte4, push: 1},
	'G':    {name: "BINFLOAT", arg: byte8, push: 1},
	0x8a:   {name: "LONG1", arg: count1, push: 1},
	'U':    {name: "SHORT_BINSTRING", arg: count1, push: 1}, // Python 2
	'T':    {name: "BINSTRING", arg: count4, push: 1},       // Python 2
	'X':    {name: "BINUNICODE", arg: count4, push: 1},
	'h':    {name: "BINGET", arg: byte1, push: 1},
	'j':    {name: "LONG_BINGET", arg: byte4, push: 1},
	'q':    {name: "BINPUT", arg: byte1, needs: 1},
	'r':    {name: "LONG_BINPUT", arg: byte4, needs: 1},
	'a':    {name: "APPEND", pops: 1, needs: 1},
	'e':    {name: "APPENDS", pops: toMark, needs: 1},
	's':    {name: "SETITEM", pops: 2, needs: 1},
	'u':    {name: "SETITEMS", pops: toMark, needs: 1},
	'b':    {name: "BUILD", pops: 1, needs: 1},
	'c':    {name: "GLOBAL", arg: lines2, push: 1},
	'R':    {name: "REDUCE", pops: 2, push: 1},
	0x81:   {name: "NEWOBJ", pops: 2, push: 1},
	'Q':    {name: "BINPERSID", pops: 1, push: 1},
	'\x80': {name: "PROTO", arg: byte1},

	'C': {name: "SHORT_BINBYTES", arg: count1, push: 1, as: 'T'}, // protocol 3
	'B': {name: "BINBYTES", arg: count4, push: 1, as: 'T'},

	0x8c: {name: "SHORT_BINUNICODE", arg: count1, push: 1, as: 'X'}, // protocol 4
	0x8d: {name: "BINUNICODE8", arg: count8, push: 1, as: 'X'},
	0x8e: {name: "BINBYTES8", arg: count8, push: 1, as: 'T'},
	0x8f: {name: "EMPTY_SET", push: 1, as: ']'},
	0x90: {name: "ADDITEMS", pops: toMark, needs: 1, as: 'e'},
	0x91: {name: "FROZENSET", pops: toMark, push: 1, as: 't'},
	0x93: {name: "STACK_GLOBAL", pops: 2, push: 1},
	0x94: {name: "MEMOIZE", needs: 1},
	0x95: {name: "FRAME", arg: byte8},

	0x96: {name: "BYTEARRAY8", arg: count8, push: 1, as: 'T'}, // protocol 5
}

// What the machine looks up by itself it finds in tables of its own. So it is given persistent ids alone, which it always
// asks Load for: one of a tuple of one value is the pickle's persistent id, one of two names a global.
var (
	persistentOps = []byte{0x85, 'Q'}
	globalOps     = []byte{0x86, 'Q'}
)

var (
	errEnds = errors.New("ends in the middle of a pickle: the file is truncated")
	errLong = fmt.Errorf("has a pickle of more than %d MiB", maxBytes>>20)
)

// verify walks the pickle at the start of data without running it. It checks that every opcode is admitted, that no
// argument leaves the data or its frame, that no opcode takes more off the stack than lies there, and that the limits
// hold. It returns the pickle's length and what the machine may run for it: the same values in opcodes of protocol 2, so
// that none of the machine's frames, globals, sets and bytes come into it.
func verify(data []byte) (safe []byte, n int, err error) {
	if len(data) <= maxBytes {
		return verifyBounded(data)
	}
	safe, n, err = verifyBounded(data[:maxBytes])
	if errors.Is(err, errEnds) {
		return nil, 0, errLong
	}
	return safe, n, err
}

func verifyBounded(data []byte) (safe []byte, length int, err error) {
	var (
		heights = []int{0} // values on the stack above each open MARK
		pos     int
		frame   = -1 // where the open frame ends, -1 if none is open
	)
	for n := 0; ; n++ {
		if pos == len(data) {
			return nil, 0, errEnds
		}
		if n == maxOpcodes {
			return nil, 0, fmt.Errorf("has a pickle of more than %d opcodes", maxOpcodes)
		}
		code := data[pos]
		op := &opcodes[code]
		if op.name == "" {
			return nil, 0, fmt.Errorf("uses pickle opcode 0x%02x, which torch.save does not write, at byte %d of the pickle", code, pos)
		}
		start := pos
		pos++
		arg, next, err := argumentOf(data, pos, op.arg)
		if err != nil {
			return nil, 0, fmt.Errorf("%w (%s at byte %d of the pickle)", err, op.name, start)
		}

		if frame == start {
			frame = -1
		}
		if frame >= 0 && (next > frame || code == 0x95 || code == '.' && next < frame) {
			return nil, 0, fmt.Errorf("has a damaged pickle: the frame around %s at byte %d ends elsewhere", op.name, start)
		}

		switch code {
		case '\x80':
			if arg[0] < 2 || arg[0] > 5 {
				return nil, 0, fmt.Errorf("is written in pickle protocol %d: save it again with torch.save and its default protocol, 2", arg[0])
			}
		case 0x95:
			size := binary.LittleEndian.Uint64(arg)
			if size > uint64(len(data)-next) {
				return nil, 0, fmt.Errorf("%w (%s at byte %d of the pickle)", errEnds, op.name, start)
			}
			frame = next + int(size)
		case 'X', 0x8c, 0x8d:
			if !utf8.Valid(arg) {
				return nil, 0, fmt.Errorf("has text that is not UTF-8 at byte %d of the pickle", start)
			}
		}
		safe = appendSafe(safe, code, arg, data[start:next])
		pos = next

		top := len(heights) - 1
		have := heights[top]
		if op.pops == toMark {
			if top == 0 {
				return nil, 0, underflow(op, start)
			}
			if code == 'u' && have%2 != 0 {
				return nil, 0, fmt.Errorf("sets a dictionary key without a value at byte %d of the pickle", start)
			}
			heights = heights[:top]
			top--
			have = heights[top]
		} else {
			have -= op.pops
		}
		if have < op.needs {
			return nil, 0, underflow(op, start)
		}
		heights[top] = have + op.push

		switch code {
		case '(':
			if len(heights) > maxMarks {
				return nil, 0, fmt.Errorf("nests its values more than %d deep", maxMarks)
			}
			heights = append(heights, 0)
		case '.':
			return safe, pos, nil
		}
	}
}

// appendSafe appends what the machine is to run for an opcode with its argument, whole in the stream.
func appendSafe(b []byte, code byte, arg, whole []byte) []byte {
	op := &opcodes[code]
	switch {
	case code == '\x80' || code == 0x95: // PROTO, FRAME
		return b
	case code == 'c':
		module, name, _ := bytes.Cut(arg[:len(arg)-1], []byte{'\n'})
		return append(counted(counted(b, 'T', module), 'T', name), globalOps...)
	case code == 0x93:
		return append(b, globalOps...)
	case code == 'Q':
		return append(b, persistentOps...)
	case code == 0x8a && len(arg) == 0:
		// A long of no bytes is Python's way to write 0; the machine would index an empty slice.
		return append(b, 'K', 0)
	case op.as == 0:
		return append(b, whole...)
	case op.arg == none:
		return append(b, op.as)
	}
	return counted(b, op.as, arg)
}

// counted appends an opcode whose argument has 4 bytes of length.
func counted(b []byte, code byte, arg []byte) []byte {
	b = binary.LittleEndian.AppendUint32(append(b, code), uint32(len(arg)))
	return append(b, arg...)
}

func underflow(op *opcode, at int) error {
	return fmt.Errorf("has a damaged pickle: %s at byte %d takes values that are not there", op.name, at)
}

// argumentOf returns the argument of kind that starts at pos, without its length, and where the next opcode starts.
func argumentOf(data []byte, pos int, kind argument) (arg []byte, next int, err error) {
	rest := data[pos:]
	size := 0
	switch kind {
	case byte1:
		size = 1
	case byte2:
		size = 2
	case byte4:
		size = 4
	case byte8:
		size = 8
	case count1, count4, count8:
		head := lengthBytes[kind]
		if len(rest) < head {
			return nil, 0, errEnds
		}
		var n uint64
		for i, b := range rest[:head] {
			n |= uint64(b) << (8 * i)
		}
		rest, pos = rest[head:], pos+head
		// Compared unsigned: no length can turn negative, on 32 bits neither.
		if n > uint64(len(rest)) {
			return nil, 0, errEnds
		}
		size = int(n)
	case lines2:
		for range 2 {
			i := bytes.IndexByte(rest[size:], '\n')
			if i < 0 {
				return nil, 0, errEnds
			}
			size += i + 1
		}
	}
	if len(rest) < size {
		return nil, 0, errEnds
	}
	return rest[:size], pos + size, nil
}
