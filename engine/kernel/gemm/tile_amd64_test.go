//go:build !noasm

package gemm

import (
	"testing"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
)

// TestFetchesCoverStep checks that what the places of a step fetch while blocks pass is close to the weights of a step, and not more:
// what is asked for too early makes tile loads wait.
func TestFetchesCoverStep(t *testing.T) {
	for planes := 1; planes <= 2; planes++ {
		step := planes * 2048
		for blocks := 1; blocks <= groupBlocks; blocks++ {
			sum := 0
			for _, n := range fetches(planes, step, blocks) {
				sum += int(n)
			}
			if sum < 1 {
				t.Errorf("%d planes, %d blocks: nothing is fetched", planes, blocks)
			}
			if got := sum * fetchBytes * blocks; sum > 1 && (got > step || got < step*2/3) {
				t.Errorf("%d planes, %d blocks: %d bytes fetched for a step of %d", planes, blocks, got, step)
			}
		}
	}
}

// TestSmallMapIsOneBand checks that every weight of a late layer is read once, by one worker, while all blocks of the map pass.
func TestSmallMapIsOneBand(t *testing.T) {
	if cpu.Best() < cpu.AMX {
		t.Skip("no AMX")
	}
	for _, p := range []engine.Precision{engine.High, engine.Medium} {
		for _, l := range []benchLayer{{7, 7, 2048, 512, 1, 1, 0, 1}, {14, 14, 1024, 512, 1, 1, 0, 1}, {7, 7, 512, 512, 3, 1, 1, 1}} {
			s := l.spec(cpu.Best(), p)
			c, err := NewConv(s, make([]float32, l.out*l.in*l.k*l.k), nil)
			if err != nil {
				t.Fatal(err)
			}
			m := func(channels int) kernel.Map { return kernel.Layout(FormatOf(p, s.Tier), 1, l.h, l.w, channels, 0) }
			call, err := c.Bind(m(l.in), m(l.out), nil, 2)
			if err != nil {
				t.Fatal(err)
			}
			if bands := call.runner.(*tileCall).bands; bands != 1 {
				t.Errorf("%v %v: %d bands", p, l, bands)
			}
		}
	}
}
