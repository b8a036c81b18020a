//go:build linux && amd64

package main

import (
	"encoding/binary"
	"errors"
)

const (
	tileRows  = 16
	rowBytes  = 64
	configLen = 64
)

// tiles is the tile data of a thread, with its configuration. Of palette 1 there are 8 tiles of up to 16 rows of 64 bytes.
type tiles struct {
	config [configLen]byte // zeros: none
	tile   [8]tile
}

// tile has rows*columns bytes that the program sees. What lies beyond is zero.
type tile struct {
	rows, columns int // columns in bytes
	data          [tileRows][rowBytes]byte
}

// errUndefined is what the processor answers with an invalid opcode, or a general protection fault: the program has a fault.
var errUndefined = errors.New("not allowed with these tiles")

// configure is LDTILECFG.
func (t *tiles) configure(c [configLen]byte) error {
	*t = tiles{config: c}
	if c[0] == 0 {
		t.config = [configLen]byte{}
		return nil
	}
	if c[0] != 1 {
		return errUndefined
	}
	for i := range t.tile {
		columns, rows := int(binary.LittleEndian.Uint16(c[16+2*i:])), int(c[48+i])
		if columns > rowBytes || rows > tileRows || (columns == 0) != (rows == 0) {
			return errUndefined
		}
		t.tile[i].rows, t.tile[i].columns = rows, columns
	}
	return nil
}

// used returns a tile that is configured.
func (t *tiles) used(i uint8) (*tile, error) {
	if t.config[0] == 0 || t.tile[i].rows == 0 {
		return nil, errUndefined
	}
	return &t.tile[i], nil
}

// dot is TDPBF16PS: sum += a*b, in pairs of bfloat16, rounded as the Intel 64 and IA-32 Architectures Software Developer's Manual says: the products
// with the first of the pairs and those with the second are summed apart.
func (t *tiles) dot(sum, a, b uint8) error {
	s, err := t.used(sum)
	x, errA := t.used(a)
	y, errB := t.used(b)
	if errors.Join(err, errA, errB) != nil || sum == a || sum == b || a == b || s.columns%4 != 0 || x.columns%4 != 0 ||
		s.rows != x.rows || s.columns != y.columns || x.columns/4 != y.rows {
		return errUndefined
	}
	var scratch [tileRows][2 * rowBytes]byte
	multiply(&s.data, &x.data, &y.data, s.rows, y.rows, 1<<(s.columns/4)-1, &scratch)
	for m := s.rows; m < tileRows; m++ {
		s.data[m] = [rowBytes]byte{}
	}
	return nil
}

// multiply is dot for a number of rows, of pairs in a row of a, and for the columns whose bits are set.
//
//go:noescape
func multiply(sum, a, b *[tileRows][rowBytes]byte, rows, pairs int, columns uint16, scratch *[tileRows][2 * rowBytes]byte)
