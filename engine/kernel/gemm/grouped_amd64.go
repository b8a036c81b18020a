//go:build !noasm

package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// groupedChannels is the channels of a bundle of small groups: one or two vectors of the kernels.
const groupedChannels = 16

// groupedArgs are the arguments of the kernels of small groups. The offsets of the fields are known to _gen/gemm/grouped.go.
type groupedArgs struct {
	a          unsafe.Pointer // first position, a vector of channels
	aStride    int            // bytes between positions
	offsets    *int32         // byte offset of each tap
	taps       int
	b          unsafe.Pointer // weights of the vector of channels: see packGroups
	c          unsafe.Pointer
	cStride    int            // bytes between positions of the destination
	res        unsafe.Pointer // nil without residual
	resStride  int
	bias       *float32 // of the vector
	rows       int      // positions of a block
	blocks     int      // counts down
	longer     int      // how many blocks have one position more: the first ones; counts down
	activation int
	low, high  float32   // bounds of the activations that clip
	half       int       // 1 if c and res are bfloat16, which only kernels of 512 bits can write, and only with activations that clip
	_          [3]uint64 // where the kernel is in a, c and res
}

//go:noescape
func grouped512Of4(args *groupedArgs)

//go:noescape
func grouped512Of8(args *groupedArgs)

//go:noescape
func grouped512Of16(args *groupedArgs)

//go:noescape
func grouped256Of4(args *groupedArgs)

//go:noescape
func grouped256Of8(args *groupedArgs)

// groupedSize is what a kernel of small groups computes at a time; the zero value stands for none.
type groupedSize struct {
	lanes, channels int // of a vector and of a group
	positions       int // of a block
}

// groupedSizes are those that there are kernels for. With AVX2 a panel of products is as wide as a group of 16 channels.
var groupedSizes = []groupedSize{{16, 4, 14}, {16, 8, 6}, {16, 16, 14}, {8, 4, 6}, {8, 8, 2}}

// grouped returns the kernel for a convolution's groups, or zeros if there is none.
func (s *ConvSpec) grouped() groupedSize {
	in, out, lanes := s.In/s.Groups, s.Out/s.Groups, productsOf(s.Tier).lanes
	for _, size := range groupedSizes {
		if s.Groups > 1 && in == out && s.In%groupedChannels == 0 && size.lanes == lanes && size.channels == in {
			return size
		}
	}
	return groupedSize{}
}

// groupedDepth is newDepth for small groups: vectors of channels of each pixel lie apart, and the taps are the runs.
func groupedDepth(s *ConvSpec) depth {
	d := depth{bundles: s.In / groupedChannels, bundleIn: groupedChannels, bundleOut: groupedChannels, channels: groupedChannels, blocks: 1, blocked: true}
	for ky := range s.KernelH {
		for kx := range s.KernelW {
			d.runs = append(d.runs, run{0, ky, kx, groupedChannels})
		}
	}
	return d
}

// packGroups packs the weights of a bundle, vector by vector: [tap][channel of the group] vectors. With groups of 16, vector i of a tap
// is the weights of input i. With smaller ones the first half belongs to the even inputs, the second to the odd ones: lane l multiplies the
// input of its pair of lanes, and vector r of a half is for the outputs r pairs further in the group.
func (c *vectorConv) packGroups(w *weights, bundle int) {
	s, size, lanes := &c.spec, c.group.channels, c.group.lanes
	pairs := size / 2
	to := c.weights[bundle*c.panelBytes()/4:]
	for channel := bundle * groupedChannels; channel < (bundle+1)*groupedChannels; channel += lanes {
		for t := range s.KernelH * s.KernelW {
			for i := range size {
				for lane := range lanes {
					group, at := (channel+lane)/size, lane%size
					in, out := i, at
					if size < groupedChannels {
						in = at/2*2 + i/pairs
						out = (at/2+i%pairs)%pairs*2 + at%2
					}
					to[i*lanes+lane] = w.data[w.at+group*w.group+out*w.out+in*w.in+t/s.KernelW*w.tapH+t%s.KernelW*w.tapW]
				}
			}
			to = to[size*lanes:]
		}
	}
}

// multiply computes a line of n positions of a vector of channels.
func (p *groupedArgs) multiply(size groupedSize, n int) {
	p.blocks, p.rows, p.longer = divideRows(n, size.positions)
	switch {
	case size.lanes == 16 && size.channels == 4:
		grouped512Of4(p)
	case size.lanes == 16 && size.channels == 8:
		grouped512Of8(p)
	case size.lanes == 16:
		grouped512Of16(p)
	case size.channels == 4:
		grouped256Of4(p)
	default:
		grouped256Of8(p)
	}
}

// multiplyGroups computes the bundles of channels [from, to) of a band whose input is in scratch.
func (v *vectorCall) multiplyGroups(b band, from, to int, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	args := groupedArgs{aStride: v.aStride, offsets: &v.taps[0], taps: len(v.taps), activation: int(v.spec.Activation)}
	args.low, args.high = bounds(v.spec.Activation)
	image, row, pixel := strides(&v.geometry, &dst)
	element := dst.Format.Size()
	args.cStride = element * pixel
	if dst.Format == kernel.BF16 {
		args.half = 1
	}
	dstAt, resAt := v.origin(&dst, b), 0
	var resImage, resRow, resPixel int
	if residual != nil {
		resAt = v.origin(residual, b)
		resImage, resRow, resPixel = strides(&v.geometry, residual)
		args.resStride = element * resPixel
	}
	lines, width := v.lines(b)
	lanes := v.group.lanes
	vectorBytes := len(v.taps) * v.group.channels * lanes * 4
	for channel := from * groupedChannels; channel < to*groupedChannels; channel += lanes {
		bundle, within := channel/groupedChannels, channel%groupedChannels
		args.b = unsafe.Pointer(&v.weights[channel/lanes*vectorBytes/4])
		args.bias = &v.bias[channel]
		for n := range b.images {
			for y := range lines {
				args.a = unsafe.Pointer(&scratch[bundle*v.blockBytes+(n*v.imageRows+y)*v.pitch*v.aStride+4*within])
				args.c, _ = planes(&dst, dstAt+channel+n*image+y*row)
				if residual != nil {
					args.res, _ = planes(residual, resAt+channel+n*resImage+y*resRow)
				}
				args.multiply(v.group, width)
			}
		}
	}
}
