package codec

import "encoding/binary"

// shuffle writes the k-th bytes of all elements of src to planes[k]. len(src) is width times the length of each plane.
func shuffle(planes [8][]byte, src []byte, width int) {
	switch width {
	case 1:
		copy(planes[0], src)
	case 4:
		p0, p1, p2, p3 := planes[0], planes[1], planes[2], planes[3]
		n := len(p0)
		p1, p2, p3 = p1[:n], p2[:n], p3[:n]
		for i := range p0 {
			v := binary.LittleEndian.Uint32(src[4*i:])
			p0[i], p1[i], p2[i], p3[i] = byte(v), byte(v>>8), byte(v>>16), byte(v>>24)
		}
	default:
		for k := range width {
			p := planes[k]
			for i := range p {
				p[i] = src[i*width+k]
			}
		}
	}
}

// unshuffle is the inverse of shuffle.
func unshuffle(dst []byte, planes [8][]byte, width int) {
	switch width {
	case 1:
		copy(dst, planes[0])
	case 2:
		unshuffle2(dst, planes[0], planes[1])
	case 4:
		unshuffle4(dst, planes[0], planes[1], planes[2], planes[3])
	default:
		for k := range width {
			for i, v := range planes[k] {
				dst[i*width+k] = v
			}
		}
	}
}

// unshuffle4 takes four elements a step: one 4-byte load a plane, then a transposition of 4x4 bytes in registers.
func unshuffle4(dst, p0, p1, p2, p3 []byte) {
	const lanes = 0x00ff00ff
	n := len(p0)
	i := 0
	for ; i+4 <= n; i += 4 {
		a, b := binary.LittleEndian.Uint32(p0[i:]), binary.LittleEndian.Uint32(p1[i:])
		c, d := binary.LittleEndian.Uint32(p2[i:]), binary.LittleEndian.Uint32(p3[i:])
		// Bytes 0 and 2, and 1 and 3, of two planes side by side: ab02 is a0 b0 a2 b2.
		ab02, ab13 := a&lanes|(b&lanes)<<8, a>>8&lanes|b&^lanes
		cd02, cd13 := c&lanes|(d&lanes)<<8, c>>8&lanes|d&^lanes
		out := dst[4*i : 4*i+16]
		binary.LittleEndian.PutUint64(out, uint64(ab02&0xffff|cd02<<16)|uint64(ab13&0xffff|cd13<<16)<<32)
		binary.LittleEndian.PutUint64(out[8:], uint64(ab02>>16|cd02&^0xffff)|uint64(ab13>>16|cd13&^0xffff)<<32)
	}
	for ; i < n; i++ {
		binary.LittleEndian.PutUint32(dst[4*i:], uint32(p0[i])|uint32(p1[i])<<8|uint32(p2[i])<<16|uint32(p3[i])<<24)
	}
}

// unshuffle2 takes four elements a step, spread to 16 bits each in a register.
func unshuffle2(dst, p0, p1 []byte) {
	spread := func(v uint32) uint64 {
		x := uint64(v)
		x = (x | x<<16) & 0x0000ffff0000ffff
		return (x | x<<8) & 0x00ff00ff00ff00ff
	}
	n := len(p0)
	i := 0
	for ; i+4 <= n; i += 4 {
		binary.LittleEndian.PutUint64(dst[2*i:], spread(binary.LittleEndian.Uint32(p0[i:]))|spread(binary.LittleEndian.Uint32(p1[i:]))<<8)
	}
	for ; i < n; i++ {
		binary.LittleEndian.PutUint16(dst[2*i:], uint16(p0[i])|uint16(p1[i])<<8)
	}
}
