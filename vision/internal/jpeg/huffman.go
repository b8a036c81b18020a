package jpeg

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
)

// lookBits is how many bits of the stream index the lookup of a Huffman table. With 10, nine of ten coefficients of a
// photograph take one look, sign and magnitude included, and the four tables stay in the first-level cache.
const lookBits = 10

// huffman is a Huffman table. An entry of lookup describes what the stream begins with:
//
//	bits 0-5    bits to consume, 0 for a code longer than lookBits
//	bit  7      complete: the coefficient lies within the lookup
//	bits 8-15   complete: zeros before the coefficient; else the symbol
//	bits 16-31  complete: the coefficient, signed
type huffman struct {
	lookup  [1 << lookBits]uint32
	short   [256]uint16 // by the next 8 bits: length of the code, 0 for a longer one, and symbol<<8
	maxCode [18]int32   // largest code of a length, -1 for none
	offset  [17]int32   // index in symbols less code
	symbols [256]uint8
	source  []byte // counts and symbols that it was built from: most files have the same
}

const complete = 0x80

// build reads the counts and symbols of a DHT segment and returns what follows. dc says that a symbol has no run; a table is
// always built with the same.
func (h *huffman) build(p []byte, dc bool) ([]byte, error) {
	if len(p) < 16 {
		return nil, errors.New("table of Huffman codes is too short")
	}
	total := 0
	for _, n := range p[:16] {
		total += int(n)
	}
	if total > 256 || len(p) < 16+total {
		return nil, errors.New("table of Huffman codes is too short or too long")
	}
	if bytes.Equal(h.source, p[:16+total]) {
		return p[16+total:], nil
	}
	*h = huffman{source: h.source[:0]}
	copy(h.symbols[:], p[16:16+total])
	code, next := int32(0), int32(0)
	for length := 1; length <= 16; length++ {
		n := int32(p[length-1])
		h.offset[length] = next - code
		h.maxCode[length] = -1
		if n > 0 {
			h.maxCode[length] = code + n - 1
		}
		if code+n > 1<<length {
			return nil, errors.New("table of Huffman codes has too many codes of one length")
		}
		for range n {
			if length <= 8 {
				for rest := range 1 << (8 - length) {
					h.short[int(code)<<(8-length)+rest] = uint16(h.symbols[next])<<8 | uint16(length)
				}
			}
			if length <= lookBits {
				h.enter(code, length, h.symbols[next], dc)
			}
			code++
			next++
		}
		code <<= 1
	}
	h.source = append(h.source, p[:16+total]...)
	return p[16+total:], nil
}

// enter fills the lookups that begin with a code.
func (h *huffman) enter(code int32, length int, symbol uint8, dc bool) {
	run, size := int(symbol>>4), int(symbol&15)
	if dc {
		run, size = 0, int(symbol)
	}
	free := lookBits - length
	first := int(code) << free
	for rest := range 1 << free {
		e := uint32(symbol)<<8 | uint32(length)
		switch {
		case size > 0 && size <= free:
			v := extend(int32(rest>>(free-size)), size)
			e = uint32(uint16(v))<<16 | uint32(run)<<8 | complete | uint32(length+size)
		case dc && size == 0:
			e = complete | uint32(length)
		}
		h.lookup[first+rest] = e
	}
}

// extend gives the size bits v of a magnitude their sign (ITU-T T.81, F.2.2.1).
func extend(v int32, size int) int32 {
	negative := (v - 1<<uint(size)>>1) >> 31 // -1 where the first bit is 0; no branch, for it would be a coin toss
	return v + negative&(-1<<uint(size)+1)
}

// standardTables gives the tables that are not defined the content that most encoders write (ITU-T T.81, K.3): frames of Motion
// JPEG, as cameras save them, have none.
func (d *decoder) standardTables() {
	for i, table := range standard {
		if !d.hasDC[i] {
			_, _ = d.dc[i].build(table.dc, true) // cannot fail
			d.hasDC[i] = true
		}
		if !d.hasAC[i] {
			_, _ = d.ac[i].build(table.ac, false)
			d.hasAC[i] = true
		}
	}
}

// standard holds counts and symbols of the tables of luma and chroma.
var standard = func() (tables [2]struct{ dc, ac []byte }) {
	for i, text := range [2]struct{ dc, ac string }{
		{
			"00010501010101010100000000000000000102030405060708090a0b",
			"0002010303020403050504040000017d01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728" +
				"292a3435363738393a434445464748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7" +
				"a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa",
		},
		{
			"00030101010101010101010000000000000102030405060708090a0b",
			"00020102040403040705040400010277000102031104052131061241510761711322328108144291a1b1c109233352f0156272d10a162434e125f11718191a26" +
				"2728292a35363738393a434445464748494a535455565758595a636465666768696a737475767778797a82838485868788898a92939495969798999aa2a3a4a5" +
				"a6a7a8a9aab2b3b4b5b6b7b8b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae2e3e4e5e6e7e8e9eaf2f3f4f5f6f7f8f9fa",
		},
	} {
		tables[i].dc, _ = hex.DecodeString(text.dc)
		tables[i].ac, _ = hex.DecodeString(text.ac)
	}
	return tables
}()

// bits reads the entropy-coded segment that data holds from pos on. Bits lie left-aligned in acc, n of them valid; those below
// are 0 or what the next bytes will bring. Behind a marker, or the end of the data, it reads zeros.
type bits struct {
	data   []byte
	pos    int
	acc    uint64
	n      uint
	made   uint // zero bits made up; made > n means that some have been consumed
	ended  bool // by the end of the data rather than a marker
	marked bool // pos is at a marker
}

