package graph_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/go-modelzoo/zoo/graph"
)

// TestTwo3x3DifferFrom5x5 computes from graphs what Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", 2015
// (arXiv:1512.00567), §3.1, state: two 3×3 convolutions see as much as a 5×5 and cost (9+9)/25 of it, "a relative gain of 28 %". Simonyan and
// Zisserman, 2014 (arXiv:1409.1556), §2.3, have the same for three 3×3 and a 7×7: 27C² and 49C² parameters, 81 % more.
func TestTwo3x3DifferFrom5x5(t *testing.T) {
	const channels, side = 64, 35
	for _, c := range []struct {
		large, small int // kernel of the one convolution, number of 3×3 that replace it
		ratio        float64
	}{{5, 2, 25.0 / 18}, {7, 3, 49.0 / 27}} {
		chain := func(kernels ...int) *graph.Graph {
			b := graph.NewBuilder(graph.Shape{C: channels, H: side, W: side}, 1)
			x, modules := b.Input(), []string{"fc"}
			for i, k := range kernels {
				modules = append(modules, fmt.Sprintf("conv%d", i))
				x = b.Conv2d(modules[i+1], x, graph.Conv{Out: channels, Kernel: graph.Square(k), Pad: graph.Square(k / 2)})
			}
			x = b.Linear("fc", b.Flatten(b.GlobalAvgPool(b.Features(x))), graph.Fc{Out: b.Classes()})
			b.Group("all", modules...)
			b.Classifier("fc")
			g, err := b.Finish(x)
			if err != nil {
				t.Fatal(err)
			}
			return g
		}
		threes := make([]int, c.small)
		for i := range threes {
			threes[i] = 3
		}
		one, many := chain(c.large).Summary(), chain(threes...).Summary()
		var params, macs [2]int64
		var field [2]graph.Pair
		for i, rows := range [2][]graph.Row{one, many} {
			for _, r := range rows {
				if _, ok := r.Node.Op.(graph.Conv2d); ok {
					params[i] += r.Params
					macs[i] += r.MACs
					field[i] = r.ReceptiveField
				}
			}
		}
		if want := int64(c.large * c.large * channels * channels); params[0] != want {
			t.Errorf("%d×%d: %d parameters, want %d", c.large, c.large, params[0], want)
		}
		if want := int64(9 * c.small * channels * channels); params[1] != want {
			t.Errorf("%d of 3×3: %d parameters, want %d", c.small, params[1], want)
		}
		if got := float64(params[0]) / float64(params[1]); math.Abs(got-c.ratio) > 1e-12 || macs[0] != side*side*params[0] || macs[1] != side*side*params[1] {
			t.Errorf("%d×%d: parameters %v, multiply-adds %v", c.large, c.large, params, macs)
		}
		if field[0] != field[1] || field[0] != graph.Square(c.large) {
			t.Errorf("receptive fields %v", field)
		}
	}
}
