package infer

import (
	"context"
	"slices"
	"sync/atomic"

	"github.com/go-modelzoo/zoo/engine/work"
)

// shard is a part of the batch. Its thread is worker number of its tasks; threads that have finished their own shards help with them.
type shard struct {
	exec   // maps for one group of images; memory of its own for what only early steps use
	number int
	_      [64]byte
	// ticket is the step under way and the first of its tasks that nobody has taken: step+1 in the upper half, so that 0 is no step.
	ticket atomic.Uint64
	_      [56]byte
	done   atomic.Int64 // tasks of the step that are finished
	_      [56]byte
}

// newShard returns shard s of the batch, which sees its first group.
func (x *pass) newShard(s int) *shard {
	p := x.plan
	y := &shard{number: s, exec: exec{
		plan: p, scratch: x.scratch, floats: x.floats, residual: x.residual,
		roots: slices.Clone(x.roots), maps: slices.Clone(x.maps), tasks: make([]func(worker, task int), p.early()),
	}}
	from, to := p.ownPart(s)
	for _, r := range p.roots {
		if r.own() {
			y.place(r, x.arena[from:to])
		}
	}
	x.show(y, 0, 0)
	for i := range y.tasks {
		y.tasks[i] = p.steps[i].bind(&y.exec)
	}
	return y
}

// show lets a shard see one of its groups in a phase.
func (x *pass) show(y *shard, ph phase, round int) {
	p := x.plan
	group := p.groups[ph]
	from := (y.number*p.rounds(ph) + round) * group
	for _, v := range p.windows {
		y.maps[v.id] = x.maps[v.id].Images(from, from+group)
		y.roots[v.root.index] = x.roots[v.root.index].Images(from, from+group)
	}
}

// runEarly runs the steps of all phases but the late one on every group of images.
func (x *pass) runEarly(ctx context.Context, each func(i int, run func())) error {
	p := x.plan
	if p.early() == 0 {
		return nil
	}
	if p.shards > 1 && each == nil {
		x.ctx = ctx
		x.begun.Store(0)
		x.ended.Store(0)
		for _, y := range x.shards {
			y.ticket.Store(0)
		}
		p.pool.Run(p.shards, x.runShard)
		return ctx.Err()
	}
	for ph := range late {
		for round := range p.rounds(ph) {
			for _, y := range x.shards {
				x.show(y, ph, round)
			}
			if err := x.runSteps(ctx, p.span(ph), each); err != nil {
				return err
			}
		}
	}
	return nil
}

// runOwn runs these steps on every group of a shard, and then helps with other shards.
func (x *pass) runOwn(s int) {
	p, y := x.plan, x.shards[s]
	x.begun.Add(1)
	func() {
		defer x.ended.Add(1)
		for ph := range late {
			for round := range p.rounds(ph) {
				x.show(y, ph, round)
				for i := p.span(ph).from; i < p.span(ph).to; i++ {
					if x.ctx.Err() != nil {
						return
					}
					y.run(i)
				}
			}
		}
	}()
	x.help(s)
}

// run runs a step of the shard, by its own thread.
func (y *shard) run(i int) {
	tasks := int64(y.plan.steps[i].tasks)
	y.done.Store(0)
	y.ticket.Store(uint64(i+1) << 32)
	for y.take(y.number) {
	}
	for !work.Wait(func() bool { return y.done.Load() == tasks }) {
	}
}

// drawn returns the step and the task that a ticket stands for, and whether there is such a task.
func (y *shard) drawn(ticket uint64) (i, task int, ok bool) {
	i, task = int(ticket>>32)-1, int(uint32(ticket))
	return i, task, i >= 0 && task < y.plan.steps[i].tasks
}

// open reports whether the step under way has a task that nobody has taken.
func (y *shard) open() bool {
	_, _, ok := y.drawn(y.ticket.Load())
	return ok
}

// take runs a task of the step under way, if there is one left. The step can change until the ticket is drawn, but not before its
// task is done.
func (y *shard) take(worker int) bool {
	if !y.open() { // looking first keeps the counter from growing
		return false
	}
	i, task, ok := y.drawn(y.ticket.Add(1) - 1)
	if !ok {
		return false
	}
	defer y.done.Add(1) // also if it panics: the shard's thread waits for it
	y.tasks[i](worker, task)
	return true
}

// help runs tasks of shards that are still under way, as the worker that shard s is done with.
func (x *pass) help(s int) {
	under := func() bool { return x.ended.Load() < x.begun.Load() }
	for under() {
		for i := range x.shards {
			for y := x.shards[(s+i)%len(x.shards)]; y.take(s); {
			}
		}
		if !work.Wait(func() bool { return !under() || slices.ContainsFunc(x.shards, (*shard).open) }) {
			return
		}
	}
}

// runTasks runs all tasks of a step of the shard.
func (y *shard) runTasks(i int) {
	for task := range y.plan.steps[i].tasks {
		y.tasks[i](y.number, task)
	}
}
