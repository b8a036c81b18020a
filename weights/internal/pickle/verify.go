package pickle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Limits of one pickle. A checkpoint spends about 30 opcodes and 150 bytes on a tensor, so these leave room for more
// than thirty thousand tensors, and hold what the machine may allocate (at most some 200 bytes for an opcode) to
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
	lines2          // two lines: the module and the name of a global
)

// pops counts what an opcode takes off the stack. toMark is everything above the topmost MARK, and the MARK.
const toMark = -1

type opcode struct {
	name  string
	arg   argument
	pops  int // toMark, or how many values it takes
	needs int // values that must then still lie below, which the opcode changes in place
	push  int
}

// opcodes are the ones that this package admits: those of pickle protocol 2 that torch.save writes and that PyTorch's
// own restricted reader (torch.load with weights_only) knows. No opcode of them takes a length of more than four bytes,
// constructs an object but by REDUCE and NEWOBJ of a global that was asked for, or reaches outside the stream.
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
}

var (
	errEnds = errors.New("ends in the middle of a pickle: the file is truncated")
	errLong = fmt.Errorf("has a pickle of more than %d MiB", maxBytes>>20)
)

// verify walks the pickle at the start of data without running it. It checks that every opcode is admitted, that no
// argument leaves the data, that no opcode takes more off the stack than lies there, and that the limits hold. It
// returns a copy of the pickle, altered where the machine would go wrong (see below), that is safe to run.
func verify(data []byte) ([]byte, error) {
	if len(data) <= maxBytes {
		return verifyBounded(data)
	}
	safe, err := verifyBounded(data[:maxBytes])
	if errors.Is(err, errEnds) {
		return nil, errLong
	}
	return safe, err
}

func verifyBounded(data []byte) ([]byte, error) {
	var (
		heights = []int{0}     // values on the stack above each open MARK
		alter   []func([]byte) // applied to the copy
		pos     int
	)
	for n := 0; ; n++ {
		if pos == len(data) {
			return nil, errEnds
		}
		if n == maxOpcodes {
			return nil, fmt.Errorf("has a pickle of more than %d opcodes", maxOpcodes)
		}
		code := data[pos]
		op := &opcodes[code]
		if op.name == "" {
			return nil, fmt.Errorf("uses pickle opcode 0x%02x, which torch.save does not write, at byte %d of the pickle", code, pos)
		}
		start := pos
		pos++
		arg, next, err := argumentOf(data, pos, op.arg)
		if err != nil {
			return nil, fmt.Errorf("%w (%s at byte %d of the pickle)", err, op.name, start)
		}

		switch code {
		case '\x80':
			if arg[0] != 2 && arg[0] != 3 {
				return nil, fmt.Errorf("is written in pickle protocol %d: save it again with torch.save and its default protocol, 2", arg[0])
			}
		case 'X':
			if !utf8.Valid(arg) {
				return nil, fmt.Errorf("has text that is not UTF-8 at byte %d of the pickle", start)
			}
		case 0x8a:
			// A long of no bytes is Python's way to write 0; the machine would index an empty slice. BININT1 of the
			// same two bytes says the same.
			if len(arg) == 0 {
				alter = append(alter, func(b []byte) { b[start] = 'K' })
			}
		case 'c':
			// The machine resolves some modules itself and asks FindClass for the rest. With the top bit set it
			// knows none of them, so that every global is asked for (and the bit taken away there).
			if len(arg) == 0 || arg[0] == '\n' || arg[0] >= 0x80 {
				return nil, fmt.Errorf("names a global without a module at byte %d of the pickle", start)
			}
			alter = append(alter, func(b []byte) { b[start+1] |= 0x80 })
		}
		pos = next

		top := len(heights) - 1
		have := heights[top]
		if op.pops == toMark {
			if top == 0 {
				return nil, underflow(op, start)
			}
			if code == 'u' && have%2 != 0 {
				return nil, fmt.Errorf("sets a dictionary key without a value at byte %d of the pickle", start)
			}
			heights = heights[:top]
			top--
			have = heights[top]
		} else {
			have -= op.pops
		}
		if have < op.needs {
			return nil, underflow(op, start)
		}
		heights[top] = have + op.push

		switch code {
		case '(':
			if len(heights) > maxMarks {
				return nil, fmt.Errorf("nests its values more than %d deep", maxMarks)
			}
			heights = append(heights, 0)
		case '.':
			safe := slices.Clone(data[:pos])
			for _, f := range alter {
				f(safe)
			}
			return safe, nil
		}
	}
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
	case count1:
		if len(rest) < 1 {
			return nil, 0, errEnds
		}
		size, rest, pos = int(rest[0]), rest[1:], pos+1
	case count4:
		if len(rest) < 4 {
			return nil, 0, errEnds
		}
		// Compared unsigned: no length can turn negative, on 32 bits neither.
		n := binary.LittleEndian.Uint32(rest)
		rest, pos = rest[4:], pos+4
		if uint64(n) > uint64(len(rest)) {
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
