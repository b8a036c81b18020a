package infer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/go-modelzoo/zoo/engine"
	"github.com/go-modelzoo/zoo/engine/kernel/cpu"
	"github.com/go-modelzoo/zoo/engine/work"
	"github.com/go-modelzoo/zoo/graph"
	"github.com/go-modelzoo/zoo/internal/reference"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// small is a network with most kinds of steps, for images of any size from 16 pixels on.
func small(s graph.Shape) (*graph.Graph, error) {
	b := graph.NewBuilder(s, 10)
	conv := func(name string, x *graph.Node, out, kernel, stride, groups int) *graph.Node {
		return b.BatchNorm(name+"bn", b.Conv2d(name, x, graph.Conv{Out: out, Kernel: graph.Square(kernel), Stride: graph.Square(stride), Pad: graph.Square(kernel / 2), Groups: groups}))
	}
	x := b.ReLU(conv("stem", b.Input(), 16, 3, 2, 1))
	x = b.MaxPool(x, graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(2), Pad: graph.Square(1)})
	const wide = 256 // channels, with gaps between pixels (layout)
	y := b.Activation(conv("expand", x, wide, 1, 1, 1), graph.HardSwish)
	y = b.Activation(conv("depthwise", y, wide, 3, 1, wide), graph.SiLU)
	e := b.Activation(b.Conv2d("excite", b.GlobalAvgPool(y), graph.Conv{Out: wide, Bias: true}), graph.Sigmoid)
	x = b.Add(conv("project", b.Mul(y, e), 16, 1, 1, 1), x)
	b.Tap("block", x)
	x = b.Concat(x, b.ReLU(conv("branch", x, 16, 3, 1, 1)))
	b.Features(x)
	x = b.Linear("fc", b.Flatten(b.AdaptiveAvgPool(x, graph.Square(2))), graph.Fc{Out: 10})
	b.Classifier("fc")
	b.Group("all", "stem", "stembn", "expand", "expandbn", "depthwise", "depthwisebn", "excite", "project", "projectbn", "branch", "branchbn", "fc")
	return b.Finish(x)
}

