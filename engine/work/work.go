// Package work is the pool of threads that computes inference steps and training operators.
//
// A [Pool] of t threads owns t-1 goroutines; the goroutine that calls [Pool.Run] is the missing one, so that nothing runs on
// more than t threads and a pool of one thread is a plain loop. A network of sixty steps that together take a millisecond must hand out
// each step in about a microsecond: idle workers therefore spin for a moment (Patience) before they park, and a call
// allocates nothing and takes no lock while tasks are handed out.
//
// Several goroutines may call Run at once. At most t of them compute at a time, the others wait in the order of their calls; a call
// that comes while workers help another takes one of the threads over at the next task boundary. So plans that run at once advance in
// turns, step by step, whatever their sizes.
//
// Everything here is safe for concurrent use.
package work

import (
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Patience is how long an idle worker spins before it parks: longer than the gaps between the steps of a running plan, and than a task,
// since workers wait for the slowest of a step; shorter than anything that a person would see in top. Waking a parked thread takes
// as long as a short step: with 0.1 ms, ResNet-50 on one image took 53 ms where it takes 36 with 2 ms.
const Patience = 2 * time.Millisecond

// spin is how many times a waiting goroutine looks between two looks at the clock (about 0.1 µs).
const spin = 64

// yieldEvery is how often a waiting thread lets another have its core, and schedEvery how many times it does before its
// goroutine lets another of this program have the thread. The second is rare because it has Go start a thread that looks for
// work whenever a processor of Go's is idle: beside a caller that waits for the next image there was a new one every few
// microseconds.
const (
	yieldEvery = 20 * time.Microsecond
	schedEvery = 8
)

// Pool is a fixed number of threads. Create it with New and release it with Close.
type Pool struct {
	threads int
	free    chan *job // jobs that no call uses; a call takes one, which limits the calls that compute at a time
	jobs    []*job
	moved   []time.Time // when a worker last moved to another processor; each is its worker's own

	epoch  atomic.Uint32 // counts opened jobs: what spinning workers watch
	_      [60]byte
	active atomic.Int32 // callers and workers that compute now
	_      [60]byte
	parked atomic.Int32 // workers that wait on wake and have not been sent for
	wake   chan struct{}
	stop   chan struct{}
	once   sync.Once
	done   sync.WaitGroup
}

// job is one call of Run. It is reused; state makes sure that a worker only joins an open one.
type job struct {
	run     func(worker, task int)
	shares  []share // by worker
	_       [32]byte
	state   atomic.Int32 // isOpen and isAwaited, and the number of workers that have joined
	_       [60]byte
	last    chan struct{}         // the last worker to leave sends here if the caller waits
	failure atomic.Pointer[fault] // the first panic of a task
}

// share is a range of tasks. A worker takes its own first and then what others have left, so that a worker meets the
// same part of the data in every step of a plan, as long as all keep pace: that part may still be in its core's cache.
type share struct {
	next atomic.Int64 // first task that nobody has taken
	end  atomic.Int64
	cpu  atomic.Int32 // the processor on which the worker joined, or unknownCPU
	_    [44]byte
}

// take returns a task of the share, if one is left.
func (s *share) take() (task int, ok bool) {
	end := s.end.Load()
	if s.next.Load() >= end { // looking first keeps the counter from growing
		return 0, false
	}
	i := s.next.Add(1) - 1
	return int(i), i < end
}

const (
	isOpen    = 1 << 30
	isAwaited = 1 << 29
	joined    = isAwaited - 1
)

// fault is a panic on its way to the caller.
type fault struct {
	value any
	stack []byte
}

// Panic is what Run panics with if a task panicked: the task's value and stack.
type Panic struct {
	Value any
	Stack []byte // of the goroutine that ran the task
}

// Error implements error.
func (p *Panic) Error() string { return fmt.Sprintf("a task panicked: %v\n\n%s", p.Value, p.Stack) }

// Unwrap returns the task's value if it is an error.
func (p *Panic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// New starts a pool of the given number of threads; 0 or less means DefaultThreads.
func New(threads int) *Pool {
	if threads < 1 {
		threads = DefaultThreads()
	}
	p := &Pool{
		threads: threads,
		free:    make(chan *job, threads),
		wake:    make(chan struct{}, threads),
		stop:    make(chan struct{}),
		moved:   make([]time.Time, threads),
	}
	for range threads {
		j := &job{shares: make([]share, threads), last: make(chan struct{}, 1)}
		p.jobs = append(p.jobs, j)
		p.free <- j
	}
	for id := 1; id < threads; id++ {
		p.done.Go(func() { p.work(id) })
	}
	return p
}

// DefaultThreads returns how many threads this process can use: GOMAXPROCS, or the processor time that its cgroup grants if that is less.
func DefaultThreads() int {
	n := runtime.GOMAXPROCS(0)
	if q := quota(); q > 0 {
		n = min(n, max(int(q), 1))
	}
	return n
}

// Threads returns the number of threads. The first argument of a task is below it.
func (p *Pool) Threads() int { return p.threads }

// Close waits for the workers to end. No Run may be under way or come later. Closing twice does nothing.
func (p *Pool) Close() {
	p.once.Do(func() { close(p.stop) })
	p.done.Wait()
}

// Run calls run(worker, task) for each task from 0 to n-1 and returns when all have returned. Each worker begins with a
// range of its own, the same for every call with the same n, and then takes what others have left. Tasks with the same
// worker number, from 0 to Threads()-1, do not overlap, so that a worker number can stand for scratch memory of the call. A
// task must not call Run of the same pool. If a task panics, tasks that have not begun are dropped and Run panics with a
// *Panic, or where the caller's goroutine is alone (one thread or one task) with the task's own value.
func (p *Pool) Run(n int, run func(worker, task int)) {
	if n <= 1 || p.threads == 1 {
		for task := range n {
			run(0, task)
		}
		return
	}
	j := <-p.free
	p.active.Add(1)
	j.run = run
	for w := range j.shares {
		j.shares[w].next.Store(int64(w * n / p.threads))
		j.shares[w].end.Store(int64((w + 1) * n / p.threads))
		j.shares[w].cpu.Store(unknownCPU)
	}
	j.shares[0].cpu.Store(currentCPU())
	j.state.Store(isOpen)
	p.epoch.Add(1)
	p.summon(min(n, p.threads) - 1)

	p.tasks(j, 0)
	p.await(j)
	f := j.failure.Swap(nil)
	j.run = nil
	p.active.Add(-1)
	p.free <- j
	if f != nil {
		panic(&Panic{f.value, f.stack})
	}
}

// summon wakes up to n parked workers.
func (p *Pool) summon(n int) {
	for ; n > 0 && p.unpark(); n-- {
		p.wake <- struct{}{}
	}
}

// tasks runs tasks until none is left, or, for a worker, until the pool is so busy that its thread is owed to another call.
func (p *Pool) tasks(j *job, worker int) {
	defer func() {
		if v := recover(); v != nil {
			j.failure.CompareAndSwap(nil, &fault{v, debug.Stack()})
			for w := range j.shares {
				j.shares[w].next.Store(math.MaxInt64 / 2)
			}
		}
	}()
	for i := range j.shares {
		s := &j.shares[(worker+i)%len(j.shares)]
		for task, ok := s.take(); ok; task, ok = s.take() {
			j.run(worker, task)
			if worker > 0 && int(p.active.Load()) > p.threads {
				return
			}
		}
	}
}

// await closes the job and waits for the workers that have joined it.
func (p *Pool) await(j *job) {
	if j.state.And(^isOpen)&joined == 0 {
		return
	}
	if Wait(func() bool { return j.state.Load()&joined == 0 }) {
		return
	}
	// The worker's thread may have lost its core: stop competing for it.
	if j.state.Or(isAwaited)&joined != 0 {
		<-j.last
	}
}

// join adds a worker to a job that is open and has tasks left.
func (j *job) join() bool {
	for {
		s := j.state.Load()
		if s&isOpen == 0 || !j.left() {
			return false
		}
		if j.state.CompareAndSwap(s, s+1) {
			return true
		}
	}
}

// left reports whether there is a task that nobody has taken.
func (j *job) left() bool {
	for i := range j.shares {
		if s := &j.shares[i]; s.next.Load() < s.end.Load() {
			return true
		}
	}
	return false
}

func (j *job) leave() {
	if s := j.state.Add(-1); s&joined == 0 && s&isAwaited != 0 {
		j.last <- struct{}{}
	}
}

// help joins the first job that wants workers, beginning at another one for each worker, and reports whether there was one.
func (p *Pool) help(id int) bool {
	for i := range p.jobs {
		j := p.jobs[(id+i)%len(p.jobs)]
		if !j.join() {
			continue
		}
		wanted := int(p.active.Add(1)) <= p.threads
		if wanted {
			p.spread(j, id)
			p.tasks(j, id)
		}
		p.active.Add(-1)
		j.leave()
		if wanted {
			return true
		}
	}
	return false
}

// unknownCPU stands for the number of a processor where it cannot be told.
const unknownCPU = -1

// spreadEvery is how long a worker stays where it is at least. To move takes some ten microseconds.
const spreadEvery = time.Millisecond

// spread moves a worker that finds itself on the processor of another that computes the same job. The kernel puts a thread
// that it wakes where the waker was, and may leave it there for 30 ms beside another one that computes, while a processor is
// idle.
func (p *Pool) spread(j *job, id int) {
	cpu := currentCPU()
	for i := range j.shares {
		if i == id || cpu == unknownCPU || j.shares[i].cpu.Load() != cpu {
			continue
		}
		if now := time.Now(); now.Sub(p.moved[id]) > spreadEvery {
			p.moved[id] = now
			leaveCPU(cpu, p.threads)
			cpu = currentCPU()
		}
		break
	}
	j.shares[id].cpu.Store(cpu)
}

// work is a worker's life: help, spin, park.
func (p *Pool) work(id int) {
	for {
		seen := p.epoch.Load()
		if p.help(id) {
			continue
		}
		if p.watch(seen) {
			continue
		}
		p.parked.Add(1)
		if p.epoch.Load() != seen {
			// A job was opened since: undo, unless someone has already sent for us.
			if p.unpark() {
				continue
			}
		}
		select {
		case <-p.wake:
		case <-p.stop:
			return
		}
	}
}

// unpark counts a parked worker less, if there is one: whoever did so sends for it, or is it.
func (p *Pool) unpark() bool {
	for {
		k := p.parked.Load()
		if k <= 0 {
			return false
		}
		if p.parked.CompareAndSwap(k, k-1) {
			return true
		}
	}
}

// watch spins until a job is opened after the one counted by seen, and reports whether there was one within Patience.
func (p *Pool) watch(seen uint32) bool {
	return Wait(func() bool { return p.epoch.Load() != seen })
}

// Wait spins until done, and reports whether that was within Patience. The kernel may have put the thread that it waits for
// behind this one on the same core, or a thread of the program that the pool works for: both would wait until this one parks
// if it did not let them pass.
func Wait(done func() bool) bool {
	begin := time.Now()
	for yields := 1; ; {
		for range spin {
			if done() {
				return true
			}
		}
		switch waited := time.Since(begin); {
		case waited > Patience:
			return false
		case waited > time.Duration(yields)*yieldEvery:
			yields++
			yieldCore()
			if yields%schedEvery == 0 {
				runtime.Gosched()
			}
		}
	}
}
