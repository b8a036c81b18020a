package inception

import (
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk"
)

const paperV3 = "Szegedy, Vanhoucke, Ioffe, Shlens and Wojna: Rethinking the Inception Architecture for Computer Vision, 2015, arXiv:1512.00567"

// convV3 has torchvision's initial values; pad keeps the size of the map.
func convV3(out int, kernel graph.Pair) graph.Conv {
	return graph.Conv{Out: out, Kernel: kernel, Pad: graph.HW(kernel.H/2, kernel.W/2), Init: graph.TruncNormal(0.1)}
}

func valid(out, kernel, stride int) graph.Conv {
	return graph.Conv{Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Init: graph.TruncNormal(0.1)}
}

var (
	pixel = graph.Square(1)
	row   = graph.HW(1, 7)
	col   = graph.HW(7, 1)
	// down halves a map without padding.
	down = graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2)}
	// around is the pooling in front of a projection.
	around = graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(1), Pad: graph.Square(1)}
)

// chain applies basic layers one after another.
type link struct {
	name string
	conv graph.Conv
}

func chain(b *graph.Builder, x *graph.Node, links ...link) *graph.Node {
	for _, l := range links {
		x = basic(b, l.name, x, l.conv)
	}
	return x
}

// moduleA is figure 5: 1×1, 5×5, two 3×3, pooling.
func moduleA(b *graph.Builder, x *graph.Node, pool int) *graph.Node {
	return b.Concat(
		chain(b, x, link{"branch1x1", convV3(64, pixel)}),
		chain(b, x, link{"branch5x5_1", convV3(48, pixel)}, link{"branch5x5_2", convV3(64, graph.Square(5))}),
		chain(b, x, link{"branch3x3dbl_1", convV3(64, pixel)}, link{"branch3x3dbl_2", convV3(96, graph.Square(3))}, link{"branch3x3dbl_3", convV3(96, graph.Square(3))}),
		chain(b, b.AvgPool(x, around), link{"branch_pool", convV3(pool, pixel)}),
	)
}

// moduleB is figure 10: halves the map.
func moduleB(b *graph.Builder, x *graph.Node) *graph.Node {
	return b.Concat(
		chain(b, x, link{"branch3x3", valid(384, 3, 2)}),
		chain(b, x, link{"branch3x3dbl_1", convV3(64, pixel)}, link{"branch3x3dbl_2", convV3(96, graph.Square(3))}, link{"branch3x3dbl_3", valid(96, 3, 2)}),
		b.MaxPool(x, down),
	)
}

// moduleC is figure 6: 7×7 as 1×7 and 7×1.
func moduleC(b *graph.Builder, x *graph.Node, mid int) *graph.Node {
	return b.Concat(
		chain(b, x, link{"branch1x1", convV3(192, pixel)}),
		chain(b, x, link{"branch7x7_1", convV3(mid, pixel)}, link{"branch7x7_2", convV3(mid, row)}, link{"branch7x7_3", convV3(192, col)}),
		chain(b, x, link{"branch7x7dbl_1", convV3(mid, pixel)},
			link{"branch7x7dbl_2", convV3(mid, col)}, link{"branch7x7dbl_3", convV3(mid, row)},
			link{"branch7x7dbl_4", convV3(mid, col)}, link{"branch7x7dbl_5", convV3(192, row)}),
		chain(b, b.AvgPool(x, around), link{"branch_pool", convV3(192, pixel)}),
	)
}

// moduleD halves the map before the last stage.
func moduleD(b *graph.Builder, x *graph.Node) *graph.Node {
	return b.Concat(
		chain(b, x, link{"branch3x3_1", convV3(192, pixel)}, link{"branch3x3_2", valid(320, 3, 2)}),
		chain(b, x, link{"branch7x7x3_1", convV3(192, pixel)}, link{"branch7x7x3_2", convV3(192, row)}, link{"branch7x7x3_3", convV3(192, col)}, link{"branch7x7x3_4", valid(192, 3, 2)}),
		b.MaxPool(x, down),
	)
}

