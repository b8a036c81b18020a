//go:build !noasm

package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine/kernel"
)

// groupedChannels is what the kernels of small groups compute at a time: the groups in one vector of channels.
const groupedChannels = 16

// groupedArgs are the arguments of the kernels of small groups. The offsets of the fields are known to _gen/gemm/grouped.go.
type groupedArgs struct {
	a          unsafe.Pointer // first position, 16 channels
	aStride    int            // bytes between positions
	offsets    *int32         // byte offset of each tap
	taps       int
	b          unsafe.Pointer // weights of the vector of channels: see packGroups
	c          unsafe.Pointer
	cStride    int            // bytes between positions of the destination
	res        unsafe.Pointer // nil without residual
	resStride  int
	bias       *float32 // 16
	rows       int      // positions of a block
	blocks     int      // counts down
	longer     int      // how many blocks have one position more: the first ones; counts down
	activation int
	low, high  float32   // bounds of the activations that clip
	_          [3]uint64 // where the kernel is in a, c and res
}

//go:noescape
func grouped4(args *groupedArgs)

//go:noescape
func grouped8(args *groupedArgs)

//go:noescape
func grouped16(args *groupedArgs)

// groupSize returns the channels of a group if there is a kernel for groups of that size, else 0.
func (s *ConvSpec) groupSize() int {
	in, out := s.In/s.Groups, s.Out/s.Groups
	if s.Groups > 1 && in == out && (in == 4 || in == 8 || in == 16) && s.In%groupedChannels == 0 {
		return in
	}
	return 0
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

// packGroups packs the weights of a vector of channels: [tap][group size] vectors. With groups of 16, vector i is the
// weights of input i. With smaller ones the first half belongs to the even inputs, the second to the odd ones: lane l multiplies the
// input of its pair of lanes, and vector r of a half is for the outputs r pairs further in the group.
func (c *vectorConv) packGroups(w *weights, bundle int) {
	s, size := &c.spec, c.groupSize
	pairs := size / 2
	to := c.weights[bundle*c.panelBytes()/4:]
	for t := range s.KernelH * s.KernelW {
		for i := range size {
			for lane := range groupedChannels {
				channel := bundle*groupedChannels + lane
				group, at := channel/size, lane%size
				in, out := i, at
				if size < groupedChannels {
					in = at/2*2 + i/pairs
					out = (at/2+i%pairs)%pairs*2 + at%2
				}
				to[(t*size+i)*groupedChannels+lane] = w.data[w.at+group*w.group+out*w.out+in*w.in+t/s.KernelW*w.tapH+t%s.KernelW*w.tapW]
			}
		}
	}
}

// multiply computes a line of n positions of a vector of channels.
func (p *groupedArgs) multiply(size, n int) {
	most := products512.rows
	if size == 8 {
		most = 6 // four sums each
	}
	p.blocks = (n + most - 1) / most
	p.rows, p.longer = n/p.blocks, n%p.blocks
	switch size {
	case 4:
		grouped4(p)
	case 8:
		grouped8(p)
	default:
		grouped16(p)
	}
}

// multiplyGroups computes the vectors of channels [from, to) of a band whose input is in scratch.
func (v *vectorCall) multiplyGroups(b band, from, to int, dst kernel.Map, residual *kernel.Map, scratch []byte) {
	args := groupedArgs{aStride: v.aStride, offsets: &v.taps[0], taps: len(v.taps), activation: int(v.spec.Activation)}
	args.low, args.high = bounds(v.spec.Activation)
	image, row, pixel := strides(&v.geometry, &dst)
	args.cStride = 4 * pixel
	dstAt, resAt := v.origin(&dst, b), 0
	var resImage, resRow, resPixel int
	if residual != nil {
		resAt = v.origin(residual, b)
		resImage, resRow, resPixel = strides(&v.geometry, residual)
		args.resStride = 4 * resPixel
	}
	lines, width := b.rows, v.ow
	if v.flat {
		lines, width = 1, b.rows
	}
	for p := from; p < to; p++ {
		channel := p * groupedChannels
		args.b = unsafe.Pointer(&v.weights[p*v.panelBytes()/4])
		args.bias = &v.bias[channel]
		for n := range b.images {
			for y := range lines {
				args.a = unsafe.Pointer(&scratch[p*v.blockBytes+(n*v.imageRows+y)*v.pitch*v.aStride])
				args.c = unsafe.Pointer(&dst.F32[dstAt+channel+n*image+y*row])
				if residual != nil {
					args.res = unsafe.Pointer(&residual.F32[resAt+channel+n*resImage+y*resRow])
				}
				args.multiply(v.groupSize, width)
			}
		}
	}
}