func smallModel(t testing.TB, o Options) (*Model, engine.ParamMap) {
	t.Helper()
	g, err := small(graph.Shape{C: 3, H: 32, W: 32})
	if err != nil {
		t.Fatal(err)
	}
	params := randomParams(rand.New(rand.NewPCG(1, 2)), g)
	m, err := New(small, params, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m, params
}

func images(seed uint64, n, h, w int) Input {
	r := rand.New(rand.NewPCG(seed, 3))
	in := Input{Data: make([]float32, n*h*w*3), N: n, H: h, W: w, C: 3}
	for i := range in.Data {
		in.Data[i] = 4*r.Float32() - 2
	}
	return in
}

func TestConcurrentRunsOfManySizesDoNotMix(t *testing.T) {
	pool := work.New(2) // so that batches of two are computed in shards
	defer pool.Close()
	m, params := smallModel(t, Options{Precision: engine.Highest, Plans: 2, Pool: pool}) // fewer plans than sizes: they are evicted all the time
	var wg sync.WaitGroup
	for i := range 6 {
		in := images(uint64(i), 1+i%3, 16+5*i, 40-3*i)
		g, err := small(graph.Shape{C: 3, H: in.H, W: in.W})
		if err != nil {
			t.Fatal(err)
		}
		want, err := reference.Run(g, params, in.Data, in.N)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			var out []Output
			for range 20 {
				var err error
				if out, err = m.RunInto(context.Background(), in, out); err != nil {
					t.Error(err)
					return
				}
				if e := distance(out[0].Data, want[0].Data); !(e < 2e-5) {
					t.Errorf("%d images of %dx%d: relative error %g", in.N, in.H, in.W, e)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestLargeBatchRunsInParts(t *testing.T) {
	m, params := smallModel(t, Options{Precision: engine.Highest, Outputs: []string{graph.LogitsOutput, "block"}})
	in := images(1, 67, 16, 16) // more than a plan takes
	out, err := m.Run(context.Background(), in)
	if err != nil {
		t.Fatal(err)
	}
	g, err := small(graph.Shape{C: 3, H: 16, W: 16})
	if err != nil {
		t.Fatal(err)
	}
	tap, _ := g.Tap("block")
	want, err := reference.Run(g, params, in.Data, in.N, g.Output, tap.Node)
	if err != nil {
		t.Fatal(err)
	}
	for i, o := range out {
		if e := distance(o.Data, want[i].Data); !(e < 2e-5) {
			t.Errorf("%s: relative error %g", o.Name, e)
		}
	}
}

func TestRunIntoDoesNotAllocate(t *testing.T) {
	for _, threads := range []int{1, 2} {
		pool := work.New(threads)
		defer pool.Close()
		m, _ := smallModel(t, Options{Pool: pool})
		m.groups.maps = 64 << 10 // so that there are early steps
		in := images(1, 4, 64, 64)
		out, err := m.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		ctx := context.Background()
		if a := testing.AllocsPerRun(20, func() {
			if out, err = m.RunInto(ctx, in, out); err != nil {
				t.Fatal(err)
			}
		}); a > 0 {
			t.Errorf("%d threads: %g allocations a run", threads, a)
		}
	}
}

func TestEndedContextStopsBetweenSteps(t *testing.T) {
	m, _ := smallModel(t, Options{})
	in := images(1, 1, 32, 32)
	if _, err := m.Run(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.Run(ctx, in); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := m.Run(context.Background(), in); err != nil {
		t.Errorf("the next run: %v", err)
	}
}

func TestEndedContextCompilesNothing(t *testing.T) {
	built := 0
	m, err := New(func(s graph.Shape) (*graph.Graph, error) {
		built++
		return small(s)
	}, engine.ParamMap{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := m.Run(ctx, images(1, 1, 32, 32)); !errors.Is(err, context.Canceled) || built != 0 {
		t.Errorf("error %v after %d graphs", err, built)
	}
}

// A plan takes seconds to compile where the weights are many: who waits for another call's can give up.
func TestContextEndsWhileAnotherCompiles(t *testing.T) {
	g, err := small(graph.Shape{C: 3, H: 32, W: 32})
	if err != nil {
		t.Fatal(err)
	}
	params := randomParams(rand.New(rand.NewPCG(1, 2)), g)
	building, goOn := make(chan struct{}), make(chan struct{})
	m, err := New(func(s graph.Shape) (*graph.Graph, error) {
		close(building)
		<-goOn
		return small(s)
	}, params, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	in := images(1, 1, 32, 32)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := m.Run(context.Background(), in); err != nil {
			t.Errorf("the call that compiles: %v", err)
		}
	})
	<-building
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	ended := make(chan struct{})
	wg.Go(func() {
		defer close(ended)
		if _, err := m.Run(ctx, in); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the call that waits: %v", err)
		}
	})
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the call waits for the plan after its context has ended")
	}
	close(goOn)
	wg.Wait()
}

// slowFault panics where a network or its parameters are read, once, and not before goOn is closed.
type slowFault struct {
	engine.ParamMap
	once           sync.Once
	building, goOn chan struct{}
}

func (f *slowFault) fault() {
	f.once.Do(func() {
		close(f.building)
		<-f.goOn
		panic("no such layer")
	})
}

func (f *slowFault) Param(name string) ([]float32, error) {
	f.fault()
	return f.ParamMap.Param(name)
}

// A process that serves many calls goes on after a panic of a family's code: the next call must not find half a plan.
func TestPanicWhileCompilingIsNotKept(t *testing.T) {
	g, err := small(graph.Shape{C: 3, H: 32, W: 32})
	if err != nil {
		t.Fatal(err)
	}
	params := randomParams(rand.New(rand.NewPCG(1, 2)), g)
	for _, inGraph := range []bool{true, false} {
		f := &slowFault{ParamMap: params, building: make(chan struct{}), goOn: make(chan struct{})}
		pool := work.New(1)
		m, err := New(func(s graph.Shape) (*graph.Graph, error) {
			if inGraph {
				f.fault()
			}
			return small(s)
		}, f, Options{Pool: pool})
		if err != nil {
			t.Fatal(err)
		}
		in := images(1, 1, 32, 32)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer func() {
				if v := recover(); v != "no such layer" {
					t.Errorf("panic %v", v)
				}
			}()
			_, err := m.Run(context.Background(), in)
			t.Errorf("the call that compiles returned with error %v", err)
		})
		<-f.building
		wg.Go(func() {
			defer func() {
				if v := recover(); v != nil {
					t.Errorf("a call that waits panics: %v", v)
				}
			}()
			_, _ = m.Run(context.Background(), in) // an error, or a plan of its own if it comes too late to wait
		})
		time.Sleep(20 * time.Millisecond)
		close(f.goOn)
		wg.Wait()
		if _, err := m.Run(context.Background(), in); err != nil {
			t.Errorf("the next call: %v", err)
		}
		m.Close()
		pool.Close()
	}
}

// shardedPlan returns a model on two threads, changed before it makes its plan for images of the given side in two shards.
func shardedPlan(t *testing.T, side, n int, change func(*Model)) (*Model, *Plan) {
	pool := work.New(2)
	t.Cleanup(pool.Close)
	m, _ := smallModel(t, Options{Pool: pool})
	change(m)
	plan, err := m.Plan(graph.Shape{C: 3, H: side, W: side}, n)
	if err != nil {
		t.Fatal(err)
	}
	if plan.shards != 2 || plan.early() == 0 {
		t.Fatalf("%d shards with %d steps", plan.shards, plan.early())
	}
	return m, plan
}

func TestEndedContextStopsShards(t *testing.T) {
	m, plan := shardedPlan(t, 32, 2, func(*Model) {})
	in := images(1, 2, 32, 32)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	x := plan.acquire()
	defer plan.release(x)
	if err := x.runEarly(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := m.Run(context.Background(), in); err != nil {
		t.Errorf("the next run: %v", err)
	}
}

func TestThreadHelpsWithAnotherShard(t *testing.T) {
	_, plan := shardedPlan(t, 128, 2, func(m *Model) { m.chains.ops = 1 })
	x := plan.newPass()
	step := slices.IndexFunc(plan.steps[:plan.early()], func(s step) bool { return s.tasks > 1 })
	if step < 0 {
		t.Fatal("no step has several tasks")
	}
	y := x.shards[1]
	var ran []int // by the helper alone, as the shard's own thread is held up
	y.tasks[step] = func(worker, task int) {
		if worker != 0 {
			t.Errorf("task %d runs as worker %d, whose memory is not the helper's", task, worker)
		}
		if ran = append(ran, task); len(ran) == plan.steps[step].tasks {
			x.ended.Add(1)
		}
	}
	x.begun.Store(2)
	x.ended.Store(1)
	y.ticket.Store(uint64(step+1) << 32)
	x.help(0)
	if len(ran) != plan.steps[step].tasks || y.done.Load() != int64(len(ran)) {
		t.Errorf("the helper ran tasks %v of %d, %d are done", ran, plan.steps[step].tasks, y.done.Load())
	}
}

// Each shard would read weights that the threads together read once.
func TestHeavyLayersAreNotSharded(t *testing.T) {
	m, plan := shardedPlan(t, 64, 4, func(m *Model) { m.groups.light = 2 << 10 })
	late := 0
	for i, s := range plan.steps {
		for _, o := range flatten([]*op{s.op}) {
			heavy := 4*o.parameters() > m.groups.light && 2*o.out.shape.H*o.out.shape.W < m.groups.pixels
			if heavy && i < plan.early() {
				t.Errorf("%s runs in shards", o.node.Name)
			}
			if heavy {
				late++
			}
		}
	}
	if late == 0 || plan.early() == 0 {
		t.Errorf("%d heavy layers, %d steps in shards", late, plan.early())
	}
}

func TestLargestMapsAreComputedInSmallerGroups(t *testing.T) {
	const side, n = 64, 8
	logits := func(reach int) (*Plan, []float32) {
		m, plan := shardedPlan(t, side, n, func(m *Model) { m.groups.reach = reach })
		out, err := m.Run(context.Background(), images(1, n, side, side))
		if err != nil {
			t.Fatal(err)
		}
		return plan, out[0].Data
	}
	whole, want := logits(1 << 30)
	if whole.span(near).len() != 0 {
		t.Errorf("%d steps in the near phase where everything is within reach", whole.span(near).len())
	}
	plan, got := logits(400 << 10)
	if plan.span(near).len() == 0 || plan.span(early).len() == 0 || plan.groups[near] >= plan.groups[early] {
		t.Errorf("%d steps on %d images, then %d on %d", plan.span(near).len(), plan.groups[near], plan.span(early).len(), plan.groups[early])
	}
	if plan.arena >= whole.arena {
		t.Errorf("%d bytes of maps, %d without the near phase", plan.arena, whole.arena)
	}
	if !slices.Equal(got, want) {
		t.Errorf("logits %v, without the near phase %v", got, want)
	}
}

func TestNotANumberReachesLogits(t *testing.T) {
	for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
		m, _ := smallModel(t, Options{Precision: precision})
		in := images(1, 2, 32, 32)
		in.Data[32*16*3+50] = float32(math.NaN())
		out, err := m.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range out[0].Data {
			if nan := v != v; nan != (i < 10) {
				t.Errorf("%v: logit %d of image %d is %g", precision, i%10, i/10, v)
			}
		}
		// The buffers held not-a-number: nothing of it may remain.
		clean, err := m.Run(context.Background(), images(1, 2, 32, 32))
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range clean[0].Data {
			if v != v {
				t.Errorf("%v: logit %d is not a number after a clean run", precision, i)
			}
		}
	}
}

func TestOneThreadGivesTheBitsOfMany(t *testing.T) {
	for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
		var first []float32
		for _, threads := range []int{1, 2, 5} {
			pool := work.New(threads)
			defer pool.Close()
			m, _ := smallModel(t, Options{Precision: precision, Pool: pool})
			out, err := m.Run(context.Background(), images(1, 2, 96, 96))
			if err != nil {
				t.Fatal(err)
			}
			if first == nil {
				first = out[0].Data
			}
			for i, v := range out[0].Data {
				if v != first[i] {
					t.Errorf("%v: logit %d is %g on %d threads and %g on one", precision, i, v, threads, first[i])
					break
				}
			}
		}
	}
}

// What an image gives must not depend on those beside it: on a batch's size, its division into shards and groups, nor the kernel for few images.
func TestBatchesGiveTheBitsOfSingleImages(t *testing.T) {
	pool := work.New(2)
	defer pool.Close()
	const most = 9
	in := images(1, most, 48, 40)
	size := len(in.Data) / most
	batch := func(first, n int) Input { return Input{in.Data[first*size:][:n*size], n, in.H, in.W, in.C} }
	for _, tier := range tiers() {
		for _, precision := range []engine.Precision{engine.Highest, engine.High, engine.Medium} {
			m, _ := smallModel(t, Options{Precision: precision, Tier: &tier, Pool: pool})
			var single []float32
			for i := range most {
				out, err := m.Run(context.Background(), batch(i, 1))
				if err != nil {
					t.Fatal(err)
				}
				single = append(single, out[0].Data...)
			}
			for _, n := range []int{2, 3, 5, 7, 8, most} {
				out, err := m.Run(context.Background(), batch(0, n))
				if err != nil {
					t.Fatal(err)
				}
				if got := out[0].Data; !slices.Equal(got, single[:len(got)]) {
					t.Errorf("%v, %v: %d images give logits %v, one by one %v", tier, precision, n, got, single[:len(got)])
				}
			}
		}
	}
}

func TestFaultsNameWhatIsWrong(t *testing.T) {
	g, err := small(graph.Shape{C: 3, H: 32, W: 32})
	if err != nil {
		t.Fatal(err)
	}
	params := randomParams(rand.New(rand.NewPCG(1, 2)), g)
	without := func(change func(engine.ParamMap)) engine.ParamMap {
		p := engine.ParamMap{}
		for k, v := range params {
			p[k] = v
		}
		change(p)
		return p
	}
	in := images(1, 1, 32, 32)
	for _, c := range []struct {
		name    string
		params  engine.Params
		outputs []string
		in      Input
		want    string
	}{
		{"missing parameter", without(func(p engine.ParamMap) { delete(p, "expandbn.running_var") }), nil, in, "expandbn.running_var"},
		{"short parameter", without(func(p engine.ParamMap) { p["fc.weight"] = p["fc.weight"][1:] }), nil, in, "fc.weight has 1279 values instead of 1280"},
		{"unknown output", params, []string{"neck"}, in, `no output "neck": use one of [logits features embedding block]`},
		{"short image", params, nil, Input{in.Data[1:], 1, 32, 32, 3}, "3071 values given"},
		{"no image", params, nil, Input{nil, 0, 32, 32, 3}, "0 values given for 0 images"},
		{"sizes whose product overflows", params, nil, Input{nil, math.MaxInt/2 + 1, 4, 4, 3}, fmt.Sprintf("0 values given for %d images", math.MaxInt/2+1)},
		{"other channels", params, nil, Input{in.Data[:32*32], 1, 32, 32, 1}, "stem.weight has 432 values instead of 144"},
	} {
		m, err := New(small, c.params, Options{Outputs: c.outputs})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // a failed plan is not kept
			if _, err = m.Run(context.Background(), c.in); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: error %v, want one with %q", c.name, err, c.want)
			}
		}
		m.Close()
	}
	high := cpu.AMX + 1
	if _, err := New(small, params, Options{Tier: &high}); err == nil {
		t.Error("a tier that no processor has was accepted")
	}
}

