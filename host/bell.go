package host

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
	zoov1 "github.com/go-modelzoo/zoo/sdk/proto/zoo/v1"
)

// bellholder keeps a process's bell, through which one inference at a time goes without gRPC; see pluginrpc.Bell. Others that run at the same
// time, and all of a plugin that attends to no bell, go through gRPC.
type bellholder struct {
	calls atomic.Int64         // inferences so far
	hang  sync.Once            // the second inference has the bell hung: a process that classifies one image needs none
	free  chan *pluginrpc.Bell // the bell, while no call uses it
	stop  context.CancelFunc
	gone  chan struct{} // closed when the plugin no longer attends to it; nil if it was never asked to
}

// takeBell returns the bell for a call, or nil if there is none to be had now. The caller gives it back.
func (p *process) takeBell() *pluginrpc.Bell {
	if p.bell.calls.Add(1) == 1 {
		return nil
	}
	p.bell.hang.Do(p.hangBell)
	select {
	case b := <-p.bell.free:
		if b.Attended() {
			return b
		}
		p.bell.free <- b
	default:
	}
	return nil
}

func (p *process) giveBell(b *pluginrpc.Bell) { p.bell.free <- b }

// hangBell asks the plugin to attend to a bell, and does not wait: this inference goes through gRPC.
func (p *process) hangBell() {
	ctx, stop := context.WithCancel(p.host.ctx)
	p.bell.stop, p.bell.free, p.bell.gone = stop, make(chan *pluginrpc.Bell, 1), make(chan struct{})
	go func() { // ends when unhangBell, the host or the process does
		defer close(p.bell.gone)
		if err := p.attend(ctx); err != nil && ctx.Err() == nil && p.alive() {
			p.log.Debug("no bell: calls go through gRPC", "error", err)
		}
	}()
}

// attend has the plugin attend to a bell until the context ends.
func (p *process) attend(ctx context.Context) (err error) {
	segment, err := p.memory.Take(pluginrpc.BellSize)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.memory.Give(segment)) }()
	bell, err := pluginrpc.NewBell(segment.Data)
	if err != nil {
		return err
	}
	bell.Reset()
	p.bell.free <- bell
	_, err = p.engine.Attend(ctx, &zoov1.AttendRequest{Bell: &zoov1.Range{Offset: segment.Offset, Length: pluginrpc.BellSize}})
	<-p.bell.free // a call that has it ends before its memory is used for something else
	return err
}

// unhangBell ends the attendance. No inference starts after it.
func (p *process) unhangBell() {
	p.bell.hang.Do(func() {}) // never, if not yet
	if p.bell.stop != nil {
		p.bell.stop()
	}
}

// ring makes the call through a bell. It runs on the caller's goroutine, since waking another one takes longer than the call; only the rest of a
// call that the caller gave up is left to one.
func (c *inferCall) ring(ctx context.Context, bell *pluginrpc.Bell) ([]Output, error) {
	request, err := proto.Marshal(c.request)
	if err == nil {
		err = bell.Ask(request)
	}
	if err != nil {
		c.pr.giveBell(bell)
		return nil, errors.Join(err, c.free())
	}
	answer := func(ctx context.Context) (err error) {
		c.response, err = c.hear(ctx, bell)
		return err
	}
	err = c.pr.call(ctx, c.task, answer)
	if ctx.Err() == nil || c.response != nil {
		c.pr.giveBell(bell)
		return c.finish(err)
	}
	c.pr.retain() // for the goroutine
	go func() {   // ends with the call, which has a deadline
		defer c.pr.release()
		defer c.pr.giveBell(bell)
		if err := c.pr.call(context.Background(), c.task, answer); err != nil {
			c.pr.log.Debug("a call that was given up", "error", err)
		}
		if err := c.free(); err != nil {
			c.pr.log.Warn("freeing shared memory", "error", err)
		}
	}()
	c.cancel()
	return nil, cause(ctx)
}

// hear waits for the answer at a bell. Its errors are as gRPC's.
func (c *inferCall) hear(ctx context.Context, bell *pluginrpc.Bell) (*zoov1.InferResponse, error) {
	code, answer, err := bell.Answer(ctx, c.pr.child.exited)
	switch {
	case errors.Is(err, pluginrpc.ErrGone):
		return nil, status.Error(codes.Unavailable, err.Error())
	case err != nil && ctx.Err() != nil:
		return nil, status.FromContextError(ctx.Err()).Err()
	case err != nil:
		return nil, status.Error(codes.Internal, err.Error())
	case codes.Code(code) != codes.OK:
		return nil, status.Error(codes.Code(code), string(answer))
	}
	r := &zoov1.InferResponse{}
	if err := proto.Unmarshal(answer, r); err != nil {
		return nil, status.Errorf(codes.Internal, "the answer in the bell: %v", err)
	}
	return r, nil
}
