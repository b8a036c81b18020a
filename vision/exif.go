package vision

import (
	"bytes"
	"encoding/binary"
)

// orientation reads the EXIF orientation from a TIFF header and its first directory: 1 (upright) where there is none. It may be out of range.
func orientation(exif []byte) int {
	const tagOrientation = 0x0112
	return int(tiffTag(exif, tagOrientation, 1))
}

// tiffTag returns the number that a tag of the first directory behind a TIFF header has (the first where it has several), absent
// where the tag is not there, and 0 where it is no short or long integer.
func tiffTag(block []byte, tag uint16, absent uint32) uint32 {
	if len(block) < 8 {
		return absent
	}
	var order binary.ByteOrder = binary.LittleEndian
	if block[0] == 'M' {
		order = binary.BigEndian
	}
	at := uint64(order.Uint32(block[4:]))
	if at+2 > uint64(len(block)) {
		return absent
	}
	entries := int(order.Uint16(block[at:]))
	for dir := block[at+2:]; entries > 0 && len(dir) >= 12; entries, dir = entries-1, dir[12:] {
		const typeShort, typeLong = 3, 4
		if order.Uint16(dir) != tag {
			continue
		}
		switch order.Uint16(dir[2:]) {
		case typeShort:
			return uint32(order.Uint16(dir[8:]))
		case typeLong:
			return order.Uint32(dir[8:])
		}
		return 0
	}
	return absent
}

// exifOfJPEG returns the EXIF block of the first APP1 segment that has one.
func exifOfJPEG(data []byte) []byte {
	for p := 2; p+4 <= len(data); {
		marker := data[p+1]
		if data[p] != 0xff || marker == 0xff || marker == 0 { // junk between segments, or a fill byte
			p++
			continue
		}
		if marker == 0xda || marker == 0xd9 { // the scan begins: no more headers
			return nil
		}
		n := max(int(binary.BigEndian.Uint16(data[p+2:])), 2)
		if p+2+n > len(data) {
			return nil
		}
		segment := data[p+4 : p+2+n]
		if block, ok := bytes.CutPrefix(segment, []byte("Exif\x00\x00")); ok && marker == 0xe1 {
			return block
		}
		p += 2 + n
	}
	return nil
}

func exifOfPNG(data []byte) []byte {
	for p := 8; p+12 <= len(data); {
		n := uint64(binary.BigEndian.Uint32(data[p:]))
		if n > uint64(len(data)-p-12) {
			return nil
		}
		if string(data[p+4:p+8]) == "eXIf" {
			return data[p+8 : p+8+int(n)]
		}
		p += 12 + int(n)
	}
	return nil
}

func exifOfWebP(data []byte) []byte {
	block, _ := riffChunk(data[12:], "EXIF")
	block, _ = bytes.CutPrefix(block, []byte("Exif\x00\x00"))
	return block
}

// riffChunk returns the content of the first chunk with the given name.
func riffChunk(data []byte, name string) ([]byte, bool) {
	for len(data) >= 8 {
		n := uint64(binary.LittleEndian.Uint32(data[4:]))
		if n > uint64(len(data)-8) {
			return nil, false
		}
		if string(data[:4]) == name {
			return data[8 : 8+n], true
		}
		data = data[min(8+n+n&1, uint64(len(data))):]
	}
	return nil, false
}

// oriented returns the image turned and mirrored from EXIF orientation o to upright, m itself for 1 and what is no orientation.
func (m *Image) oriented(o int) *Image {
	if o <= 1 || o > 8 {
		return m
	}
	dst := NewImage(m.Width, m.Height)
	if o >= 5 {
		dst.Width, dst.Height = m.Height, m.Width
	}
	// Source of destination pixel (x, y): start + x*stepX + y*stepY, in pixels.
	w, h := m.Width, m.Height
	var start, stepX, stepY int
	switch o {
	case 2: // mirrored
		start, stepX, stepY = w-1, -1, w
	case 3: // upside down
		start, stepX, stepY = w*h-1, -1, -w
	case 4: // upside down, mirrored
		start, stepX, stepY = (h-1)*w, 1, -w
	case 5: // transposed
		start, stepX, stepY = 0, w, 1
	case 6: // to be turned 90 degrees clockwise
		start, stepX, stepY = (h-1)*w, -w, 1
	case 7: // transposed across the other diagonal
		start, stepX, stepY = w*h-1, -w, -1
	case 8: // to be turned 90 degrees anticlockwise
		start, stepX, stepY = w-1, w, -1
	}
	i := 0
	for y := range dst.Height {
		s := 3 * (start + y*stepY)
		for range dst.Width {
			copy(dst.Pix[i:i+3], m.Pix[s:s+3])
			i += 3
			s += 3 * stepX
		}
	}
	return dst
}
