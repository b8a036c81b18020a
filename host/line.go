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

// directLine is a process's line, through which one inference at a time goes without gRPC; see pluginrpc.Line. Others that run at the same
// time, and all of a plugin that attends to no line, go through gRPC.
type directLine struct {
	line  *pluginrpc.Line      // nil if there is none
	calls atomic.Int64         // inferences so far
	ask   sync.Once            // the second inference asks the plugin to attend: a process that classifies one image needs no line
	free  chan *pluginrpc.Line // the line, once the plugin attends and while no call uses it
	ended chan struct{}        // closed when the line is; nil if the plugin was never asked
}

// takeLine returns the line for a call, or nil if there is none to be had now. The caller gives it back.
func (p *process) takeLine() *pluginrpc.Line {
	if p.direct.line == nil || p.direct.calls.Add(1) == 1 {
		return nil
	}
	p.direct.ask.Do(p.attend)
	select {
	case l := <-p.direct.free:
		return l
	default:
		return nil
	}
}

func (p *process) giveLine(l *pluginrpc.Line) { p.direct.free <- l }

// attend asks the plugin to attend to the line, and does not wait: this inference goes through gRPC.
func (p *process) attend() {
	p.direct.free, p.direct.ended = make(chan *pluginrpc.Line, 1), make(chan struct{})
	go func() { // ends with the process
		defer close(p.direct.ended)
		defer p.closeLine() // a child of the plugin may hold the other end open
		err := p.call(p.host.ctx, p.task("being asked for a line", 0), func(ctx context.Context) error {
			_, err := p.engine.Attend(ctx, &zoov1.AttendRequest{})
			return err
		})
		if err == nil {
			p.direct.free <- p.direct.line
		} else if p.alive() {
			p.log.Debug("no line: calls go through gRPC", "error", err)
		}
		<-p.child.exited
	}()
}

// hangUp closes the line of a process that has ended. No inference starts after it.
func (p *process) hangUp() {
	if p.direct.line == nil {
		return
	}
	p.direct.ask.Do(p.closeLine)
	if p.direct.ended != nil {
		<-p.direct.ended
	}
}

func (p *process) closeLine() {
	if err := p.direct.line.Close(); err != nil {
		p.log.Warn("closing the line", "error", err)
	}
}

// dial makes the call through a line. It runs on the caller's goroutine, since waking another one takes longer than the
// call; only the rest of a call that the caller gave up is left to one.
func (c *inferCall) dial(ctx context.Context, line *pluginrpc.Line) ([]Output, error) {
	request, err := proto.Marshal(c.request)
	if err != nil {
		c.pr.giveLine(line)
		return nil, errors.Join(err, c.free())
	}
	asked := line.Ask(request)
	answer := func(ctx context.Context) (err error) {
		if asked != nil {
			return lineStatus(ctx, asked)
		}
		c.response, err = c.hear(ctx, line)
		return err
	}
	err = c.pr.call(ctx, c.task, answer)
	if ctx.Err() == nil || c.heard {
		c.pr.giveLine(line)
		return c.finish(err)
	}
	c.pr.retain() // for the goroutine
	go func() {   // ends with the call, which has a deadline
		defer c.pr.release()
		defer c.pr.giveLine(line)
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

// hear waits for the answer at the end of a line. Its errors are as gRPC's.
func (c *inferCall) hear(ctx context.Context, line *pluginrpc.Line) (*zoov1.InferResponse, error) {
	code, answer, err := line.Answer(ctx)
	c.heard = ctx.Err() == nil || !errors.Is(err, ctx.Err())
	if err != nil {
		return nil, lineStatus(ctx, err)
	}
	if codes.Code(code) != codes.OK {
		return nil, status.Error(codes.Code(code), string(answer))
	}
	r := &zoov1.InferResponse{}
	if err := proto.Unmarshal(answer, r); err != nil {
		return nil, status.Errorf(codes.Internal, "the answer on the line: %v", err)
	}
	return r, nil
}

// lineStatus is the error of a line as gRPC's would be. A plugin that breaks the order of calls has broken the connection.
func lineStatus(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return status.FromContextError(err).Err()
	}
	return status.Error(codes.Unavailable, err.Error())
}
