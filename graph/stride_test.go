package graph

import (
	"reflect"
	"testing"
)

// blur halves a map, as the anti-aliased pooling of timm's networks does.
type blur struct{}

func (blur) Kind() string                    { return "blur_pool" }
func (blur) MACs(_ []Shape, out Shape) int64 { return int64(9 * out.Elements()) }
func (blur) Infer(in []Shape) (Shape, error) {
	return Shape{in[0].C, (in[0].H + 1) / 2, (in[0].W + 1) / 2}, nil
}
func (blur) Forward(_ []float32, _, _ [][]float32, _ []Shape, _ int) {}
func (blur) Backward(_, _ [][]float32, _ []float32, _, _ [][]float32, _ []Shape, _ int) {
}

// Taps behind such an operator had the stride of a network without it, and the conformance kit refused every such family.
func TestStrideOfAFamilysOwnOperator(t *testing.T) {
	for _, side := range []int{224, 43} {
		b := NewBuilder(Shape{3, side, side}, 2)
		x := b.Tap("stage1", b.Custom("blur", blur{}, nil, b.Conv2d("stem", b.Input(), Conv{Out: 4, Kernel: Square(3), Pad: Square(1), Stride: Square(2)})))
		x = b.Features(b.Tap("stage2", b.Conv2d("conv", x, Conv{Out: 4, Kernel: Square(3), Stride: Square(2), Pad: Square(1)})))
		x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(x)), Fc{Out: 2})
		b.Group("stem", "stem")
		b.Group("rest", "conv", "fc")
		b.Classifier("fc")
		g, err := b.Finish(x)
		if err != nil {
			t.Fatal(err)
		}
		w, err := g.Wire()
		if err != nil {
			t.Fatal(err)
		}
		foreign, err := FromWire(w)
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range []*Graph{g, foreign} {
			if g.Taps[0].Stride != 4 || g.Taps[1].Stride != 8 {
				t.Errorf("%d pixels: strides %d and %d", side, g.Taps[0].Stride, g.Taps[1].Stride)
			}
		}
	}
}

// What trains with weight decay, and what begins with which values, depends on it.
func TestParametersOfAFamilysOwnOperator(t *testing.T) {
	b := NewBuilder(Shape{3, 8, 8}, 2)
	x := b.Features(b.Scope("block").Custom("own", blur{}, []CustomParam{
		{Name: "weight", Shape: []int{3, 2}, Init: Constant(2)}, {Name: "bias", Shape: []int{3}}, {Name: "in_bias", Shape: []int{3}},
	}, b.Input()))
	b.Group("all", "block", "fc")
	b.Classifier("fc")
	g, err := b.Finish(b.Linear("fc", b.Flatten(x), Fc{Out: 2}))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Param{
		{Name: "block.own.weight", Shape: []int{3, 2}, Role: Weight, Init: Constant(2)},
		{Name: "block.own.bias", Shape: []int{3}, Role: Bias}, {Name: "block.own.in_bias", Shape: []int{3}, Role: Bias},
	} {
		want.Node = g.Params[i].Node
		if !reflect.DeepEqual(*g.Params[i], want) || want.Node.Name != "block.own" {
			t.Errorf("parameter %d is %+v, want %+v", i, g.Params[i], want)
		}
	}
}
