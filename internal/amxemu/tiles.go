//go:build linux && amd64

package main

import (
	"encoding/binary"
	"errors"
	"math"
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

// dot is TDPBF16PS: sum += a*b, in pairs of bfloat16.
func (t *tiles) dot(sum, a, b uint8) error {
	s, err := t.used(sum)
	x, errA := t.used(a)
	y, errB := t.used(b)
	if errors.Join(err, errA, errB) != nil || sum == a || sum == b || a == b || s.columns%4 != 0 || x.columns%4 != 0 ||
		s.rows != x.rows || s.columns != y.columns || x.columns/4 != y.rows {
		return errUndefined
	}
	pairs, width := y.rows, y.columns/2
	var factors [tileRows][rowBytes / 2]float32
	for k := range pairs {
		widen(factors[k][:width], &y.data[k])
	}
	for m := range s.rows {
		var row, products [rowBytes / 2]float32 // products of the first and of the second of each pair are summed apart
		widen(row[:2*pairs], &x.data[m])
		for k := range pairs {
			first, second, with := float64(row[2*k]), float64(row[2*k+1]), factors[k][:width]
			for n := 0; n+1 < len(with); n += 2 {
				products[n] = float32(first*float64(with[n]) + float64(products[n]))
				products[n+1] = float32(second*float64(with[n+1]) + float64(products[n+1]))
			}
		}
		for n := range s.columns / 4 {
			cell := s.data[m][4*n:]
			old := normal(math.Float32frombits(binary.LittleEndian.Uint32(cell)))
			binary.LittleEndian.PutUint32(cell, math.Float32bits(normal(old+normal(products[2*n]+products[2*n+1]))))
		}
	}
	for m := s.rows; m < tileRows; m++ {
		s.data[m] = [rowBytes]byte{}
	}
	return nil
}

// widen reads bfloat16 values.
func widen(dst []float32, src *[rowBytes]byte) {
	for i := range dst {
		dst[i] = normal(math.Float32frombits(uint32(binary.LittleEndian.Uint16(src[2*i:])) << 16))
	}
}

// normal makes subnormal numbers zero, as the instructions do with what goes in and comes out.
func normal(v float32) float32 {
	if b := math.Float32bits(v); b&0x7f800000 == 0 {
		return math.Float32frombits(b & 0x80000000)
	}
	return v
}
