package zootest

import (
	"testing"

	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/sdk"
)

// halve averages squares of two pixels by two, fewer at the borders.
type halve struct{}

func (halve) Kind() string                              { return "halve" }
func (halve) MACs(_ []graph.Shape, _ graph.Shape) int64 { return 0 }

func (halve) Infer(in []graph.Shape) (graph.Shape, error) {
	return graph.Shape{C: in[0].C, H: (in[0].H + 1) / 2, W: (in[0].W + 1) / 2}, nil
}

// each calls f for every pixel of the input, with that of the output and the number of those that it averages.
func (halve) each(s graph.Shape, n int, f func(in, out, count int)) {
	h, w := (s.H+1)/2, (s.W+1)/2
	for i := range n * s.H * s.W {
		y, x := i/s.W%s.H, i%s.W
		count := min(2, s.H-y/2*2) * min(2, s.W-x/2*2)
		f(i, (i/s.W/s.H*h+y/2)*w+x/2, count)
	}
}

func (o halve) Forward(out []float32, in, _ [][]float32, shapes []graph.Shape, n int) {
	clear(out)
	c := shapes[0].C
	o.each(shapes[0], n, func(i, j, count int) {
		for k := range c {
			out[j*c+k] += in[0][i*c+k] / float32(count)
		}
	})
}

func (o halve) Backward(gradIn, _ [][]float32, gradOut []float32, _, _ [][]float32, shapes []graph.Shape, n int) {
	c := shapes[0].C
	o.each(shapes[0], n, func(i, j, count int) {
		for k := range c {
			if gradIn[0] != nil {
				gradIn[0][i*c+k] += gradOut[j*c+k] / float32(count)
			}
		}
	})
}

// A family with a pooling of its own, such as the anti-aliased one of many networks, could not pass: its maps were taken to be as fine as before it.
func TestFamilyWithAPoolingOfItsOwnConforms(t *testing.T) {
	Gradients(t, halve{}, nil, graph.Shape{C: 3, H: 5, W: 4})
	Run(t, sdk.MustFamily([]byte(`{"name":"halving","version":"1.0.0"}`), sdk.Model{
		Name: "halving", Paper: "none", Input: graph.Shape{C: 3, H: 64, W: 64}, MinSize: 8,
		Build: func(b *graph.Builder, x *graph.Node, _ sdk.Options) *graph.Node {
			x = b.Tap("stage1", b.ReLU(b.Conv2d("stem", x, graph.Conv{Out: 4, Kernel: graph.Square(3), Pad: graph.Square(1), Stride: graph.Square(2)})))
			x = b.Tap("stage2", b.ReLU(b.Conv2d("conv", b.Custom("halve", halve{}, nil, x), graph.Conv{Out: 8, Kernel: graph.Square(3), Pad: graph.Square(1)})))
			x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(b.Features(x))), graph.Fc{Out: b.Classes()})
			b.Group("stem", "stem")
			b.Group("rest", "conv", "fc")
			b.Classifier("fc")
			return x
		},
	}))
}