// refill brings n to at least 57.
func (b *bits) refill() {
	for b.n <= 56 {
		if !b.marked && !b.ended {
			if b.pos+8 <= len(b.data) {
				if w := binary.BigEndian.Uint64(b.data[b.pos:]); !hasFF(w) {
					b.acc |= w >> b.n
					b.pos += int((63 - b.n) >> 3)
					b.n |= 56
					return
				}
			}
			if v, ok := b.byte(); ok {
				b.acc |= uint64(v) << (56 - b.n)
				b.n += 8
				continue
			}
		}
		b.acc = b.acc &^ (1<<(64-b.n) - 1) // what lies below came from bytes that are not there
		b.n += 8
		b.made += 8
	}
}

// byte reads a byte, undoing the stuffing.
func (b *bits) byte() (v uint8, ok bool) {
	if b.pos >= len(b.data) {
		b.ended = true
		return 0, false
	}
	v = b.data[b.pos]
	if v != 0xff {
		b.pos++
		return v, true
	}
	next := b.pos + 1
	for next < len(b.data) && b.data[next] == 0xff { // fill bytes
		next++
	}
	if next >= len(b.data) {
		b.ended = true
		return 0, false
	}
	if b.data[next] == 0 {
		b.pos = next + 1
		return 0xff, true
	}
	b.pos, b.marked = next-1, true
	return 0, false
}

func hasFF(w uint64) bool {
	return (^w-0x0101010101010101)&w&0x8080808080808080 != 0
}

// overrun reports whether bits were read that the data does not have.
func (b *bits) overrun() bool { return b.made > b.n }

// take returns the next size <= 16 bits.
func (b *bits) take(size int) int32 {
	if b.n < 16 {
		b.refill()
	}
	v := int32(b.acc >> (64 - uint(size)))
	b.acc <<= uint(size)
	b.n -= uint(size)
	return v
}

// symbol decodes a symbol. A code that is none decodes to 0 and takes 17 bits, as in libjpeg.
func (b *bits) symbol(h *huffman) uint8 {
	if b.n < 17 {
		b.refill()
	}
	if e := h.short[b.acc>>56]; e != 0 {
		b.acc <<= e & 15
		b.n -= uint(e & 15)
		return uint8(e >> 8)
	}
	for length := 9; length <= 16; length++ {
		if code := int32(b.acc >> (64 - uint(length))); code <= h.maxCode[length] {
			b.acc <<= uint(length)
			b.n -= uint(length)
			return h.symbols[(h.offset[length]+code)&255]
		}
	}
	b.acc <<= 17
	b.n -= 17
	return 0
}

// block is a block of dequantised coefficients, rows top to bottom.
type block [64]int32

// sequential decodes a block of a sequential image into dst, which must be zero, multiplying by the quantisers q (in zigzag order).
// pred is the DC predictor. It returns the zigzag index of the last coefficient.
func (b *bits) sequential(dst *block, dc, ac *huffman, q *[64]int32, pred *int32) int {
	if b.n < 32 {
		b.refill()
	}
	e := dc.lookup[b.acc>>(64-lookBits)]
	if e&complete != 0 {
		b.acc <<= e & 63
		b.n -= uint(e & 63)
		*pred += int32(e) >> 16
	} else if size := int(b.symbol(dc)); size > 0 {
		size = min(size, 16)
		*pred += extend(b.take(size), size)
	}
	dst[0] = *pred * q[0]

	// The reader's state is kept in local variables, that is in registers.
	data, pos, acc, n := b.data, b.pos, b.acc, b.n
	last := 0
	for k := 1; k < 64; k++ {
		if n < 32 { // a code and a coefficient take 31
			w := uint64(0xff)
			if pos+8 <= len(data) {
				w = binary.BigEndian.Uint64(data[pos : pos+8 : len(data)])
			}
			if !hasFF(w) {
				acc |= w >> (n & 63)
				pos += int((63 - n) >> 3)
				n |= 56
			} else {
				b.pos, b.acc, b.n = pos, acc, n
				b.refill()
				pos, acc, n = b.pos, b.acc, b.n
			}
		}
		e := ac.lookup[acc>>(64-lookBits)]
		if e&complete != 0 {
			acc <<= e & 63
			n -= uint(e & 63)
			k = min(k+int(e>>8)&15, 63)
			dst[zigzag[k&63]&63] = (int32(e) >> 16) * q[k&63]
			last = k
			continue
		}
		symbol := uint8(e >> 8)
		if length := e & 63; length != 0 {
			acc <<= length
			n -= uint(length)
		} else {
			b.pos, b.acc, b.n = pos, acc, n
			symbol = b.symbol(ac)
			pos, acc, n = b.pos, b.acc, b.n
		}
		size := uint(symbol & 15)
		if size == 0 {
			if symbol != 0xf0 { // end of block
				break
			}
			k += 15
			continue
		}
		v := extend(int32(acc>>(64-size)), int(size))
		acc <<= size
		n -= size
		k = min(k+int(symbol>>4), 63)
		dst[zigzag[k&63]&63] = v * q[k&63]
		last = k
	}
	b.pos, b.acc, b.n = pos, acc, n
	return last
}

// zigzag gives the position in a block of the coefficients in the order of the stream.
var zigzag = [64]uint8{
	0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5,
	12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
	58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
}
