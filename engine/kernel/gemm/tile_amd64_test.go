//go:build !noasm

package gemm

import (
	"fmt"
	"math/rand/v2"
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
			c, err := newPacked(s, make([]float32, l.out*l.in*l.k*l.k), nil)
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

// TestSlices checks that several images with the channels in slices, side by side, or in several calls of the kernel have the very results of
// images one by one, which are divided otherwise.
func TestSlices(t *testing.T) {
	if cpu.Best() < cpu.AMX {
		t.Skip("no AMX")
	}
	sliced := make(map[bool]bool) // slices occurred with images above each other, and side by side
	for _, c := range []struct {
		layer    benchLayer
		n        int
		residual bool
	}{
		{benchLayer{14, 14, 224, 190, 3, 2, 1, 1}, 5, true}, // two parts of three panels, and a last slice that is shorter
		{benchLayer{7, 7, 1024, 64, 3, 1, 1, 1}, 4, false},
		{benchLayer{13, 13, 512, 72, 3, 1, 1, 1}, 5, true},
		{benchLayer{28, 28, 128, 64, 3, 1, 1, 1}, 2, false},  // more blocks than a call has
		{benchLayer{14, 14, 128, 120, 3, 1, 1, 1}, 6, false}, // more panels than a call has
	} {
		for _, p := range []engine.Precision{engine.High, engine.Medium} {
			t.Run(fmt.Sprintf("%v/%v/n%d", p, c.layer, c.n), func(t *testing.T) {
				s := c.layer.spec(cpu.Best(), p)
				r := rand.New(rand.NewPCG(1, 2))
				conv, err := newPacked(s, c.layer.weights(r), nil)
				if err != nil {
					t.Fatal(err)
				}
				oh, ow := s.OutputSize(c.layer.h, c.layer.w)
				format := FormatOf(p, s.Tier)
				src := kernel.NewMap(format, c.n, c.layer.h, c.layer.w, c.layer.in, 0)
				fill(src, r)
				var residual *kernel.Map
				if c.residual {
					m := kernel.NewMap(format, c.n, oh, ow, c.layer.out, 0)
					fill(m, r)
					residual = &m
				}
				got := kernel.NewMap(format, c.n, oh, ow, c.layer.out, 0)
				want := kernel.NewMap(format, c.n, oh, ow, c.layer.out, 0)
				run := func(src, dst kernel.Map, residual *kernel.Map, workers int) *tileCall {
					call, err := conv.Bind(src, dst, residual, workers)
					if err != nil {
						t.Fatal(err)
					}
					runAll(call, src, dst, residual)
					return call.runner.(*tileCall)
				}
				call := run(src, got, residual, 2)
				if call.sliced() {
					sliced[call.across > 1] = true
				}
				for n := range c.n {
					var of *kernel.Map
					if residual != nil {
						m := residual.Images(n, n+1)
						of = &m
					}
					run(src.Images(n, n+1), want.Images(n, n+1), of, 3)
				}
				for n := range c.n {
					for y := range oh {
						for x := range ow {
							for o := range c.layer.out {
								if g, w := got.At(n, y, x, o), want.At(n, y, x, o); g != w {
									t.Fatalf("image %d, row %d, column %d, channel %d: %v, alone %v", n, y, x, o, g, w)
								}
							}
						}
					}
				}
			})
		}
	}
	if len(sliced) < 2 {
		t.Errorf("slices occurred with images side by side only as in %v: the test has lost its point", sliced)
	}
}