// moduleE is figure 7: 1×3 and 3×1 side by side.
func moduleE(b *graph.Builder, x *graph.Node) *graph.Node {
	one := chain(b, x, link{"branch1x1", convV3(320, pixel)})
	y := chain(b, x, link{"branch3x3_1", convV3(384, pixel)})
	ya := chain(b, y, link{"branch3x3_2a", convV3(384, graph.HW(1, 3))})
	yb := chain(b, y, link{"branch3x3_2b", convV3(384, graph.HW(3, 1))})
	z := chain(b, x, link{"branch3x3dbl_1", convV3(448, pixel)}, link{"branch3x3dbl_2", convV3(384, graph.Square(3))})
	za := chain(b, z, link{"branch3x3dbl_3a", convV3(384, graph.HW(1, 3))})
	zb := chain(b, z, link{"branch3x3dbl_3b", convV3(384, graph.HW(3, 1))})
	pool := chain(b, b.AvgPool(x, around), link{"branch_pool", convV3(192, pixel)})
	return b.Concat(one, ya, yb, za, zb, pool)
}

// auxV3 reads the last 17×17 map. Maps below that size, for which torchvision's head does not run, are pooled to the 5×5 pixels that
// it makes of 17×17.
func auxV3(b *graph.Builder, x *graph.Node) {
	const name = "AuxLogits"
	s := b.Scope(name)
	if x.Shape.H >= 17 && x.Shape.W >= 17 {
		x = s.AvgPool(x, graph.Pool{Kernel: graph.Square(5), Stride: graph.Square(3)})
	} else {
		x = s.AdaptiveAvgPool(x, graph.Square(5))
	}
	x = basic(s, "conv0", x, convV3(128, pixel))
	last := valid(768, 5, 1)
	last.Init = graph.TruncNormal(0.01)
	x = s.Flatten(s.GlobalAvgPool(basic(s, "conv1", x, last)))
	x = s.Linear("fc", x, graph.Fc{Out: b.Classes(), Init: graph.TruncNormal(0.001)})
	b.Aux(name, x, auxWeight)
	b.Group(name, name)
	b.Classifier(name + ".fc")
}

func buildV3(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")
	if o.Bool("transform_input") {
		x = renormalise(b, x)
	}
	module := func(name string) *graph.Builder {
		b.Group(name, name)
		return b.Scope(name)
	}

	x = basic(b, "Conv2d_1a_3x3", x, valid(32, 3, 2))
	x = basic(b, "Conv2d_2a_3x3", x, valid(32, 3, 1))
	x = b.Tap("stage1", basic(b, "Conv2d_2b_3x3", x, convV3(64, graph.Square(3))))
	x = b.MaxPool(x, down)
	x = basic(b, "Conv2d_3b_1x1", x, valid(80, 1, 1))
	x = b.Tap("stage2", basic(b, "Conv2d_4a_3x3", x, valid(192, 3, 1)))
	b.Group("stem", "Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
	x = b.MaxPool(x, down)

	x = moduleA(module("Mixed_5b"), x, 32)
	x = moduleA(module("Mixed_5c"), x, 64)
	x = moduleA(module("Mixed_5d"), x, 64)
	b.Tap("stage3", x)
	x = moduleB(module("Mixed_6a"), x)
	x = moduleC(module("Mixed_6b"), x, 128)
	x = moduleC(module("Mixed_6c"), x, 160)
	x = moduleC(module("Mixed_6d"), x, 160)
	x = moduleC(module("Mixed_6e"), x, 192)
	b.Tap("stage4", x)
	if o.Bool("aux_logits") {
		auxV3(b, x)
	}
	x = moduleD(module("Mixed_7a"), x)
	x = moduleE(module("Mixed_7b"), x)
	x = moduleE(module("Mixed_7c"), x)
	x = b.Features(b.Tap("stage5", x))

	x = b.Flatten(b.Dropout(b.GlobalAvgPool(x), p))
	b.Group("fc", "fc")
	b.Classifier("fc")
	return b.Linear("fc", x, graph.Fc{Out: b.Classes(), Init: graph.TruncNormal(0.1)})
}