func TestPlansShareWeights(t *testing.T) {
	m, _ := smallModel(t, Options{})
	if _, err := m.Run(context.Background(), images(1, 1, 32, 32)); err != nil {
		t.Fatal(err)
	}
	before := m.PackedBytes()
	for n := range 4 {
		if _, err := m.Run(context.Background(), images(1, 1+n, 32+4*n, 36)); err != nil {
			t.Fatal(err)
		}
	}
	if after := m.PackedBytes(); after != before || before == 0 {
		t.Errorf("packed weights grew from %d to %d bytes", before, after)
	}
}

func TestProfileCoversAllWork(t *testing.T) {
	t.Run("chains", func(t *testing.T) { profileCoversAllWork(t, 3, defaultChains) })
	t.Run("groups", func(t *testing.T) { // of steps outside chains
		if plan := profileCoversAllWork(t, 1, chainLimits{ops: 1}); plan.early() == 0 || plan.rounds(early) == 1 {
			t.Error("no step is run on one group after the other")
		}
	})
	t.Run("shards", func(t *testing.T) {
		if plan := profileCoversAllWork(t, 2, chainLimits{ops: 1}); plan.early() == 0 || plan.shards != 2 {
			t.Error("no step is run in shards")
		}
	})
}

func profileCoversAllWork(t *testing.T, threads int, chains chainLimits) *Plan {
	pool := work.New(threads)
	defer pool.Close()
	m, _ := smallModel(t, Options{Precision: engine.Highest, Pool: pool})
	m.groups.maps, m.chains = 64<<10, chains
	plan, err := m.Plan(graph.Shape{C: 3, H: 64, W: 64}, 4)
	if err != nil {
		t.Fatal(err)
	}
	rows, err := plan.Profile(context.Background(), 3)
	if err != nil {
		t.Fatal(err)
	}
	g, err := small(graph.Shape{C: 3, H: 64, W: 64})
	if err != nil {
		t.Fatal(err)
	}
	share, macs := 0.0, int64(0)
	for _, r := range rows {
		share += r.Share
		macs += r.MACs
	}
	if math.Abs(share-1) > 1e-6 {
		t.Errorf("shares sum to %g", share)
	}
	if want := 4 * g.MACs(); macs != want {
		t.Errorf("steps count %d multiply-accumulates, the graph %d", macs, want)
	}
	return plan
}

