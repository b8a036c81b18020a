package pluginrpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// MaxLineMessage is the size in bytes of the largest request or response that goes through a line.
const MaxLineMessage = 32 << 10

// A packet begins with the call's number and, if it is a response, a status: 32 bits each, little-endian.
const (
	lineNumber = 4
	lineHeader = lineNumber + 4 // of a response
)

// ErrNoLine says that this system has no lines, or that the process was started without one.
var ErrNoLine = errors.New("no line between processes")

// ErrGone says that the other end of a line was closed, as it is when its process ends.
var ErrGone = errors.New("the other end of the line is gone")

// Line is one end of a socket between host and plugin alone, for one small call at a time. A call through gRPC wakes four
// goroutines one after another; through a line each side wakes one of the other.
//
// While the host waits it must leave the processors to the plugin, so both sides wait in Go's poller, and all else is done
// with system calls that the runtime does not see (they never wait). A thread that waits in a system call that it does see
// has its monitor wake hundreds of times a second to take the thread's place away, each time stopping a thread that
// computes.
//
// A plugin may send anything at any time: packets are bounded, and an answer must have its call's number. What it gains is a
// wrong answer of its own or a deadline.
//
// An end belongs to one goroutine at a time; only Close may be called beside it.
type Line struct {
	file  *os.File
	conn  syscall.RawConn
	calls uint32 // made from this end
	shut  atomic.Bool
	in    []byte // the last packet received
	out   []byte // the last packet sent
}

// NewLine makes a line and returns the host's end, and the plugin's as what the plugin's process inherits; close that once
// the process is started.
func NewLine() (*Line, *os.File, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, nil, err
	}
	l, err := newLine(ours)
	if err != nil {
		return nil, nil, errors.Join(err, theirs.Close())
	}
	return l, theirs, nil
}

// InheritLine opens the end of the line that the process was started with.
func InheritLine() (*Line, error) {
	fd, err := inherited(EnvLine, ErrNoLine)
	if err != nil {
		return nil, err
	}
	f, err := inheritSocket(fd)
	if err != nil {
		return nil, err
	}
	return newLine(f)
}

func newLine(f *os.File) (*Line, error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Line{file: f, conn: conn, in: make([]byte, lineHeader+MaxLineMessage+1)}, nil
}

// Close closes the end. What waits at either end then returns. Closing again does nothing.
func (l *Line) Close() error {
	if l.shut.Swap(true) {
		return nil
	}
	return l.file.Close()
}

// Ask makes a call, without waiting for its answer. Answer must follow before the next Ask.
func (l *Line) Ask(request []byte) error {
	if len(request) > MaxLineMessage {
		return fmt.Errorf("a request of %d bytes does not fit the %d of a line", len(request), MaxLineMessage)
	}
	l.calls++
	l.out = binary.LittleEndian.AppendUint32(l.out[:0], l.calls)
	l.out = append(l.out, request...)
	return l.send()
}

// Answer waits for the answer to the call. It ends early with the context's error, and may then be called again. The
// response is valid until the next call.
func (l *Line) Answer(ctx context.Context) (status uint32, response []byte, err error) {
	given := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(given)
		_ = l.file.SetReadDeadline(time.Unix(1, 0)) // fails if the end is closed, and then there is nothing to wake
	})
	p, err := l.receive()
	if !stop() {
		<-given
		err = errors.Join(err, l.file.SetReadDeadline(time.Time{}))
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return 0, nil, ctx.Err()
	case err != nil:
		return 0, nil, err
	case len(p) < lineHeader:
		return 0, nil, fmt.Errorf("an answer of %d bytes on the line: its header alone has %d", len(p), lineHeader)
	}
	if n := binary.LittleEndian.Uint32(p); n != l.calls {
		return 0, nil, fmt.Errorf("an answer to call %d on the line, where call %d was made", n, l.calls)
	}
	return binary.LittleEndian.Uint32(p[lineNumber:]), p[lineHeader:], nil
}

// Attend answers calls until either end is closed. A response that is too large for a line is cut off.
func (l *Line) Attend(answer func(request []byte) (status uint32, response []byte)) error {
	for {
		err := l.attendOnce(answer)
		if errors.Is(err, ErrGone) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (l *Line) attendOnce(answer func(request []byte) (status uint32, response []byte)) error {
	p, err := l.receive()
	if err != nil {
		return err
	}
	if len(p) < lineNumber {
		return fmt.Errorf("a request of %d bytes on the line: its number alone has %d", len(p), lineNumber)
	}
	number := binary.LittleEndian.Uint32(p)
	status, response := answer(p[lineNumber:])
	l.out = binary.LittleEndian.AppendUint32(l.out[:0], number)
	l.out = binary.LittleEndian.AppendUint32(l.out, status)
	l.out = append(l.out, response[:min(len(response), MaxLineMessage)]...)
	return l.send()
}

// receive waits for a packet.
func (l *Line) receive() ([]byte, error) {
	var n int
	var failed error
	err := l.conn.Read(func(fd uintptr) (done bool) {
		n, done, failed = receive(fd, l.in)
		return done
	})
	switch {
	case err != nil && l.shut.Load():
		return nil, ErrGone
	case err != nil:
		return nil, err
	case failed != nil:
		return nil, failed
	case n == len(l.in):
		return nil, fmt.Errorf("a packet of more than %d bytes on the line", n-1)
	}
	return l.in[:n], nil
}

// send sends what is in out. It does not wait: the other end has read the packet before, or breaks the order.
func (l *Line) send() error {
	var failed error
	err := l.conn.Write(func(fd uintptr) bool {
		failed = send(fd, l.out)
		return true
	})
	if err != nil && l.shut.Load() {
		return ErrGone
	}
	return errors.Join(err, failed)
}
