package host

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-modelzoo/zoo/internal/pluginrpc"
)

// task is what a process does, for messages.
type task struct {
	doing string // "classifying"
	batch int    // images at once, 0 if that is no matter
	since int    // where the log was when it began: lines before that are of other tasks
	limit int    // bytes of an answer, 0 for those of any message
}

// task begins a task of the process.
func (p *process) task(doing string, batch int) task {
	return task{doing: doing, batch: batch, since: p.ring.mark()}
}

// call asks the process for something, within the deadline for calls.
func (p *process) call(ctx context.Context, t task, f func(context.Context) error) error {
	return p.callFor(ctx, t, p.host.opt.CallTimeout, f)
}

func (p *process) callFor(ctx context.Context, t task, timeout time.Duration, f func(context.Context) error) error {
	if ctx.Err() != nil {
		return cause(ctx)
	}
	ours := time.Now().Add(timeout)
	limited, cancel := context.WithDeadline(ctx, ours)
	defer cancel()
	err := f(limited)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return cause(ctx)
	}
	if status.Code(err) == codes.DeadlineExceeded && time.Until(ours) >= early { // the caller's deadline, by the plugin's clock
		select {
		case <-ctx.Done():
			return cause(ctx)
		case <-time.After(early):
		}
	}
	return p.explain(t, timeout, ours, err)
}

// early is how much earlier than this side's the plugin's clock may find that a call took too long.
const early = 100 * time.Millisecond

// lag is how long after a connection breaks the end of its process is waited for.
const lag = 2 * time.Second

// explain turns what gRPC says into what happened. The deadline is this host's, not the caller's; zero is none.
func (p *process) explain(t task, timeout time.Duration, deadline time.Time, err error) error {
	st, _ := status.FromError(err)
	switch {
	case !deadline.IsZero() && time.Until(deadline) < early && p.alive():
		p.kill(fmt.Sprintf("it did not answer within %v while %s", timeout, t.doing))
		return p.fault(ErrTimeout, t, fmt.Sprintf("did not answer within %v and was ended while %s", timeout, t.doing), err)
	case st.Code() == codes.Unavailable || st.Code() == codes.Canceled && p.host.ctx.Err() != nil || !p.alive():
		select {
		case <-p.child.exited:
			return p.crash(t, err)
		case <-time.After(lag):
		}
		if p.host.ctx.Err() != nil {
			return fmt.Errorf("plugin %s was closed while %s: %w", p.plugin, t.doing, ErrClosed)
		}
		p.kill("its connection broke")
		return p.fault(ErrCrashed, t, fmt.Sprintf("broke the connection while %s: %s", t.doing, line(st.Message(), 300)), err)
	}
	switch st.Code() {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.NotFound:
		text := report(st.Message())
		if st.Code() == codes.NotFound && !p.plugin.Embedded { // it may be in the way of another that has the model
			text += fmt.Sprintf(" (in %s, %s: zoo plugin list shows what else there is)", p.plugin, p.plugin.Path)
		}
		return &mistake{text, pluginrpc.Reasons(st)}
	case codes.Unimplemented:
		return &Error{Plugin: p.plugin.String(), Doing: t.doing, Kind: ErrUnsupported, Cause: err,
			Message: fmt.Sprintf("%s cannot do this (plugin protocol %d): %s", p.plugin, p.plugin.Protocol, line(st.Message(), 500))}
	case codes.ResourceExhausted:
		if strings.Contains(st.Message(), "larger than max") {
			return p.fault(ErrProtocol, t, fmt.Sprintf("sent a message of more than %s while %s", bytesText(int64(cmp.Or(t.limit, pluginrpc.MaxMessage))), t.doing), err)
		}
		p.spend() // what it holds may be in the way of the next call, too
		return p.outOfMemory(t, err)
	}
	return p.fault(ErrFailed, t, fmt.Sprintf("failed while %s: %s", t.doing, line(st.Message(), 500)), err)
}

// mistake is what the plugin has to say to the user.
type mistake struct {
	text    string
	reasons []error
}

// Error implements error.
func (m *mistake) Error() string { return m.text }

// Unwrap returns the reasons, for errors.Is.
func (m *mistake) Unwrap() []error { return m.reasons }

// crash says why a process ended during a call.
func (p *process) crash(t task, err error) error {
	if p.host.ctx.Err() != nil {
		return fmt.Errorf("plugin %s was closed while %s: %w", p.plugin, t.doing, ErrClosed)
	}
	p.child.lastWords()
	if outOfMemory(p.ring.last()) {
		return p.outOfMemory(t, err)
	}
	why := "it ended"
	if reason, _ := p.child.verdict(); reason != "" {
		why = reason
	} else if state := p.child.state; state != nil {
		why = state.String()
		if !state.Exited() { // by a signal
			why += p.limited()
		}
	}
	t.since = 0 // what it died of may have begun before
	return p.fault(ErrCrashed, t, fmt.Sprintf("crashed while %s (%s)", t.doing, why), err)
}

// limited says that the process had a limit of memory, "" if it had none: one that ran into it can die in any way.
func (p *process) limited() string {
	if p.host.opt.Memory == 0 {
		return ""
	}
	return fmt.Sprintf("; it may use %s: if that is too little, raise --plugin-memory", bytesText(p.host.opt.Memory))
}

func (p *process) outOfMemory(t task, err error) error {
	what := "needed more memory than there is"
	if limit := p.host.opt.Memory; limit > 0 {
		what = "needed more than " + bytesText(limit)
	}
	switch {
	case t.batch > 1:
		what += fmt.Sprintf(" for batch %d; try --batch %d", t.batch, max(t.batch/4, 1))
	default:
		what += " while " + t.doing
		if p.host.opt.Memory > 0 {
			what += ": raise --plugin-memory"
		}
	}
	e := p.fault(ErrMemory, t, what, err)
	e.LastLog = nil // a stack of the runtime's; the line says it all
	return e
}

// fault makes the error "resnet 1.2.0 WHAT".
func (p *process) fault(kind error, t task, what string, err error) *Error {
	return &Error{Plugin: p.plugin.String(), Doing: t.doing, Kind: kind, Message: fmt.Sprintf("%s %s", p.plugin, what), LastLog: p.ring.since(t.since), Cause: err}
}