// TestMapsLieWhereTheirReadersLook has networks in which a map could be taken for a part of another, or for one without gaps.
func TestMapsLieWhereTheirReadersLook(t *testing.T) {
	type node = *graph.Node
	type build = *graph.Builder
	conv := func(b build, name string, x node, out int) node {
		return b.ReLU(b.Conv2d(name, x, graph.Conv{Out: out}))
	}
	pool := graph.Pool{Kernel: graph.Square(3), Stride: graph.Square(1), Pad: graph.Square(1)}
	custom := func(b build, x, y node) node {
		return b.Custom("g", double{}, []graph.CustomParam{{Name: "weight", Shape: []int{1}, Init: graph.Constant(0.5)}}, x, y)
	}
	for name, add := range map[string]func(b build, x node) node{
		"a concatenation that begins a later one": func(b build, x node) node {
			y := b.Concat(x, conv(b, "c", x, 8))
			return b.Concat(x, y, conv(b, "d", y, 8))
		},
		"the same map twice, and with another": func(b build, x node) node {
			c := conv(b, "c", x, 8)
			y := b.Concat(c, c)
			return b.Add(y, b.Concat(c, conv(b, "d", x, 8)))
		},
		"two maps in either order": func(b build, x node) node {
			c, d := conv(b, "c", x, 8), conv(b, "d", x, 8)
			y := b.Concat(d, c)
			return b.Add(y, b.Concat(c, d))
		},
		"the first of one pair and the second of another": func(b build, x node) node {
			c, d, e, f := conv(b, "c", x, 8), conv(b, "d", x, 8), conv(b, "e", x, 8), conv(b, "f", x, 8)
			y := b.Concat(c, f)
			return b.Add(y, b.Concat(c, d), b.Concat(e, f))
		},
		"flattened maps side by side": func(b build, x node) node {
			return b.Concat(b.Flatten(b.AdaptiveAvgPool(x, graph.Square(2))), b.Flatten(b.AdaptiveAvgPool(conv(b, "c", x, 8), graph.Square(3))))
		},
		"pixels with gaps, multiplied": func(b build, x node) node {
			x = b.AdaptiveAvgPool(x, graph.Square(3))
			return b.Mul(conv(b, "c", x, 512), conv(b, "d", x, 512))
		},
		"pixels with gaps, in an operator of one's own": func(b build, x node) node {
			x = b.AdaptiveAvgPool(x, graph.Square(3))
			return conv(b, "e", custom(b, conv(b, "c", x, 512), conv(b, "d", x, 512)), 8)
		},
		"pixels with gaps, flattened": func(b build, x node) node { return b.Flatten(conv(b, "c", b.AdaptiveAvgPool(x, graph.Square(2)), 512)) },
		"a summand that no convolution reads": func(b build, x node) node {
			return conv(b, "d", b.Add(b.Conv2d("c", x, graph.Conv{Out: 8}), b.MaxPool(x, pool)), 8)
		},
		"a summand that no convolution reads, of a scaled map": func(b build, x node) node {
			return conv(b, "d", b.Add(b.Mul(conv(b, "c", x, 8), b.GlobalAvgPool(x)), b.MaxPool(x, pool)), 8)
		},
		"a summand that the convolution reads": func(b build, x node) node {
			return b.Add(b.Conv2d("c", x, graph.Conv{Out: 8, Kernel: graph.Square(3), Pad: graph.Square(1)}), x)
		},
		"layers of the whole batch behind those of shards": func(b build, x node) node {
			x = custom(b, x, x)
			for _, name := range []string{"c", "d", "e"} {
				x = b.ReLU(b.Conv2d(name, x, graph.Conv{Out: 8, Kernel: graph.Square(3), Pad: graph.Square(1)}))
			}
			return x
		},
		"borders in memory that other maps have used": func(b build, x node) node {
			for i, name := range []string{"c", "d", "e"} {
				x = b.ReLU(b.Conv2d(name, x, graph.Conv{Out: 8 << i}))
				x = b.Conv2d(name+"w", x, graph.Conv{Out: 8 << i, Groups: 8 << i, Kernel: graph.Square(3), Pad: graph.Square(1)})
			}
			return x
		},
	} {
		b := graph.NewBuilder(graph.Shape{C: 3, H: 20, W: 18}, 7)
		x := add(b, conv(b, "stem", b.Input(), 8))
		b.Features(x)
		if !x.Shape.IsVector() {
			x = b.Flatten(b.AdaptiveAvgPool(b.MaxPool(x, pool), graph.Square(1)))
		}
		b.Classifier("fc")
		b.Group("all", "stem", "c", "d", "e", "f", "g", "cw", "dw", "ew", "fc")
		g, err := b.Finish(b.Linear("fc", x, graph.Fc{Out: 7}))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, n := range []int{1, 2, 4, 5} {
			agrees(t, name, g, n)
		}
	}
}
