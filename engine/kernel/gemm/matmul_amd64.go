//go:build !noasm

package gemm

import (
	"unsafe"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// maxSteps bounds the depth that a task packs at a time.
const maxSteps = 64

// newMultiplier chooses the kernel of a product.
func newMultiplier(p *Product) multiplier {
	switch {
	case p.Tier >= cpu.AMX && p.Precision != engine.Highest:
		return newTileMultiplier(p)
	case p.Tier >= cpu.AVX2:
		return newVectorMultiplier(p)
	}
	return plainMultiplier{}
}

// pairArgs are the arguments of the packing kernels. The offsets of the fields are known to _gen/gemm/pairs.go.
type pairArgs struct {
	dst, src unsafe.Pointer
	stride   int // bytes between rows of the source
	rows     int // 1 to 32
	mask     int // columns that exist as bits
}

//go:noescape
func pairRound(args *pairArgs)

//go:noescape
func pairSplit(args *pairArgs)

//go:noescape
func transpose16(dst unsafe.Pointer, dstStride int, src unsafe.Pointer, srcStride int)

// tileMultiplier multiplies in AMX tiles.
type tileMultiplier struct {
	planes  int
	config  tileConfig
	offsets [maxSteps]int32
	rows    [groupRows]rowEntry
	starts  [groupRows/tileBlock + 1]int32
	bias    []float32 // zeros for all panels of a task
}

func newTileMultiplier(p *Product) *tileMultiplier {
	t := &tileMultiplier{planes: 1, config: fullTiles()}
	if p.Precision == engine.High {
		t.planes = 2
	}
	for i := range t.offsets {
		t.offsets[i] = int32(64 * i)
	}
	for i := range t.rows {
		t.rows[i] = rowEntry{sums: int32(i % tileBlock * tilePanel * 4), dst: int32(i * p.N), res: int32(i * p.N)}
	}
	for i := range t.starts {
		t.starts[i] = int32(i * tileBlock)
	}
	t.bias = make([]float32, (p.N+tilePanel-1)/tilePanel*tilePanel)
	return t
}

// fullTiles is the configuration of eight tiles of 16 rows of 64 bytes.
func fullTiles() tileConfig {
	c := tileConfig{palette: 1}
	for t := range 8 {
		c.rows[t], c.columns[t] = tileRows, 64
	}
	return c
}

func (t *tileMultiplier) grain() (int, int) { return tileBlock, tilePanel }

// rowBytes is the distance of packed rows of a: not a multiple of what falls on few cache sets.
func rowBytes(depth int) int { return 2*depth + 64 }

// stepBytes is the size of the packed weights of a step and a panel.
func (t *tileMultiplier) stepBytes() int { return t.planes * 2048 }

func (t *tileMultiplier) scratch(cols, depth int) int {
	a := t.planes * groupRows * rowBytes(depth)
	b := (cols + tilePanel - 1) / tilePanel * (depth / tileValues) * t.stepBytes()
	temporary := max(t.stepBytes(), t.planes*tilePanel*rowBytes(depth))
	return 4*sumsBytes + awakeBytes + a + b + temporary + 4*64
}

func (t *tileMultiplier) run(p *Product, depth, i0, i1, j0, j1 int, dst, a, b []float32, scratch []byte) {
	scratch = align(scratch, 2*sumsBytes)
	args := tileArgs{
		config:  &t.config,
		offsets: &t.offsets[0],
		rows:    &t.rows[0],
		sums:    unsafe.Pointer(&scratch[0]),
		awake:   unsafe.Pointer(&scratch[2*sumsBytes]),
		format:  int(kernel.F32),
		bias:    &t.bias[0],
		panels:  (j1 - j0 + tilePanel - 1) / tilePanel,
		blocks:  1,
	}
	args.low, args.high = bounds(kernel.None)
	args.mask = 1<<((j1-j0-1)%tilePanel+1) - 1
	scratch = scratch[2*sumsBytes+awakeBytes:]
	pa := scratch[:t.planes*groupRows*rowBytes(depth)]
	scratch = align(scratch[len(pa):], 64)
	pb := scratch[:args.panels*(depth/tileValues)*t.stepBytes()]
	temporary := align(scratch[len(pb):], 64)
	args.b = unsafe.Pointer(&pb[0])
	args.aStride = rowBytes(depth)
	args.aLow = groupRows * args.aStride
	var tiles [2 * groupRows / tileBlock]int32
	listTiles(tiles[:], args.aStride)
	args.tiles = &tiles[0]
	for k0 := 0; k0 < p.K; k0 += depth {
		k1 := min(k0+depth, p.K)
		args.steps = (k1 - k0 + tileValues - 1) / tileValues
		args.chunk = args.steps
		args.finishWithin(args.steps, t.planes)
		t.packB(p, b, k0, k1, j0, j1, pb, temporary)
		call := t.callBlocks(args.steps, args.panels)
		for i := i0; i < i1; i += groupRows {
			n := min(groupRows, i1-i)
			t.packA(p, a, i, i+n, k0, k1, pa, args.aStride, temporary)
			for block := 0; block*tileBlock < n; block += call {
				from := i + block*tileBlock
				args.a = unsafe.Pointer(&pa[block*tileBlock*args.aStride])
				args.groups = min(call, (n+tileBlock-1)/tileBlock-block)
				args.limit = n - block*tileBlock
				args.starts = &t.starts[0]
				args.dst = unsafe.Pointer(&dst[from*p.N+j0])
				args.res = nil
				if p.Accumulate || k0 > 0 {
					args.res = args.dst
				}
				args.multiply(t.planes)
			}
		}
	}
}

// callBlocks returns how many blocks of rows a call may compute.
func (t *tileMultiplier) callBlocks(steps, panels int) int {
	perBlock := steps * panels * t.planes * (t.planes + 1) / 2 * 4 * productCycles
	return min(max(1, callCycles/perBlock), groupRows/tileBlock)
}

// convert rounds or splits rows of float32 to bfloat16 rows, the planes low bytes apart; the last step is filled with
// zeros.
func (t *tileMultiplier) convert(dst []byte, dstStride, low int, src []float32, srcStride, rows, values int) {
	args := stageArgs{
		dst: unsafe.Pointer(&dst[0]), src: unsafe.Pointer(&src[0]), pixels: rows, srcStep: 4 * srcStride, dstStep: dstStride,
		chunks: (values + tileValues - 1) / tileValues, dstChunk: 64, storeMask: 1<<32 - 1, low: low,
	}
	args.loadMask = 1<<((values-1)%tileValues+1) - 1
	args.convert(t.planes)
}

// pairs packs up to 32 rows of 32 columns into the tiles of a step; rows that do not exist are zeros.
func (t *tileMultiplier) pairs(dst []byte, src []float32, stride, rows, cols int) {
	if rows < tileValues {
		clear(dst[:t.stepBytes()])
	}
	args := pairArgs{dst: unsafe.Pointer(&dst[0]), src: unsafe.Pointer(&src[0]), stride: 4 * stride, rows: rows, mask: 1<<cols - 1}
	if t.planes == 2 {
		pairSplit(&args)
	} else {
		pairRound(&args)
	}
}

// packA packs rows [i0, i1) and depth [k0, k1) of op(a).
func (t *tileMultiplier) packA(p *Product, a []float32, i0, i1, k0, k1 int, dst []byte, stride int, temporary []byte) {
	low := groupRows * stride
	if !p.TransA {
		t.convert(dst, stride, low, a[i0*p.K+k0:], p.K, i1-i0, k1-k0)
		return
	}
	for i := i0; i < i1; i += tileBlock {
		for k := k0; k < k1; k += tileValues {
			t.pairs(temporary, a[k*p.M+i:], p.M, min(tileValues, k1-k), min(tileBlock, i1-i))
			for plane := range t.planes {
				for parity := range 2 {
					to := plane*low + (i-i0+parity)*stride + (k-k0)*2
					transpose16(unsafe.Pointer(&dst[to]), 2*stride, unsafe.Pointer(&temporary[plane*2048+parity*1024]), 64)
				}
			}
		}
	}
}

// packB packs depth [k0, k1) and columns [j0, j1) of op(b), panel by panel.
func (t *tileMultiplier) packB(p *Product, b []float32, k0, k1, j0, j1 int, dst, temporary []byte) {
	for j := j0; j < j1; j += tilePanel {
		cols := min(tilePanel, j1-j)
		if p.TransB {
			stride := rowBytes((k1 - k0 + tileValues - 1) / tileValues * tileValues)
			low := tilePanel * stride
			if cols < tilePanel {
				clear(temporary[:t.planes*low])
			}
			t.convert(temporary, stride, low, b[j*p.K+k0:], p.K, cols, k1-k0)
			for k := k0; k < k1; k += tileValues {
				for plane := range t.planes {
					for parity := range 2 {
						from := plane*low + parity*stride + (k-k0)*2
						transpose16(unsafe.Pointer(&dst[plane*2048+parity*1024]), 64, unsafe.Pointer(&temporary[from]), 2*stride)
					}
				}
				dst = dst[t.stepBytes():]
			}
			continue
		}
		for k := k0; k < k1; k += tileValues {
			t.pairs(dst, b[k*p.N+j:], p.N, min(tileValues, k1-k), cols)
			dst = dst[t.stepBytes():]
		}
	}
}

func newVectorMultiplier(p *Product) vectorMultiplier {
	size := productsOf(p.Tier)
	return vectorMultiplier{rows: size.rows, panel: size.panel(), tier: p.Tier}
}

func (v vectorMultiplier) multiply(dst []float32, ldd, rows, cols, depth int, add bool, a []float32, aStride int, b []float32) {
	size, groups := productsOf(v.tier), depth/unrollValues
	run := [2]int32{0, int32(groups)}
	args := productArgs{
		aStride: 4 * aStride, runs: &run[0], runCount: 1, bias: &noBias[0], cStride: 4 * ldd, resStride: 4 * ldd,
	}
	args.low, args.high = bounds(kernel.None)
	most := size.callRows(v.tier, groups)
	for j := 0; j < cols; j += v.panel {
		args.b = unsafe.Pointer(&b[j*depth])
		args.next = args.b
		args.mask = 1<<min(cols-j, v.panel) - 1
		for from := 0; from < rows; from += most {
			args.a = unsafe.Pointer(&a[from*aStride])
			args.c = unsafe.Pointer(&dst[from*ldd+j])
			if add {
				args.res = args.c
			}
			args.multiply(size, min(most, rows-from), false)
		}
	}
}
