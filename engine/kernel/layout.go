package kernel

import (
	"fmt"

	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// Copy copies rows [from, to) of src into dst: to gather channel blocks into a concatenation, or to cut one out. The
// formats must be the same; Convert is for those that differ.
func Copy(dst, src Map, from, to int) {
	mustMatch("copy", &dst, &src)
	mustFormat("copy", &dst, &src)
	s := spanOf(from, to, &dst, &src)
	for i := range s.count {
		d, x := dst.row(from+i), src.row(from+i)
		for range s.pixels {
			copyValues(&dst, d, &src, x, s.channels)
			d += dst.Pixel
			x += src.Pixel
		}
	}
}

func copyValues(dst *Map, d int, src *Map, x, count int) {
	if dst.Format == F32 {
		copy(dst.F32[d:d+count], src.F32[x:x+count])
		return
	}
	copy(dst.Hi[d:d+count], src.Hi[x:x+count])
	if dst.Format == Split {
		copy(dst.Lo[d:d+count], src.Lo[x:x+count])
	}
}

// Shuffle stores rows [from, to) of src into dst with the channels of its groups interleaved, the channel shuffle of
// ShuffleNet: channel g*(C/groups)+i of src becomes channel i*groups+g of dst. The formats are the same, the maps do not
// overlap.
func Shuffle(tier cpu.Tier, dst, src Map, groups, from, to int) {
	mustMatch("shuffle", &dst, &src)
	mustFormat("shuffle", &dst, &src)
	if groups < 1 || src.C%groups != 0 {
		panic(fmt.Sprintf("kernel: shuffle of %v in %d groups", src, groups))
	}
	per := src.C / groups
	if groups == 2 {
		Interleave(tier, dst, src.Sub(0, per), src.Sub(per, src.C), from, to)
		return
	}
	for r := from; r < to; r++ {
		d, x := dst.row(r), src.row(r)
		for range src.W {
			switch src.Format {
			case F32:
				shuffle(dst.F32[d:d+src.C], src.F32[x:x+src.C], groups)
			case Split:
				shuffle(dst.Lo[d:d+src.C], src.Lo[x:x+src.C], groups)
				fallthrough
			default:
				shuffle(dst.Hi[d:d+src.C], src.Hi[x:x+src.C], groups)
			}
			d += dst.Pixel
			x += src.Pixel
		}
	}
}

func shuffle[T any](dst, src []T, groups int) {
	per := len(src) / groups
	for g := range groups {
		at := g
		for _, v := range src[g*per : (g+1)*per] {
			dst[at] = v
			at += groups
		}
	}
}

// Interleave stores the channels of a and b in turns into rows [from, to) of dst: the concatenation of a and b, then
// shuffled in two groups, without the concatenation. a and b have half the channels of dst each; all have one format.
func Interleave(tier cpu.Tier, dst, a, b Map, from, to int) {
	mustMatch("interleaving", &a, &b)
	mustFormat("interleaving", &dst, &a, &b)
	if half := dst.Sub(0, dst.C/2); dst.C%2 != 0 || !half.SameShape(a) {
		panic(fmt.Sprintf("kernel: interleaving of %v and %v into %v", a, b, dst))
	}
	size := 1 // of an element: kernels for 32 and for 16 bits
	if dst.Format == F32 {
		size = 0
	}
	k := interleaveKernels[levelOf(tier)][size]
	if a.C == 0 {
		return
	}
	for r := from; r < to; r++ {
		d, x, y := dst.row(r), a.row(r), b.row(r)
		if k != nil {
			dh, dl := dst.ptr(d)
			xh, xl := a.ptr(x)
			yh, yl := b.ptr(y)
			k(dh, xh, yh, dst.Pixel, a.Pixel, b.Pixel, a.W, a.C)
			if dst.Format == Split {
				k(dl, xl, yl, dst.Pixel, a.Pixel, b.Pixel, a.W, a.C)
			}
			continue
		}
		for range a.W {
			switch dst.Format {
			case F32:
				interleave(dst.F32[d:d+dst.C], a.F32[x:], b.F32[y:])
			case Split:
				interleave(dst.Lo[d:d+dst.C], a.Lo[x:], b.Lo[y:])
				fallthrough
			default:
				interleave(dst.Hi[d:d+dst.C], a.Hi[x:], b.Hi[y:])
			}
			d += dst.Pixel
			x += a.Pixel
			y += b.Pixel
		}
	}
}

func interleave[T any](dst, a, b []T) {
	a, b = a[:len(dst)/2], b[:len(dst)/2]
	for i, v := range a {
		dst[2*i] = v
		dst[2*i+1] = b[i]
	}
}

// Subsample stores every stride-th pixel of every stride-th row of src into the channels from first on of rows
// [from, to) of dst and zero into its other channels: the shortcut of the CIFAR ResNets (option A of the ResNet paper),
// and with equal C the input of a strided 1x1 convolution. The formats are the same.
func Subsample(dst, src Map, stride, first, from, to int) {
	mustFormat("subsampling", &dst, &src)
	if dst.N != src.N || first < 0 || first+src.C > dst.C || (dst.H-1)*stride >= src.H || (dst.W-1)*stride >= src.W {
		panic(fmt.Sprintf("kernel: every pixel in %d of %v into channel %d of %v", stride, src, first, dst))
	}
	for r := from; r < to; r++ {
		d, x := dst.row(r), src.index(r/dst.H, r%dst.H*stride, 0)
		for range dst.W {
			dst.zero(d, first)
			copyValues(&dst, d+first, &src, x, src.C)
			dst.zero(d+first+src.C, dst.C-first-src.C)
			d += dst.Pixel
			x += stride * src.Pixel
		}
	}
}

// FromNCHW stores rows [from, to) of dst from src, float32 in the order N, C, H, W of PyTorch, of the shape of dst.
func FromNCHW(_ cpu.Tier, dst Map, src []float32, from, to int) {
	mustHold("NCHW", &dst, len(src))
	plane := dst.H * dst.W
	for r := from; r < to; r++ {
		n, y := r/dst.H, r%dst.H
		rows := src[n*dst.C*plane+y*dst.W:]
		// A tile of pixels x channels at a time, so that each side of the move uses whole cache lines.
		var tile [transposeTile * transposeTile]float32
		for x0 := 0; x0 < dst.W; x0 += transposeTile {
			xs := min(transposeTile, dst.W-x0)
			for c0 := 0; c0 < dst.C; c0 += transposeTile {
				cs := min(transposeTile, dst.C-c0)
				for c := range cs {
					for x, v := range rows[(c0+c)*plane+x0:][:xs] {
						tile[x*transposeTile+c] = v
					}
				}
				at := dst.index(n, y, x0) + c0
				for x := range xs {
					dst.store(at, tile[x*transposeTile:][:cs])
					at += dst.Pixel
				}
			}
		}
	}
}

// ToNCHW stores rows [from, to) of src into dst, float32 in the order N, C, H, W of PyTorch. As the whole map it is
// what torch.flatten(x, 1) gives to a linear layer.
func ToNCHW(_ cpu.Tier, dst []float32, src Map, from, to int) {
	mustHold("NCHW", &src, len(dst))
	plane := src.H * src.W
	for r := from; r < to; r++ {
		n, y := r/src.H, r%src.H
		rows := dst[n*src.C*plane+y*src.W:]
		var tile [transposeTile * transposeTile]float32
		for c0 := 0; c0 < src.C; c0 += transposeTile {
			cs := min(transposeTile, src.C-c0)
			for x0 := 0; x0 < src.W; x0 += transposeTile {
				xs := min(transposeTile, src.W-x0)
				at := src.index(n, y, x0) + c0
				for x := range xs {
					src.load(tile[x*transposeTile:][:cs], at)
					at += src.Pixel
				}
				for c := range cs {
					row := rows[(c0+c)*plane+x0:][:xs]
					for x := range row {
						row[x] = tile[x*transposeTile+c]
					}
				}
			}
		}
	}
}

// transposeTile is how many channels and pixels the transposes take at a time: one cache line of float32.
const transposeTile = 16

func mustHold(what string, m *Map, have int) {
	if need := m.N * m.H * m.W * m.C; have < need {
		panic(fmt.Sprintf("kernel: %d values in %s for %v, which has %d", have, what, *m, need))
	}
}
