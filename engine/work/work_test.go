package work

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryTaskRunsOnce(t *testing.T) {
	for _, threads := range []int{1, 2, 3, 8} {
		p := New(threads)
		for n := range 70 {
			ran := make([]atomic.Int32, n)
			busy := make([]atomic.Bool, threads)
			p.Run(n, func(worker, task int) {
				if busy[worker].Swap(true) {
					t.Errorf("worker %d runs two tasks at once", worker)
				}
				ran[task].Add(1)
				busy[worker].Store(false)
			})
			for task := range ran {
				if got := ran[task].Load(); got != 1 {
					t.Errorf("%d threads, %d tasks: task %d ran %d times", threads, n, task, got)
				}
			}
		}
		p.Close()
		p.Close()
	}
}

// TestRunReturnsAfterTheLastTask has workers that are late, by less and by more than the caller spins.
func TestRunReturnsAfterTheLastTask(t *testing.T) {
	p := New(3)
	defer p.Close()
	for _, late := range []time.Duration{Patience / 10, 3 * Patience} {
		for range 5 {
			var ended atomic.Int32
			var together sync.WaitGroup // the caller's task ends when the others have begun
			together.Add(3)
			p.Run(3, func(worker, _ int) {
				together.Done()
				together.Wait()
				if worker > 0 {
					time.Sleep(late)
				}
				ended.Add(1)
			})
			if n := ended.Load(); n != 3 {
				t.Errorf("Run returned when %d of 3 tasks had ended, the others %v late", n, late)
			}
		}
	}
}

func TestConcurrentCallsDoNotMixWorkers(t *testing.T) {
	p := New(4)
	defer p.Close()
	var computing, most atomic.Int32
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			for range 300 {
				var sum atomic.Int64
				busy := make([]atomic.Bool, p.Threads())
				p.Run(17, func(worker, task int) {
					if busy[worker].Swap(true) {
						t.Error("two tasks of one call share a worker number")
					}
					c := computing.Add(1)
					for m := most.Load(); c > m && !most.CompareAndSwap(m, c); m = most.Load() {
					}
					sum.Add(int64(task))
					computing.Add(-1)
					busy[worker].Store(false)
				})
				if sum.Load() != 17*16/2 {
					t.Errorf("tasks sum to %d", sum.Load())
				}
			}
		})
	}
	wg.Wait()
	// A worker may be in its last task when a caller takes its thread over, hence the factor.
	if got := most.Load(); got > 2*int32(p.Threads()) {
		t.Errorf("%d tasks at once on %d threads", got, p.Threads())
	}
}

func TestSmallCallIsNotStarvedByLargeOne(t *testing.T) {
	p := New(2)
	defer p.Close()
	stop := make(chan struct{})
	var large sync.WaitGroup
	for range 3 {
		large.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					p.Run(20, func(int, int) { time.Sleep(100 * time.Microsecond) })
				}
			}
		})
	}
	for range 20 {
		begin := time.Now()
		p.Run(2, func(int, int) {})
		if took := time.Since(begin); took > 5*time.Second {
			t.Errorf("a call of two empty tasks took %v", took)
		}
	}
	close(stop)
	large.Wait()
}

func TestPanicReachesCaller(t *testing.T) {
	p := New(3)
	defer p.Close()
	cause := errors.New("bad shape")
	for bad := range 10 {
		func() {
			defer func() {
				v, ok := recover().(*Panic)
				if !ok || !errors.Is(v, cause) || !strings.Contains(v.Error(), "TestPanicReachesCaller") {
					t.Errorf("recovered %v", v)
				}
			}()
			p.Run(10, func(_, task int) {
				if task == bad {
					panic(cause)
				}
			})
			t.Error("Run returned")
		}()
		var ran atomic.Int32
		p.Run(10, func(int, int) { ran.Add(1) })
		if ran.Load() != 10 {
			t.Errorf("after a panic the pool ran %d of 10 tasks", ran.Load())
		}
	}
}

func TestParkedWorkersWake(t *testing.T) {
	p := New(3)
	defer p.Close()
	for range 30 {
		time.Sleep(3 * Patience)
		var together sync.WaitGroup // only passes if three threads take part at once
		together.Add(3)
		p.Run(3, func(int, int) {
			together.Done()
			together.Wait()
		})
	}
}

func TestRunDoesNotAllocate(t *testing.T) {
	p := New(2)
	defer p.Close()
	var sum atomic.Int64
	task := func(_, task int) { sum.Add(int64(task)) }
	if a := testing.AllocsPerRun(100, func() { p.Run(8, task) }); a > 0 {
		t.Errorf("%g allocations a call", a)
	}
}

func TestCollectorRunsMeanwhile(t *testing.T) {
	p := New(2)
	defer p.Close()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	for range 2000 {
		var n atomic.Int32
		p.Run(4, func(int, int) { n.Add(1) })
		if n.Load() != 4 {
			t.Fatalf("%d of 4 tasks ran", n.Load())
		}
	}
	close(stop)
	wg.Wait()
}

// BenchmarkDispatch measures what a step of a plan costs beyond its work.
func BenchmarkDispatch(b *testing.B) {
	for _, threads := range []int{1, 2, 4} {
		b.Run(fmt.Sprintf("threads=%d", threads), func(b *testing.B) {
			p := New(threads)
			defer p.Close()
			task := func(int, int) {}
			for b.Loop() {
				p.Run(threads, task)
			}
		})
	}
}
