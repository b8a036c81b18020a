package inception

import (
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk"
)

const paperV2 = "Ioffe and Szegedy: Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift, 2015, arXiv:1502.03167"

// moduleV2 is a row of figure 5: 1×1, 3×3 reduce, 3×3, double 3×3 reduce, double 3×3, pooling and its projection. A module
// without 1×1 and projection has stride 2 and passes its pooling through.
type moduleV2 struct {
	name                                           string
	conv1x1, reduce, conv3x3, reduceDouble, double int
	pool                                           poolV2
	projection                                     int
}

type poolV2 uint8

const (
	averagePool poolV2 = iota
	maximumPool
)

// Where the figure's output sizes disagree with its branches (4c, 4d, 4e), the branches hold.
var (
	stage3V2 = []moduleV2{
		{"inception_3a", 64, 64, 64, 64, 96, averagePool, 32},
		{"inception_3b", 64, 64, 96, 64, 96, averagePool, 64},
	}
	stage4V2 = []moduleV2{
		{"inception_3c", 0, 128, 160, 64, 96, maximumPool, 0},
		{"inception_4a", 224, 64, 96, 96, 128, averagePool, 128},
		{"inception_4b", 192, 96, 128, 96, 128, averagePool, 128},
		{"inception_4c", 160, 128, 160, 128, 160, averagePool, 128},
		{"inception_4d", 96, 128, 192, 160, 192, averagePool, 128},
	}
	stage5V2 = []moduleV2{
		{"inception_4e", 0, 128, 192, 192, 256, maximumPool, 0},
		{"inception_5a", 352, 192, 320, 160, 224, averagePool, 128},
		{"inception_5b", 352, 192, 320, 192, 224, maximumPool, 128},
	}
)

// convNorm adds a convolution with a bias, a batch norm name_bn and a ReLU.
func convNorm(b *graph.Builder, name string, x *graph.Node, out, kernel, stride int) *graph.Node {
	x = b.Conv2d(name, x, graph.Conv{Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Pad: graph.Square(kernel / 2), Bias: true})
	return b.ReLU(b.BatchNorm(name+"_bn", x))
}

// halve is a 3×3 max pooling that halves a map as a padded convolution does: windows of even sizes begin at the border (Caffe's rounding up), those of
// odd sizes one pixel before it, where rounding up would give one pixel less.
func halve(b *graph.Builder, x *graph.Node) *graph.Node {
	return b.MaxPool(x, graph.Pool{
		Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.HW(x.Shape.H%2, x.Shape.W%2), Ceil: true,
	})
}

func (m moduleV2) add(b *graph.Builder, x *graph.Node) *graph.Node {
	layer := func(name string, x *graph.Node, out, kernel, stride int) *graph.Node {
		return convNorm(b, m.name+"_"+name, x, out, kernel, stride)
	}
	var branches []*graph.Node
	stride := 2
	if m.conv1x1 > 0 {
		stride = 1
		branches = append(branches, layer("1x1", x, m.conv1x1, 1, 1))
	}
	y := layer("3x3_reduce", x, m.reduce, 1, 1)
	branches = append(branches, layer("3x3", y, m.conv3x3, 3, stride))
	y = layer("double_3x3_reduce", x, m.reduceDouble, 1, 1)
	y = layer("double_3x3_1", y, m.double, 3, 1)
	branches = append(branches, layer("double_3x3_2", y, m.double, 3, stride))

	same := graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(1), Pad: graph.Square(1)}
	switch {
	case stride == 2:
		branches = append(branches, halve(b, x))
	case m.pool == maximumPool:
		branches = append(branches, layer("pool_proj", b.MaxPool(x, same), m.projection, 1, 1))
	default:
		branches = append(branches, layer("pool_proj", b.AvgPool(x, same), m.projection, 1, 1))
	}
	b.Group(m.name, m.modules()...)
	return b.Concat(branches...)
}

// modules lists the layers, whose names share a prefix and no scope.
func (m moduleV2) modules() []string {
	var list []string
	for _, name := range []string{"1x1", "3x3_reduce", "3x3", "double_3x3_reduce", "double_3x3_1", "double_3x3_2", "pool_proj"} {
		list = append(list, m.name+"_"+name, m.name+"_"+name+"_bn")
	}
	return list
}

// buildV2 has the layer names of the public Caffe model. Its first convolution is a plain one, as in that model.
func buildV2(b *graph.Builder, x *graph.Node, o sdk.Options) *graph.Node {
	p := o.Probability(b, "dropout")
	modules := func(list []moduleV2) {
		for _, m := range list {
			x = m.add(b, x)
		}
	}
	x = b.Tap("stage1", convNorm(b, "conv1_7x7_s2", x, 64, 7, 2))
	x = halve(b, x)
	x = convNorm(b, "conv2_3x3_reduce", x, 64, 1, 1)
	x = b.Tap("stage2", convNorm(b, "conv2_3x3", x, 192, 3, 1))
	b.Group("stem", "conv1_7x7_s2", "conv1_7x7_s2_bn", "conv2_3x3_reduce", "conv2_3x3_reduce_bn", "conv2_3x3", "conv2_3x3_bn")
	x = halve(b, x)
	modules(stage3V2)
	b.Tap("stage3", x)
	modules(stage4V2)
	b.Tap("stage4", x)
	modules(stage5V2)
	x = b.Features(b.Tap("stage5", x))

	x = b.Dropout(b.Flatten(b.GlobalAvgPool(x)), p)
	b.Group("last_linear", "last_linear")
	b.Classifier("last_linear")
	return b.Linear("last_linear", x, graph.Fc{Out: b.Classes()})
}
